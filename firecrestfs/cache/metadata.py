"""Attributes, listings and absences of one system, believed for a limited time.

A directory's listing carries the attributes of everything in it, so most lookups are answered by
the listing of the parent. Entries that were asked for one by one are kept beside the listings.

Time is measured with CLOCK_BOOTTIME: what was learnt before a suspend is stale after it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from firecrestfs.model import Attr, DirEntry
from firecrestfs.paths import directory_of, is_below, split

T = TypeVar("T")

#: Names remembered per system before the directories that were read longest ago are dropped.
_MAX_NAMES = 500_000
_MAX_SINGLES = 50_000


def boottime() -> float:
    """Return seconds since boot, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Listing:
    """The names of one directory, learnt at `learnt` (boot time, seconds)."""

    entries: dict[str, Attr]
    learnt: float


@dataclass(slots=True)
class _Single:
    """What one lookup told: attributes, or None for an absence."""

    attr: Attr | None
    learnt: float


class _ByAge(dict[str, T]):
    """A table of limited weight that drops what was put into it longest ago.

    Looking up costs what it costs in a dict, for it is done at every `stat`; that it makes nothing
    younger does little harm: what is in use is put anew whenever its TTL is over.
    """

    def __init__(self, limit: int, weigh: Callable[[T], int] = lambda value: 1) -> None:
        super().__init__()
        self._limit = limit
        self._weigh = weigh
        self._weight = 0

    def put(self, key: str, value: T) -> None:
        """Put *value* at *key* as the youngest; one that is too heavy by itself is not kept."""
        self.drop(key)
        weight = self._weigh(value)
        if weight > self._limit:
            return
        while self._weight + weight > self._limit:
            self.drop(next(iter(self)))
        self[key] = value
        self._weight += weight

    def drop(self, key: str) -> None:
        """Take *key* out, if it is there."""
        value = self.pop(key, None)
        if value is not None:
            self._weight -= self._weigh(value)


@dataclass(slots=True)
class MetadataCache:
    """Listings, attributes and absences with their ages. Every method is thread-safe (a leaf lock).

    `ttl` and `negative_ttl` are seconds. What is older is kept, for times when nobody can be asked:
    `last_known`, `last_listing`. A fill (`put_*`) brings the `mark` taken before its
    request was sent and is dropped where the path has changed here in the meantime.
    """

    ttl: float = 30.0
    negative_ttl: float = 5.0
    clock: Callable[[], float] = boottime
    _lock: threading.Lock = field(default_factory=threading.Lock)  # guards all below
    _listings: _ByAge[Listing] = field(
        default_factory=lambda: _ByAge(_MAX_NAMES, lambda listing: len(listing.entries) + 1)
    )
    _singles: _ByAge[_Single] = field(default_factory=lambda: _ByAge(_MAX_SINGLES))
    _changes: _ByAge[int] = field(default_factory=lambda: _ByAge(_MAX_SINGLES))
    _counter: int = 0
    _expired: float = float("-inf")  # what was learnt before is no longer believed
    _floor: int = 0  # marks below it are refused: an invalidation touched everything

    # -- looking up ----------------------------------------------------------------------------

    def listing(self, directory: str) -> Mapping[str, Attr] | None:
        """Return the believed listing of *directory*, or None.

        The mapping is never changed once it has been handed out (`changed` replaces it).
        """
        with self._lock:
            found = self._listings.get(directory)
            if found is None or self._age(found.learnt) > self.ttl:
                return None
            self._listings.put(directory, found)
            return found.entries

    def is_fresh(self, directory: str) -> bool:
        """Tell whether *directory* was listed so lately that absences in it are believed."""
        with self._lock:
            found = self._listings.get(directory)
            return found is not None and self.clock() - found.learnt <= self.negative_ttl

    def last_listing(self, directory: str) -> Mapping[str, Attr] | None:
        """Return the newest listing of *directory* however old it is, or None."""
        with self._lock:
            found = self._listings.get(directory)
            return None if found is None else found.entries

    def lookup(self, path: str) -> Attr | bool | None:
        """Return the attributes of *path*; False: believed absent; None: unknown."""
        directory, _, name = path.rpartition("/")
        # Without the lock, as it is asked at every `stat`: each look is one step, and whichever of
        # the two is the newer was true at some moment of this call.
        single = self._singles.get(path)
        listing = self._listings.get(directory or "/")
        if listing is not None and (single is None or listing.learnt >= single.learnt):
            attr, learnt = listing.entries.get(name), listing.learnt
        elif single is not None:
            attr, learnt = single.attr, single.learnt
        else:
            return None
        age = self._age(learnt)
        if attr is None:
            return False if age <= self.negative_ttl else None
        return attr if age <= self.ttl else None

    def last_known(self, path: str) -> Attr | None:
        """Return the newest attributes of *path* however old they are, or None."""
        return self.last_lookup(path) or None

    def last_lookup(self, path: str) -> Attr | Literal[False] | None:
        """Return what `lookup` would, however old it is: False where *path* was absent then."""
        directory, name = split(path)
        with self._lock:
            single = self._singles.get(path)
            listing = self._listings.get(directory)
            if listing is not None and (single is None or listing.learnt >= single.learnt):
                return listing.entries.get(name, False)
            return None if single is None else single.attr or False

    def expire(self) -> None:
        """Believe nothing any more that was learnt before now."""
        with self._lock:
            self._expired = self.clock()

    # -- filling -------------------------------------------------------------------------------

    def mark(self) -> int:
        """Return the mark to take before a request whose answer shall fill the cache."""
        with self._lock:
            return self._counter

    def put_listing(self, directory: str, entries: Iterable[DirEntry], mark: int) -> bool:
        """Believe *entries* to be all of *directory*. Return False where the fill was dropped."""
        table = {entry.name: entry.attr for entry in entries}
        with self._lock:
            if self._changed_since_locked(directory, mark):
                return False
            self._put_listing_locked(directory, table)
            return True

    def put_attr(self, path: str, attr: Attr | None, mark: int) -> bool:
        """Believe *attr* (None: absent) for *path*. Return False where the fill was dropped."""
        with self._lock:
            if self._changed_since_locked(directory_of(path), mark):
                return False
            self._singles.put(path, _Single(attr, self.clock()))
            return True

    # -- own changes ---------------------------------------------------------------------------

    def changed(self, path: str, attr: Attr | None) -> None:
        """Note that *path* was changed from here: it has *attr* now, or (None) is gone."""
        directory, name = split(path)
        with self._lock:
            self._touch_locked(directory)
            listing = self._listings.get(directory)
            if listing is not None:
                entries = dict(listing.entries)
                if attr is None:
                    entries.pop(name, None)
                else:
                    entries[name] = attr
                self._put_listing_locked(directory, entries, listing.learnt)
            self._singles.put(path, _Single(attr, self.clock()))
            if attr is None:
                self._touch_locked(path)
                self._listings.drop(path)

    def invalidate(self, path: str) -> None:
        """Forget what is known of *path* itself: attributes, absence and its own listing."""
        directory, name = split(path)
        with self._lock:
            self._touch_locked(directory)
            self._touch_locked(path)
            self._singles.drop(path)
            self._listings.drop(path)
            if name:
                self._listings.drop(directory)

    def invalidate_below(self, path: str) -> dict[str, Mapping[str, Attr]]:
        """Forget everything at and below *path*, and the listing that names it.

        Returns the listings that were at and below it.
        """
        with self._lock:
            self._counter += 1
            self._floor = self._counter
            listed = [key for key in self._listings if is_below(key, path)]
            gone: dict[str, Mapping[str, Attr]] = {
                key: self._listings[key].entries for key in listed
            }
            for key in listed:
                self._listings.drop(key)
            for key in [key for key in self._singles if is_below(key, path)]:
                self._singles.drop(key)
            self._listings.drop(directory_of(path))
            return gone

    # -- inside --------------------------------------------------------------------------------

    def _age(self, learnt: float) -> float:
        return float("inf") if learnt <= self._expired else self.clock() - learnt

    def _put_listing_locked(
        self, directory: str, table: dict[str, Attr], learnt: float | None = None
    ) -> None:
        listing = Listing(table, self.clock() if learnt is None else learnt)
        self._listings.put(directory, listing)

    def _touch_locked(self, directory: str) -> None:
        self._counter += 1
        if directory not in self._changes and len(self._changes) >= _MAX_SINGLES:
            # The oldest change is about to be forgotten: refuse every fill that began before it.
            self._floor = self._counter
        self._changes.put(directory, self._counter)

    def _changed_since_locked(self, directory: str, mark: int) -> bool:
        return mark < self._floor or self._changes.get(directory, 0) > mark
