"""One local copy of a file: its bytes, what was changed in it here, and what has been stored.

A copy is *complete* or holds nothing yet; it lives in the cache directory while it is clean and in
the state directory from its first local change until that change has landed.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Source

from .copying import checksum_of, copy_beside
from .file_attributes import FileAttributes, State

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one store carries: the bytes and attributes at one generation.

    `mode` and `mtime_ns` are None where nobody asked for them; `base` is the remote file this was
    based on, None for a new one.
    """

    generation: int
    data: bytes
    mode: int | None
    exact_mode: bool
    mtime_ns: int | None
    base: Attr | None


class CachedFile(FileAttributes):
    """One local copy. Thread-safe; its lock comes after the tree lock and before leaf locks.

    Local disk I/O happens under the lock, network I/O never.
    """

    def __init__(self, clean_dir: Path, dirty_dir: Path, ident: str, attr: Attr) -> None:
        super().__init__(attr)
        self.ident = ident
        self._clean_path = clean_dir / ident
        self._dirty_path = dirty_dir / ident
        self._complete = False
        self._fd = -1
        self._opens = 0
        self._writers = 0
        self._in_dirty_dir = False
        self._discarded = False
        self.followed_at = 0.0  # when a reader last found the end (boot time); for anyone to set
        self._closed_generation = -1  # what the last close promised to store
        self._promised = ""  # name of the copy of that version, while a newer one is written

    # -- what others may ask -------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether all bytes are here."""
        return self._complete

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
        return self._attr.size if self._complete else 0

    @property
    def promised(self) -> str:
        """Name of the copy of the last closed version, while a newer one is being written."""
        return self._promised

    # -- opening and closing -------------------------------------------------------------------

    def opened(self, writing: bool) -> None:
        """Count one more handle."""
        with self._lock:
            self._opens += 1
            self._writers += writing

    def released(self, writing: bool) -> None:
        """Count one handle less; the last one closes the local descriptor."""
        with self._lock:
            self._opens -= 1
            self._writers -= writing
            if self._opens == 0:
                self._close_locked()
                if self._state is State.CLEAN:
                    self._move_to_clean_locked()

    # -- bytes ---------------------------------------------------------------------------------

    def create(self, mode: int) -> None:
        """Make this a new, empty file that exists only here and shall have *mode*."""
        with self._lock:
            self._base = None
            self._wanted_mode = mode
            self._become_dirty_locked()
            self._complete = True
            self._open_locked(os.O_CREAT | os.O_TRUNC)

    def recover(
        self, base: Attr | None, mode: int | None, exact_mode: bool, mtime_ns: int | None
    ) -> None:
        """Take up what an earlier process left: the bytes are in the state directory."""
        with self._lock:
            self._in_dirty_dir = self._complete = True
            self._state = State.DIRTY
            self._base = base
            self._wanted_mode, self._exact_mode = mode, exact_mode
            self._wanted_mtime_ns = mtime_ns
            shown = self._attr
            self._attr = replace(
                shown,
                mode=shown.mode if mode is None else mode,
                mtime_ns=shown.mtime_ns if mtime_ns is None else mtime_ns,
                source=Source.LOCAL,
            )
            self._generation += 1

    def fill(self, data: bytes, attr: Attr) -> None:
        """Take *data* as the content of the remote file *attr*, unless there are local changes."""
        with self._lock:
            if self._state is not State.CLEAN or self._complete:
                return
            self._close_locked()
            temporary = self._clean_path.with_name(self.ident + ".tmp")
            temporary.write_bytes(data)
            os.replace(temporary, self._clean_path)
            shown = self._attr
            self._attr = replace(attr, size=len(data))
            if self._times_given:
                self._attr = replace(self._attr, atime_ns=shown.atime_ns, mtime_ns=shown.mtime_ns)
            self._base = attr
            self._complete = True

    def grow(self, data: bytes, attr: Attr) -> bool:
        """Take *data*, the remote file *attr*, if it begins with the clean bytes that are here."""
        with self._lock:
            if self._state is not State.CLEAN or not self._complete:
                return False
            have = self._attr.size
            fd = self._open_locked()
            if len(data) < have or os.pread(fd, have, 0) != data[:have]:
                return False
            os.pwrite(fd, data[have:], have)
            self._base, self._same = attr, None
            self._attr = replace(
                self._attr, size=len(data), mtime_ns=attr.mtime_ns, ctime_ns=attr.ctime_ns
            )
            return True

    def read(self, size: int, offset: int) -> bytes:
        """Return up to *size* bytes from *offset*. The copy must be complete."""
        with self._lock:
            return os.pread(self._open_locked(), size, offset)

    def begin_change(self) -> None:
        """Get ready to be changed: a version that was closed and isn't stored is kept beside.

        Raises ESTALE where the copy was discarded: nothing would ever store it.
        """
        with self._lock:
            self._require_kept_locked()
            unstored = self._state is not State.CLEAN
            if unstored and self._closed_generation == self._generation and not self._promised:
                name = f"{self.ident}.closed"
                if copy_beside(self._dirty_path, self._dirty_path.with_name(name)):
                    self._promised = name
            self._become_dirty_locked()
            self._generation += 1

    def closed(self) -> tuple[int, int]:
        """Note that what was written is whole. Return its size and what `checksum_of` tells."""
        with self._lock:
            self._closed_generation = self._generation
            return self._attr.size, checksum_of(self._dirty_path)

    def drop_promised(self) -> None:
        """Forget the version that was closed before: a newer one is whole, or it has landed."""
        with self._lock:
            self._drop_promised_locked()

    def _drop_promised_locked(self) -> None:
        if self._promised:
            self._dirty_path.with_name(self._promised).unlink(missing_ok=True)
            self._promised = ""

    def write(self, data: bytes, offset: int | None) -> int:
        """Write *data* at *offset* (None: at the end). The copy must be complete.

        Raises ESTALE where the copy was discarded: nothing would ever store it.
        """
        with self._lock:
            self._require_kept_locked()
            self._become_dirty_locked()
            at = self._attr.size if offset is None else offset
            fd = self._open_locked()
            done = 0
            try:
                while done < len(data):
                    done += os.pwrite(fd, data[done:], at + done)
            finally:
                if done:
                    self._modified_locked(max(self._attr.size, at + done))
            return done

    def truncate(self, size: int) -> None:
        """Cut or extend to *size* bytes. The copy must be complete unless *size* is 0."""
        with self._lock:
            self._require_kept_locked()
            self._become_dirty_locked()
            os.ftruncate(self._open_locked(os.O_CREAT), size)
            self._complete = True
            self._modified_locked(size)

    def sync(self) -> None:
        """Make the local bytes survive a power loss."""
        with self._lock:
            if self._in_dirty_dir:
                os.fsync(self._open_locked())
                if self._opens == 0:
                    self._close_locked()

    # -- storing -------------------------------------------------------------------------------

    def begin_store(self) -> Snapshot | None:
        """Return what to store now, or None where there is nothing (any more)."""
        with self._lock:
            if self._state is State.CLEAN or self._discarded:
                return None
            data = self._dirty_path.read_bytes()
            if len(data) != self._attr.size:
                raise os_error(errno.EIO, None, "the local copy has lost bytes; it was set aside")
            self._state = State.STORING
            return Snapshot(
                self._generation,
                data,
                self._wanted_mode,
                self._exact_mode,
                self._wanted_mtime_ns,
                self._base,
            )

    def stored(self, snapshot: Snapshot, remote: Attr) -> bool:
        """Note that *snapshot* landed as *remote*. Return whether nothing is left to store."""
        with self._lock:
            self._base = remote
            unchanged = self._generation == snapshot.generation
            self._state = State.CLEAN if unchanged else State.DIRTY
            if unchanged:
                self._drop_promised_locked()
                self._wanted_mode = self._wanted_mtime_ns = None
                self._exact_mode = False
                self._attr = replace(
                    self._attr, mode=remote.mode, source=Source.LOCAL, acl=remote.acl
                )
                if self._opens == 0:
                    self._move_to_clean_locked()
            return unchanged

    def store_failed(self) -> None:
        """Note that a store did not land: the file is dirty as before."""
        with self._lock:
            if self._state is State.STORING:
                self._state = State.DIRTY

    def discard(self) -> None:
        """Remove the local bytes; open handles go on reading theirs."""
        with self._lock:
            self._discarded = True
            if self._opens and self._complete:
                self._open_locked()
            for path in (self._clean_path, self._dirty_path):
                path.unlink(missing_ok=True)
            self._drop_promised_locked()
            self._state = State.CLEAN

    def forget_bytes(self) -> int:
        """Drop the bytes of a clean copy that no one has open; return how many they were."""
        with self._lock:
            if self._state is not State.CLEAN or self._opens or not self._complete:
                return 0
            self._complete = self._in_dirty_dir = False
            for path in (self._clean_path, self._dirty_path):
                path.unlink(missing_ok=True)
            return self._attr.size

    # -- inside --------------------------------------------------------------------------------

    def _open_locked(self, extra: int = 0) -> int:
        if self._fd < 0:
            path = self._dirty_path if self._in_dirty_dir else self._clean_path
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | extra, 0o600)
        return self._fd

    def _close_locked(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _require_kept_locked(self) -> None:
        if self._discarded:
            raise os_error(errno.ESTALE, None, "it changed on the cluster: open it again")

    def _become_dirty_locked(self) -> None:
        if not self._in_dirty_dir:
            if self._complete:
                self._move_locked(self._clean_path, self._dirty_path)
            self._in_dirty_dir = True
        if self._state is State.CLEAN:
            self._state = State.DIRTY

    def _modified_locked(self, size: int) -> None:
        now = time.time_ns()
        self._attr = replace(self._attr, size=size, mtime_ns=now, ctime_ns=now, source=Source.LOCAL)
        self._wanted_mtime_ns = None
        self._generation += 1

    def _move_to_clean_locked(self) -> None:
        if self._in_dirty_dir and self._complete and not self._discarded:
            try:
                self._move_locked(self._dirty_path, self._clean_path)
            except OSError as exc:
                # What has landed may as well stay where it is.
                log.info("%s stays in the state directory: %s", self.ident, exc)
            else:
                self._in_dirty_dir = False

    def _move_locked(self, source: Path, target: Path) -> None:
        try:
            os.rename(source, target)
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            self._close_locked()
            target.write_bytes(source.read_bytes())
            with suppress(FileNotFoundError):
                source.unlink()
