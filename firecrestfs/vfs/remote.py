"""RemoteFilesystem: one system's tree as a file system.

Looking is the view's, changes of names are the names'; in here files are opened, and attributes
are set and told.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.journal import Found
from firecrestfs.errors import os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, DirEntry, Kind
from firecrestfs.paths import name_of

from . import guard
from .base import OpenFile
from .entry import Entry
from .facts import Facts
from .handles import CachedHandle
from .identity import leaves_mode
from .names import RemoteNames
from .recovery import Recovery
from .view import RemoteParts, RemoteView
from .waiting import Waiting

#: What was given up on v1 lands with the next round of its staging area: so long it is waited for.
_GHOSTS_S = 90.0
#: So many bytes are stored under any name, whatever the server's limits.
_ANY_NAME_BYTES = 32 << 10


class RemoteFilesystem(Facts):
    """The files of one system. Thread-safe."""

    def __init__(
        self, parts: RemoteParts, home_links: Mapping[str, str], mountpoint: str = ""
    ) -> None:
        """*home_links* maps names at the system's root (HOME, SCRATCH) to remote directories."""
        self._parts = parts
        self._view = RemoteView(parts, home_links)
        self._names = RemoteNames(parts, self._view, mountpoint)
        self._identity = parts.identity
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._content = parts.content
        self.stores = parts.stores
        self._fetching = parts.fetching
        self._fetching.copy_at = self._current_copy
        self.board = parts.board
        self.onsite = parts.onsite
        self.waiting = Waiting(parts.overlay, parts.content, parts.stores)
        self.system = parts.tree.system

    # -- looking -------------------------------------------------------------------------------

    def getattr(self, path: str) -> Attr:
        """Return the attributes of *path*: local changes first, then what the cluster says."""
        return self._view.getattr(path)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the entries of *path* by at most one request."""
        return self._view.readdir(path)

    def readlink(self, path: str) -> str:
        """Return the text of a link: verbatim where it was made here."""
        return self._view.readlink(path)

    def access(self, path: str, mask: int) -> None:
        """Raise EACCES where the remote mode, owner and group don't grant *mask*."""
        attr = self._view.getattr(path)
        if mask and attr.kind is not Kind.SYMLINK:
            self._identity.require(path, attr, mask)

    def followed(self, path: str, *, ask: bool = True) -> str:
        """Return *path*, as a user names it, with the links in it followed (*ask*: all of them)."""
        return self._view.followed(path, ask=ask)

    def refresh(self, path: str) -> None:
        """Forget what is believed at and below *path*; own changes stay."""
        where = self._view.followed(path)
        self._tree.refresh(path)
        self._tree.refresh(where)

    def expire(self) -> None:
        """Ask the cluster anew for whatever is looked at next; tell it what is due by now."""
        self._tree.expire()
        self.stores.wake()

    def sweep(self, timeout_s: float = _GHOSTS_S, stop: Callable[[], bool] = bool) -> None:
        """Remove archives of ours that could not be removed before.

        What has yet to land is waited for, for *timeout_s* seconds at most, and until *stop*.
        """
        moving = any(each.moving is not None for each in self._overlay.all())
        self._parts.bundler.sweep(links=not moving)
        self.stores.forget_strays()
        self._parts.engine.large.given_up.sweep(min(timeout_s, _GHOSTS_S), stop=stop)
        self._parts.leftovers.sweep()

    def sweep_later(self) -> None:
        """Remove, on another thread, what staged transfers of an earlier process have left."""
        large = self._parts.engine.large
        if self._parts.leftovers.any or large.unfinished() or large.given_up.haunted:
            work = (self.stores.forget_strays, self._parts.leftovers.sweep, large.given_up.sweep)
            threading.Thread(target=_quietly, args=work, name="sweep", daemon=True).start()

    # -- opening -------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> OpenFile:
        """Open *path*. What will be read is fetched now, so that sizes and bytes agree."""
        attr = self._view.getattr(path)
        if attr.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, path)
        if attr.kind is not Kind.FILE:
            raise os_error(errno.EPERM, path, "pipes, sockets and devices work on the cluster only")
        self._identity.require(path, attr, _wanted_access(flags))
        if path in self._view.litter:
            return self._view.litter.open(path, flags)
        self._tree.require_carriable(path)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.stores.require_room(path)
        elif flags & os.O_TRUNC:
            # Linux cuts the file all the same, and hands out what can be read only.
            self.truncate(path, 0)
            flags &= ~os.O_TRUNC
        return self._open_file(path, flags)

    def _open_file(self, path: str, flags: int) -> OpenFile:
        file = self._current_copy(path)
        # Same bytes as at the last open: the kernel may keep its pages.
        warm = file.complete or file.partial
        if flags & os.O_APPEND and flags & (os.O_WRONLY | os.O_RDWR) and not flags & os.O_TRUNC:
            self._fetching.prove(file)
        handle = self._handle(file, flags)
        try:
            if flags & os.O_TRUNC:
                handle.truncate(0)
            elif flags & os.O_ACCMODE != os.O_WRONLY:
                self._fetch_ahead(file)
        except BaseException:
            handle.release()
            raise
        handle.keep_cache = warm
        self._content.used(file)
        return handle

    def _fetch_ahead(self, file: CachedFile) -> None:
        """Fetch at open what will be read; what is too large is told by the first read."""
        if file.attr.size <= self.system.limits.download:
            self._fetching.complete(file)

    def create(self, path: str, flags: int, mode: int) -> OpenFile:
        """Make a file that exists here until it is stored, after its close."""
        mode &= 0o7777
        if guard.is_litter(name_of(path)):
            return self._view.litter.create(path, self._view.new_attr(path, mode), flags)
        if not flags & os.O_EXCL and self._view.attr_or_none(path) is not None:
            return self.open(path, flags)
        parent = self._view.require_creatable(path, Kind.FILE)
        self.stores.require_room(path)
        with self._content.room(0):
            file = self._content.new(self._view.new_attr(path, mode))
            file.create(None if leaves_mode(parent, Kind.FILE, mode) else mode)
        # Whole it is once it is closed, even if nothing is written into it.
        entry = Entry(file.ident, Kind.FILE, path, "", file, inherits=parent.acl, closed=False)
        self._overlay.add(entry)
        try:
            self._names.take_place(entry)
        except OSError:
            self.stores.give_up(entry)
            raise
        self._view.entry_changed(path)
        reach("file.created")
        handle = self._handle(file, flags)
        handle.change_noted()
        return handle

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend *path*, through the copy that open handles share."""
        file = self._overlay.file(path)
        if file is not None and file.writers:
            # ftruncate(2) on a handle that was allowed to write when it was opened: its close
            # says when the file is whole.
            mine = self._handle(file, os.O_WRONLY)
            try:
                mine.truncate(size)
            finally:
                mine.hand_over()
            return
        handle = self.open(path, os.O_WRONLY)
        try:
            handle.truncate(size)
        finally:
            handle.release()

    def _handle(self, file: CachedFile, flags: int) -> CachedHandle:
        handle = CachedHandle(
            file,
            flags,
            self._fetching,
            self._room,
            self.stores.changing,
            self.stores.closed,
            self._released,
            self.stores.synced,
            self._grown,
            self._fetching.habit(file),
        )
        entry = self._overlay.of_file(file)
        if entry is not None and flags & os.O_ACCMODE != os.O_RDONLY:
            self.stores.cancel(entry)
        return handle

    def fetch(self, path: str) -> None:
        """Return when all of *path* is here. Waits for staging, interruptibly."""
        file = self._current_copy(path)
        file.opened(writing=False)
        pinned, file.pinned = file.pinned, True
        try:
            self._fetching.complete(file)
        finally:
            file.pinned = pinned
            file.released(writing=False)

    def _grown(self, file: CachedFile) -> bool:
        """Take what was appended to *file* on the cluster, if we have heard of it."""
        entry = self._overlay.of_file(file)
        now = self._tree.last_known(entry.origin) if entry is not None and entry.origin else None
        if entry is None or now is None or now.size <= file.attr.size:
            return False
        if entry.content_differs or file.writers:
            return False
        return self._fetching.fetch_growth(file, now)

    def _current_copy(self, path: str) -> CachedFile:
        """Return the local copy of what is at *path* now, made new where there is none."""
        entry = self._overlay.entry(path)
        file = entry.file if entry is not None else None
        if entry is None or file is None or not (entry.content_differs or file.writers):
            attr = self._view.remote_attr(path, entry)
            if attr is not None:
                if entry is not None and file is not None and not file.describes(attr):
                    self._update(entry, file, attr)
                entry = self._names.entry_at(path, attr)
        if entry is None or entry.file is None:
            raise os_error(errno.EPERM, path)
        return entry.file

    def _update(self, entry: Entry, file: CachedFile, attr: Attr) -> None:
        """Bring the copy *file* of *entry* to the version *attr*."""
        if not self._fetching.fetch_growth(file, attr):
            self.stores.renew(entry, attr)

    def _room(self, file: CachedFile, size: int, appending: bool) -> AbstractContextManager[None]:
        """Hold room for what makes *file* that large. Raises EFBIG, ENOSPC."""
        if size > _ANY_NAME_BYTES and not appending:
            entry = self._overlay.of_file(file)
            self._parts.engine.refuse_size(entry.path if entry is not None else "", size)
        grows = size - file.attr.size
        return self._content.room(grows, file) if grows > 0 else nullcontext()

    def _released(self, file: CachedFile, wrote: bool) -> None:
        entry = self._overlay.of_file(file)
        if entry is not None and wrote:
            self.stores.changed(entry)

    # -- names ---------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        """Remove *path*; a file that was never stored costs no request."""
        self._names.unlink(path)
        self._view.entry_changed(path)

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory."""
        self._names.mkdir(path, mode)
        self._view.entry_changed(path)

    def rmdir(self, path: str) -> None:
        """Remove *path*, which a listing of the last seconds shows empty."""
        self._names.rmdir(path)
        self._view.entry_changed(path)

    def rename(self, old: str, new: str) -> None:
        """Rename a file or a directory; what was never stored is renamed here alone."""
        self._names.rename(old, new)
        self._view.entry_changed(old)
        self._view.entry_changed(new)
        self._view.moments.attributes_changed(new)

    def symlink(self, target: str, path: str) -> None:
        """Make a symlink with any text."""
        self._names.symlink(target, path)
        self._view.entry_changed(path)

    def link(self, old: str, new: str) -> None:
        """Make a hard link on the cluster."""
        self._names.link(old, new)
        self._view.entry_changed(new)
        self._view.moments.attributes_changed(old)
        self._view.moments.attributes_changed(new)

    # -- attributes ----------------------------------------------------------------------------

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode: with the next store where there is one to come, else by itself."""
        attr = self._view.getattr(path)
        if attr.kind is Kind.SYMLINK:
            # The cluster would change what the link points to.
            raise os_error(errno.EOPNOTSUPP, path, "a link has no mode of its own")
        self._identity.require_owner(path, attr)
        mode &= 0o7777
        if path in self._view.litter:
            self._view.litter.chmod(path, mode)
            return
        if mode == attr.mode and not self._is_pending(path):
            return
        with self._overlay.lock:
            # In one step: what lands in between would be forgotten.
            entry = self._names.entry_at(path, attr)
            if entry.origin and entry.file is not None:
                self._tree.require_carriable(entry.origin)
            elif entry.origin:
                self._tree.require_sendable(entry.origin)
            if entry.file is not None:
                entry.file.set_mode(mode)
            elif entry.shown is not None:
                entry.wanted_mode, entry.exact_mode = mode, True
                entry.shown = replace(entry.shown, mode=mode)
        self._changed_attributes(entry)
        self._view.moments.attributes_changed(path)

    def _is_pending(self, path: str) -> bool:
        entry = self._overlay.entry(path)
        return entry is not None and self._overlay.differs(entry)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Accept what changes nothing; other owners and groups have no local names."""
        attr = self._view.getattr(path)
        if uid not in (-1, attr.uid) or gid not in (-1, attr.gid):
            raise os_error(
                errno.EPERM, path, "owners and groups of the cluster can't be named from here"
            )

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Set times: with the next store where there is one to come, else by themselves."""
        attr = self._view.getattr(path)
        if not self._identity.may(attr, os.W_OK):
            self._identity.require_owner(path, attr)
        if path in self._view.litter:
            self._view.litter.utime(path, atime_ns, mtime_ns)
            return
        with self._overlay.lock:
            # In one step, as with modes.
            entry = self._names.entry_at(path, attr)
            if entry.file is not None:
                entry.file.set_times(atime_ns, mtime_ns)
            elif entry.shown is not None:
                entry.times_given = True
                entry.shown = replace(
                    entry.shown,
                    atime_ns=entry.shown.atime_ns if atime_ns is None else atime_ns,
                    mtime_ns=entry.shown.mtime_ns if mtime_ns is None else mtime_ns,
                )
        self._changed_attributes(entry)
        if mtime_ns is None:
            self._view.moments.attributes_changed(path)
        else:
            self._view.moments.times_set(path)

    def _changed_attributes(self, entry: Entry) -> None:
        self.stores.note(entry)
        self.stores.changed(entry)

    def recover(self, found: Sequence[Found]) -> None:
        """Take up what an earlier process left, as the journal has it."""
        Recovery(self._parts, self._view).take_up(found)


def _quietly(*work: Callable[[], None]) -> None:
    for each in work:
        with suppress(OSError):
            each()


def _wanted_access(flags: int) -> int:
    mode = flags & os.O_ACCMODE
    wanted = 0 if mode == os.O_WRONLY else os.R_OK
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        wanted |= os.W_OK
    return wanted
