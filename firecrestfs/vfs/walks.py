"""Walks: recognising `find`, `du` and `grep -r`, so that one recursive listing can serve them.

A program that walks a tree lists a directory and then its subdirectories in the order in which it
was told of them. A person who looks into two directories of her home is no walk.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence

from cachetools import TTLCache

from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind
from firecrestfs.paths import join, split

#: After so many of the first subdirectories, each listed within so many seconds, it is a walk.
_FIRST = 2
_WITHIN_S = 5.0
#: A tree that was too large to be listed at once isn't tried again for this long.
_TOO_LARGE_S = 600.0
_REMEMBERED = 4096


class Walks:
    """What was listed lately. Single dict operations only: safe from any thread."""

    def __init__(self, clock: Callable[[], float] = boottime) -> None:
        self._siblings: TTLCache[str, frozenset[str]] = TTLCache(_REMEMBERED, _WITHIN_S, clock)
        self._read: TTLCache[str, bool] = TTLCache(_REMEMBERED, 4 * _WITHIN_S, clock)
        self._too_large: TTLCache[str, bool] = TTLCache(_REMEMBERED, _TOO_LARGE_S, clock)

    def read(self, directory: str) -> None:
        """Note that the entries of *directory* are being read, from the cache or not."""
        self._read[directory] = True

    def listed(self, directory: str, siblings: Mapping[str, Attr] | None) -> str | None:
        """Note that *directory* is about to be listed; return the tree that is being walked.

        *siblings* are the entries of its parent, as far as they are known. None is returned where
        no walk is recognised: list this directory alone.
        """
        parent, name = split(directory)
        if siblings is None or parent not in self._read or parent in self._too_large:
            return None
        seen = self._siblings.get(parent, frozenset()) | {name}
        self._siblings[parent] = seen
        return parent if len(seen) > _FIRST and _are_first(seen, siblings) else None

    def refused(self, top: str) -> None:
        """Note that *top* can't be listed as a whole."""
        self._too_large[top] = True

    def is_refused(self, top: str) -> bool:
        """Tell whether *top* could not be listed as a whole lately."""
        return top in self._too_large


def _are_first(names: frozenset[str], siblings: Mapping[str, Attr]) -> bool:
    """Tell whether *names* are the subdirectories that a program would look into first."""
    every = [name for name, attr in siblings.items() if attr.kind is Kind.DIRECTORY]
    plain = [name for name in every if not name.startswith(".")]
    orders: Sequence[Sequence[str]] = (every, plain, sorted(every), sorted(plain))
    return any(names == frozenset(order[: len(names)]) for order in orders)


def by_directory(top: str, entries: Iterable[DirEntry]) -> dict[str, list[DirEntry]]:
    """Sort a recursive listing of *top* into its directories, the empty ones included.

    Raises EBADMSG where something lies in a directory that isn't listed itself: its name was
    misread, and the real one would look empty.
    """
    listed = {top}
    tables: dict[str, list[DirEntry]] = {top: []}
    for entry in entries:
        path = join(top, entry.name)
        directory, name = split(path)
        tables.setdefault(directory, []).append(DirEntry(name, entry.attr))
        if entry.attr.kind is Kind.DIRECTORY:
            listed.add(path)
            tables.setdefault(path, [])
    strange = tables.keys() - listed
    if strange:
        raise os_error(errno.EBADMSG, min(strange), "a recursive listing that can't be trusted")
    return tables
