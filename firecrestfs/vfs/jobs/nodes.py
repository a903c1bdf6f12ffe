"""Nodes: what a name in `.jobs` stands for, made afresh at each look."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Kind

from ..base import OpenFile
from ..flights import SLICE_S
from ..handles import BytesHandle

#: What a file claims to hold whose content costs a request.
ANY_SIZE = 4096
#: So many readers may wait for jobs at a time: each holds one of the mount's threads.
_WAITERS = 64


@dataclass(frozen=True, slots=True)
class Node:
    """One entry. What isn't given refuses.

    `fetch` makes the content of a file, or of a link, where that costs a request; `follow` is told
    that somebody follows a link, and returns where to. `opener` opens what is more than text,
    `names` lists a directory.
    """

    kind: Kind = Kind.FILE
    mode: int = 0o444
    content: bytes = b""
    target: str = ""
    mtime_ns: int = 0
    fetch: Callable[[], bytes] | None = None
    follow: Callable[[], bytes] | None = None
    opener: Callable[[int], OpenFile] | None = None
    names: Callable[[], list[tuple[str, Node]]] | None = None

    def attr(self, directory: Attr) -> Attr:
        """Return its attributes; *directory* has what all have in common."""
        when = self.mtime_ns or directory.mtime_ns
        if self.kind is Kind.DIRECTORY:
            return replace(directory, mode=self.mode, mtime_ns=when, atime_ns=when, ctime_ns=when)
        size = len(self.content or os.fsencode(self.target))
        return replace(
            directory,
            kind=self.kind,
            mode=self.mode,
            size=size if self.fetch is None and self.opener is None else ANY_SIZE,
            nlink=1,
            mtime_ns=when,
            atime_ns=when,
            ctime_ns=when,
            target=self.target or None,
        )

    def open(self, path: str, flags: int) -> OpenFile:
        """Open it. Raises EISDIR, ELOOP, EACCES."""
        if self.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, path)
        if self.kind is Kind.SYMLINK:
            raise os_error(errno.ELOOP, path)
        if self.opener is not None:
            return self.opener(flags)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise os_error(errno.EACCES, path)
        return BytesHandle(self.content if self.fetch is None else self.fetch())

    def readlink(self, path: str) -> str:
        """Return where a link leads. Raises EINVAL for anything else."""
        if self.kind is not Kind.SYMLINK:
            raise os_error(errno.EINVAL, path)
        made = self.follow or self.fetch
        return self.target if made is None else os.fsdecode(made())


def text(content: str, mtime_ns: int = 0) -> Node:
    """Return a file that holds *content*."""
    return Node(content=content.encode("utf-8", "surrogateescape"), mtime_ns=mtime_ns)


def link(target: str, mtime_ns: int = 0) -> Node:
    """Return a symlink with the text *target*."""
    return Node(Kind.SYMLINK, 0o777, target=target, mtime_ns=mtime_ns)


def directory(names: Callable[[], list[tuple[str, Node]]], mtime_ns: int = 0) -> Node:
    """Return a directory that nobody writes into; copies of it can be written, by its mode."""
    return Node(Kind.DIRECTORY, 0o700, names=names, mtime_ns=mtime_ns)


class CommandHandle(OpenFile):
    """Takes the one word that the file understands."""

    direct_io = True

    def __init__(self, word: str, run: Callable[[], None]) -> None:
        self._word = word
        self._run = run

    def read(self, size: int, offset: int) -> bytes:
        """Return nothing: there is nothing to be read."""
        return b""

    def write(self, data: bytes, offset: int) -> int:
        """Carry the command out. Raises EINVAL for any other."""
        for line in data.decode("utf-8", "replace").split("\n"):
            if line.strip() == self._word:
                self._run()
            elif line.strip():
                raise os_error(errno.EINVAL, None, f"the only command here is: {self._word}")
        return len(data)

    def truncate(self, size: int) -> None:
        """Accept `> file`."""


class Waiters:
    """Bounds the reads that wait, so that everybody else finds a thread. Thread-safe."""

    def __init__(self, limit: int = _WAITERS) -> None:
        self._free = threading.BoundedSemaphore(limit)

    def wait(self, ready: Callable[[], bytes | None], interrupted: Callable[[], bool]) -> bytes:
        """Return what *ready* does once it isn't None. Raises EINTR, and EAGAIN beyond the limit.

        *ready* paces itself: it is called again and again.
        """
        if not self._free.acquire(blocking=False):
            raise os_error(errno.EAGAIN, None, "too many programs wait for jobs already")
        try:
            while True:
                found = ready()
                if found is not None:
                    return found
                if interrupted():
                    raise os_error(errno.EINTR)
        finally:
            self._free.release()


class WaitHandle(OpenFile):
    """Its first read returns when the job has ended."""

    direct_io = True

    def __init__(self, result: Callable[[], bytes]) -> None:
        self._result = result
        self._content: bytes | None = None

    def read(self, size: int, offset: int) -> bytes:
        """Wait, then return how the job has ended."""
        if self._content is None:
            self._content = self._result()
        return self._content[offset : offset + size]


class Pace:
    """Grows the pauses between two questions; sleeps in slices, so that waiting can be ended."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._pause = first_s
        self._longest = longest_s
        self._nobody = threading.Event()

    def sleep(self, interrupted: Callable[[], bool]) -> None:
        """Pause, shorter where interrupted."""
        rest = self._pause
        while rest > 0 and not interrupted():
            self._nobody.wait(min(rest, SLICE_S))
            rest -= SLICE_S
        self._pause = min(self._pause * 1.5, self._longest)
