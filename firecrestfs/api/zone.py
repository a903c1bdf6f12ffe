"""The clusters' time zones, learnt: `ls` shows local time without saying of where.

A stat of a listed entry gives the epoch of the same instant. Each such pair rules out zones; what
is left converts all other listings. Times in the hour that a clock is set back are ambiguous; the
earlier reading is taken (see `ClusterZone.to_epoch`).
"""

from __future__ import annotations

import logging
import threading
import zoneinfo
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from ..model import Attr, Kind
from .names import sendable

log = logging.getLogger("firecrestfs.api")

#: Where supercomputers are; of several zones that fit all observations the first here is taken.
_PLAUSIBLE = (
    "Europe/Zurich",
    "Europe/London",
    "Europe/Helsinki",
    "America/New_York",
    "America/Chicago",
    "America/Denver",
    "America/Los_Angeles",
    "Australia/Sydney",
    "Australia/Adelaide",
    "America/Santiago",
    "Pacific/Auckland",
    "America/Halifax",
    "America/St_Johns",
    "America/Anchorage",
    "Asia/Jerusalem",
)
_KEPT = 32
_QUARTER = 900
_FARTHEST = 14 * 3600 + _QUARTER


class ClusterZone:
    """One system's zone. Thread-safe.

    *configured* is a zone name from the user, believed until an observation disproves it; without
    one the first guess is the zone of this machine.
    """

    def __init__(self, configured: str | None = None) -> None:
        self._lock = threading.Lock()  # guards the rest
        self._first: tuple[tzinfo | None, ...] = (*_named(configured), None)
        self._zone: tzinfo | None = self._first[0]
        self._seen: list[tuple[datetime, int]] = []

    @property
    def observed(self) -> bool:
        """Whether anything was learnt yet."""
        return bool(self._seen)

    def __str__(self) -> str:
        return str(self._zone) if self._zone is not None else "the zone of this machine"

    def to_epoch(self, text: str) -> int:
        """Return the epoch seconds of local time *text* (`2024-07-01T12:00:00`).

        In the hour that occurs twice, the earlier instant is meant: off by an hour at worst.
        Raises `ValueError` for anything but such a time.
        """
        return _epoch(_parsed(text), self._zone, 0)

    def observe(self, text: str, epoch: int) -> bool:
        """Learn that local time *text* was *epoch*; return whether that was believable.

        A difference that is no zone's (the file changed between the two looks) is ignored.
        """
        try:
            local = _parsed(text)
        except ValueError:
            return False
        offset = _epoch(local, timezone.utc, 0) - epoch
        if offset % _QUARTER or abs(offset) > _FARTHEST:
            return False
        with self._lock:
            self._learn(local, epoch)
        return True

    def _learn(self, local: datetime, epoch: int) -> None:
        """Take the pair in and correct the guess where it must be. The lock is held."""
        if (local, epoch) not in self._seen:
            self._seen = [*self._seen[1 - _KEPT :], (local, epoch)]
        if _fits(self._zone, self._seen):
            return
        old, self._zone = str(self), self._best()
        log.info("time zone of the cluster: %s, not %s", self, old)

    def _best(self) -> tzinfo | None:
        """Return the most plausible zone that fits; older observations yield to newer ones."""
        while True:
            for zone in (*self._first, *_candidates()):
                if _fits(zone, self._seen):
                    return zone
            offsets = {_offset(local, epoch) for local, epoch in self._seen}
            if len(offsets) == 1:
                return timezone(timedelta(seconds=offsets.pop()))
            self._seen = self._seen[1:]


def _named(name: str | None) -> tuple[tzinfo, ...]:
    if not name:
        return ()
    try:
        return (zoneinfo.ZoneInfo(name),)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        log.warning("unknown time zone %r; using the zone of this machine", name)
        return ()


def _candidates() -> Iterator[tzinfo]:
    """Yield all zones: the plausible, the others with daylight saving, then those without."""
    yield from _plausible()
    with_dst, without = _others()
    yield from (*with_dst, timezone.utc, *without)


@lru_cache(maxsize=1)
def _plausible() -> tuple[tzinfo, ...]:
    return tuple(zone for name in _PLAUSIBLE for zone in _named(name))


@lru_cache(maxsize=1)
def _others() -> tuple[tuple[tzinfo, ...], tuple[tzinfo, ...]]:
    names = sorted(zoneinfo.available_timezones() - set(_PLAUSIBLE))
    regional = [name for name in names if "/" in name and not name.startswith(("Etc/", "posix"))]
    zones = [zone for name in regional for zone in _named(name)]
    return (
        tuple(zone for zone in zones if _has_dst(zone)),
        tuple(zone for zone in zones if not _has_dst(zone)),
    )


def _has_dst(zone: tzinfo) -> bool:
    year = datetime.now().year
    return len({datetime(year, month, 1, tzinfo=zone).utcoffset() for month in (1, 4, 7, 10)}) > 1


def _parsed(text: str) -> datetime:
    local = datetime.fromisoformat(text)
    if local.tzinfo is not None:
        raise ValueError(f"a listing's time has no zone: {text}")
    return local


def _epoch(local: datetime, zone: tzinfo | None, fold: int) -> int:
    """Return the epoch of *local* time in *zone*; None is this machine's."""
    return int(local.replace(tzinfo=zone, fold=fold).timestamp())


def _fits(zone: tzinfo | None, seen: list[tuple[datetime, int]]) -> bool:
    return all(epoch in (_epoch(at, zone, 0), _epoch(at, zone, 1)) for at, epoch in seen)


def _offset(local: datetime, epoch: int) -> int:
    return _epoch(local, timezone.utc, 0) - epoch


def telling(entries: dict[str, Attr]) -> list[str]:
    """Return up to two names whose times tell a zone: the oldest of winter and of summer.

    Regular files rather than others, and nothing of the newest day unless there is nothing else.
    """
    dated = sorted(
        (attr.kind is not Kind.FILE, attr.listed, name)
        for name, attr in entries.items()
        if sendable(name) and attr.listed[5:7].isdigit()
    )
    newest = max((listed[:10] for _, listed, _ in dated), default="")
    settled = [item for item in dated if item[1][:10] < newest] or dated
    found: dict[str, str] = {}
    for _, listed, name in settled:
        season = _SEASONS.get(int(listed[5:7]))
        if season:
            found.setdefault(season, name)
    return list(found.values()) or [name for _, _, name in settled[:1]]


_SEASONS = {month: "winter" for month in (11, 12, 1, 2)} | {
    month: "summer" for month in (5, 6, 7, 8)
}
