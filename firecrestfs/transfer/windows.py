"""WindowFetch: one large file on its way here, in windows, where its readers are first.

    want(range) ─ staged? ─ windows: what is waited for, then what lies ahead ─ pieces ─ readers

A reader wakes as soon as its bytes are there, not when their window is.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from firecrestfs.api.objects import ObjectStore
from firecrestfs.errors import os_error
from firecrestfs.model import Attr

from .staging import Staged

log = logging.getLogger(__name__)

#: Bytes of one request where someone reads on, and where someone reads here and there.
_WINDOW, _SMALL_WINDOW = 8 << 20, 1 << 20
#: Two reads so near to each other are of one who reads on.
_NEAR = 1 << 20
#: Windows of one file that travel at the same time.
_AT_ONCE = 4
#: Readers whose way is remembered.
_READERS = 16
#: What an expired link looks like, and an object that the store has removed.
_EXPIRED = frozenset({errno.EACCES, errno.ENOENT, errno.ESTALE})
#: A link that fails so often in a row, without a byte in between, is not the trouble.
_RENEWALS = 3
_SLICE_S = 0.2


class Copy(Protocol):
    """What is filled: a local copy that tells what it lacks. See `FetchedFile`."""

    @property
    def attr(self) -> Attr:
        """Its attributes as they are shown."""
        ...

    @property
    def base(self) -> Attr | None:
        """The version that it is of."""
        ...

    def has(self, offset: int, size: int) -> bool:
        """Tell whether a range is here."""
        ...

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what of a range is not here."""
        ...

    def put(self, offset: int, data: bytes) -> bool:
        """Take a part; return whether it was of use."""
        ...

    def become(self, attr: Attr) -> bool:
        """Be of this version, unless there are bytes of one already."""
        ...

    def extend(self, attr: Attr) -> bool:
        """Become longer."""
        ...

    def samples(self) -> list[tuple[int, bytes]]:
        """Return some of what is here, each with its offset."""
        ...


class Watch(Protocol):
    """What is told of a fetch as it goes on."""

    def room(self, size: int) -> AbstractContextManager[None]:
        """Hold room for a window of *size* bytes while it comes, or raise ENOSPC."""
        ...

    def moved(self) -> None:
        """Bytes have come."""
        ...

    def idle(self) -> None:
        """Nothing is under way any more."""
        ...


class WindowFetch:
    """Fills one copy. Thread-safe; its lock comes before the file's."""

    def __init__(
        self,
        copy: Copy,
        stage: Callable[[], Staged],
        expired: Callable[[], None],
        is_same: Callable[[Attr, Attr], bool],
        objects: ObjectStore,
        submit: Callable[[Callable[[], None]], object],
        submit_stage: Callable[[Callable[[], None]], object],
        watch: Watch,
        ahead_bytes: int,
    ) -> None:
        """*stage* returns the object to fetch from, *expired* is told that it is no good any more.

        *is_same* tells whether the second is the version that the first describes.
        *submit* and *submit_stage* run work on other threads, windows and stagings.
        """
        self._copy = copy
        self._stage_out = stage
        self._expired = expired
        self._is_same = is_same
        self._objects = objects
        self._submit, self._submit_stage = submit, submit_stage
        self._watch = watch
        self._ahead_bytes = ahead_bytes
        self._window = max(min(_WINDOW, ahead_bytes // 2), 64 << 10)
        self._condition = threading.Condition()  # guards all below
        self._staged: Staged | None = None
        self._staging = False
        self._flying: list[tuple[int, int]] = []
        self._wants: list[tuple[int, int]] = []
        self._ahead: OrderedDict[int, tuple[int, int]] = OrderedDict()  # reader → range
        self._failures = 0
        self._failure: OSError | None = None
        self._renewals = 0

    # -- readers -------------------------------------------------------------------------------

    def want(self, start: int, end: int, check: Callable[[], None]) -> None:
        """Return when the bytes from *start* up to *end* were here, or the file's end was before.

        *check* is called several times a second and ends the wait by what it raises. Raises why
        the bytes can't be had: ESTALE where the cluster has another version by now.
        """
        want = (start, end)
        with self._condition:
            mark = self._failures
            self._wants.append(want)
            try:
                while not self._copy.has(start, end - start):
                    if self._failures != mark and self._failure is not None:
                        raise _again(self._failure)
                    self._advance()
                    self._condition.wait(_SLICE_S)
                    check()
            finally:
                self._wants.remove(want)

    def reading(self, reader: int, start: int, end: int) -> None:
        """Hear that *reader* has read from *start* up to *end*; fetch what comes next."""
        at, until = self._ahead.get(reader, (0, 0))
        # The kernel reads ahead on several threads: what comes first need not come first here.
        on = abs(start - at) <= _NEAR
        if on and until - end >= self._ahead_bytes // 2:
            self._ahead[reader] = (max(end, at), until)
            return
        with self._condition:
            # One who begins in the middle may be reading here and there.
            self._ahead[reader] = (end, end + self._ahead_bytes if on else end)
            self._ahead.move_to_end(reader)
            while len(self._ahead) > _READERS:
                self._ahead.popitem(last=False)
            if self._staged is not None:
                self._advance()

    def prepare(self) -> None:
        """Have the file staged, though nobody reads yet."""
        with self._condition:
            self._begin_staging()

    @property
    def wanted(self) -> bool:
        """Whether someone waits."""
        return bool(self._wants)

    @property
    def staged(self) -> bool:
        """Whether there is an object to fetch from."""
        return self._staged is not None

    @property
    def busy(self) -> bool:
        """Whether something is under way."""
        return self._staging or bool(self._flying) or bool(self._wants)

    # -- what comes next (with the lock held) --------------------------------------------------

    def _advance(self) -> None:
        if self._staged is None:
            self._begin_staging()
            return
        while len(self._flying) < _AT_ONCE:
            window = self._next_window()
            if window is None:
                return
            self._flying.append(window)
            self._submit(lambda window=window: self._fly(window))  # type: ignore[misc]

    def _begin_staging(self) -> None:
        if self._staged is None and not self._staging:
            self._staging = True
            self._submit_stage(self._stage)

    def _next_window(self) -> tuple[int, int] | None:
        for start, end in self._wants:
            gap = self._gap(start, end)
            if gap is not None:
                size = self._window if self._reads_on(gap[0]) else _SMALL_WINDOW
                return self._gap(gap[0], gap[0] + size)
        for start, end in self._ahead.values():
            gap = self._gap(start, end)
            if gap is not None:
                return gap[0], min(gap[1], gap[0] + self._window)
        return None

    def _reads_on(self, start: int) -> bool:
        flying = any(end == start for _, end in self._flying)
        return start == 0 or flying or self._copy.has(start - 1, 1)

    def _gap(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the first part of a range that is neither here nor on its way."""
        for low, high in self._copy.missing(start, end):
            for first, last in sorted(self._flying):
                if first <= low < last:
                    low = last
                elif low < first < high:
                    high = first
            if low < high:
                return low, high
        return None

    # -- work on other threads -----------------------------------------------------------------

    def _stage(self) -> None:
        failure: OSError | None = None
        staged: Staged | None = None
        try:
            staged = self._stage_out()
            self._require_same(staged)
        except OSError as exc:
            failure, staged = exc, None
        except Exception as exc:
            log.exception("internal error in a staging")
            failure = os_error(errno.EIO, None, f"internal error: {exc}")
        with self._condition:
            self._staging = False
            self._staged = staged
            self._settle(failure)

    def _require_same(self, staged: Staged) -> None:
        """Raise ESTALE where bytes of another version are here already."""
        if self._copy.become(staged.version):
            return
        base = self._copy.base
        if base is not None and self._is_same(base, staged.version):
            return
        if not self._has_grown(staged) or not self._copy.extend(staged.version):
            raise os_error(errno.ESTALE, None, "it changed on the cluster: open it again")

    def _has_grown(self, staged: Staged) -> bool:
        """Tell whether the object holds what is here, as far as samples tell, and more."""
        if staged.version.size <= self._copy.attr.size:
            return False
        for offset, data in self._copy.samples():
            found = bytearray(len(data))

            def put(at: int, piece: bytes, found: bytearray = found, start: int = offset) -> None:
                found[at - start : at - start + len(piece)] = piece

            end = offset + len(data)
            self._objects.fetch_window(staged.url, staged.info, offset, end, put)
            if bytes(found) != data:
                return False
        return True

    def _fly(self, window: tuple[int, int]) -> None:
        failure: OSError | None = None
        staged = self._staged
        try:
            if staged is not None:
                with self._watch.room(window[1] - window[0]):
                    self._objects.fetch_window(staged.url, staged.info, *window, self._put)
        except OSError as exc:
            failure = exc
        except Exception as exc:
            log.exception("internal error in a fetch")
            failure = os_error(errno.EIO, None, f"internal error: {exc}")
        with self._condition:
            self._flying.remove(window)
            if failure is not None and failure.errno in _EXPIRED and self._renewals < _RENEWALS:
                failure = None
                if self._staged is staged:
                    self._renewals += 1
                    self._staged = None
                    self._expired()
            self._settle(failure)

    def _settle(self, failure: OSError | None) -> None:
        """Go on, or tell those who wait why not (with the lock held)."""
        if failure is not None:
            self._failures += 1
            self._failure = failure
            self._ahead.clear()
        elif self._wants or (self._staged is not None and self._ahead):
            self._advance()
        if not self._flying and not self._staging:
            self._watch.idle()
        self._condition.notify_all()

    def _put(self, offset: int, data: bytes) -> None:
        if not self._copy.put(offset, data):
            raise os_error(errno.ECANCELED, None, "the copy is of no use any more")
        self._renewals = 0
        self._watch.moved()
        if self._wants:
            with self._condition:
                self._condition.notify_all()


def _again(failure: OSError) -> OSError:
    """Return *failure* as another object: several threads raise it."""
    return os_error(failure.errno or errno.EIO, failure.filename, failure.strerror)
