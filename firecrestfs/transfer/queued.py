"""What waits in the write-back queue: one key each, as the workers and as others see it."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from firecrestfs.errors import JobCutShortError, os_error

#: Jobs of one key that the cluster's scheduler ends, until nobody believes in the next any more.
_MOST_CUT_SHORT = 10


@dataclass(slots=True)
class Queued:
    """One key that waits. `due` and `since` are readings of the queue's clock, in seconds."""

    due: float
    since: float
    tries: int = 0
    cut_short: int = 0  # of these, how often a job of it was ended for no reason of its own
    in_flight: bool = False
    again: bool = False  # added once more while in flight
    dropped: bool = False  # cancelled while in flight
    parked: bool = False
    probing: bool = False  # parked, but tried again now and then
    pressed: bool = False  # someone waits for it: it goes without settling
    error: OSError | None = None

    def judged(self, exc: OSError | None) -> OSError | None:
        """Return what a store has told, *exc*; one that is for good where it comes too often."""
        if not isinstance(exc, JobCutShortError):
            return exc
        self.cut_short += 1
        if self.cut_short < _MOST_CUT_SHORT:
            return exc
        text = f"{exc.strerror}, as {self.cut_short} times in a row: ask the centre why"
        return os_error(errno.EIO, exc.filename, text)


#: What workers choose by: when it is due, since when it waits, whether someone waits for it.
View = tuple[float, float, bool]


@dataclass(frozen=True, slots=True)
class Pending:
    """One key that has not landed. `since` and `due` are readings of the clock, in seconds."""

    key: str
    since: float
    due: float
    tries: int
    in_flight: bool
    parked: bool
    error: OSError | None
