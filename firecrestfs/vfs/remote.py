"""RemoteFilesystem: one system's tree as a file system.

Looking is the view's, changes of names are the names'; in here files are opened, and attributes
are set and told.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

from firecrestfs.cache.cached_file import CachedFile, State
from firecrestfs.cache.journal import FileRecord
from firecrestfs.cache.metadata import split
from firecrestfs.errors import os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, DirEntry, Kind
from firecrestfs.transfer import direct

from . import guard
from .base import Filesystem, OpenFile
from .handles import CachedHandle
from .names import RemoteNames
from .overlay import differs
from .view import RemoteParts, RemoteView


class RemoteFilesystem(Filesystem):
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

    def followed(self, path: str) -> str:
        """Return *path*, as a user names it, with the links in it followed."""
        return self._view.followed(path, ask=True)

    def refresh(self, path: str) -> None:
        """Forget what is believed at and below *path*; own changes stay."""
        where = self._view.followed(path)
        self._tree.refresh(path)
        self._tree.refresh(where)

    def sweep(self) -> None:
        """Remove what could not be removed before: unlinked files, archives of ours."""
        self._names.removals.retry()
        self._parts.bundler.sweep()

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
        self._tree.require_sendable(path)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.stores.require_room(path)
        return self._open_file(path, flags)

    def _open_file(self, path: str, flags: int) -> OpenFile:
        file = self._current_copy(path)
        # Same bytes as at the last open: the kernel may keep its pages.
        warm = file.complete
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
            self.stores.complete(file)

    def create(self, path: str, flags: int, mode: int) -> OpenFile:
        """Make a file that exists here until it is stored, after its close."""
        mode &= 0o7777
        if guard.is_litter(split(path)[1]):
            return self._view.litter.create(path, self._view.new_attr(path, mode), flags)
        self._names.removals.wait_for(path)
        if not flags & os.O_EXCL and self._view.attr_or_none(path) is not None:
            return self.open(path, flags)
        self._view.require_creatable(path)
        self.stores.require_room(path)
        self._content.make_room(0)
        file = self._content.new(self._view.new_attr(path, mode))
        file.create(mode)
        replaced = self._overlay.attach(path, file)
        if replaced is not None:
            # It was unlinked here a moment ago and is still on the cluster: this goes over it.
            file.rebase(replaced, file.attr.inode)
        self._view.entry_changed(path)
        # An empty file that is closed is a file.
        self.stores.note(file, closed=True)
        reach("file.created")
        return self._handle(file, flags)

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend *path*, through the copy that open handles share."""
        file = self._overlay.file(path)
        if file is not None and file.writers:
            # ftruncate(2) on a handle that was allowed to write when it was opened.
            handle: OpenFile = self._handle(file, os.O_WRONLY)
        else:
            handle = self.open(path, os.O_WRONLY)
        try:
            handle.truncate(size)
        finally:
            handle.release()

    def _handle(self, file: CachedFile, flags: int) -> CachedHandle:
        handle = CachedHandle(
            file,
            flags,
            self.stores.complete,
            self._reserve,
            lambda changed, closed: self.stores.note(changed, closed=closed),
            self._released,
            self._synced,
            self._grown,
        )
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.stores.hold(file)
        return handle

    def _grown(self, file: CachedFile) -> bool:
        """Take what was appended to *file* on the cluster, if we have heard of it."""
        path = self._overlay.path_of(file.ident)
        now = self._tree.last_known(path) if path else None
        if now is None or now.size <= file.attr.size or differs(file) or file.writers:
            return False
        return self.stores.fetch_growth(file, now)

    def _current_copy(self, path: str) -> CachedFile:
        """Return the local copy of what is at *path* now, made new where there is none."""
        file = self._overlay.file(path)
        if file is None or not (differs(file) or file.writers):
            attr = self._tree.getattr(path)
            outdated = file is not None and not file.describes(attr)
            if file is not None and outdated and not self.stores.fetch_growth(file, attr):
                self.stores.give_up(path, file)
            file = self._overlay.attach_or_get(path, lambda: self._content.new(attr))
        return file

    def _reserve(self, file: CachedFile, size: int) -> None:
        limit = self.system.limits.upload
        if size > limit:
            path = self._overlay.path_of(file.ident)
            raise os_error(errno.EFBIG, path, direct.over_limit(size, limit, "store"))
        if size > file.attr.size:
            self._content.make_room(size - file.attr.size)

    def _released(self, file: CachedFile, wrote: bool) -> None:
        if wrote:
            self.stores.changed(file)

    def _synced(self, file: CachedFile) -> None:
        failure = self.stores.failure(file)
        if failure is not None:
            raise failure

    # -- names ---------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        """Remove *path*; a file that was never stored costs no request."""
        self._names.unlink(path)
        self._view.entry_changed(path)

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory on the cluster."""
        self._names.mkdir(path, mode)
        self._view.entry_changed(path)

    def rmdir(self, path: str) -> None:
        """Remove *path* once a fresh listing shows it empty."""
        self._names.rmdir(path)
        self._view.entry_changed(path)

    def rename(self, old: str, new: str) -> None:
        """Rename a file; one that was never stored is renamed here alone."""
        self._names.rename(old, new)
        self._view.entry_changed(old)
        self._view.entry_changed(new)
        self._view.moments.attributes_changed(new)

    def symlink(self, target: str, path: str) -> None:
        """Make a symlink; its text, whatever it is, travels in a tar."""
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
        """Set the mode: with the next store where there is one to come, else at once."""
        attr = self._view.getattr(path)
        if attr.kind is Kind.SYMLINK:
            # The cluster would change what the link points to.
            raise os_error(errno.EOPNOTSUPP, path, "a link has no mode of its own")
        self._identity.require_owner(path, attr)
        mode &= 0o7777
        file = self._overlay.file(path)
        if file is not None and differs(file):
            file.set_mode(mode)
            self._changed_attributes(file)
        elif path not in self._view.litter and mode != attr.mode:
            self._chmod_there(path, mode, file)
        self._view.moments.attributes_changed(path)

    def _chmod_there(self, path: str, mode: int, file: CachedFile | None) -> None:
        self._tree.require_sendable(path)
        client, system = self._parts.client, self.system.name

        def change() -> Attr:
            client.chmod(system, path, mode)
            return client.stat(system, path)

        after = self._parts.flights.commit(change)
        if file is not None:
            file.adopt(self._tree.localised(path, after))
        self._tree.changed(path, after)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Accept what changes nothing; other owners and groups have no local names."""
        attr = self._view.getattr(path)
        if uid not in (-1, attr.uid) or gid not in (-1, attr.gid):
            raise os_error(
                errno.EPERM, path, "owners and groups of the cluster can't be named from here"
            )

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Set times: with the next store where there is one to come, else shown here."""
        attr = self._view.getattr(path)
        if not self._identity.may(attr, os.W_OK):
            self._identity.require_owner(path, attr)
        file = self._overlay.file(path)
        if file is not None and differs(file):
            file.set_times(atime_ns, mtime_ns)
            self._changed_attributes(file)
        elif path not in self._view.litter:
            shown = self._tree.getattr(path) if file is None else file.attr
            self._overlay.remember_times(path, shown, atime_ns, mtime_ns)
        if mtime_ns is None:
            self._view.moments.attributes_changed(path)
        else:
            self._view.moments.times_set(path)

    def _changed_attributes(self, file: CachedFile) -> None:
        if not file.writers:
            self.stores.note(file, closed=True)
            self.stores.changed(file)

    def recover(self, record: FileRecord) -> None:
        """Take up what an earlier process left, as the journal has it."""
        shown = record.base
        if shown is None or shown.kind is not Kind.FILE:
            # New; or put over a link, which is what the cluster still has.
            shown = self._view.new_attr(record.path, 0o644)
        self.stores.recover(record, shown)

    # -- extended attributes -------------------------------------------------------------------

    def getxattr(self, path: str, name: str) -> bytes:
        """Answer `user.firecrest.*` by name."""
        attr = self._view.getattr(path)
        field = name.removeprefix("user.firecrest.")
        value = self._fact(path, attr, field) if field != name else None
        if value is None:
            raise os_error(errno.ENODATA, path)
        return value.encode("utf-8", "surrogateescape")

    def _fact(self, path: str, attr: Attr, field: str) -> str | None:
        file = self._overlay.file(path)
        user = self._identity.user
        match field:
            case "state":
                return self._state(file)
            case "error":
                failure = self.stores.failure(file) if file is not None else None
                return None if failure is None else str(failure.strerror)
            case "owner":
                return _name_of(attr.owner, {user.uid: user.name})
            case "group":
                return _name_of(attr.group, user.groups)
            case "path":
                return path
            case "target":
                return attr.target
        return None

    def _state(self, file: CachedFile | None) -> str:
        if file is None or (file.state is State.CLEAN and not file.complete):
            return "remote"
        if file.state is not State.CLEAN and self.stores.failure(file) is not None:
            return "failed"
        return {State.CLEAN: "cached", State.DIRTY: "dirty", State.STORING: "storing"}[file.state]


def _name_of(text: str, names: Mapping[int, str]) -> str:
    return names.get(int(text), text) if text.isdigit() else text


def _wanted_access(flags: int) -> int:
    mode = flags & os.O_ACCMODE
    wanted = 0 if mode == os.O_WRONLY else os.R_OK
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        wanted |= os.W_OK
    return wanted
