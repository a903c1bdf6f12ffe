"""Copies of local files beside them, and what tells whether one is whole."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shutil
import zlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from firecrestfs.model import LocalFile

log = logging.getLogger(__name__)

#: A closed version larger than this isn't copied before it is written on.
_COPY_BYTES = 64 << 20
#: Larger files aren't summed up when they are closed: too slow for a close.
_SUM_BYTES = 16 << 20
#: The end of the name of a copy that is about to have none.
SENT = ".sent"
_FICLONE = 0x40049409


class Promise(NamedTuple):
    """The version of a changed copy that is to survive our death, as a journal has to know it.

    `size` and `crc`, as `checksum_of` tells it from `tail` on, are those of the last whole version,
    -1 and 0 where there is none; `beside` is the name of a copy of it, "" where it is the file
    itself, or the beginning of it.
    """

    size: int
    crc: int
    beside: str
    tail: int | None


def beside_name(ident: str) -> str:
    """Return the name of the copy of the last closed version of *ident*."""
    return f"{ident}.closed"


def copy_beside(source: Path, target: Path, start: int = 0) -> bool:
    """Copy *source* to *target*, by sharing its blocks where the file system can.

    What lies before *start* need not be copied. False, and no copy, where that can't be done
    quickly. After an error there is none either.
    """
    done = False
    try:
        with source.open("rb") as old, target.open("wb") as new:
            with suppress(OSError):
                fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
                done = True
            if not done and os.fstat(old.fileno()).st_size - start <= _COPY_BYTES:
                old.seek(start)
                new.seek(start)
                shutil.copyfileobj(old, new, 1 << 20)
                done = True
    except OSError:
        done = False
        raise
    finally:
        if not done:
            target.unlink(missing_ok=True)
    return done


class Nameless:
    """A copy of a local file that has no name; it is there for as long as somebody holds this."""

    def __init__(self, source: Path) -> None:
        """Raises EFBIG where it can't be made quickly, ENOSPC."""
        name = source.with_name(f"{source.name}{SENT}")
        try:
            if not copy_beside(source, name):
                raise OSError(errno.EFBIG, "too large to be copied quickly", str(source))
            self._fd = os.open(name, os.O_RDWR | os.O_CLOEXEC)
        finally:
            name.unlink(missing_ok=True)
        times = os.stat(source)
        os.utime(self._fd, ns=(times.st_atime_ns, times.st_mtime_ns))

    @property
    def path(self) -> str:
        """What it can be opened by, in this process."""
        return f"/proc/self/fd/{self._fd}"

    def __del__(self) -> None:
        """Give its blocks back."""
        if hasattr(self, "_fd"):
            os.close(self._fd)


def apart(local: LocalFile) -> LocalFile:
    """Return a copy of *local* to be sent: what is written next need not stop that.

    Who writes again and again, sooner than it is sent, would have nothing stored else. Where none
    can be made, *local* itself.
    """
    try:
        copy = Nameless(Path(local.path))
    except OSError as exc:
        log.info("%s is sent as it is here: %s", local.ident, exc)
        return local
    return replace(local, path=copy.path, held=copy)


def copy_end(source: Path, target: Path, start: int) -> None:
    """Make *target* a copy of what *source* holds from *start* on."""
    with source.open("rb") as old, target.open("wb") as new:
        os.fchmod(new.fileno(), 0o600)
        old.seek(start)
        shutil.copyfileobj(old, new, 1 << 20)
        new.flush()
        os.fsync(new.fileno())


def sum_on(before: tuple[int, int] | None, offset: int, data: bytes) -> tuple[int, int] | None:
    """Return size and checksum after *data* was written at *offset*; None where that isn't known.

    *before* is what they were. The checksum is that of `checksum_of`.
    """
    if before is None or before[0] != offset or offset + len(data) > _SUM_BYTES:
        return None
    return offset + len(data), zlib.crc32(data, before[1])


def checksum_of(path: Path, start: int = 0, end: int | None = None) -> int:
    """Return a checksum of the bytes at *path*, from *start* up to *end* (None: all there are).

    -1 for too many of them, or no file.
    """
    try:
        with path.open("rb") as file:
            size = (os.fstat(file.fileno()).st_size if end is None else end) - start
            if size > _SUM_BYTES:
                return -1
            file.seek(start)
            return zlib.crc32(file.read(max(size, 0)))
    except FileNotFoundError:
        return -1
