"""All local copies of one mount: where they live, how much room they take, which may go."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from firecrestfs.errors import os_error
from firecrestfs.model import Attr

from .asides import Asides, bytes_taken, tail_name
from .cached_file import CachedFile
from .copying import SENT, beside_name, checksum_of, copy_end
from .local_copy import begin_sync

#: Bytes of the local disk that are never taken.
_KEEP_FREE_BYTES = 64 << 20
#: While more is free the disk is asked so often (seconds).
_PLENTY_BYTES, _LOOK_S = 1 << 30, 0.2
#: Files that are brought to the disk together.
_SYNC_AT_ONCE = 200
#: What is kept of a large file around each of its readers, where the bound allows it.
_AHEAD_BYTES, _BEHIND_BYTES = 64 << 20, 1 << 20


class _Promise:
    """Room that somebody was promised; what *file* has grown by since counts as taken."""

    def __init__(self, size: int, file: CachedFile | None) -> None:
        self._size = size
        self._file = file
        self._had = 0 if file is None else file.disk_bytes

    @property
    def open_bytes(self) -> int:
        """Bytes that may still be taken."""
        grown = 0 if self._file is None else self._file.disk_bytes - self._had
        return max(0, self._size - max(0, grown))


class ContentCache:
    """Makes local copies and evicts clean ones, least recently used first. Thread-safe (a leaf)."""

    def __init__(self, cache_dir: Path, state_dir: Path, limit_bytes: int) -> None:
        self._clean_dir = cache_dir / "files"
        self._dirty_dir = state_dir / "files"
        self._asides = Asides(state_dir)
        self._limit = limit_bytes
        # Idents are never used again, by no process.
        self._mark, self._numbers = uuid.uuid4().hex[:20], itertools.count()
        self._evicting = threading.Lock()  # one thread evicts, or each would count what others take
        self._lock = threading.Lock()  # guards all below
        # Never less than what all that is kept takes; counted anew when it nears the limit.
        self._used = self._asides.used_bytes()
        self._promised: set[_Promise] = set()  # what is being filled right now
        self._plenty = (0.0, 0)  # until when, and how many bytes, the disks are known to have free
        self._files: OrderedDict[str, CachedFile] = OrderedDict()
        # What an earlier mount fetched can't be told from what has changed since: start anew.
        shutil.rmtree(self._clean_dir, ignore_errors=True)
        for directory in (self._clean_dir, self._dirty_dir):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            directory.chmod(0o700)

    def new(self, attr: Attr, ident: str = "") -> CachedFile:
        """Return an empty local copy for the remote file *attr*, of a new or the given ident."""
        ident = ident or f"{self._mark}{next(self._numbers):012x}"
        file = CachedFile(self._clean_dir, self._dirty_dir, ident, attr)
        with self._lock:
            self._files[file.ident] = file
        return file

    def recover(self, ident: str, attr: Attr) -> CachedFile | None:
        """Return the copy *ident* that an earlier process left, None where its bytes are gone.

        Its time is that of its last write, until somebody knows of another.
        """
        try:
            found = (self._dirty_dir / ident).stat()
        except FileNotFoundError:
            return None
        shown = replace(attr, size=found.st_size, mtime_ns=found.st_mtime_ns)
        file = CachedFile(self._clean_dir, self._dirty_dir, ident, shown)
        with self._lock:
            self._files[ident] = file
            self._used += bytes_taken(found)
        return file

    def take_promised(self, promised: str, ident: str) -> bool:
        """Take the copy *promised* of a closed version as the bytes of *ident*, if it is there.

        It stays, where the file system makes links, until what is written down names it no more:
        whoever comes after our death finds that it `is_taken`.
        """
        if not promised:
            return False
        source, target = self._dirty_dir / promised, self._dirty_dir / ident
        try:
            os.link(source, target)
        except FileNotFoundError:
            return False
        except FileExistsError:
            return self.is_taken(promised, ident)
        except OSError:
            os.replace(source, target)
        return True

    def is_taken(self, promised: str, ident: str) -> bool:
        """Tell whether the copy *promised* is what *ident* has already."""
        with suppress(FileNotFoundError):
            return bool(promised) and os.path.samefile(
                self._dirty_dir / promised, self._dirty_dir / ident
            )
        return False

    def is_whole(self, ident: str, size: int, crc: int, tail: int = 0) -> bool:
        """Tell whether the bytes of *ident*, from *tail* on, are those of when it was closed."""
        path = self._dirty_dir / ident
        return crc != -1 and path.stat().st_size == size and checksum_of(path, tail) == crc

    def sync_dirty(self, idents: Sequence[str]) -> None:
        """Bring the bytes of *idents* to the disk, and what is kept beside of closed versions.

        Those of copies that are gone are of no matter.

        Their writing is begun for many before one is waited for: else each would cost a commit of
        the file system, and whoever makes files meanwhile waits for those.
        """
        directory = self._dirty_dir
        there = set(os.listdir(directory)) if idents else set()
        names = [name for ident in idents for name in (ident, beside_name(ident)) if name in there]
        for start in range(0, len(names), _SYNC_AT_ONCE):
            with ExitStack() as open_files:
                fds = []
                for name in names[start : start + _SYNC_AT_ONCE]:
                    with suppress(FileNotFoundError):
                        fds.append(os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC))
                        open_files.callback(os.close, fds[-1])
                        begin_sync(fds[-1])
                for fd in fds:
                    os.fsync(fd)

    def sync_names(self) -> None:
        """Bring the names in the state directory to the disk."""
        fd = os.open(self._dirty_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def dirty_size(self, ident: str) -> int:
        """Return how many bytes *ident* has in the state directory; 0 where it isn't there."""
        with suppress(FileNotFoundError):
            return (self._dirty_dir / ident).stat().st_size
        return 0

    def remove_dirty(self, ident: str) -> None:
        """Remove *ident* from the state directory: nothing in it is its own."""
        (self._dirty_dir / ident).unlink(missing_ok=True)

    def drop_empty(self, ident: str) -> bool:
        """Remove the bytes of *ident* where there are none; return whether that was so."""
        if self.dirty_size(ident):
            return False
        self.remove_dirty(ident)
        return True

    def set_aside(self, ident: str, name: str, start: int = 0) -> Path:
        """Move the bytes of *ident* to lost+found, under a name that tells what they were.

        Those before *start* aren't its own; they stay, and it ends there.
        """
        source, target = self._dirty_dir / ident, self._asides.place(ident, tail_name(name, start))
        with suppress(FileNotFoundError):
            if start:
                copy_end(source, target, start)
                os.truncate(source, start)
            else:
                source.rename(target)
            with self._lock:
                self._used += bytes_taken(target.stat())
        return target

    def keep_discarded(self, file: CachedFile, name: str, *, discarded: bool = True) -> Path | None:
        """Keep the changed bytes of *file* in lost+found for some days; return where.

        Not *discarded*: for good, nobody has given them up.
        """
        local, start = self._dirty_dir / file.ident, file.tail or 0
        if not local.exists():
            return None
        return self._asides.keep(local, name, start, discarded=discarded)

    def left_behind(self) -> list[str]:
        """Return the idents in the state directory that belong to no copy of this process.

        What was copied only to be sent goes.
        """
        with self._lock:
            for path in self._dirty_dir.glob(f"*{SENT}"):
                path.unlink()
            return [path.name for path in self._dirty_dir.iterdir() if path.name not in self._files]

    def used(self, file: CachedFile) -> None:
        """Note that *file* was filled or used: it is the last to be evicted now."""
        with self._lock:
            if file.ident in self._files:
                self._files.move_to_end(file.ident)

    @property
    def ahead_bytes(self) -> int:
        """How many bytes before a reader of a large file may be fetched without being dropped."""
        return min(_AHEAD_BYTES, self._limit // 4)

    def drop(self, file: CachedFile) -> None:
        """Discard *file* for good."""
        with self._lock:
            self._files.pop(file.ident, None)
        file.discard()

    @contextmanager
    def room(
        self, size: int, file: CachedFile | None = None, *, bounded: bool = True
    ) -> Iterator[None]:
        """Hold room for *size* more bytes (of *file*): evict until they fit. ENOSPC if they can't.

        It is held while the context lasts: by its end they are taken, or not wanted any more.
        Not *bounded*: they are taken all the same, as long as the disk has room; what is read in
        pieces goes again.

        The bound is on all that is kept on this machine: clean copies, changes that have not
        landed, and lost+found. Only clean copies are evicted.
        """
        promise, now = _Promise(size, file), time.monotonic()
        with self._lock:
            self._promised.add(promise)
            self._used += size
            over = self._used > self._limit
            until, free = self._plenty
            plenty = now < until and free - size > _PLENTY_BYTES
            self._plenty = (until, free - size)
        try:
            if over and self._evict() > self._limit and size > 0 and bounded:
                with self._lock:
                    self._used -= size
                raise os_error(
                    errno.ENOSPC,
                    None,
                    f"no room for {size} bytes more within the cache_size of {self._limit} bytes: "
                    "wait for what is to be stored, clear lost+found, or mount with a larger one",
                )
            if not plenty:
                self._require_disk(size, now)
            yield
        finally:
            with self._lock:
                self._promised.remove(promise)

    def _require_disk(self, size: int, now: float) -> None:
        """Raise ENOSPC where this machine's disks haven't *size* bytes to spare.

        Clean copies go before that: others may have filled the disk below our bound.
        """
        least = 1 << 62
        for directory, option in (
            (self._dirty_dir, "--state-dir"),
            (self._clean_dir, "--cache-dir"),
        ):
            free, wanted = _free_bytes(directory), size + _KEEP_FREE_BYTES
            if free < wanted:
                self._evict(wanted - free)
                free = _free_bytes(directory)
            if free < wanted:
                raise os_error(
                    errno.ENOSPC,
                    str(directory),
                    f"this machine's disk is full: make room, or give another {option}",
                )
            least = min(least, free)
        with self._lock:
            self._plenty = (now + _LOOK_S, least - size)

    def _evict(self, spare: int = 0) -> int:
        """Count anew, drop clean copies until the bound holds and *spare* bytes are freed.

        Returns what is used. What someone has open stays.
        """
        with self._evicting:
            with self._lock:
                files = list(self._files.values())
                before = self._used
                promised = sum(each.open_bytes for each in self._promised)
            used = promised + sum(file.disk_bytes for file in files) + self._asides.used_bytes()
            limit = min(self._limit, used - spare)
            for file in files:
                if used <= limit:
                    break
                used -= file.forget_bytes()
            for file in files:
                # Large files go except for what is around their readers.
                if used <= limit:
                    break
                used -= file.trim(self.ahead_bytes, min(_BEHIND_BYTES, self._limit // 8))
            with self._lock:
                # What others were promised in the meantime isn't in the count.
                self._used = used + self._used - before
            return used


def _free_bytes(directory: Path) -> int:
    stat = os.statvfs(directory)
    return stat.f_bavail * stat.f_frsize
