"""A write-back queue on a bench: its clock, its store, and what both saw."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

from firecrestfs.errors import FirecrestException
from firecrestfs.transfer.writeback import Outcome, WriteBack

from .tools import FakeClock, wait_until

PERMANENT = OSError(errno.EACCES, "not permitted")
TRANSIENT = FirecrestException(errno.ECONNREFUSED, "down", transient=True)


class Cluster:
    """A store that does what the test says and remembers what it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.answers: dict[str, OSError | None] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.raises: BaseException | None = None

    def __call__(self, keys: Sequence[str]) -> Outcome:
        self.batches.append(list(keys))
        assert self.hold.wait(10)
        if self.raises is not None:
            raise self.raises
        return {key: self.answers.get(key) for key in keys}

    @property
    def times(self) -> int:
        return len(self.batches)


class Bench:
    """A queue with one worker, its store and its clock."""

    def __init__(self, workers: int = 1) -> None:
        self.clock = FakeClock()
        self.cluster = Cluster()
        self.blockers: dict[str, str] = {}
        self.parked: list[tuple[str, OSError]] = []
        self.queue = WriteBack(
            self.cluster,
            lambda key: key[0],
            self.clock,
            delay_s=1.0,
            workers=workers,
            on_parked=lambda key, exc: self.parked.append((key, exc)),
            blockers=lambda key: [self.blockers[key]] if key in self.blockers else [],
        )

    def advance(self, seconds: float) -> None:
        """Let time pass and the workers notice."""
        self.clock.advance(seconds)
        self.queue.look()

    def keys(self) -> list[str]:
        return [row.key for row in self.queue.pending()]

    def stored(self, number: int) -> None:
        wait_until(lambda: self.cluster.times >= number)

    def settled(self) -> None:
        wait_until(lambda: not any(row.in_flight for row in self.queue.pending()))


def brief_wait() -> None:
    """Give a worker that must not do something the time to do it."""
    threading.Event().wait(0.05)
