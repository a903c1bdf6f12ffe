"""Calls to the network on behalf of threads that may be interrupted.

A thread inside a FUSE operation never sits in a socket: it hands the call to a worker and waits in
short slices, so that Ctrl-C and the operation's deadline are honoured. Whoever asks for the same
thing while it is under way joins the flight instead of asking again.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import os_error

T = TypeVar("T")

#: Longest time (seconds) a waiting thread doesn't look at its deadline and at interrupts.
SLICE_S = 0.2


def never_interrupted() -> bool:
    """Tell that no one interrupts; for callers outside FUSE."""
    return False


class Flights:
    """Runs calls on a pool of threads; joins equal ones. Thread-safe (a leaf lock)."""

    def __init__(
        self,
        workers: int = 8,
        deadline_s: float = 60.0,
        interrupted: Callable[[], bool] = never_interrupted,
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
        self._deadline_s = deadline_s
        self._interrupted = interrupted
        self._closed = False
        self._lock = threading.Lock()  # guards _under_way
        self._under_way: dict[Hashable, Future[Any]] = {}

    def run(
        self, call: Callable[[], T], key: Hashable | None = None, *, interruptible: bool = True
    ) -> T:
        """Return what *call* returns, or raise what it raises.

        With a *key*, callers of an equal key share one call. Raises EINTR when the waiting process
        was interrupted and ETIMEDOUT after the deadline; the call itself goes on in both cases.
        """
        try:
            future = self._join(call, key)
        except RuntimeError:
            raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down") from None
        return self._wait(future, interruptible)

    def commit(self, call: Callable[[], T]) -> T:
        """Run a call that changes the cluster: Ctrl-C doesn't part its caller from the answer."""
        return self.run(call, interruptible=False)

    def shutdown(self) -> None:
        """Refuse further calls, those that wait for a worker too; those under way go on."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _join(self, call: Callable[[], T], key: Hashable | None) -> Future[T]:
        if key is None:
            return self._pool.submit(call)
        with self._lock:
            future = self._under_way.get(key)
            if future is None:
                future = self._pool.submit(self._fly, call, key)
                self._under_way[key] = future
            return future

    def _fly(self, call: Callable[[], T], key: Hashable) -> T:
        try:
            return call()
        finally:
            with self._lock:
                self._under_way.pop(key, None)

    def _wait(self, future: Future[T], interruptible: bool) -> T:
        end = boottime() + self._deadline_s
        # Not `future.result(timeout)`: it can't tell its own timeout from a call's ETIMEDOUT.
        while not wait([future], SLICE_S).done:
            if future.cancelled():
                break
            if interruptible and self._interrupted():
                raise os_error(errno.EINTR)
            if boottime() > end:
                raise os_error(errno.ETIMEDOUT, None, f"no answer within {self._deadline_s:.0f} s")
        if future.cancelled():
            raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down")
        return future.result()
