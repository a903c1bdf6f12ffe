"""WriteBack: stores what was changed here, a moment after it was closed.

The queue knows keys and two callables, nothing of files or the network:

    add(key) ─ settle delay ─ store([key, …]) ─┬ landed: forgotten
                                               ├ transient failure: again, later and later
                                               └ permanent failure: parked until `flush` or `add`
"""

from __future__ import annotations

import errno
import logging
import random
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from firecrestfs.errors import is_transient, os_error

log = logging.getLogger(__name__)

#: What a store answers: None for each key that landed, else why it didn't.
Outcome = Mapping[str, OSError | None]

#: Where the cluster has no room, room may be made there without our knowing.
NO_ROOM = frozenset({errno.EDQUOT, errno.ENOSPC})
_PROBE_S = 30.0
_MAX_BATCH = 200
#: The settle delay begins anew with each change, but lasts no longer than so many times itself.
_LONGEST_SETTLE = 10
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0


@dataclass(slots=True)
class _Entry:
    due: float
    since: float
    tries: int = 0
    in_flight: bool = False
    again: bool = False  # added once more while in flight
    parked: bool = False
    probing: bool = False  # parked, but tried again now and then
    error: OSError | None = None


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


class WriteBack:
    """The queue of one system and its workers. Thread-safe (a leaf; `store` runs with no lock)."""

    def __init__(
        self,
        store: Callable[[Sequence[str]], Outcome],
        group: Callable[[str], Hashable],
        clock: Callable[[], float],
        delay_s: float = 1.0,
        workers: int = 3,
        on_parked: Callable[[str, OSError], None] = lambda key, exc: None,
    ) -> None:
        self._store = store
        self._group = group
        self._clock = clock
        self._delay_s = delay_s
        self._on_parked = on_parked
        self._condition = threading.Condition()  # guards all below
        self._entries: dict[str, _Entry] = {}
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._work, name=f"store-{number}", daemon=True)
            for number in range(workers)
        ]
        self._started = False

    def add(self, key: str) -> None:
        """Store *key* after the settle delay, counted from now."""
        with self._condition:
            self._start_locked()
            now = self._clock()
            entry = self._entries.get(key)
            if entry is None:
                self._entries[key] = _Entry(now + self._delay_s, now)
            elif entry.in_flight:
                entry.again = True
            else:
                # A log that is appended to again and again is stored all the same.
                latest = entry.since + _LONGEST_SETTLE * self._delay_s
                entry.due = max(now, min(now + self._delay_s, latest))
                entry.tries, entry.parked = 0, False
            self._condition.notify_all()

    def cancel(self, key: str) -> bool:
        """Forget *key*. Return False where its store is running already."""
        with self._condition:
            entry = self._entries.get(key)
            if entry is not None and entry.in_flight:
                entry.again = False
                return False
            self._entries.pop(key, None)
            self._condition.notify_all()
            return True

    def wait_idle(self, key: str, timeout_s: float) -> bool:
        """Wait until no store of *key* is running; return whether that was so in time."""

        def idle() -> bool:
            entry = self._entries.get(key)
            return entry is None or not entry.in_flight

        with self._condition:
            return self._condition.wait_for(idle, timeout_s)

    def flush(
        self,
        keys: Iterable[str] | None = None,
        timeout_s: float | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        patience: int | None = None,
    ) -> dict[str, OSError | None]:
        """Store *keys* (None: all) now. Return those that did not land, with what is known why.

        Waits until each has landed, is parked or has failed *patience* times (they are tried on
        after that), the time is over or *interrupted* says so.
        """
        end = None if timeout_s is None else self._clock() + timeout_s
        with self._condition:
            wanted = set(self._entries if keys is None else keys) & self._entries.keys()
            for key in wanted:
                entry = self._entries[key]
                entry.due, entry.parked, entry.tries = self._clock(), False, 0
            self._condition.notify_all()
            while self._unsettled_locked(wanted, patience) and not (
                interrupted() or self._stopping
            ):
                if end is not None and self._clock() >= end:
                    break
                self._condition.wait(0.2)
            return {key: self._entries[key].error for key in wanted if key in self._entries}

    def pending(self) -> list[Pending]:
        """Return everything that has not landed, oldest first."""
        with self._condition:
            rows = [
                Pending(
                    key, each.since, each.due, each.tries, each.in_flight, each.parked, each.error
                )
                for key, each in self._entries.items()
            ]
        return sorted(rows, key=lambda row: row.since)

    def error_of(self, key: str) -> OSError | None:
        """Return why the last try to store *key* failed, None where it didn't."""
        with self._condition:
            entry = self._entries.get(key)
            return entry.error if entry else None

    def stop(self) -> None:
        """Start no further store; those running end by themselves."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    # -- inside --------------------------------------------------------------------------------

    def _start_locked(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _unsettled_locked(self, keys: set[str], patience: int | None) -> bool:
        entries = [self._entries[key] for key in keys if key in self._entries]
        return any(
            each.in_flight or not (each.parked or (patience and each.tries >= patience))
            for each in entries
        )

    def _work(self) -> None:
        while True:
            batch = self._take()
            if not batch:
                return
            for key, exc in self._settle(batch, self._outcome_of(batch)):
                try:
                    self._on_parked(key, exc)
                except Exception:
                    log.exception("internal error in telling that %s is parked", key)

    def _outcome_of(self, batch: Sequence[str]) -> Outcome:
        """Store *batch*; whatever goes wrong becomes the outcome of its keys."""
        try:
            outcome = self._store(batch)
            missing = os_error(errno.EIO, None, "internal error: the store told no outcome")
            return {key: outcome.get(key, missing) for key in batch}
        except OSError as exc:
            reason = exc if exc.errno else os_error(errno.EIO, exc.filename, str(exc))
            return dict.fromkeys(batch, reason)
        except Exception as exc:
            log.exception("internal error in a store")
            return dict.fromkeys(batch, os_error(errno.EIO, None, f"internal error: {exc}"))

    def _take(self) -> list[str]:
        with self._condition:
            while not self._stopping:
                batch = self._due_batch_locked()
                if batch:
                    for key in batch:
                        self._entries[key].in_flight = True
                    return batch
                self._condition.wait(self._next_due_locked())
            return []

    def _due_batch_locked(self) -> list[str]:
        now = self._clock()
        due = [key for key, each in self._entries.items() if self._ready(each) and each.due <= now]
        if not due:
            return []
        first = min(due, key=lambda key: self._entries[key].due)
        group = self._group(first)
        # Neighbours that are nearly due go along: one tar instead of two.
        soon = now + self._delay_s / 2
        return [
            key
            for key, each in self._entries.items()
            if self._ready(each)
            and (key == first or each.due <= soon)
            and self._group(key) == group
        ][:_MAX_BATCH]

    @staticmethod
    def _ready(entry: _Entry) -> bool:
        return not entry.in_flight and (not entry.parked or entry.probing)

    def _next_due_locked(self) -> float | None:
        waiting = [each.due for each in self._entries.values() if self._ready(each)]
        return max(0.01, min(waiting) - self._clock()) if waiting else None

    def _settle(self, batch: Sequence[str], outcome: Outcome) -> list[tuple[str, OSError]]:
        """Note what became of *batch*; return the keys that were parked, with the reasons."""
        parked: list[tuple[str, OSError]] = []
        with self._condition:
            for key in batch:
                entry = self._entries.get(key)
                if entry is None:
                    continue
                entry.in_flight = False
                exc = outcome.get(key)
                entry.error = exc
                if exc is not None and not is_transient(exc) and not entry.again:
                    if not entry.parked:
                        parked.append((key, exc))
                    entry.parked = True
                    entry.probing = exc.errno in NO_ROOM
                    entry.due = self._clock() + _PROBE_S
                else:
                    entry.parked = False
                    self._settle_one_locked(key, entry, exc)
            self._condition.notify_all()
        return parked

    def _settle_one_locked(self, key: str, entry: _Entry, exc: OSError | None) -> None:
        now = self._clock()
        if entry.again:
            entry.again, entry.tries, entry.due = False, 0, now + self._delay_s
        elif exc is None:
            del self._entries[key]
        else:
            entry.tries += 1
            delay = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2 ** min(entry.tries - 1, 16))
            entry.due = now + delay * random.uniform(0.7, 1.3)
