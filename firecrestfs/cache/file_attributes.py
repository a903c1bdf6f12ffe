"""What a local copy of a file is shown as, and what its next store shall give it."""

from __future__ import annotations

import enum
import threading
from dataclasses import replace

from firecrestfs.model import Attr, Source, same_bytes, same_version


class State(enum.Enum):
    """Where the local copy stands against the cluster."""

    CLEAN = "clean"  # equal to the remote file as `base` describes it, or nothing fetched yet
    DIRTY = "dirty"  # changed here, not yet stored
    STORING = "storing"  # a store of an earlier or the present generation is running


class FileAttributes:
    """The attributes of one local copy. Thread-safe; the lock is the copy's own."""

    def __init__(self, attr: Attr) -> None:
        self._lock = threading.Lock()  # guards all below
        self._attr = attr  # as the mount shows it, own changes included
        self._base: Attr | None = attr  # the remote file this copy is based on; None: new
        self._wanted_mode: int | None = None
        self._exact_mode = False  # someone asked for that very mode, not just for at most that
        self._wanted_mtime_ns: int | None = None
        self._state = State.CLEAN  # of the bytes
        self._generation = 0
        self._tail: int | None = None
        self.whole_only = False  # what is appended can't be stored alone; for anyone to set
        self._times_given = False  # those shown were set here, while it was clean
        self._same: Attr | None = None  # the last attributes that were found to describe it

    @property
    def attr(self) -> Attr:
        """The attributes as they are here and now."""
        return self._attr

    @property
    def base(self) -> Attr | None:
        """The remote file this copy is based on; None while it has never been stored."""
        return self._base

    @property
    def state(self) -> State:
        """Where the copy stands against the cluster."""
        return self._state

    @property
    def tail(self) -> int | None:
        """Where that begins which was put behind the bytes of `base`; None: they may differ."""
        return self._tail

    @property
    def appendable(self) -> bool:
        """Whether bytes can be put behind those of the remote file, though they aren't here.

        Only a stat tells for certain which file, and which version of it, that is.
        """
        if self._state is not State.CLEAN:
            return self._tail is not None
        base = self._base
        proven = base is not None and base.source is Source.STAT and base.ino != 0
        return proven and base is not None and base.size == self._attr.size

    @property
    def wanted(self) -> tuple[int | None, bool, int | None]:
        """What the next store shall give: the mode, whether exactly that, and the time (ns)."""
        return self._wanted_mode, self._exact_mode, self._wanted_mtime_ns

    def set_mode(self, mode: int) -> None:
        """Give the file *mode* with its next store."""
        with self._lock:
            self._wanted_mode = mode
            self._exact_mode = True
            self._attr = replace(self._attr, mode=mode)

    def set_times(self, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Give the file these times (None: unchanged): with its next store, or by itself."""
        with self._lock:
            shown = self._attr
            self._times_given = self._times_given or self._state is State.CLEAN
            self._attr = replace(
                shown,
                atime_ns=shown.atime_ns if atime_ns is None else atime_ns,
                mtime_ns=shown.mtime_ns if mtime_ns is None else mtime_ns,
            )
            if mtime_ns is not None:
                self._wanted_mtime_ns = mtime_ns
                if self._state is State.CLEAN and _has_time(self._base, mtime_ns):
                    self._wanted_mtime_ns = None

    def rebase(self, base: Attr | None, inode: int) -> None:
        """Base the local changes on another remote file (None: on none): the file was renamed.

        It keeps its *inode* and, over whatever it goes, its mode.
        """
        with self._lock:
            self._base = base
            self._wanted_mode = self._attr.mode
            self._exact_mode = self._exact_mode or base is not None
            self._attr = replace(self._attr, inode=inode)

    def adopt(self, remote: Attr) -> None:
        """Note that the remote file became *remote* by our own doing (a rename, a link).

        As long as nobody has written into it meanwhile: else this stays a copy of what it was.
        """
        with self._lock:
            self._become_locked(remote)
            if self._wanted_mode is None:
                self._attr = replace(self._attr, mode=remote.mode)

    def given_mode(self, mode: int, remote: Attr) -> None:
        """Note that the remote file got *mode* and is *remote* now: see `adopt`."""
        with self._lock:
            self._become_locked(remote)
            if self._wanted_mode == mode:
                self._wanted_mode, self._exact_mode = None, False
                self._attr = replace(self._attr, mode=remote.mode)

    def _become_locked(self, remote: Attr) -> None:
        if self._base is None or same_bytes(self._base, remote):
            self._base = remote
            self._same = None

    def given_time(self, mtime_ns: int, remote: Attr) -> None:
        """Note that the remote file, else unchanged, got this time and is *remote* now."""
        with self._lock:
            self._base = remote
            self._same = None
            if self._wanted_mtime_ns == mtime_ns:
                self._wanted_mtime_ns = None

    def take_back_time(self) -> None:
        """Show the time that the cluster has: it refused the one that was wanted."""
        with self._lock:
            if self._state is State.CLEAN and self._base is not None:
                self._wanted_mtime_ns, self._times_given = None, False
                self._attr = replace(self._attr, mtime_ns=self._base.mtime_ns)

    def take_back_mode(self) -> None:
        """Show the mode that the cluster has: it refused the one that was wanted."""
        with self._lock:
            if self._state is State.CLEAN and self._base is not None:
                self._wanted_mode, self._exact_mode = None, False
                self._attr = replace(self._attr, mode=self._base.mode)

    def describes(self, remote: Attr) -> bool:
        """Tell whether *remote*, just learnt, is the version this copy is of."""
        if remote is self._same:
            return True
        base = self._base
        if base is None or not (same_version(base, remote) or self._is_given(base, remote)):
            return False
        self._same = remote
        return True

    def _is_given(self, base: Attr, remote: Attr) -> bool:
        """Tell whether *remote* is the file *base* with the time that was wanted for it."""
        wanted = self._wanted_mtime_ns
        if wanted is None or self._state is not State.CLEAN or remote.size != base.size:
            return False
        return _has_time(remote, wanted)

    def _keep_wishes_locked(
        self, mode: int | None, exact: bool, mtime_ns: int | None, remote: Attr
    ) -> None:
        """Keep wanting what a store, which carried *mode* and *mtime_ns*, hasn't brought about."""
        if (mode, exact) == (self._wanted_mode, self._exact_mode):
            self._wanted_mode, self._exact_mode = None, False
        # What listings tell of times may be off by a zone: tars, after which they are asked, give
        # them.
        told = remote.source is Source.LS and mtime_ns == self._wanted_mtime_ns
        if self._wanted_mtime_ns is not None and (told or _has_time(remote, self._wanted_mtime_ns)):
            self._wanted_mtime_ns = None


def _has_time(remote: Attr | None, mtime_ns: int) -> bool:
    """Tell whether *remote* has this time, as far as clusters tell times."""
    second = 1_000_000_000
    return remote is not None and remote.mtime_ns // second == mtime_ns // second
