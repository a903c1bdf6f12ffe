"""LargeReads: the large files of one system that are on their way here."""

from __future__ import annotations

import errno
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from firecrestfs.api.objects import ObjectStore
from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.content import ContentCache
from firecrestfs.errors import os_error
from firecrestfs.model import Attr

from .progress import Board, Row
from .staging import Staged, Staging
from .windows import WindowFetch

#: Files that are staged, and windows that travel, at the same time.
_STAGINGS, _WINDOWS = 16, 8
#: What was staged ahead and isn't read within this time (seconds) is given up.
_UNUSED_S = 1800.0


class LargeReads:
    """Fetches ranges of large files. Thread-safe."""

    def __init__(
        self,
        staging: Staging,
        objects: ObjectStore,
        content: ContentCache,
        board: Board,
        path_of: Callable[[str], str],
        is_same: Callable[[str, Attr, Attr], bool],
        stopped: threading.Event,
    ) -> None:
        """*path_of* tells where the cluster has the file of a copy; "" where nowhere any more.

        *is_same* tells whether a stat shows the version of a file that is known.
        """
        self._is_same = is_same
        self._staging = staging
        self._objects = objects
        self._content = content
        self._board = board
        self._path_of = path_of
        self._stopped = stopped
        self._stagings = ThreadPoolExecutor(_STAGINGS, thread_name_prefix="staging")
        self._windows = ThreadPoolExecutor(_WINDOWS, thread_name_prefix="window")
        self._lock = threading.Lock()  # guards _fetches
        self._fetches: dict[str, _Fetch] = {}

    def want(self, file: CachedFile, start: int, end: int, check: Callable[[], None]) -> None:
        """Return when the bytes from *start* up to *end* are here. See `WindowFetch.want`."""

        def check_all() -> None:
            if self._stopped.is_set():
                raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down")
            check()

        fetch = self._fetch_of(file)
        fetch.unused_from = math.inf
        fetch.windows.want(start, end, check_all)

    def reading(self, file: CachedFile, reader: int, start: int, end: int) -> None:
        """Hear what *reader* has read, so that what comes next is fetched ahead."""
        fetch = self._fetches.get(file.ident)
        if fetch is not None and not file.complete:
            fetch.windows.reading(reader, start, end)

    def prepare(self, file: CachedFile) -> None:
        """Have *file* staged before anybody reads it; given up where nobody does for a while."""
        if not file.complete:
            fetch = self._fetch_of(file)
            if not fetch.windows.busy:
                fetch.unused_from = time.monotonic() + _UNUSED_S
            fetch.windows.prepare()

    def is_staged(self, file: CachedFile) -> bool:
        """Tell whether *file* can be fetched without staging, as far as is known."""
        fetch = self._fetches.get(file.ident)
        return fetch is not None and fetch.windows.staged

    def is_busy(self, file: CachedFile) -> bool:
        """Tell whether *file* is on its way already."""
        fetch = self._fetches.get(file.ident)
        return fetch is not None and (fetch.windows.staged or fetch.windows.busy)

    def stop(self) -> None:
        """Begin nothing more, and end what is under way."""
        self._stopped.set()
        self._stagings.shutdown(wait=False, cancel_futures=True)
        self._windows.shutdown(wait=False, cancel_futures=True)
        self._objects.drop_connections()

    # -- inside --------------------------------------------------------------------------------

    def _fetch_of(self, file: CachedFile) -> _Fetch:
        with self._lock:
            for ident in [key for key, each in self._fetches.items() if each.is_over()]:
                del self._fetches[ident]
            if file.ident not in self._fetches:
                self._fetches[file.ident] = _Fetch(self, file)
            return self._fetches[file.ident]


class _Fetch:
    """One file with its windows and its row."""

    def __init__(self, reads: LargeReads, file: CachedFile) -> None:
        self._reads = reads
        self._file = file
        self._path = reads._path_of(file.ident)
        self._row = Row(self._path, "down", file.attr.size)
        self.unused_from = math.inf  # from when on (monotonic) it is given up
        self.windows = WindowFetch(
            file,
            self._stage,
            lambda: reads._staging.forget(self._path),
            lambda known, now: reads._is_same(self._path, known, now),
            reads._objects,
            lambda work: _submitted(reads._windows, work),
            lambda work: _submitted(reads._stagings, work),
            self,
            reads._content.ahead_bytes,
        )

    def is_over(self) -> bool:
        """Whether there is nothing left to be done."""
        return (self._file.complete or self._file.discarded) and not self.windows.busy

    def _stage(self) -> Staged:
        path = self._reads._path_of(self._file.ident)
        if not path:
            raise os_error(errno.ESTALE, None, "it changed on the cluster: open it again")
        self._path = self._row.path = path
        with self._reads._board.showing(self._row):
            return self._reads._staging.obtain(
                path, self._row, lambda: time.monotonic() < self.unused_from
            )

    # -- what the windows tell ------------------------------------------------------------------

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Hold room for a window while it comes."""
        self._row.begin("moving")
        self._row.total = self._file.attr.size
        self._reads._board.show(self._row)
        try:
            with self._reads._content.room(size, bounded=False):
                yield
        finally:
            self._reads._content.used(self._file)

    def moved(self) -> None:
        """Show how far it is."""
        self._row.done = self._file.disk_bytes

    def idle(self) -> None:
        """Show it no more."""
        self._reads._board.hide(self._row)


def _submitted(pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    try:
        pool.submit(work)
    except RuntimeError:
        raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down") from None
