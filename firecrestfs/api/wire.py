"""Sockets that can be interrupted, and what limits one call: a deadline and the user's patience.

A thread that waits in `recv` can't see that its caller gave up. So every connection of ours has a
socket that waits in short slices and looks at the `Call` its thread is working on: at its
deadline, at `interrupted()`, and at whether connections were dropped (suspend). The deadline thus
covers slow bodies, too, and there is no thread of ours in the background.
"""

from __future__ import annotations

import errno
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import requests.adapters
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

from ..errors import FirecrestException
from ..faultpoints import reach
from .faults import TimedOut, Unreachable, refusal
from .transport import GaveUp

#: Longest uninterruptible wait, in seconds.
SLICE = 0.2
#: Piece of a body that goes to the kernel at once; small enough to notice a deadline.
_PIECE = 128 * 1024

_local = threading.local()


def clock() -> float:
    """Return seconds on a clock that goes on during suspend, so that deadlines do pass then."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Call:
    """What limits one call: used by the thread that makes it; `drop` may come from any thread."""

    def __init__(
        self,
        deadline_s: float,
        interrupted: Callable[[], bool] | None = None,
        *,
        what: str = "the request",
    ) -> None:
        self.what = what
        self.changes = False  # the request that is being made changes the cluster
        self._end = clock() + deadline_s
        self.interrupted = interrupted
        self.heard = 0.0  # when the peer last took or sent a byte
        self.renewed = False  # went on after a drop
        self._dropped = False

    def drop(self) -> None:
        """Make the call fail at its next slice: its connection is as good as dead."""
        self._dropped = True

    def begin_again(self) -> None:
        """Go on after a drop, on another connection."""
        self._dropped, self.renewed = False, True

    def remaining(self) -> float:
        """Return the seconds that are left; may be negative."""
        return self._end - clock()

    def check(self) -> None:
        """Raise EINTR where the caller was interrupted, ETIMEDOUT past the deadline."""
        if self.interrupted is not None and self.interrupted():
            raise refusal(errno.EINTR, f"{self.what}: interrupted", transient=True)
        if self._dropped:
            text = f"{self.what}: connections were dropped"
            raise Unreachable(errno.ECONNABORTED, text, transient=True)
        if self.remaining() <= 0:
            raise TimedOut(errno.ETIMEDOUT, f"{self.what}: no answer in time", transient=True)

    def sleep(self, seconds: float) -> None:
        """Wait, in slices. Raises as `check` does."""
        end = clock() + seconds
        while True:
            self.check()
            left = end - clock()
            if left <= 0:
                return
            time.sleep(min(left, SLICE))

    def acquire(self, semaphore: threading.Semaphore) -> None:
        """Take *semaphore*, waiting in slices. Raises as `check` does."""
        while not semaphore.acquire(timeout=SLICE):
            self.check()


def current_call() -> Call | None:
    """Return the call that this thread is making, if any."""
    return getattr(_local, "call", None)


@contextmanager
def making(call: Call) -> Iterator[Call]:
    """Declare that this thread works on *call*; nested calls keep the outer one's limits too."""
    outer = current_call()
    _local.call = call
    try:
        yield call
    finally:
        _local.call = outer


class PatientSocket:
    """A connected socket whose waits are slices; has what `http.client` and urllib3 ask for."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._patience: float | None = sock.gettimeout()
        self._readers = 0
        self._closed = False
        sock.settimeout(SLICE)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, value: float | None) -> None:
        """Set how long a silent peer is waited for; None: only the call's deadline counts."""
        self._patience = value

    def gettimeout(self) -> float | None:
        """Return what `settimeout` set."""
        return self._patience

    def fileno(self) -> int:
        """Return the descriptor, for polls."""
        return self._sock.fileno()

    def recv_into(self, buffer: Any) -> int:
        """Fill *buffer* with what is there, waiting in slices. Raises as `Call.check` does."""
        return self._in_slices(lambda: self._sock.recv_into(buffer))

    def sendall(self, data: Any) -> None:
        """Send everything; a slow peer is fine as long as it takes something now and then."""
        view = memoryview(data).cast("B")
        while view:
            piece = view[:_PIECE]
            sent = self._in_slices(lambda piece=piece: self._sock.send(piece))  # type: ignore[misc]
            view = view[sent:]

    def _in_slices(self, act: Callable[[], int]) -> int:
        patience_ends = None if self._patience is None else clock() + self._patience
        while True:
            call = current_call()
            if call is not None:
                _check(call)
            try:
                done = act()
                if call is not None:
                    call.heard = clock()
                return done
            except TimeoutError:
                if patience_ends is not None and clock() >= patience_ends:
                    raise

    def makefile(self, mode: str = "rb", *_: Any, **__: Any) -> io.BufferedReader:
        """Return a reader that keeps the connection open until it is closed itself."""
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Close, as soon as no reader is left."""
        self._closed = True
        self._close_if_unused()

    def reader_closed(self) -> None:
        """For `_Reader`: one of them is gone."""
        self._readers -= 1
        if self._closed:
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._readers <= 0:
            self._sock.close()


def _check(call: Call) -> None:
    try:
        call.check()
    except FirecrestException as exc:
        raise GaveUp(exc) from None


class _Reader(io.RawIOBase):
    def __init__(self, owner: PatientSocket) -> None:
        self._owner = owner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._owner.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._owner.reader_closed()


class _PatientHTTP(HTTPConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Bodies are read in pieces of this size: with the usual ones it takes twice the time.
        super().__init__(*args, **{**kwargs, "blocksize": _PIECE})

    def connect(self) -> None:
        super().connect()
        self.sock = PatientSocket(self.sock)

    def getresponse(self) -> Any:
        _reach_sent()
        return super().getresponse()


class _PatientHTTPS(HTTPSConnection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "blocksize": _PIECE})

    def connect(self) -> None:
        super().connect()
        self.sock = PatientSocket(self.sock)

    def getresponse(self) -> Any:
        _reach_sent()
        return super().getresponse()


def _reach_sent() -> None:
    call = current_call()
    if call is not None and call.changes:
        reach("change.sent")


class _HTTPPool(HTTPConnectionPool):
    ConnectionCls = _PatientHTTP


class _HTTPSPool(HTTPSConnectionPool):
    ConnectionCls = _PatientHTTPS


class PatientAdapter(requests.adapters.HTTPAdapter):
    """Makes the connections of a `requests.Session` wait in slices, through proxies as well."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools; `requests` calls it once."""
        super().init_poolmanager(*args, **kwargs)
        _use_patient_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Return the pools behind *proxy*; `requests` calls it at the first use of that proxy."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            _use_patient_pools(manager)
        return manager


def _use_patient_pools(manager: Any) -> None:
    manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def patient_session(*, trust_env: bool) -> requests.Session:
    """Return a session of one connection per host; *trust_env*: proxies from the environment."""
    session = requests.Session()
    session.trust_env = trust_env
    adapter = PatientAdapter(pool_connections=2, pool_maxsize=1, max_retries=0)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return session


def read_body(answer: requests.Response, limit: int) -> bytes:
    """Return the whole body of a streamed *answer*, decoded.

    To be used inside `transport_faults`. Raises ECONNRESET where it is shorter than announced,
    EFBIG where it is longer than *limit*.
    """
    parts: list[bytes] = []
    size = 0
    for part in answer.raw.stream(_PIECE, decode_content=True):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise refusal(errno.EFBIG, f"an answer of more than {limit} bytes; refused")
    _check_length(answer)
    return b"".join(parts)


def _check_length(answer: requests.Response) -> None:
    announced = answer.headers.get("Content-Length", "")
    if announced.isdecimal() and answer.raw.tell() < int(announced):
        text = f"the answer broke off after {answer.raw.tell()} of {announced} bytes"
        raise GaveUp(Unreachable(errno.ECONNRESET, text, transient=True))
