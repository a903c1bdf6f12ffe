"""One local copy of a file: its bytes, what was changed in it here, and what has been stored.

A copy is *complete*, or holds some ranges of a large file, or nothing yet; only a complete one is
ever changed. It lives in the cache directory while it is clean and in
the state directory from its first local change until that change has landed.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, LocalFile, Source

from .copying import checksum_of, copy_beside, sum_on
from .fetched_file import FetchedFile
from .file_attributes import State

__all__ = ["CachedFile", "Snapshot", "State"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one store carries: the bytes and attributes at one generation.

    Of a large file the bytes are in `local`, and may change: the store finds out.

    `mode` and `mtime_ns` are None where nobody asked for them; `base` is the remote file this was
    based on, None for a new one.
    """

    generation: int
    data: bytes
    mode: int | None
    exact_mode: bool
    mtime_ns: int | None
    base: Attr | None
    local: LocalFile | None = None


class CachedFile(FetchedFile):
    """One local copy. Thread-safe; its lock comes after the tree lock and before leaf locks.

    Local disk I/O happens under the lock, network I/O never.
    """

    def __init__(self, clean_dir: Path, dirty_dir: Path, ident: str, attr: Attr) -> None:
        super().__init__(clean_dir, dirty_dir, ident, attr)
        self._closed_generation = -1  # what the last close promised to store
        # Size and checksum of what was written from the beginning on, one piece after the other.
        self._summed: tuple[int, int] | None = None
        self.handed_over = False  # it was changed by path while handles that write were open
        self._promised = ""  # name of the copy of that version, while a newer one is written

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
                self._copy.close()
                self._readers.clear()
                if self._state is State.CLEAN:
                    self._move_to_clean_locked()

    # -- bytes ---------------------------------------------------------------------------------

    def create(self, mode: int | None) -> None:
        """Make this a new, empty file that exists only here and shall have *mode*.

        None: the mode that the cluster gives it.
        """
        with self._lock:
            self._base = None
            self._wanted_mode = mode
            self._copy.in_dirty_dir = self._copy.complete = True
            self._state = State.DIRTY
            self._copy.open(os.O_CREAT | os.O_TRUNC)
            self._summed = (0, 0)

    def recover(
        self, base: Attr | None, mode: int | None, exact_mode: bool, mtime_ns: int | None
    ) -> None:
        """Take up what an earlier process left: the bytes are in the state directory."""
        with self._lock:
            self._copy.in_dirty_dir = self._copy.complete = True
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

    def begin_change(self) -> None:
        """Get ready to be changed: a version that was closed and isn't stored is kept beside.

        Raises ESTALE where the copy was discarded: nothing would ever store it.
        """
        with self._lock:
            self._require_kept_locked()
            unstored = self._state is not State.CLEAN
            if not unstored:
                self._summed = None
            if unstored and self._closed_generation == self._generation and not self._promised:
                name = f"{self.ident}.closed"
                if copy_beside(self._copy.dirty_path, self._copy.dirty_path.with_name(name)):
                    self._promised = name
            self._become_dirty_locked()
            self._generation += 1

    def closed(self) -> tuple[int, int]:
        """Note that what was written is whole. Return its size and what `checksum_of` tells."""
        with self._lock:
            self._closed_generation = self._generation
            size, known = self._attr.size, self._summed
            if known is not None and known[0] == size:
                return size, known[1]
            return size, checksum_of(self._copy.dirty_path)

    def drop_promised(self) -> None:
        """Forget the version that was closed before: a newer one is whole, or it has landed."""
        with self._lock:
            self._drop_promised_locked()

    def _drop_promised_locked(self) -> None:
        if self._promised:
            self._copy.dirty_path.with_name(self._promised).unlink(missing_ok=True)
            self._promised = ""

    def write(self, data: bytes, offset: int | None) -> int:
        """Write *data* at *offset* (None: at the end). The copy must be complete.

        Raises ESTALE where the copy was discarded: nothing would ever store it.
        """
        with self._lock:
            self._require_kept_locked()
            self._become_dirty_locked()
            at = self._attr.size if offset is None else offset
            fd = self._copy.open()
            done = 0
            try:
                while done < len(data):
                    done += os.pwrite(fd, data[done:], at + done)
            finally:
                self._summed = sum_on(self._summed, at, data[:done])
                if done:
                    self._modified_locked(max(self._attr.size, at + done))
            return done

    def truncate(self, size: int) -> None:
        """Cut or extend to *size* bytes. The copy must be complete unless *size* is 0."""
        with self._lock:
            self._require_kept_locked()
            self._become_dirty_locked()
            os.ftruncate(self._copy.open(os.O_CREAT), size)
            self._summed = (0, 0) if size == 0 else None
            self._copy.complete = True
            self._modified_locked(size)

    def sync(self) -> None:
        """Make the local bytes survive a power loss."""
        with self._lock:
            if self._copy.in_dirty_dir:
                self._copy.sync()
                if self._opens == 0:
                    self._copy.close()

    # -- storing -------------------------------------------------------------------------------

    def begin_store(self, limit: int) -> Snapshot | None:
        """Return what to store now, or None where there is nothing (any more).

        What has more than *limit* bytes stays on the disk.
        """
        with self._lock:
            if self._state is State.CLEAN or self._discarded:
                return None
            local = self._copy.as_local_file()
            data = b"" if local.size > limit else self._copy.path.read_bytes()
            if local.size != self._attr.size:
                raise os_error(errno.EIO, None, "the local copy has lost bytes; it was set aside")
            self._state = State.STORING
            return Snapshot(
                self._generation,
                data,
                self._wanted_mode,
                self._exact_mode,
                self._wanted_mtime_ns,
                self._base,
                local if local.size > limit else None,
            )

    def stored(self, snapshot: Snapshot, remote: Attr) -> bool:
        """Note that *snapshot* landed as *remote*. Return whether nothing is left to store."""
        with self._lock:
            self._base = remote
            unchanged = self._generation == snapshot.generation
            self._state = State.CLEAN if unchanged else State.DIRTY
            if unchanged:
                self._drop_promised_locked()
                self._keep_wishes_locked(
                    snapshot.mode, snapshot.exact_mode, snapshot.mtime_ns, remote
                )
                mode = self._attr.mode if self._exact_mode else remote.mode
                self._attr = replace(self._attr, mode=mode, source=Source.LOCAL, acl=remote.acl)
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
            if self._opens and (self._copy.complete or self._copy.present):
                self._copy.open()
            self._copy.remove()
            self._drop_promised_locked()
            self._state = State.CLEAN

    def forget_bytes(self) -> int:
        """Drop the bytes of a clean copy that no one has open; return how many they were."""
        with self._lock:
            if self._state is not State.CLEAN or self._opens or self.pinned:
                return 0
            gone = self.disk_bytes
            if gone or self._copy.complete:
                self._copy.forget()
            return gone

    # -- inside --------------------------------------------------------------------------------

    def _require_kept_locked(self) -> None:
        if self._discarded:
            raise os_error(errno.ESTALE, None, "it changed on the cluster: open it again")

    def _become_dirty_locked(self) -> None:
        if not self._copy.complete:
            # Of a large file that is emptied: it goes without having been fetched.
            self._copy.forget()
        self._copy.move_to_dirty()
        if self._state is State.CLEAN:
            self._state = State.DIRTY

    def _modified_locked(self, size: int) -> None:
        now = time.time_ns()
        self._attr = replace(self._attr, size=size, mtime_ns=now, ctime_ns=now, source=Source.LOCAL)
        self._wanted_mtime_ns = None
        self._generation += 1

    def _move_to_clean_locked(self) -> None:
        copy = self._copy
        if copy.in_dirty_dir and copy.complete and not self._discarded:
            copy.move_to_clean()
