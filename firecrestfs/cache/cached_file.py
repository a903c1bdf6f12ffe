"""One local copy of a file: its bytes, what was changed in it here, and what has been stored.

A copy is *complete*, or holds some ranges of a large file, or nothing yet; only a complete one is
ever changed, except at its end: what is appended is its *tail*, for as long as nothing else was
changed. It lives in the cache directory while it is clean and in the state directory from its
first local change until that change has landed.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, LocalFile, Source

from .copying import Promise, apart, beside_name, checksum_of, copy_beside, sum_on
from .fetched_file import FetchedFile
from .file_attributes import State

__all__ = ["CachedFile", "Promise", "Snapshot", "State"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one store carries: the bytes and attributes at one generation.

    Of a large file the bytes are in `local`, and may change: the store finds out. Where it was only
    appended to, `data` is what has come after the byte `tail`, unless that is large, too, or can't
    be stored alone; `whole` tells whether `local` has all that was before.

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
    tail: int | None = None
    whole: bool = True


class CachedFile(FetchedFile):
    """One local copy. Thread-safe; its lock comes after the tree lock and before leaf locks.

    Local disk I/O happens under the lock, network I/O never.
    """

    def __init__(self, clean_dir: Path, dirty_dir: Path, ident: str, attr: Attr) -> None:
        super().__init__(clean_dir, dirty_dir, ident, attr)
        self._closed_generation = -1  # what the last close promised to store
        # Size and checksum of what was written from the beginning, or from where the tail begins,
        # one piece after the other.
        self._summed: tuple[int, int] | None = None
        self._noted = True  # that it has landed is known to the journal, too
        self._sending = -1  # the generation of the store that is running
        self._overtaken = False  # it was changed again while it was being sent
        self.handed_over = False  # it was changed by path while handles that write were open
        self._promised = ""  # name of the copy of that version, while a newer one is written
        self._promised_tail: int | None = None  # of that copy
        # Size and checksum: of that copy, and of what was closed last.
        self._promised_sum = self._closed_sum = (-1, 0)
        # Size and checksum of the last version that shall survive, of one that has a tail.
        self._kept: tuple[int, int] | None = None

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
        self,
        base: Attr | None,
        mode: int | None,
        exact_mode: bool,
        mtime_ns: int | None,
        tail: int | None = None,
    ) -> None:
        """Take up what an earlier process left: the bytes are in the state directory.

        Those before *tail* are to be fetched, where they are needed.
        """
        with self._lock:
            self._copy.in_dirty_dir = True
            self._copy.complete, self._tail = tail is None, tail
            if tail is not None:
                self._copy.keep_tail(tail, self._attr.size)
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

    def begin_change(self, *, appending: bool = False, at_any_rate: bool = False) -> bool:
        """Get ready to be changed: a version that was closed and isn't stored is kept.

        *appending*: bytes will be put behind the others, which need not be here if it is
        `appendable`. False, and nothing is done, where that version is too large to be copied;
        *at_any_rate* it is not kept then. Raises ESTALE where the copy was discarded: nothing
        would ever store it.
        """
        with self._lock:
            self._require_kept_locked()
            if self._state is State.CLEAN:
                self._summed = None
            elif (not appending or self._tail is None) and not (
                self._keep_promise_locked() or at_any_rate
            ):
                return False
            self._become_dirty_locked(appending)
            self._generation += 1
            return True

    def _keep_promise_locked(self) -> bool:
        """Copy the last version that was closed: it is about to be overwritten."""
        closed = self._closed_generation == self._generation or self._kept is not None
        if self._promised or not closed:
            return True
        name = beside_name(self.ident)
        target = self._copy.dirty_path.with_name(name)
        if not copy_beside(self._copy.dirty_path, target, self._tail or 0):
            return False
        if self._kept is not None:
            os.truncate(target, self._kept[0])
        self._promised, self._promised_tail = name, self._tail
        self._promised_sum = self._kept or self._closed_sum
        return True

    def _keep_locked(self) -> tuple[int, int]:
        """Return size and checksum of what is here now; of one with a tail they are kept."""
        start = self._tail or 0
        size, known = self._attr.size, self._summed
        crc = (
            known[1]
            if known is not None and known[0] == size - start
            else checksum_of(self._copy.dirty_path, start)
        )
        if self._tail is not None:
            self._kept = (size, crc)
        return size, crc

    def promise(self, *, closed: bool) -> Promise:
        """Return what is to survive. *closed*: that is what is here now, it is whole."""
        with self._lock:
            size, crc = (-1, 0) if self._kept is None else self._kept
            if self._promised and not closed:
                size, crc = self._promised_sum
            if closed and (self._state is not State.CLEAN or self._base is None):
                self._closed_generation = self._generation
                size, crc = self._closed_sum = self._keep_locked()
            # The copy beside is of the version before, which may have had a tail.
            tail = self._promised_tail if self._promised and not closed else self._tail
            return Promise(size, crc, self._promised, tail)

    def drop_promised(self) -> None:
        """Forget the version that was closed before: a newer one is whole, or it has landed."""
        with self._lock:
            self._drop_promised_locked()

    def _drop_promised_locked(self) -> None:
        if self._promised:
            self._copy.dirty_path.with_name(self._promised).unlink(missing_ok=True)
            self._promised, self._promised_tail = "", None

    def write(self, data: bytes, offset: int | None, *, appending: bool = False) -> int:
        """Write *data* at *offset* (None: at the end). The copy must be complete.

        Or, *appending* at the end, `appendable`. Raises ESTALE where the copy was discarded:
        nothing would ever store it.
        """
        with self._lock:
            self._require_kept_locked()
            if not (self._copy.complete or (appending and self.appendable)):
                raise os_error(errno.EIO, None, "not all that is before these bytes is here")
            self._become_dirty_locked(appending)
            at = self._attr.size if offset is None else offset
            fd = self._copy.open()
            done = 0
            try:
                while done < len(data):
                    done += os.pwrite(fd, data[done:], at + done)
            finally:
                self._summed = sum_on(self._summed, at - (self._tail or 0), data[:done])
                if done:
                    self._copy.put_in(at, at + done)
                    self._modified_locked(max(self._attr.size, at + done))
            return done

    def truncate(self, size: int) -> None:
        """Cut or extend to *size* bytes. The copy must be complete unless *size* is 0."""
        with self._lock:
            self._require_kept_locked()
            self._become_dirty_locked()
            os.ftruncate(self._copy.open(os.O_CREAT), size)
            self._summed = (0, 0) if size == 0 else None
            self._copy.be_complete()
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
            local, whole, tail = self._copy.as_local_file(), self._copy.complete, self._tail
            if not whole and tail is None:
                # It is just being emptied.
                return None
            direct = whole and local.size <= limit
            data = self._copy.path.read_bytes() if direct else b""
            if direct or (whole and self.whole_only):
                tail = None
            elif tail is not None:
                # That much may be on the cluster by the time that somebody asks: it is promised.
                self._keep_locked()
                if local.size - tail <= limit and not self.whole_only:
                    data = self._copy.read_end(tail, local.size)
            if local.size != self._attr.size:
                raise os_error(errno.EIO, None, "the local copy has lost bytes; it was set aside")
            self._state, self._sending = State.STORING, self._generation
            if whole and not direct and self._overtaken and not self._writers:
                local = apart(local)
            return Snapshot(
                self._generation,
                data,
                self._wanted_mode,
                self._exact_mode,
                self._wanted_mtime_ns,
                self._base,
                None if direct else local,
                tail,
                whole,
            )

    def stored(self, snapshot: Snapshot, remote: Attr) -> bool:
        """Note that *snapshot* landed as *remote*. Return whether nothing is left to store.

        Of what was appended it may be the beginning only. The bytes stay where they survive until
        it is `noted`: what is known of them by then is that they are to be stored.
        """
        with self._lock:
            self._base = remote
            unchanged = self._generation == snapshot.generation
            unchanged = unchanged and (snapshot.tail is None or remote.size == self._attr.size)
            self._move_tail_locked(None if unchanged else remote.size)
            self._state = State.CLEAN if unchanged else State.DIRTY
            if unchanged:
                self._overtaken = False
                self._drop_promised_locked()
                self._keep_wishes_locked(
                    snapshot.mode, snapshot.exact_mode, snapshot.mtime_ns, remote
                )
                mode = self._attr.mode if self._exact_mode else remote.mode
                self._attr = replace(self._attr, mode=mode, source=Source.LOCAL, acl=remote.acl)
                self._noted = False
            return unchanged

    def noted(self) -> None:
        """Note that whoever takes up what we leave knows, if it has landed, that it has."""
        with self._lock:
            self._noted = True
            if self._state is State.CLEAN and self._opens == 0:
                self._move_to_clean_locked()

    def store_failed(self) -> None:
        """Note that a store did not land: the file is dirty as before."""
        with self._lock:
            if self._state is State.STORING:
                self._state = State.DIRTY
                self._overtaken = self._overtaken or self._generation != self._sending

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
            if self._state is not State.CLEAN or self._opens or self.pinned or not self._noted:
                return 0
            gone = self.disk_bytes
            if gone or self._copy.complete:
                self._copy.forget()
            return gone

    # -- inside --------------------------------------------------------------------------------

    def _require_kept_locked(self) -> None:
        if self._discarded:
            raise os_error(errno.ESTALE, None, "it changed on the cluster: open it again")

    def _become_dirty_locked(self, appending: bool = False) -> None:
        if not appending:
            self._end_tail_locked()
        elif self._state is State.CLEAN and self.appendable:
            self._tail, self._kept, self._summed = self._attr.size, None, (0, 0)
        if self._tail is not None:
            self._copy.begin_tail(self._attr.size)
        elif not (self._copy.complete or self._copy.in_dirty_dir):
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

    def _move_tail_locked(self, start: int | None) -> None:
        """Let the tail begin at *start*: what was before is on the cluster. None: all is."""
        if self._tail is None or start is None:
            self._end_tail_locked()
            return
        path, kept = self._copy.dirty_path, self._kept
        self._tail, self._summed, self._kept = start, None, None
        if kept is not None and kept[0] > start:
            self._kept = (kept[0], checksum_of(path, start, kept[0]))

    def _end_tail_locked(self) -> None:
        if self._tail is not None:
            self._tail = self._kept = self._summed = None

    def _move_to_clean_locked(self) -> None:
        if self._copy.in_dirty_dir and self._noted and not self._discarded:
            self._copy.move_to_clean()
