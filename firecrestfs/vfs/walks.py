"""Walks: recognising `find`, `du` and `grep -r`, so that one recursive listing can serve them.

A program that lists two directories beside each other within moments goes through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cachetools import TTLCache

from firecrestfs.cache.metadata import boottime, join, split
from firecrestfs.model import DirEntry, Kind

#: So many directories beside each other, listed within so many seconds, are a walk.
_SIBLINGS = 2
_WITHIN_S = 5.0
#: A tree that was too large to be listed at once isn't tried again for this long.
_TOO_LARGE_S = 600.0
_REMEMBERED = 4096


class Walks:
    """What was listed lately. Single dict operations only: safe from any thread."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._siblings: TTLCache[str, frozenset[str]] = TTLCache(_REMEMBERED, _WITHIN_S, clock)
        self._too_large: TTLCache[str, bool] = TTLCache(_REMEMBERED, _TOO_LARGE_S, clock)

    def listed(self, directory: str) -> str | None:
        """Note that *directory* is about to be listed; return the tree that is being walked.

        None means: no walk is known, list this directory alone.
        """
        parent = split(directory)[0]
        seen = self._siblings.get(parent, frozenset())
        if len(seen - {directory}) >= _SIBLINGS and parent not in self._too_large:
            return parent
        self._siblings[parent] = seen | {directory}
        return None

    def refused(self, top: str) -> None:
        """Note that *top* can't be listed as a whole."""
        self._too_large[top] = True


def by_directory(top: str, entries: Iterable[DirEntry]) -> dict[str, list[DirEntry]]:
    """Sort a recursive listing of *top* into its directories, the empty ones included."""
    tables: dict[str, list[DirEntry]] = {top: []}
    for entry in entries:
        path = join(top, entry.name)
        directory, name = split(path)
        tables.setdefault(directory, []).append(DirEntry(name, entry.attr))
        if entry.attr.kind is Kind.DIRECTORY:
            tables.setdefault(path, [])
    return tables
