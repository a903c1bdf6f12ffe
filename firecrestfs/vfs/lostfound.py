"""LostFound: what was set aside on this machine, shown read-only in the mount."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind, Source

from .base import Filesystem, OpenFile


class _LocalHandle(OpenFile):
    """One open local file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes of the file."""
        return os.pread(self._fd, size, offset)

    def release(self) -> None:
        """Close it."""
        os.close(self._fd)


class LostFound(Filesystem):
    """A local directory and all below it; nothing in it can be changed. No link is followed."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def getattr(self, path: str) -> Attr:
        """Return the attributes of a local file or directory, without write permissions."""
        try:
            found = os.lstat(self._local(path))
        except FileNotFoundError:
            if path == "/":
                return self._attr(os.lstat(self._top.parent))
            raise os_error(errno.ENOENT, path) from None
        return self._attr(found)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the entries of a local directory."""
        local = self._local(path)
        try:
            names = sorted(os.listdir(local))
        except FileNotFoundError:
            names = []
        entries = []
        for name in names:
            try:
                entries.append(DirEntry(name, self._attr(os.lstat(local / name))))
            except FileNotFoundError:
                continue
        return entries

    def readlink(self, path: str) -> str:
        """Return the text of a link."""
        return os.readlink(self._local(path))

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a file for reading."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            raise os_error(errno.EROFS, path, "lost+found can be read only: copy it elsewhere")
        return _LocalHandle(os.open(self._local(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC))

    def _local(self, path: str) -> Path:
        # The kernel resolves `..` itself and sends none.
        return self._top.joinpath(*[part for part in path.split("/") if part])

    @staticmethod
    def _attr(found: os.stat_result) -> Attr:
        return Attr(
            Kind.of_mode(found.st_mode),
            found.st_mode & 0o555,
            found.st_size,
            found.st_mtime_ns,
            uid=found.st_uid,
            gid=found.st_gid,
            nlink=found.st_nlink,
            atime_ns=found.st_atime_ns,
            ctime_ns=found.st_ctime_ns,
            source=Source.LOCAL,
        )
