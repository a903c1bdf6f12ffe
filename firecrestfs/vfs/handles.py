"""Open files: a local copy of a remote file, an immutable snapshot, a small file in memory."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr

from .base import OpenFile
from .habits import Habit


class Source(Protocol):
    """Where bytes that aren't here come from."""

    def complete(self, file: CachedFile) -> None:
        """Return when all of *file* is here."""
        ...

    def need(self, file: CachedFile, offset: int, size: int, habit: Habit = Habit.READS) -> None:
        """Return when what there is of *size* bytes from *offset* was here a moment ago.

        Raises EAGAIN where a process of that *habit* may not have the file staged.
        """
        ...

    def appends(self, file: CachedFile) -> bool:
        """Tell whether bytes may be put behind those of *file* although those aren't here."""
        ...

    def reading(self, file: CachedFile, reader: int, start: int, end: int) -> None:
        """Hear what *reader* has read of a file that isn't all here."""
        ...


class CachedHandle(OpenFile):
    """One open of a remote file through its local copy."""

    def __init__(
        self,
        file: CachedFile,
        flags: int,
        source: Source,
        room: Callable[[CachedFile, int, bool], AbstractContextManager[None]],
        changing: Callable[[CachedFile, bool, bool], None],
        closed: Callable[[CachedFile], None],
        released: Callable[[CachedFile, bool], None],
        synced: Callable[[CachedFile], None],
        grown: Callable[[CachedFile], bool],
        habit: Habit = Habit.READS,
    ) -> None:
        """*source* fetches what is missing, *room* holds room for a size, or refuses it.

        *changing* is told before the first change; both are told whether it only appends, and it is
        told whether this handle has changed the file before. *closed* is told at each close after
        changes. *grown* takes what was appended on the cluster, as far
        as that is known, and tells whether it did.
        """
        self._file = file
        self._readable = flags & os.O_ACCMODE != os.O_WRONLY
        self._writable = flags & os.O_ACCMODE != os.O_RDONLY
        self._append = bool(flags & os.O_APPEND)
        self._source = source
        self._room = room
        self._begin_change = changing
        self._closed = closed
        self._released = released
        self._synced = synced
        self._grown = grown
        self._habit = habit
        # Through the kernel's pages a small look would come as a large read.
        self.direct_io = habit is not Habit.READS and not self._writable and not file.complete
        self._changing = False  # changed since the last close of a descriptor
        self._has_changed = False  # at all
        file.opened(self._writable)

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes of the local copy, fetched first where they aren't here."""
        if not self._readable:
            raise os_error(errno.EBADF)
        data = self._read(size, offset)
        if len(data) < size and not self._writable:
            self._file.followed_at = boottime()
            if self._grown(self._file):
                data = self._read(size, offset)
        return data

    def _read(self, size: int, offset: int) -> bytes:
        file = self._file
        if self._writable and not file.complete:
            self._source.complete(file)
        while (data := file.read(size, offset, id(self))) is None:
            self._source.need(file, offset, size, self._habit)
        if not file.complete and data:
            self._source.reading(file, id(self), offset, offset + len(data))
        return data

    def write(self, data: bytes, offset: int) -> int:
        """Write into the local copy. With O_APPEND the end is where the file ends now."""
        self._may_write()
        appending = self._append and self._source.appends(self._file)
        if not (appending or self._file.complete):
            self._source.complete(self._file)
        end = (self._file.attr.size if self._append else offset) + len(data)
        with self._room(self._file, end, appending):
            self._change(appending)
            at = None if self._append else offset
            return self._file.write(data, at, appending=appending)

    def truncate(self, size: int) -> None:
        """Cut or extend the local copy; to 0 without fetching anything."""
        self._may_write()
        if size and not self._file.complete:
            self._source.complete(self._file)
        with self._room(self._file, size, False):
            self._change()
            self._file.truncate(size)

    def flush(self) -> None:
        """Write down that what was written is whole: from now on it survives our death."""
        if self._changing or (self._writable and self._file.handed_over):
            reach("close.begun")
            self._changing = self._file.handed_over = False
            self._closed(self._file)
            reach("close.noted")

    def getattr(self) -> Attr:
        """Return the attributes of the copy, own changes included.

        The kernel asks here when someone reads at the end: who does may be following a log.
        """
        if not self._writable and (self._file.complete or self._file.partial):
            self._file.followed_at = boottime()
            self._grown(self._file)
        return self._file.attr

    def fsync(self) -> None:
        """Make the bytes survive a power loss; report a store that failed."""
        self._file.sync()
        self._synced(self._file)

    def release(self) -> None:
        """Let the settle delay begin."""
        reach("release.begun")
        self.flush()
        self._leave()

    def change_noted(self) -> None:
        """Take it as written down that the file is being changed: it was made by this open."""
        self._changing = self._has_changed = True

    def hand_over(self) -> None:
        """Let go without a close: the next of another handle tells that the file is whole."""
        self._file.handed_over = self._changing
        self._leave()

    def _leave(self) -> None:
        self._file.released(self._writable)
        self._released(self._file, self._writable)

    def _change(self, appending: bool = False) -> None:
        """Write down that the file is being changed, before it is."""
        if not self._changing or (self._file.tail is not None and not appending):
            self._begin_change(self._file, appending, self._has_changed)
            self._changing = self._has_changed = True
            reach("write.noted")

    def _may_write(self) -> None:
        if not self._writable:
            raise os_error(errno.EBADF)


class BytesHandle(OpenFile):
    """An immutable content, as it was when it was opened."""

    direct_io = True

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes of the snapshot."""
        return self._content[offset : offset + size]


class MemoryHandle(OpenFile):
    """A small file in memory, shared by all its handles; *done* is told when it is closed."""

    direct_io = True

    def __init__(
        self,
        content: bytearray,
        flags: int,
        limit: int,
        flushed: Callable[[], None] = lambda: None,
        released: Callable[[], None] = lambda: None,
    ) -> None:
        self._content = content
        self._writable = flags & os.O_ACCMODE != os.O_RDONLY
        self._append = bool(flags & os.O_APPEND)
        self._limit = limit
        self._flushed = flushed
        self._released = released
        self._lock = threading.Lock()  # guards the length of _content between test and change

    def read(self, size: int, offset: int) -> bytes:
        """Return bytes as they are now."""
        return bytes(self._content[offset : offset + size])

    def write(self, data: bytes, offset: int) -> int:
        """Write into memory. Raises EFBIG over the limit."""
        if not self._writable:
            raise os_error(errno.EBADF)
        with self._lock:
            at = len(self._content) if self._append else offset
            self._check(at + len(data))
            if at > len(self._content):
                self._content.extend(bytes(at - len(self._content)))
            self._content[at : at + len(data)] = data
        return len(data)

    def truncate(self, size: int) -> None:
        """Cut or extend in memory."""
        if not self._writable:
            raise os_error(errno.EBADF)
        with self._lock:
            self._check(size)
            del self._content[size:]
            self._content.extend(bytes(size - len(self._content)))

    def flush(self) -> None:
        """Hand over what was written."""
        if self._writable:
            self._flushed()

    def release(self) -> None:
        """Tell that this handle is gone."""
        if self._writable:
            self._released()

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise os_error(errno.EFBIG, None, f"files in here hold {self._limit:,} bytes at most")
