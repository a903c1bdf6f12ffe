"""Opened: what is open on the mount, by number, each with the path that it has now.

libfuse finds no path for what is open below a directory that has been removed, and would refuse to
read or write it. So it is told to ask by number alone, and the paths are kept here.
"""

from __future__ import annotations

import itertools

from firecrestfs.vfs.base import OpenFile


class Opened:
    """Open files and directories. Thread-safe: changed by single dict operations only."""

    def __init__(self) -> None:
        self._files: dict[int, OpenFile] = {}
        self._paths: dict[int, str] = {}  # of files and of directories
        self._numbers = itertools.count(1)

    def add(self, path: str, file: OpenFile | None = None) -> int:
        """Return a number for *file*, None for a directory, that is open at *path*."""
        number = next(self._numbers)
        if file is not None:
            self._files[number] = file
        self._paths[number] = path
        return number

    def drop(self, number: int) -> OpenFile | None:
        """Forget *number*; return the file that it was."""
        self._paths.pop(number, None)
        return self._files.pop(number, None)

    def file(self, number: int) -> OpenFile | None:
        """Return the open file *number*."""
        return self._files.get(number)

    def path(self, number: int) -> str:
        """Return the path of *number*; empty where it is no more."""
        return self._paths.get(number, "")

    def renamed(self, old: str, new: str) -> None:
        """Note that what was at and below *old* is at and below *new*."""
        for number, path in list(self._paths.items()):
            if path == old or path.startswith(f"{old}/"):
                self._put(number, new + path[len(old) :])

    def removed(self, directory: str) -> None:
        """Note that there is no *directory* any more."""
        for number, path in list(self._paths.items()):
            if path == directory:
                self._put(number, "")

    def _put(self, number: int, path: str) -> None:
        # It may have been closed meanwhile.
        if number in self._paths:
            self._paths[number] = path
