"""What all threads that send requests share: connections and the brake."""

from __future__ import annotations

import contextlib
import errno
import random
import threading
from collections.abc import Callable, Iterator

import requests

from .faults import RateLimited
from .wire import Call, clock

#: A kept connection that was idle for longer isn't trusted with what can't be repeated (seconds):
#: servers close idle ones after five and may do so while our request is on its way.
_FRESH = 3.0


class Pacer:
    """One brake for all threads: after a 429 nobody sends before the server allows it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _not_before
        self._not_before = 0.0

    def back_off(self, seconds: float) -> None:
        """Let nobody send for *seconds*."""
        with self._lock:
            self._not_before = max(self._not_before, clock() + seconds)

    def wait(self, call: Call) -> None:
        """Wait for the way to be free. Raises EAGAIN at once where *call* can't last that long."""
        while True:
            with self._lock:
                seconds = self._not_before - clock()
            if seconds <= 0:
                return
            if seconds > call.remaining():
                text = f"{call.what}: the server asks to wait {seconds:.0f} s"
                raise RateLimited(errno.EAGAIN, text, transient=True)
            # A little apart, so that the waiting threads don't all hit the limit again at once.
            call.sleep(seconds + random.uniform(0, 0.2))


class SessionPool:
    """Idle `requests` sessions, most recently used first; a session is used by one thread."""

    def __init__(self, make: Callable[[], requests.Session]) -> None:
        self._make = make
        self._lock = threading.Lock()  # guards the rest
        self._idle: list[tuple[requests.Session, float]] = []
        self._calls: set[Call] = set()
        self._generation = 0

    @contextlib.contextmanager
    def session(self, call: Call, *, fresh: bool) -> Iterator[requests.Session]:
        """Lend a session; *fresh*: its connection was used a moment ago or is a new one."""
        with self._lock:
            session, used = self._idle.pop() if self._idle else (self._make(), clock())
            generation = self._generation
            self._calls.add(call)
        if fresh and clock() - used > _FRESH:
            session.close()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        finally:
            with self._lock:
                self._calls.discard(call)
                keep = generation == self._generation
                if keep:
                    self._idle.append((session, clock()))
            if not keep:
                session.close()

    def drop(self) -> None:
        """Close all connections; calls that are under way fail at their next slice. Any thread."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._generation += 1
            calls = list(self._calls)
        for call in calls:
            call.drop()
        for session, _ in idle:
            session.close()
