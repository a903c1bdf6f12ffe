"""WriteBack: tells the cluster what was changed here, a moment after it was changed.

The queue knows keys and four callables, nothing of files or the network:

    add(key) ─ settle delay ─ store([key, …]) ─┬ landed: forgotten
                                               ├ transient failure: again, later and later
                                               └ permanent failure: parked until `flush` or `add`

Keys of one *group* settle and go together. A key waits for its *blockers* to land.
"""

from __future__ import annotations

import errno
import logging
import math
import random
import threading
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

from firecrestfs.errors import NotYetError, is_transient, os_error

from .queued import Pending, Queued, View

log = logging.getLogger(__name__)

#: What a store answers: None for each key that landed, else why it didn't.
Outcome = Mapping[str, OSError | None]

#: Where the cluster has no room, room may be made there without our knowing.
NO_ROOM = frozenset({errno.EDQUOT, errno.ENOSPC})
_PROBE_S = 30.0
_MAX_BATCH = 2000
#: The settle delay begins anew with each change, but lasts no longer than so many times itself.
_LONGEST_SETTLE = 10
#: Heavy keys that are stored at the same time.
_HEAVY = 3
_FIRST_RETRY_S = 1.0
_LAST_RETRY_S = 60.0
#: What is blocked by something outside the queue is looked at again after this long.
_BLOCKED_S = 0.5


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
        blockers: Callable[[str], Sequence[str]] = lambda key: (),
        heavy: Callable[[str], bool] | None = None,
    ) -> None:
        """*blockers* names keys that must land before; those of the same batch may go along.

        Keys that are *heavy* take long: each is a group of its own, and goes on workers besides, a
        few at a time.
        """
        self._heavy = heavy or (lambda key: False)
        self._store = store
        self._group = group
        self._clock = clock
        self._delay_s = delay_s
        self._on_parked = on_parked
        self._blockers = blockers
        self._chooser = threading.Lock()  # one worker chooses, the others are busy or in line
        self._condition = threading.Condition()  # guards all below
        self._entries: dict[str, Queued] = {}
        self._stopping = False
        self._may_be_parked = False  # false: no entry is
        self._changes = 0  # counts what those who choose must know of
        self._wake_at = math.inf  # workers look again by then; earlier only for what is due earlier
        self._threads = [
            threading.Thread(target=self._work, name=f"store-{number}", daemon=True)
            for number in range(workers + (_HEAVY if heavy else 0))
        ]
        self._started = False

    def add(self, key: str) -> None:
        """Store *key* after the settle delay, counted from now."""
        with self._condition:
            self._start_locked()
            now = self._clock()
            entry = self._entries.get(key)
            earlier = False
            if entry is None:
                self._entries[key] = Queued(now + self._delay_s, now)
            elif entry.in_flight:
                entry.again, entry.dropped = True, False
                return
            else:
                # A log that is appended to again and again is stored all the same.
                latest = entry.since + _LONGEST_SETTLE * self._delay_s
                # Nor does whoever waits for it wait for more than what is there.
                due = now if entry.pressed else max(now, min(now + self._delay_s, latest))
                earlier, entry.due = due < entry.due, due
                entry.tries, entry.cut_short, entry.parked = 0, 0, False
            if earlier or now + self._delay_s < self._wake_at:
                self._notify_locked()

    def cancel(self, key: str) -> bool:
        """Forget *key*. False where its store is running: it is not tried again if that fails."""
        with self._condition:
            entry = self._entries.get(key)
            if entry is not None and entry.in_flight:
                entry.again, entry.dropped = False, True
                return False
            if self._entries.pop(key, None) is not None:
                self._notify_locked()
            return True

    def look(self) -> None:
        """Look at once for what is due: time may have passed that workers didn't wait through."""
        with self._condition:
            self._notify_locked()

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
                entry.due, entry.parked = self._clock(), False
                entry.tries = entry.cut_short = 0
                entry.pressed = True
            self._notify_locked()
        while self._unsettled(wanted, patience) and not (interrupted() or self._stopping):
            if end is not None and self._clock() >= end:
                break
            with self._condition:
                self._condition.wait(0.2)
        with self._condition:
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

    def has_parked(self) -> bool:
        """Tell, at little cost, whether anything is parked."""
        with self._condition:
            if self._may_be_parked:
                self._may_be_parked = any(each.parked for each in self._entries.values())
            return self._may_be_parked

    def error_of(self, key: str) -> OSError | None:
        """Return why the last try to store *key* failed, None where it didn't."""
        with self._condition:
            entry = self._entries.get(key)
            return entry.error if entry else None

    def stop(self) -> None:
        """Start no further store; those running end by themselves."""
        with self._condition:
            self._stopping = True
            self._notify_locked()

    # -- inside --------------------------------------------------------------------------------

    def _notify_locked(self) -> None:
        """Wake who waits; who is choosing right now, from what was before, chooses again."""
        self._changes += 1
        self._condition.notify_all()

    def _start_locked(self) -> None:
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()

    def _unsettled(self, keys: set[str], patience: int | None) -> bool:
        """Tell whether waiting for *keys* can still help."""
        with self._condition:
            waiting = [
                key
                for key in keys & self._entries.keys()
                if not self._gave_up_locked(self._entries[key], patience)
            ]
            stuck = any(each.parked or each.tries for each in self._entries.values())
        return any(not (stuck and self._waits_in_vain(key, patience)) for key in waiting)

    @staticmethod
    def _gave_up_locked(entry: Queued, patience: int | None) -> bool:
        tried = patience is not None and entry.tries >= patience
        return not entry.in_flight and (entry.parked or tried)

    def _waits_in_vain(self, key: str, patience: int | None) -> bool:
        """Tell whether *key* can't land because of one that can't."""
        seen, waiting = {key}, list(self._blockers(key))
        while waiting:
            blocker = waiting.pop()
            if blocker in seen:
                continue
            seen.add(blocker)
            with self._condition:
                entry = self._entries.get(blocker)
                if entry is not None and self._gave_up_locked(entry, patience):
                    self._blame_locked(key, entry)
                    return True
            waiting += self._blockers(blocker)
        return False

    def _blame_locked(self, key: str, blocker: Queued) -> None:
        entry = self._entries.get(key)
        if entry is not None and blocker.error is not None:
            code, text = blocker.error.errno or errno.EIO, blocker.error.strerror
            entry.error = os_error(code, None, f"waits for another change that failed: {text}")

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
        """Wait for a batch that is due and settled; mark it as in flight.

        Looking at all that waits takes long where much does: it is done once, not by each worker.
        """
        with self._chooser:
            return self._next_batch()

    def _next_batch(self) -> list[str]:
        while not self._stopping:
            with self._condition:
                now = self._clock()
                ready = {key: each for key, each in self._entries.items() if self._ready(each)}
                wake = min((each.due for each in ready.values()), default=math.inf)
                self._wake_at = wake
                view = {key: (each.due, each.since, each.pressed) for key, each in ready.items()}
                changes = self._changes
                flying = [key for key, each in self._entries.items() if each.in_flight]
            batch: list[str] = []
            if wake <= now:
                full = sum(1 for key in flying if self._heavy(key)) >= _HEAVY
                batch, wake = self._choose(view, now, full)
            with self._condition:
                if self._stopping:
                    break
                batch = [key for key in batch if self._ready(self._entries.get(key))]
                for key in batch:
                    self._entries[key].in_flight = True
                if batch:
                    return batch
                if changes == self._changes and not self._stopping:
                    wake = min(wake, self._next_due_locked(view))
                    self._wake_at = wake
                    pause = None if wake == math.inf else max(0.01, wake - self._clock())
                    self._condition.wait(pause)
        return []

    def _choose(self, view: Mapping[str, View], now: float, full: bool) -> tuple[list[str], float]:
        """Return the keys to store now, all of one group, or none and when to look again.

        *full*: no heavy one has a place.
        """
        groups: defaultdict[Hashable, list[str]] = defaultdict(list)
        for key in view:
            groups[self._group(key)].append(key)
        wake = math.inf
        for keys in sorted(groups.values(), key=lambda each: min(view[key][0] for key in each)):
            if full and self._heavy(keys[0]):
                continue
            # What waits for another try is no part of what settles.
            going = [key for key in keys if view[key][0] <= now + self._delay_s or view[key][2]]
            due = self._settled_at([view[key] for key in going or keys])
            if due > now:
                wake = min(wake, due)
                continue
            batch = self._unblocked(going)
            if batch:
                return batch[:_MAX_BATCH], wake
        # What is blocked is looked at again when something lands: that notifies.
        return [], min(wake, now + _BLOCKED_S) if wake == math.inf and view else wake

    def _next_due_locked(self, seen: Mapping[str, View]) -> float:
        """Return when the first of those is due that were added since *seen* was taken."""
        added = (
            each.due for key, each in self._entries.items() if key not in seen and self._ready(each)
        )
        return min(added, default=math.inf)

    def _settled_at(self, members: Sequence[View]) -> float:
        """Return when a group goes: once its last member is due, but no member waits for ever."""
        if any(pressed for _, _, pressed in members):
            return 0.0
        first = min(due for due, _, _ in members)
        latest = min(since for _, since, _ in members) + _LONGEST_SETTLE * self._delay_s
        return max(first, min(max(due for due, _, _ in members), latest))

    def _unblocked(self, keys: Sequence[str]) -> list[str]:
        """Return those of *keys*, one group, that wait for nothing outside of them."""
        going = set(keys)
        blockers = {key: self._blockers(key) for key in keys}
        while True:
            held = {key for key in going if not going.issuperset(blockers[key])}
            if not held:
                return [key for key in keys if key in going]
            going -= held

    @staticmethod
    def _ready(entry: Queued | None) -> bool:
        return entry is not None and not entry.in_flight and (not entry.parked or entry.probing)

    def _settle(self, batch: Sequence[str], outcome: Outcome) -> list[tuple[str, OSError]]:
        """Note what became of *batch*; return the keys that were parked, with the reasons."""
        parked: list[tuple[str, OSError]] = []
        with self._condition:
            for key in batch:
                entry = self._entries.get(key)
                if entry is None:
                    continue
                entry.in_flight = False
                # Whoever waits for it waits for what changed meanwhile as well.
                entry.pressed = entry.pressed and entry.again
                exc = entry.error = entry.judged(outcome.get(key))
                if exc is not None and not is_transient(exc) and not entry.again:
                    if not entry.parked:
                        parked.append((key, exc))
                    entry.parked = self._may_be_parked = True
                    entry.probing = exc.errno in NO_ROOM
                    entry.due = self._clock() + _PROBE_S
                else:
                    entry.parked = False
                    self._settle_one_locked(key, entry, exc)
            self._notify_locked()
        return parked

    def _settle_one_locked(self, key: str, entry: Queued, exc: OSError | None) -> None:
        now = self._clock()
        if entry.again:
            entry.again, entry.tries, entry.cut_short = False, 0, 0
            entry.due = now if entry.pressed else now + self._delay_s
        elif exc is None or entry.dropped:
            del self._entries[key]
        elif isinstance(exc, NotYetError):
            entry.due, entry.error = now + exc.pause_s, None
        else:
            entry.tries += 1
            delay = min(_LAST_RETRY_S, _FIRST_RETRY_S * 2 ** min(entry.tries - 1, 16))
            entry.due = now + delay * random.uniform(0.7, 1.3)
