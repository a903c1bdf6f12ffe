"""Calls to the network on behalf of threads that may be interrupted.

A thread inside a FUSE operation never sits in a socket: it hands the call to a worker and waits in
short slices, so that Ctrl-C and the operation's deadline are honoured. Whoever asks for the same
thing while it is under way joins the flight instead of asking again.

Calls that carry files' bytes have workers of their own, fewer than requests may be under way:
however many readers wait, `ls` finds a way.

Where a deadline has passed without an answer, the network is taken to be cut until the next answer
to anything: whoever comes meanwhile waits a few seconds only. A shell that looks at a mount asks
for ten things in a row.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import is_transient, os_error

T = TypeVar("T")

#: Longest time (seconds) a waiting thread doesn't look at its deadline and at interrupts.
SLICE_S = 0.2
#: Longest wait while nothing is answered (seconds).
IMPATIENT_S = 3.0


def from_now(seconds: float) -> float:
    """Return the time (boot time) in *seconds*; for callers outside FUSE."""
    return boottime() + seconds


def never_interrupted() -> bool:
    """Tell that no one interrupts; for callers outside FUSE."""
    return False


def never_given_up() -> OSError | None:
    """Return no reason to stop waiting."""
    return None


class Flights:
    """Runs calls on a pool of threads; joins equal ones. Thread-safe (a leaf lock).

    *given_up* returns, now and then, why an answer is no longer waited for, or None.
    """

    def __init__(
        self,
        workers: int = 8,
        carriers: int = 4,
        deadline_s: float = 60.0,
        interrupted: Callable[[], bool] = never_interrupted,
        end_of_patience: Callable[[float], float] = from_now,
        given_up: Callable[[], OSError | None] = never_given_up,
    ) -> None:
        """*end_of_patience* tells when an operation that may wait so many seconds gives up."""
        self._given_up = given_up
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="call")
        self._carriers = ThreadPoolExecutor(carriers, thread_name_prefix="bytes")
        self._deadline_s = deadline_s
        self.interrupted = interrupted
        self._end_of_patience = end_of_patience
        self._silent = False  # a deadline has passed, and nothing was answered since
        self._closed = False
        self._lock = threading.Lock()  # guards _under_way
        self._under_way: dict[Hashable, Future[Any]] = {}

    def run(
        self,
        call: Callable[[], T],
        key: Hashable | None = None,
        *,
        interruptible: bool = True,
        carries: bool = False,
    ) -> T:
        """Return what *call* returns, or raise what it raises.

        With a *key*, callers of an equal key share one call. *carries*: it carries files' bytes.
        Raises EINTR when the waiting process was interrupted, why the wait was given up, and
        ETIMEDOUT after the deadline; the call itself goes on in all these cases.
        """
        end = self._end_of_patience(self._deadline_s)
        if boottime() > end:
            raise self._timed_out()
        if self._silent:
            end = min(end, boottime() + IMPATIENT_S)
        try:
            future = self._join(call, key, self._carriers if carries else self._pool)
        except RuntimeError:
            raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down") from None
        try:
            return self._wait(future, interruptible, end)
        finally:
            if key is None:
                # What still waits for a worker must not be done after its caller has given up.
                future.cancel()

    def commit(self, call: Callable[[], T]) -> T:
        """Run a call that changes the cluster: Ctrl-C doesn't part its caller from the answer."""
        return self.run(call, interruptible=False)

    def shutdown(self) -> None:
        """Refuse further calls, those that wait for a worker too; those under way go on."""
        self._closed = True
        for pool in (self._pool, self._carriers):
            pool.shutdown(wait=False, cancel_futures=True)

    def _join(
        self, call: Callable[[], T], key: Hashable | None, pool: ThreadPoolExecutor
    ) -> Future[T]:
        if key is None:
            return pool.submit(self._heard, call)
        with self._lock:
            future = self._under_way.get(key)
            if future is None:
                future = pool.submit(self._fly, call, key)
                self._under_way[key] = future
            return future

    def _fly(self, call: Callable[[], T], key: Hashable) -> T:
        try:
            return self._heard(call)
        finally:
            with self._lock:
                self._under_way.pop(key, None)

    def _heard(self, call: Callable[[], T]) -> T:
        """Run *call*; note that there was an answer, if there was one."""
        try:
            found = call()
        except OSError as exc:
            if not is_transient(exc):
                self._silent = False
            raise
        self._silent = False
        return found

    def _timed_out(self) -> OSError:
        text = f"no answer within {self._deadline_s:.0f} s"
        return os_error(errno.ETIMEDOUT, None, text)

    def _wait(self, future: Future[T], interruptible: bool, end: float) -> T:
        # Not `future.result(timeout)`: it can't tell its own timeout from a call's ETIMEDOUT.
        while not wait([future], SLICE_S).done:
            if future.cancelled():
                break
            if interruptible and self.interrupted():
                raise os_error(errno.EINTR)
            reason = self._given_up() if interruptible else None
            if reason is not None:
                raise reason
            if boottime() > end:
                self._silent = True
                raise self._timed_out()
        if future.cancelled():
            raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down")
        return future.result()
