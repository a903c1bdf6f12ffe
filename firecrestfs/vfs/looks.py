"""How a name is looked for: alone, by a listing of its directory, or with the tree below that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

from cachetools import TTLCache

from firecrestfs.cache.metadata import boottime
from firecrestfs.model import Attr, Kind
from firecrestfs.paths import is_below, join

#: After so many names in a row that a file system's own directory doesn't have, it is listed.
_MISSES = 2
#: One that holds more (the homes of all users) is none of our business: no second listing.
_LARGE = 2000
#: A directory that can't be listed isn't tried again for so long (seconds).
_UNLISTABLE_S = 30.0
_UNLISTABLE_ROOT_S = 600.0
#: A tree of no more entries is listed as a whole by whoever looks for something in it.
_SMALL = 1000
_KEPT_S = 3600.0
_REMEMBERED = 4096


class Looks:
    """Tells which directories are not listed to find one entry. Thread-safe (a leaf lock).

    The tops of file systems are asked for a name alone, until programs that look for something in
    each directory above theirs have missed some names there.
    """

    def __init__(
        self, roots: Sequence[str], window_s: float, clock: Callable[[], float] = boottime
    ) -> None:
        """*window_s*: for so long an absence is believed, so misses within it are of one search."""
        self._roots = frozenset(roots)
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._until: dict[str, float] = {}  # directory → when it may be listed again
        self._misses: TTLCache[str, int] = TTLCache(_REMEMBERED, window_s, clock)

    def singly(self, directory: str) -> bool:
        """Tell whether an entry of *directory* is asked for alone."""
        with self._lock:
            if self._until.get(directory, 0.0) > self._clock():
                return True
            return directory in self._roots and self._misses.get(directory, 0) < _MISSES

    def missed(self, directory: str) -> None:
        """Note that *directory* doesn't hold the name that it was asked for."""
        if directory in self._roots:
            with self._lock:
                self._misses[directory] = self._misses.get(directory, 0) + 1

    def listed(self, directory: str, entries: int) -> None:
        """Note that *directory* was listed and holds so many *entries*."""
        if directory in self._roots and entries > _LARGE:
            self.refused(directory)

    def refused(self, directory: str) -> None:
        """Note that *directory* can't be listed."""
        pause = _UNLISTABLE_ROOT_S if directory in self._roots else _UNLISTABLE_S
        with self._lock:
            self._until[directory] = self._clock() + pause

    def refresh(self, path: str) -> None:
        """Try again whatever is at and below *path*."""
        with self._lock:
            for key in [key for key in self._until if is_below(key, path)]:
                del self._until[key]


class SmallTrees:
    """Tells which trees are known to be small. Thread-safe (a leaf lock).

    Those are meant that were made from here or gone through: it is likely done again, by `rsync`
    or `make`. What a directory held may be outdated then; that it was little is good to know.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._shapes: TTLCache[str, tuple[int, tuple[str, ...]]] = TTLCache(_REMEMBERED, _KEPT_S)
        self._tops: TTLCache[str, bool] = TTLCache(_REMEMBERED, _KEPT_S)

    def made(self, directory: str) -> None:
        """Note that *directory* was made from here, or listed with all below it."""
        with self._lock:
            self._tops[directory] = True

    def remember(self, listings: Mapping[str, Mapping[str, Attr]]) -> None:
        """Keep in mind how large the directories of *listings*, which are forgotten now, were."""
        with self._lock:
            for directory, entries in listings.items():
                self._shapes[directory] = _shape(entries)

    def holds(self, top: str, listing: Callable[[str], Mapping[str, Attr] | None]) -> bool:
        """Tell whether *top* has subdirectories, all are known, and together they are small.

        *listing* returns the last listing of a directory, however old.
        """
        with self._lock:
            if top not in self._tops:
                return False
        todo, total = [top], 0
        while todo:
            directory = todo.pop()
            entries = listing(directory)
            shape = self._shape_of(directory) if entries is None else _shape(entries)
            if shape is None:
                return False
            total += shape[0]
            if total > _SMALL or (directory == top and not shape[1]):
                return False
            todo.extend(join(directory, name) for name in shape[1])
        return True

    def _shape_of(self, directory: str) -> tuple[int, tuple[str, ...]] | None:
        with self._lock:
            return self._shapes.get(directory)


def _shape(entries: Mapping[str, Attr]) -> tuple[int, tuple[str, ...]]:
    names = tuple(name for name, attr in entries.items() if attr.kind is Kind.DIRECTORY)
    return len(entries), names
