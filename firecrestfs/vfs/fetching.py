"""Fetching: how the bytes of local copies come from the cluster.

A small file comes whole, by one request; so does a larger one that fits it compressed; a large one
by way of the object store, where it is read.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TypeVar

from firecrestfs.cache.cached_file import CachedFile, State
from firecrestfs.cache.content import ContentCache
from firecrestfs.errors import os_error
from firecrestfs.model import Attr
from firecrestfs.transfer.compressed_reads import CompressedReads
from firecrestfs.transfer.engine import TransferEngine
from firecrestfs.transfer.large_reads import LargeReads
from firecrestfs.transfer.text_reads import TextReads

from .ahead import Ahead
from .entry import Entry
from .flights import Flights
from .habits import Habit, habit_of
from .overlay import Overlay
from .steady import Steady
from .tree import RemoteTree

T = TypeVar("T")

#: Calls that may wait for large files, of some 600 threads: a reader has several, ahead of it.
_BLOCKED = 512
#: Who wants more than this at once isn't looking at a piece of text.
_TEXT_BYTES = 1 << 20
_PUT_BYTES = 1 << 20


class Fetching:
    """Brings bytes of one system here. Thread-safe; methods may wait for the network."""

    def __init__(
        self,
        tree: RemoteTree,
        overlay: Overlay,
        content: ContentCache,
        engine: TransferEngine,
        large: LargeReads,
        text: TextReads,
        compressed: CompressedReads,
        flights: Flights,
        patience: Callable[[], Callable[[], None]],
        give_up: Callable[[Entry], None],
        give_modes: Callable[[str], None],
        steady: Steady,
        caller: Callable[[], int] = lambda: 0,
        hydrate: str = "auto",
    ) -> None:
        """*patience* returns a call that raises EINTR once nobody waits for the thread any more.

        *give_up* lets go of an entry that the cluster has another version of, *give_modes* sets
        those that were changed here at and above a path; *caller* returns the id of the process
        that the thread works for. *hydrate*: which processes may have large files staged by
        reading them: `auto` (all but those that look into everything), `always` (all), `explicit`
        (none).
        """
        self._tree = tree
        self._overlay = overlay
        self._content = content
        self._engine = engine
        self._large = large
        self._text = text
        self._compressed = compressed
        self._flights = flights
        self._patience = patience
        self._give_up = give_up
        self._give_modes = give_modes
        self._steady = steady
        self.copy_at: Callable[[str], CachedFile] | None = None  # the copy at a path; set later
        self._caller = caller
        self._hydrate = hydrate
        self._ahead = Ahead(tree, self._prepare)
        self._waiting = threading.BoundedSemaphore(_BLOCKED)

    def is_large(self, file: CachedFile) -> bool:
        """Tell whether one request can't carry *file*."""
        return file.partial or file.attr.size > self._tree.system.limits.download

    def complete(self, file: CachedFile) -> None:
        """Return when all of *file* is here."""
        if file.complete:
            return
        if self.is_large(file):
            with self._content.room(file.attr.size - file.disk_bytes, file):
                self._wait(file, 0, file.attr.size)
        else:
            entry = self._overlay.of_file(file)
            if entry is not None and entry.path:
                self._give_modes(entry.path)
            self._flights.run(lambda: self._fetch(file), ("get", file.ident), carries=True)

    def appends(self, file: CachedFile) -> bool:
        """Tell whether bytes may be put behind those of *file* although those aren't here."""
        if not file.appendable or file.whole_only:
            return False
        origin = self._origin_of(file)
        large = file.attr.size > self._tree.system.limits.download
        return large and bool(origin) and self._engine.may_append(origin)

    def prove(self, file: CachedFile) -> None:
        """Find out for certain which version *file* is of, if somebody could append to it then."""
        origin = self._origin_of(file)
        known = file.state is not State.CLEAN or file.appendable or not self.is_large(file)
        if known or not origin or not self._engine.may_append(origin):
            return
        # Who can't be asked now is asked by the one who writes.
        with suppress(OSError):
            now = self._flights.run(lambda: self._tree.fetch_attr(origin), ("stat", origin))
            if file.describes(now):
                file.adopt(now)
            else:
                file.become(now)

    def habit(self, file: CachedFile) -> Habit:
        """Return what the process that opens *file* may cause by reading it."""
        if self._hydrate == "always" or file.complete or not self.is_large(file):
            return Habit.READS
        known = habit_of(self._caller())
        return Habit.ASKS if known is Habit.READS and self._hydrate == "explicit" else known

    def need(self, file: CachedFile, offset: int, size: int, habit: Habit = Habit.READS) -> None:
        """Return when what there is of *size* bytes from *offset* was here a moment ago.

        Raises EAGAIN where a process of that *habit* may not have the file staged.
        """
        if self.is_large(file):
            if not habit.may_stage(size) and not self._large.is_busy(file):
                self._look(file, offset, size, habit)
                return
            self._wait(file, offset, min(offset + size, file.attr.size))
        else:
            self.complete(file)

    def reading(self, file: CachedFile, reader: int, start: int, end: int) -> None:
        """Hear what *reader* has read of a file that isn't all here."""
        self._large.reading(file, reader, start, end)

    def _look(self, file: CachedFile, offset: int, size: int, habit: Habit) -> None:
        """Bring a piece here if that takes no staging, else refuse."""
        end = min(offset + size, file.attr.size)
        if habit is Habit.ASKS and self._came_as_text(file, offset, end):
            return
        path = self._path_of(file)
        raise os_error(errno.EAGAIN, path, "not here, and large: `firecrestfs fetch` brings it")

    def _prepare(self, path: str) -> None:
        """Have the large file at *path* staged before somebody reads it."""
        if self.copy_at is None:
            return
        file = self.copy_at(path)
        if file.state is State.CLEAN and not file.partial:
            self._large.prepare(file)

    def _wait(self, file: CachedFile, start: int, end: int) -> None:
        with self._turn(file):
            try:
                self._bring(file, start, end)
            except OSError as exc:
                entry = self._overlay.of_file(file)
                if exc.errno == errno.ESTALE and entry is not None and entry.origin:
                    self._tree.forget(entry.origin)
                    if not self._overlay.differs(entry):
                        self._give_up(entry)
                raise

    def _bring(self, file: CachedFile, start: int, end: int) -> None:
        base = file.base
        try:
            self._at_origin(file, lambda path: self._come(file, path, start, end))
        except OSError as exc:
            if exc.errno != errno.ESTALE or not self._was_appended(file, base):
                raise
            self._at_origin(file, lambda path: self._come(file, path, start, end))

    def _was_appended(self, file: CachedFile, base: Attr | None) -> bool:
        """Tell whether *file* is of another version than *base* because it was appended to here."""
        entry = self._overlay.of_file(file)
        if entry is not None and entry.busy and file.tail is not None:
            self._steady.settle(entry)
        return file.base is not base

    def _come(self, file: CachedFile, path: str, start: int, end: int) -> None:
        if not self._came_as_text(file, start, end) and not self._came_compressed(file):
            self._ahead.reads(path, self._caller())
            self._large.want(file, start, end, self._patience())

    def _came_as_text(self, file: CachedFile, start: int, end: int) -> bool:
        """Bring a piece of a text file here without staging it; return whether that was done."""
        path = self._origin_of(file)
        if not path or self._large.is_busy(file) or end - start > _TEXT_BYTES:
            return False
        key = ("text", file.ident, start, end)
        return self._flights.run(
            lambda: self._text.fetch(path, file, start, end), key, carries=True
        )

    def _came_compressed(self, file: CachedFile) -> bool:
        """Bring all of *file* here without staging it; return whether that was done."""
        path = self._origin_of(file)
        if not path or self._large.is_busy(file) or not self._compressed.may_come(file):
            return False
        head = self._compressed.head_bytes
        if not file.has(0, head) and not self._came_as_text(file, 0, head):
            return False
        key = ("compressed", file.ident)
        return self._flights.run(lambda: self._take_compressed(path, file), key, carries=True)

    def _take_compressed(self, path: str, file: CachedFile) -> bool:
        raw = self._compressed.fetch(path, file)
        if raw is None:
            return False
        starts = range(0, len(raw), _PUT_BYTES)
        try:
            with self._content.room(len(raw) - file.disk_bytes, file):
                done = all(file.put(at, bytes(raw[at : at + _PUT_BYTES])) for at in starts)
        except OSError as exc:
            if exc.errno != errno.ENOSPC:
                raise
            # In pieces there may be room for it.
            self._compressed.refuse(file)
            return False
        self._content.used(file)
        return done

    @contextmanager
    def _turn(self, file: CachedFile) -> Iterator[None]:
        """Count who waits: some threads must be left for those who don't. Raises EAGAIN."""
        if not self._waiting.acquire(blocking=False):
            path = self._path_of(file)
            text = f"{_BLOCKED} readers wait for large files already: try again later"
            raise os_error(errno.EAGAIN, path, text)
        try:
            yield
        finally:
            self._waiting.release()

    def _fetch(self, file: CachedFile) -> None:
        base = file.base
        if file.complete or base is None:
            return
        with self._content.room(base.size, file):
            file.fill(*self._at_origin(file, lambda path: self._whole(path, base)))
        self._content.used(file)

    def _whole(self, path: str, attr: Attr) -> tuple[bytes, Attr]:
        """Return the content of *path*, and its version: *attr* where that still holds."""
        if not path:
            raise os_error(
                errno.ESTALE, None, "it changed or was removed on the cluster: open it again"
            )
        data = self._engine.fetch(path, attr)
        return data, attr if len(data) == attr.size else self._version_of(path, data)

    def fetch_growth(self, file: CachedFile, attr: Attr) -> bool:
        """Take what was appended to *file* on the cluster; return whether that is all that changed.

        *attr* is what the cluster has now.
        """
        if attr.size < file.attr.size:
            return False
        if attr.size > self._tree.system.limits.download:
            return self._grow_as_text(file, attr)
        if not file.complete:
            return False

        def fetch() -> bool:
            return file.grow(*self._at_origin(file, lambda path: self._whole(path, attr)))

        return self._flights.run(fetch, ("grow", file.ident), carries=True)

    def _grow_as_text(self, file: CachedFile, attr: Attr) -> bool:
        path = self._origin_of(file)
        if not path or not (file.complete or file.partial) or attr.size == file.attr.size:
            return False
        return self._flights.run(lambda: self._text.grow(path, file, attr), ("grow", file.ident))

    def _path_of(self, file: CachedFile) -> str:
        entry = self._overlay.of_file(file)
        return "" if entry is None else entry.path

    def _origin_of(self, file: CachedFile) -> str:
        """Return where the cluster has *file*; empty where nowhere any more."""
        entry = self._overlay.of_file(file)
        return "" if entry is None else entry.origin

    def _at_origin(self, file: CachedFile, ask: Callable[[str], T]) -> T:
        """Return what *ask* brings from where the cluster has *file*, also while it is renamed."""
        return self._steady.ask(lambda: self._origin_of(file), ask)

    def _version_of(self, path: str, data: bytes) -> Attr:
        """Return the attributes of the version that *data* is: the known ones were outdated."""
        self._tree.forget(path)
        attr = self._tree.fetch_attr(path)
        # A file that goes on growing is read as far as it was.
        if attr.size < len(data):
            raise os_error(errno.EAGAIN, path, "it is being rewritten on the cluster; try again")
        return replace(attr, size=len(data))
