"""Carrier: a system's files, those too whose names no request can carry.

A quote in a name, bytes that aren't UTF-8, on v1 many characters more: a listing tells such names,
and a tar that is unpacked makes them. So such a file is looked at by a listing of its directory,
made by a tar, read and written through a hard link with a plain name, and removed by a job whose
script quotes it. Only the last name may be such a one: a directory has to be named to be listed.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind
from firecrestfs.paths import name_of, split

from .bundle import Bundler
from .remote_job import RemoteJobs, quoted

#: Characters that a file name can't keep on its way through an upload's form.
_NOT_IN_FORMS = frozenset('"\r\n')


def is_sendable(path: str, forbidden: Iterable[str]) -> bool:
    """Tell whether requests can carry *path*; *forbidden* are texts that the server's can't."""
    if any(text in path for text in forbidden):
        return False
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


class Carrier:
    """What is done to single entries of one system. Thread-safe; waits for the network.

    As `TypedClient`, whose errors it raises; of names that can't be sent attributes are of source
    LS, and EINVAL is raised where even a tar doesn't help.
    """

    def __init__(
        self,
        client: TypedClient,
        system: str,
        forbidden: Iterable[str],
        bundler: Bundler,
        jobs: RemoteJobs | None = None,
    ) -> None:
        self._client = client
        self._system = system
        self._forbidden = frozenset(forbidden)
        self._bundler = bundler
        self._jobs = jobs

    def sends(self, path: str) -> bool:
        """Tell whether requests can carry *path*."""
        return is_sendable(path, self._forbidden)

    def uploads(self, path: str) -> bool:
        """Tell whether an upload can carry *path*: its form changes some names."""
        return self.sends(path) and _NOT_IN_FORMS.isdisjoint(name_of(path))

    # -- looking -------------------------------------------------------------------------------

    def list(self, directory: str, *, recursive: bool = False) -> Sequence[DirEntry]:
        """Return the entries of *directory*."""
        return self._client.list(self._system, directory, recursive=recursive)

    def stat(self, path: str) -> Attr:
        """Return the attributes of *path* itself."""
        if self.sends(path):
            return self._client.stat(self._system, path)
        directory, name = split(path)
        for entry in self.list(directory):
            if entry.name == name:
                return entry.attr
        raise os_error(errno.ENOENT, path)

    def stat_or_none(self, path: str) -> Attr | None:
        """Return the attributes of *path*, None where nothing is there."""
        try:
            return self.stat(path)
        except FileNotFoundError:
            return None

    def readlink(self, path: str) -> str:
        """Return the text of the link *path*."""
        if self.sends(path):
            return self._client.readlink(self._system, path)
        return self.stat(path).target or ""

    def download(self, path: str, expect: int) -> bytes:
        """Return the content of *path*, which a listing told to have *expect* bytes."""
        with self._named(path) as name:
            return self._client.download(self._system, name, expect=expect)

    def checksum(self, path: str) -> str:
        """Return the SHA-256 of the file *path*."""
        with self._named(path) as name:
            return self._client.checksum(self._system, name)

    # -- changing ------------------------------------------------------------------------------

    def upload(self, path: str, data: bytes) -> None:
        """Write *data* into the file *path*, in place; unless `uploads` tells so, it must exist."""
        if self.uploads(path):
            self._client.upload(self._system, *split(path), data)
            return
        with self._bundler.alias(path) as name:
            self._client.upload(self._system, *split(name), data)

    def empty(self, path: str) -> None:
        """Empty the file *path*, in place."""
        with self._named(path) as name:
            self._client.empty(self._system, name)

    def chmod(self, path: str, mode: int) -> None:
        """Set the twelve permission bits of *path*."""
        with self._named(path) as name:
            self._client.chmod(self._system, name, mode)

    def remove(self, path: str, kind: Kind) -> None:
        """Remove *path* if it is a *kind*; a directory must be empty."""
        if self.sends(path):
            self._client.remove(self._system, path, kind)
            return
        now = self.stat(path)
        if now.kind is not kind:
            raise os_error(errno.EISDIR if now.kind is Kind.DIRECTORY else errno.ESTALE, path)
        self.remove_proven(path)

    def remove_proven(self, path: str) -> None:
        """Remove *path*; what it is must have been proven a moment ago. Nothing there is fine."""
        if self.sends(path):
            self._client.remove_proven(self._system, path)
        elif self._jobs is None:
            raise os_error(errno.EINVAL, path, "no request can carry this name")
        else:
            self._jobs.run("rm", f"rm -f -- {quoted(path)}")

    @contextmanager
    def _named(self, path: str) -> Iterator[str]:
        """Yield a name by which requests reach the file *path* while the body runs."""
        if self.sends(path):
            yield path
            return
        with self._bundler.alias(path) as name:
            yield name
