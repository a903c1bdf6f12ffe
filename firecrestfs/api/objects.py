"""The object store behind staged transfers: presigned URLs, and nothing else of S3.

Whoever holds such a URL may use it, so it is a secret like a token: it never stands in a log line,
an error, or the context of an exception. FirecREST's token, on the other hand, never travels to
the store: it isn't known here. Files go through in pieces, so memory is bounded whatever the size.
"""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import requests

from ..errors import FirecrestException
from .faults import refusal
from .multipart import File, Multipart, Window
from .object_faults import check, check_body, code_of, without_context
from .object_moves import Download, Meter, ObjectInfo, Progress, Put, WindowDownload, info_of
from .pool import SessionPool
from .tokens import is_loopback
from .transport import transport_faults
from .wire import SLICE, Call, current_call, making, patient_session

T = TypeVar("T")
log = logging.getLogger("firecrestfs.api")

#: Repeats of one piece of work, and the pause before the first (seconds; doubled each time).
_REPEATS, _PAUSE = 4, 0.5
#: Parts that travel at the same time.
_WORKERS = 4
#: Seconds that a silent store is waited for; putting an object together takes it a while.
_SILENCE, _LONG_SILENCE = 60.0, 300.0


class ObjectStore:
    """Does what presigned URLs allow. Thread-safe; raises `FirecrestException` only.

    A refusal is EACCES (the link has expired, most likely), ENOENT (no such object), or EIO;
    `interrupted` is asked every 0.2 s in the calling thread and ends a call with EINTR. Plain http
    is for this machine, or *allow_http*.
    """

    def __init__(
        self,
        *,
        interrupted: Callable[[], bool] | None = None,
        allow_http: bool = False,
        verify: bool | str = True,
    ) -> None:
        self._interrupted = interrupted
        self._allow_http = allow_http
        self._verify = verify
        self._local = SessionPool(lambda: patient_session(trust_env=False))
        self._pool = SessionPool(lambda: patient_session(trust_env=True))

    # -- reading ------------------------------------------------------------------------------

    def size(self, url: str, *, timeout: float = 60.0) -> int:
        """Return the size of an object in bytes. A GET: the URL is not signed for HEAD."""
        return self.info(url, timeout=timeout).size

    def info(self, url: str, *, timeout: float = 60.0) -> ObjectInfo:
        """Return size and mark of an object. ENOENT while there is none."""
        with self._limited(timeout):
            return self._again(lambda: self._info(url))

    def _info(self, url: str) -> ObjectInfo:
        with self._exchange("GET", url, headers={"Range": "bytes=0-0"}) as answer:
            if answer.status_code == 416:
                return ObjectInfo(0, "")  # an empty object has no first byte
            check(answer, "GET")
            return info_of(answer)

    def fetch(
        self,
        url: str,
        sink: BinaryIO,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write an object to *sink* and return its size in bytes.

        Goes on where a connection broke. Raises ESTALE where the object changed meanwhile,
        ETIMEDOUT after *timeout* seconds.
        """
        download = Download(self._exchange, url, sink, progress)
        with self._limited(timeout):
            while not self._again(download.more, moving=download.moved):
                continue
        return download.done

    def fetch_window(
        self,
        url: str,
        info: ObjectInfo,
        start: int,
        end: int,
        put: Put,
        *,
        timeout: float | None = None,
    ) -> None:
        """Hand the bytes from *start* up to *end* of the object *info* to *put*, piece by piece.

        Goes on where a connection broke. Raises ESTALE where another object is there, EACCES once
        the link has expired, what *put* raises, ETIMEDOUT after *timeout* seconds.
        """
        download = WindowDownload(self._exchange, url, info, start, end, put)
        with self._limited(timeout):
            while not self._again(download.more, moving=download.moved):
                continue

    # -- writing ------------------------------------------------------------------------------

    def send_parts(
        self,
        urls: Sequence[str],
        source: File,
        size: int,
        part_size: int,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Send *size* bytes of *source* as parts, several at a time; return their ETags in order.

        Each part is repeated when it fails for a passing reason. Raises EIO where the file became
        shorter, ETIMEDOUT after *timeout* seconds.
        """
        if len(urls) != max(-(-size // part_size), 1):
            raise refusal(errno.EBADMSG, f"{len(urls)} addresses don't fit {size} bytes")
        meter, lock = Meter(size, progress), threading.Lock()
        with self._limited(timeout) as call:

            def one(number: int) -> str:
                start = number * part_size
                piece = Window(source, lock, start, min(part_size, size - start), meter.add)
                with making(Call(call.remaining(), what=call.what)):
                    return self._again(lambda: self._part(urls[number], number, piece, meter))

            return self._together(one, len(urls), call)

    def send_part(
        self,
        url: str,
        number: int,
        source: File,
        start: int,
        size: int,
        *,
        progress: Progress | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> str:
        """Send *size* bytes of *source* from *start* as part *number* (from 0); return its ETag.

        *source* is this call's own. Repeated when it fails for a passing reason. Raises ECANCELED
        once it isn't *wanted* any more, EIO where the file became shorter.
        """
        meter = Meter(size, progress)
        piece = Window(source, threading.Lock(), start, size, meter.add, wanted)
        with self._limited(None):
            return self._again(lambda: self._part(url, number, piece, meter))

    def _part(self, url: str, number: int, piece: Window, meter: Meter) -> str:
        meter.add(-piece.rewind())
        with self._exchange("PUT", url, data=piece, what=f"part {number + 1}") as answer:
            check(answer, "PUT")
            etag = str(answer.headers.get("ETag", ""))
        if not etag:
            raise refusal(errno.EBADMSG, "the object store told no ETag for a part")
        return etag

    def _together(self, act: Callable[[int], str], count: int, call: Call) -> list[str]:
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="parts") as workers:
            futures = [workers.submit(act, number) for number in range(count)]
            try:
                _await(futures, call)
            except BaseException:
                for future in futures:
                    future.cancel()
                self.drop_connections()
                raise
        return [future.result() for future in futures]

    def complete(self, url: str, etags: Sequence[str], *, timeout: float | None = None) -> None:
        """Put the object together from its parts.

        The store may say 200 and then, in the body, that it failed. Where an answer was lost,
        "no such upload" is what success looks like at the second attempt.
        """
        body = _parts_xml(etags)
        lost = False

        def act() -> None:
            nonlocal lost
            try:
                self._complete(url, body)
            except FirecrestException as exc:
                if lost and code_of(exc) == "NoSuchUpload":
                    return
                lost = lost or exc.ambiguous
                raise

        with self._limited(timeout):
            self._again(act)

    def _complete(self, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/xml"}
        with self._exchange("POST", url, data=body, headers=headers, silence=_LONG_SILENCE) as got:
            check(got, "POST")
            check_body(got, "POST")

    def post(
        self,
        url: str,
        fields: Mapping[str, str],
        name: str,
        source: File,
        size: int,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send a form whose last part is the file, streamed from *source*: v1's way."""
        meter, lock = Meter(size, progress), threading.Lock()
        piece = Window(source, lock, 0, size, meter.add, wanted)

        def act() -> None:
            meter.add(-piece.rewind())
            body = Multipart(name, piece, size, fields)
            headers = {"Content-Type": body.content_type}
            with self._exchange("POST", url, data=body.open(), headers=headers) as answer:
                check(answer, "POST")

        with self._limited(timeout):
            self._again(act)

    def put(
        self,
        url: str,
        source: File,
        size: int,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        """Send the bare bytes of *source*: the way of older S3."""
        meter = Meter(size, progress)
        piece = Window(source, threading.Lock(), 0, size, meter.add, wanted)
        with self._limited(timeout):
            self._again(lambda: self._put(url, piece, meter))

    def _put(self, url: str, piece: Window, meter: Meter) -> None:
        meter.add(-piece.rewind())
        with self._exchange("PUT", url, data=piece) as answer:
            check(answer, "PUT")

    # -- one exchange -------------------------------------------------------------------------

    def drop_connections(self) -> None:
        """Close all connections, those in use as well. Any thread."""
        self._local.drop()
        self._pool.drop()

    @contextmanager
    def _limited(self, timeout: float | None) -> Iterator[Call]:
        seconds = 10.0**9 if timeout is None else timeout
        with making(Call(seconds, self._interrupted, what="the object store")) as call:
            yield call

    def _again(self, act: Callable[[], T], moving: Callable[[], bool] = lambda: False) -> T:
        """Return what *act* does, repeated after passing failures; *moving*: it gets on."""
        failures = 0
        while True:
            try:
                return act()
            except FirecrestException as exc:
                failures = 1 if moving() else failures + 1
                gone = exc.errno in (errno.EINTR, errno.ECONNABORTED)
                if gone or not exc.transient or failures > _REPEATS:
                    raise
                log.debug("object store: %s; again", exc.strerror)
            call = current_call()
            assert call is not None
            call.sleep(_PAUSE * 2 ** (failures - 1) * random.uniform(0.7, 1.3))

    @contextmanager
    def _exchange(
        self,
        method: str,
        url: str,
        *,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        what: str = "object",
        silence: float = _SILENCE,
    ) -> Iterator[requests.Response]:
        self._check_url(url)
        start, status = time.monotonic(), "-"
        pool = self._local if is_loopback(url) else self._pool
        call = current_call()
        assert call is not None
        try:
            with (
                without_context(),
                pool.session(call, fresh=True) as session,
                transport_faults("the object store", mutating=method != "GET"),
                session.request(
                    method,
                    url,
                    data=data,
                    headers={"Accept-Encoding": "identity", **(headers or {})},
                    auth=_no_netrc,
                    timeout=(min(10.0, max(call.remaining(), 0.1)), silence),
                    allow_redirects=False,
                    stream=True,
                    verify=self._verify,
                ) as answer,
            ):
                status = str(answer.status_code)
                yield answer
        finally:
            ms = (time.monotonic() - start) * 1000
            log.info("%s object store, %s %s %.0f ms", method, what, status, ms)

    def _check_url(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise refusal(errno.EBADMSG, "the server told no usable address in the object store")
        if parts.scheme == "http" and not self._allow_http and not is_loopback(url):
            text = f"plain http to {parts.hostname} would show your files to the network: use https"
            raise refusal(errno.EPROTO, text)


def _await(futures: Sequence[Future[str]], call: Call) -> None:
    """Wait for all, or for the first that fails. Raises as `Call.check` does."""
    left = set(futures)
    while left:
        done, left = wait(left, timeout=SLICE)
        for future in done:
            future.result()
        call.check()


def _parts_xml(etags: Sequence[str]) -> bytes:
    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    space = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<CompleteMultipartUpload xmlns="{space}">{parts}</CompleteMultipartUpload>'.encode()


def _no_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Add no credentials: without an auth object requests would look into ~/.netrc."""
    return request
