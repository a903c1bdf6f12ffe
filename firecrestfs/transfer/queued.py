"""What waits in the write-back queue: one key each, as the workers and as others see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Queued:
    """One key that waits. `due` and `since` are readings of the queue's clock, in seconds."""

    due: float
    since: float
    tries: int = 0
    in_flight: bool = False
    again: bool = False  # added once more while in flight
    dropped: bool = False  # cancelled while in flight
    parked: bool = False
    probing: bool = False  # parked, but tried again now and then
    pressed: bool = False  # someone waits for it: it goes without settling
    error: OSError | None = None


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
