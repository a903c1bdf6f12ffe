"""`tar --dereference`: archives with the files that links lead to.

The real tar would follow absolute links out of the cluster's tree onto this machine, so this one
way of making archives is done here.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import Any

from .login import Login
from .shell import CommandFailed

_MODES: dict[str, Any] = {"": "w", "z": "w:gz", "j": "w:bz2", "J": "w:xz"}
_FATAL = "Error is not recoverable: exiting now"


def compress(login: Login, folder: str, name: str, target: str, letter: str) -> bytes:
    """Write the archive *target* of *name* in *folder*. Returns the member names, one a line."""
    try:
        local = login.place(target).local
        fd = os.open(local, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666 & ~login.knobs.umask_bits)
    except OSError as exc:
        raise _cannot_open(target, exc, letter) from exc
    with (
        os.fdopen(fd, "wb") as file,
        tarfile.open(fileobj=file, mode=_MODES[letter], format=tarfile.GNU_FORMAT) as tar,
    ):
        archiver = _Archiver(login, tar)
        archiver.add(f"{folder}/{name}", name)
        return archiver.finish()


def _cannot_open(target: str, exc: OSError, letter: str) -> CommandFailed:
    words = f"{target}: Cannot open: {os.strerror(exc.errno or 0)}\n"
    if not letter:
        return CommandFailed(2, f"tar: {words}tar: {_FATAL}\n")
    child = f"tar (child): {words}tar (child): {_FATAL}\n"
    return CommandFailed(2, f"{child}tar: Child returned status 2\ntar: {_FATAL}\n")


class _Archiver:
    """One archive being written. Goes on after an error, as tar does."""

    def __init__(self, login: Login, tar: tarfile.TarFile) -> None:
        self._login = login
        self._tar = tar
        self._names: list[str] = []
        self._complaints: list[str] = []

    def add(self, path: str, name: str) -> None:
        """Add the file at the remote *path*, and all below, as *name*."""
        try:
            local = self._login.place(path).local
            info = self._tar.gettarinfo(local.rstrip("/"), name)
        except OSError as exc:
            self._complain(name, "Cannot stat", exc)
            return
        is_dir = stat.S_ISDIR(os.stat(local).st_mode)
        self._names.append(name + "/" if is_dir else name)
        try:
            self._write(local, info)
            below = sorted(os.listdir(local)) if is_dir else []
        except OSError as exc:
            self._complain(name, "Cannot open", exc)
            return
        for child in below:
            self.add(f"{path}/{child}", f"{name}/{child}")

    def finish(self) -> bytes:
        """Return the member names. Raises CommandFailed if anything went wrong."""
        if self._complaints:
            self._complaints.append("tar: Exiting with failure status due to previous errors\n")
            raise CommandFailed(2, "".join(self._complaints))
        return "".join(f"{name}\n" for name in self._names).encode("utf-8", "surrogateescape")

    def _write(self, local: str, info: tarfile.TarInfo) -> None:
        if not info.isreg():
            self._tar.addfile(info)
            return
        with open(local, "rb") as file:
            self._tar.addfile(info, file)

    def _complain(self, name: str, what: str, exc: OSError) -> None:
        self._complaints.append(f"tar: {name}: {what}: {os.strerror(exc.errno or 0)}\n")
