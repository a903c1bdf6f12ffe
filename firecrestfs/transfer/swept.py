"""Swept: what of ours is left on a cluster by archives and links, to be removed in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

_DOUBT = "\0"  # between a path and what it is kept for, in what is written down


class Leftovers:
    """Paths of ours on one system that have to be removed. Thread-safe (a leaf lock).

    Those that are in use are removed by who uses them.
    """

    def __init__(
        self,
        paths: Iterable[str] = (),
        left: Callable[[str], None] = lambda path: None,
        removed: Callable[[str], None] = lambda path: None,
    ) -> None:
        """*paths* were left by an earlier process; *left* and *removed* write changes down."""
        self._lock = threading.Lock()  # guards all below
        parts = [path.split(_DOUBT) for path in paths]
        # For what name they may be needed, until that is one of which files.
        self._doubtful = {
            path: (doubt[0], set(map(int, doubt[1:]))) for path, *doubt in parts if doubt
        }
        # What was written down both ways became doubtful last.
        self._paths = {path for path, *_ in parts if path not in self._doubtful}
        self._used: set[str] = set()
        self._left = left
        self._removed = removed

    def add(self, path: str) -> None:
        """Note that *path* is about to be made, and used until it is released."""
        with self._lock:
            self._paths.add(path)
            self._used.add(path)
            self._left(path)

    def release(self, path: str) -> None:
        """Note that nobody uses *path* any more, and that it is still there."""
        with self._lock:
            self._used.discard(path)

    def discard(self, path: str) -> None:
        """Note that *path* is no more, or no more ours to remove."""
        with self._lock:
            self._paths.discard(path)
            self._used.discard(path)
            self._removed(path)

    def doubt(self, path: str, name: str, inodes: set[int]) -> None:
        """Note that nobody needs *path* any more while *name* is one of the files *inodes*."""
        with self._lock:
            self._doubtful[path] = name, inodes
            self._left(_doubt_of(path, name, inodes))
        self.discard(path)

    def settle(self, path: str) -> None:
        """Note that *path* has to be removed, whatever it was needed for."""
        self.add(path)
        with self._lock:
            # Another sweep may have come first.
            if path in self._doubtful:
                self._removed(_doubt_of(path, *self._doubtful.pop(path)))

    def doubtful(self) -> dict[str, tuple[str, set[int]]]:
        """Return what may be needed, for which name, and the files that it may be of."""
        with self._lock:
            return dict(self._doubtful)

    def unused(self) -> list[str]:
        """Return those that nobody uses."""
        with self._lock:
            return sorted(self._paths - self._used)

    def holds(self, path: str) -> bool:
        """Tell whether *path* is one of them, or in one."""
        with self._lock:
            return path in self._paths or path.rpartition("/")[0] in self._paths


def _doubt_of(path: str, name: str, inodes: set[int]) -> str:
    return _DOUBT.join([path, name, *map(str, sorted(inodes))])
