"""Litter: small files of desktops that stay on this machine, for the life of the mount."""

from __future__ import annotations

from dataclasses import replace

from firecrestfs.model import Attr, DirEntry
from firecrestfs.paths import directory_of, is_below, name_of

from .handles import MemoryHandle

#: How much of a file of this kind is kept.
_FILE_BYTES = 1 << 20


class Litter(dict[str, tuple[Attr, bytearray]]):
    """Files in memory by path. Thread-safe as far as single calls go: one dict operation each.

    A dict itself because it is looked into at every `stat`.
    """

    def attr(self, path: str) -> Attr:
        """Return the attributes of *path*, which must be here."""
        attr, content = self[path]
        return replace(attr, size=len(content))

    def content(self, path: str) -> bytes:
        """Return the bytes of *path*, which must be here."""
        return bytes(self[path][1])

    def entries(self, directory: str) -> list[DirEntry]:
        """Return what lies in *directory*."""
        paths = [path for path in list(self) if directory_of(path) == directory]
        return [DirEntry(name_of(path), self.attr(path)) for path in paths]

    def create(self, path: str, attr: Attr, flags: int) -> MemoryHandle:
        """Make *path* with the attributes *attr* and open it."""
        self.setdefault(path, (attr, bytearray()))
        return self.open(path, flags)

    def open(self, path: str, flags: int) -> MemoryHandle:
        """Open *path*, which must be here."""
        return MemoryHandle(self[path][1], flags, _FILE_BYTES)

    def chmod(self, path: str, mode: int) -> None:
        """Give *path*, which must be here, the mode *mode*."""
        attr, content = self[path]
        self[path] = (replace(attr, mode=mode), content)

    def utime(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Give *path*, which must be here, these times; None leaves one as it is."""
        attr, content = self[path]
        atime_ns = attr.atime_ns if atime_ns is None else atime_ns
        mtime_ns = attr.mtime_ns if mtime_ns is None else mtime_ns
        self[path] = (replace(attr, atime_ns=atime_ns, mtime_ns=mtime_ns), content)

    def remove(self, path: str) -> bool:
        """Forget *path*; return whether it was here."""
        return self.pop(path, None) is not None

    def rename(self, old: str, new: str) -> None:
        """Give the file at *old* the path *new*."""
        self[new] = self.pop(old)

    def move_below(self, old: str, new: str) -> None:
        """Give everything below the directory *old* the same place below *new*."""
        for each in [each for each in list(self) if is_below(each, old)]:
            self.rename(each, new + each[len(old) :])

    def remove_below(self, path: str) -> None:
        """Forget everything at and below *path*."""
        for each in [each for each in list(self) if is_below(each, path)]:
            self.remove(each)
