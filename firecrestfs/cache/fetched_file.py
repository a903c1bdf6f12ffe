"""The reading half of a local copy: which version it is of, and which of its bytes are here."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from firecrestfs.model import Attr

from .file_attributes import FileAttributes, State
from .local_copy import LocalCopy

_SAMPLE = 4096


class FetchedFile(FileAttributes):
    """A copy of one version of a remote file, whole or in parts. Thread-safe."""

    def __init__(self, clean_dir: Path, dirty_dir: Path, ident: str, attr: Attr) -> None:
        super().__init__(attr)
        self.ident = ident
        self._copy = LocalCopy(clean_dir, dirty_dir, ident)
        self._opens = 0
        self._writers = 0
        self._discarded = False
        self._readers: dict[int, int] = {}  # reader → where it read last
        self.pinned = False  # never to be evicted; for anyone to set
        self.followed_at = 0.0  # when a reader last found the end (boot time); for anyone to set

    # -- what others may ask -------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self._copy.complete

    @property
    def remote_size(self) -> int:
        """How many bytes, from the first on, can be fetched: the others were appended here."""
        return self._attr.size if self._tail is None else self._tail

    @property
    def opens(self) -> int:
        """Number of open handles."""
        return self._opens

    @property
    def writers(self) -> int:
        """Number of open handles that may write."""
        return self._writers

    @property
    def disk_bytes(self) -> int:
        """Bytes this copy takes on the local disk."""
        return self._attr.size if self._copy.complete else self._copy.present.total

    @property
    def partial(self) -> bool:
        """Whether some bytes are here, but not all."""
        return not self._copy.complete and bool(self._copy.present)

    @property
    def discarded(self) -> bool:
        """Whether nobody will open it any more."""
        return self._discarded

    # -- bytes ---------------------------------------------------------------------------------

    def fill(self, data: bytes, attr: Attr) -> None:
        """Take *data* as the content of the remote file *attr*, unless there are local changes."""
        with self._lock:
            if self._state is not State.CLEAN or self._copy.complete:
                return
            self._copy.replace(data)
            shown = self._attr
            self._attr = replace(attr, size=len(data))
            if self._times_given:
                self._attr = replace(self._attr, atime_ns=shown.atime_ns, mtime_ns=shown.mtime_ns)
            self._base = attr

    def put(self, offset: int, data: bytes) -> bool:
        """Take *data*, a part of the remote file `base`; return whether it was of use.

        The last missing part makes the copy complete.
        """
        with self._lock:
            of_base = self._state is State.CLEAN or self._tail is not None
            if not of_base or (self._discarded and not self._opens):
                return False
            if not self._copy.complete:
                self._copy.put(offset, data, self._attr.size)
                if not self._opens:
                    self._copy.close()
            return True

    def has(self, offset: int, size: int) -> bool:
        """Tell whether what there is of *size* bytes from *offset* is here."""
        with self._lock:
            return self._copy.has(offset, min(offset + size, self._attr.size))

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what is not here of the bytes from *start* up to *end*, in order."""
        with self._lock:
            if self._copy.complete:
                return []
            return self._copy.present.missing(start, min(end, self._attr.size))

    def samples(self) -> list[tuple[int, bytes]]:
        """Return some of the bytes that are here: from the first of them, and up to the last."""
        with self._lock:
            held = [(0, self._attr.size)] if self._copy.complete else list(self._copy.present)
            if not held:
                return []
            fd, first, last = self._copy.open(), held[0], held[-1]
            spots = {first[0]: first[1], max(last[0], last[1] - _SAMPLE): last[1]}
            return [
                (start, os.pread(fd, min(end - start, _SAMPLE), start))
                for start, end in spots.items()
            ]

    def become(self, attr: Attr) -> bool:
        """Be a copy of the version *attr*, as long as nothing of another one is here."""
        with self._lock:
            if self._state is not State.CLEAN or self._copy.complete or self._copy.present:
                return False
            self._extend_locked(attr, attr.size)
            return True

    def extend(self, attr: Attr) -> bool:
        """Become longer, up to the size of *attr*: nothing but that has changed in it."""
        with self._lock:
            if self._state is not State.CLEAN or attr.size <= self._attr.size:
                return False
            self._copy.grow()
            self._extend_locked(attr, attr.size)
            return True

    def trim(self, keep_ahead: int, keep_behind: int) -> int:
        """Drop what readers have left behind, or aren't near to; return how many bytes went.

        Only for clean copies without writers, of which the cluster has everything.
        """
        with self._lock:
            if self._state is not State.CLEAN or self._writers or self._base is None:
                return 0
            # What lies in the state directory may still be written down as the only copy.
            if self.pinned or self._discarded or self._copy.in_dirty_dir:
                return 0
            copy, size = self._copy, self._attr.size
            held = [(0, size)] if copy.complete else list(copy.present)
            for at in self._readers.values():
                low, high = at - keep_behind, at + keep_ahead
                held = [
                    part
                    for start, end in held
                    for part in ((start, min(end, low)), (max(start, high), end))
                    if part[0] < part[1]
                ]
            return sum(copy.drop(start, end, size) for start, end in held)

    def grow(self, data: bytes, attr: Attr) -> bool:
        """Take *data*, the remote file *attr*, if it begins with the clean bytes that are here."""
        with self._lock:
            if self._state is not State.CLEAN or not self._copy.complete:
                return False
            have = self._attr.size
            fd = self._copy.open()
            if len(data) < have or os.pread(fd, have, 0) != data[:have]:
                return False
            os.pwrite(fd, data[have:], have)
            self._extend_locked(attr, len(data))
            return True

    def _extend_locked(self, attr: Attr, size: int) -> None:
        self._base, self._same = attr, None
        self._attr = replace(self._attr, size=size, mtime_ns=attr.mtime_ns, ctime_ns=attr.ctime_ns)

    def read(self, size: int, offset: int, reader: int = 0) -> bytes | None:
        """Return up to *size* bytes from *offset*, None where some of them aren't here.

        *reader* tells apart who reads: what is near to where it is is dropped last.
        """
        with self._lock:
            end = min(offset + size, self._attr.size)
            self._readers[reader] = end
            if offset >= end:
                return b""
            if not self._copy.has(offset, end):
                return None
            return os.pread(self._copy.open(), end - offset, offset)
