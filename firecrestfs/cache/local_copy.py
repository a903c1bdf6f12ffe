"""The bytes of one local copy: where they lie, which of them are here, and how they move.

Clean bytes lie in the cache directory, dirty ones in the state directory. A copy is *complete*, or
it holds some ranges of a remote file (a sparse file), or nothing.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from firecrestfs.model import LocalFile

from .ranges import Ranges

log = logging.getLogger(__name__)

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
_SYNC_FILE_RANGE_WRITE = 2
_BLOCK = 4096
#: More than a tick of the clock that file systems tell the time by.
_TICK_NS = 30_000_000
_libc = ctypes.CDLL(None, use_errno=True)


class LocalCopy:
    """A file in one of two directories. Not thread-safe: its owner's lock guards it."""

    def __init__(self, clean_dir: Path, dirty_dir: Path, ident: str) -> None:
        self.ident = ident
        self._clean_dir, self._dirty_dir = clean_dir, dirty_dir
        self.complete = False
        self.present = Ranges()  # what is here of a copy that isn't complete
        self.in_dirty_dir = False
        self._fd = -1

    @property
    def path(self) -> Path:
        """Where the bytes lie now."""
        return (self._dirty_dir if self.in_dirty_dir else self._clean_dir) / self.ident

    @property
    def dirty_path(self) -> Path:
        """Where the bytes lie, or would, once they are changed."""
        return self._dirty_dir / self.ident

    @property
    def clean_path(self) -> Path:
        """Where the bytes lie, or would, while they are those of the cluster."""
        return self._clean_dir / self.ident

    def open(self, extra: int = 0) -> int:
        """Return a descriptor for reading and writing; *extra*: more flags for open(2)."""
        if self._fd < 0:
            # One is made for every new file: no Path for that.
            directory = self._dirty_dir if self.in_dirty_dir else self._clean_dir
            self._fd = os.open(f"{directory}/{self.ident}", os.O_RDWR | os.O_CLOEXEC | extra, 0o600)
        return self._fd

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def is_open(self) -> bool:
        """Whether there is a descriptor, with which bytes outlive their name."""
        return self._fd >= 0

    # -- bytes ---------------------------------------------------------------------------------

    def replace(self, data: bytes) -> None:
        """Hold *data*, all of it, in the cache directory."""
        self.close()
        temporary = self.clean_path.with_name(self.ident + ".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, self.clean_path)
        self.complete = True

    def has(self, start: int, end: int) -> bool:
        """Tell whether the bytes from *start* up to *end* are here."""
        return self.complete or self.present.has(start, end)

    def put(self, offset: int, data: bytes, size: int) -> None:
        """Hold *data* at *offset* of a copy that will have *size* bytes. ENOSPC."""
        fd = self.open(os.O_CREAT)
        done = 0
        # Nothing that is here already is written again: a mapping may look at it.
        for start, end in self.present.missing(offset, offset + len(data)):
            done = start
            while done < end:
                done += os.pwrite(fd, data[done - offset : end - offset], done)
        self.present.add(offset, offset + len(data))
        if self.present.has(0, size):
            os.ftruncate(fd, size)
            self.complete = True

    def read_end(self, start: int, end: int) -> bytes:
        """Return the bytes from *start* up to *end*, which must be here."""
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def put_in(self, start: int, end: int) -> None:
        """Note that the bytes from *start* up to *end* were written, by its owner."""
        if not self.complete:
            self.present.add(start, end)

    def be_complete(self) -> None:
        """Note that all there shall be is here."""
        self.complete = True
        self.present.clear()

    def grow(self) -> None:
        """Hold, of a copy that becomes longer, what it held."""
        if self.complete:
            self.present.clear()
            self.present.add(0, os.fstat(self.open()).st_size)
            self.complete = False

    def drop(self, start: int, end: int, size: int) -> int:
        """Give the blocks of a range back to the disk; return how many bytes that were."""
        start, end = -(-start // _BLOCK) * _BLOCK, end // _BLOCK * _BLOCK
        if start >= end or not _punch(self.open(), start, end - start):
            return 0
        if self.complete:
            self.complete = False
            self.present.add(0, size)
        before = self.present.total
        self.present.remove(start, end)
        return before - self.present.total

    def remove(self) -> None:
        """Remove the bytes from the disk; an open descriptor keeps them readable."""
        for path in (self.clean_path, self.dirty_path):
            path.unlink(missing_ok=True)

    def forget(self) -> None:
        """Hold nothing any more."""
        self.close()
        self.remove()
        self.complete = self.in_dirty_dir = False
        self.present.clear()

    def sync(self) -> None:
        """Make the bytes survive a power loss."""
        os.fsync(self.open())

    def as_local_file(self) -> LocalFile:
        """Return the bytes as they are now, to be read later."""
        found, now = os.stat(self.path), time.time_ns()
        if now - found.st_mtime_ns < _TICK_NS:
            # What is written next shall have another time, whichever comes in the same tick.
            os.utime(self.path, ns=(found.st_atime_ns, now - _TICK_NS))
            found = os.stat(self.path)
        return LocalFile(self.ident, str(self.path), found.st_size, found.st_mtime_ns)

    # -- moving --------------------------------------------------------------------------------

    def move_to_dirty(self) -> None:
        """Let the bytes lie where they survive."""
        if not self.in_dirty_dir:
            if self.complete:
                self._move(self.clean_path, self.dirty_path)
            self.in_dirty_dir = True

    def begin_tail(self, size: int) -> None:
        """Let the bytes lie where they survive, though not all of *size* are here."""
        if self.complete or self.in_dirty_dir:
            self.move_to_dirty()
            return
        try:
            os.rename(self.clean_path, self.dirty_path)
        except OSError:
            # Nothing is here, or it lies on another disk: what is missed is fetched again.
            self.forget()
        self.in_dirty_dir = True
        os.ftruncate(self.open(os.O_CREAT), size)

    def keep_tail(self, start: int, size: int) -> None:
        """Hold, of the dirty bytes that an earlier process left, those from *start* to *size*."""
        _punch(self.open(), 0, start)
        self.close()
        self.present.add(start, size)

    def move_to_clean(self) -> None:
        """Let the bytes lie where they may go; where that fails they stay."""
        if not (self.complete or self.present):
            self.forget()
            return
        try:
            self._move(self.dirty_path, self.clean_path)
        except OSError as exc:
            # What has landed may as well stay where it is.
            log.info("%s stays in the state directory: %s", self.ident, exc)
        else:
            self.in_dirty_dir = False

    def _move(self, source: Path, target: Path) -> None:
        try:
            os.rename(source, target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self.close()
            if not self.complete:
                # With its holes it could be too large; and it can be fetched again.
                self.forget()
                return
            shutil.copyfile(source, target)
            with suppress(FileNotFoundError):
                source.unlink()


def begin_sync(fd: int) -> None:
    """Begin to write the bytes of an open file to its disk; fsync(2) tells whether it succeeds."""
    _libc.sync_file_range(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)


def _punch(fd: int, start: int, size: int) -> bool:
    """Make a hole in a file; return whether its file system can."""
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    done = _libc.fallocate(fd, mode, ctypes.c_long(start), ctypes.c_long(size))
    return int(done) == 0
