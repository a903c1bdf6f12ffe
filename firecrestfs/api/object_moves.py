"""Objects on their way: whole ones, windows of them, and what counts their bytes."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, BinaryIO, NamedTuple, Protocol

import requests

from .faults import refusal
from .object_faults import check, total_of
from .transport import GaveUp

#: Told now and then how many bytes of how many have been moved; both count content only.
Progress = Callable[[int, int], None]
#: Takes a piece of an object: where it begins, and its bytes.
Put = Callable[[int, bytes], None]

_PIECE = 256 * 1024


class Exchange(Protocol):
    """One request to the store, and its answer."""

    def __call__(
        self, method: str, url: str, *, headers: dict[str, str], what: str = "object"
    ) -> AbstractContextManager[requests.Response]:
        """Send it."""
        ...


class ObjectInfo(NamedTuple):
    """Which object is behind a link: its size in bytes and the store's mark of its content."""

    size: int
    etag: str


def info_of(answer: requests.Response) -> ObjectInfo:
    """Return what the headers of an answer tell of the whole object."""
    return ObjectInfo(total_of(answer), str(answer.headers.get("ETag", "")))


class Download:
    """One object on its way into a sink, over as many connections as it takes."""

    def __init__(
        self, exchange: Exchange, url: str, sink: BinaryIO, progress: Progress | None
    ) -> None:
        self._exchange, self._url, self._sink, self._progress = exchange, url, sink, progress
        self.done = 0
        self._info, self._before = ObjectInfo(0, ""), 0

    def moved(self) -> bool:
        """Tell whether bytes came since the last question."""
        before, self._before = self._before, self.done
        return self.done > before

    def more(self) -> bool:
        """Fetch what is missing; return whether that was all of it."""
        headers = {"Range": f"bytes={self.done}-"} if self.done else {}
        with self._exchange("GET", self._url, headers=headers) as answer:
            check(answer, "GET")
            self._expect(answer)
            for piece in answer.raw.stream(_PIECE, decode_content=False):
                _here(self._sink.write, piece)
                self.done += len(piece)
                if self._progress is not None:
                    self._progress(self.done, self._info.size)
        if self.done > self._info.size:
            raise refusal(errno.EIO, "the object store sent more than it announced")
        return self.done == self._info.size

    def _expect(self, answer: requests.Response) -> None:
        info = info_of(answer)
        if not self.done:
            self._info = info
        elif info != self._info or answer.status_code != 206:
            raise refusal(errno.ESTALE, "the staged object changed while it was fetched")


class WindowDownload:
    """The bytes of an object from *start* up to *end*, handed on as they come."""

    def __init__(
        self, exchange: Exchange, url: str, info: ObjectInfo, start: int, end: int, put: Put
    ) -> None:
        self._exchange, self._url, self._info, self._put = exchange, url, info, put
        self._at, self._end, self._before = start, end, start

    def moved(self) -> bool:
        """Tell whether bytes came since the last question."""
        before, self._before = self._before, self._at
        return self._at > before

    def more(self) -> bool:
        """Fetch what is missing; return whether that was all of it."""
        headers = {"Range": f"bytes={self._at}-{self._end - 1}"}
        with self._exchange("GET", self._url, headers=headers, what="window") as answer:
            check(answer, "GET")
            if answer.status_code != 206 or info_of(answer) != self._info:
                raise refusal(errno.ESTALE, "the staged object is not the one it was")
            for piece in answer.raw.stream(_PIECE, decode_content=False):
                _here(self._put, self._at, piece)
                self._at += len(piece)
        if self._at > self._end:
            raise refusal(errno.EIO, "the object store sent more than it was asked for")
        return self._at == self._end


class Meter:
    """Adds up what several threads have sent."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress = total, progress
        self._lock = threading.Lock()  # guards _done
        self._done = 0

    def add(self, size: int) -> None:
        """Count *size* bytes more, or fewer."""
        with self._lock:
            self._done += size
            done = self._done
        if self._progress is not None and size:
            self._progress(done, self._total)


def _here(act: Callable[..., Any], *arguments: Any) -> None:
    """Do what concerns this machine alone: its trouble is none of the connection's."""
    try:
        act(*arguments)
    except OSError as exc:
        text = f"on this machine: {exc.strerror or exc}"
        raise GaveUp(refusal(exc.errno or errno.EIO, text)) from None
