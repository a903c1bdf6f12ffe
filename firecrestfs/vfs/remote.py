"""RemoteFilesystem: one system's tree as a file system.

Reading goes through the cached tree and the overlay; bytes are local until they are stored.
Changes of names are carried out before the call returns.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.cached_file import CachedFile, State
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.metadata import is_below, join, split
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind, Source
from firecrestfs.transfer import direct
from firecrestfs.transfer.bundle import Bundler, Member
from firecrestfs.transfer.engine import TransferEngine

from . import guard, links
from .base import Filesystem, OpenFile
from .flights import Flights
from .handles import CachedHandle, MemoryHandle
from .identity import Identity
from .overlay import Overlay, differs
from .stores import Stores
from .tree import RemoteTree

log = logging.getLogger(__name__)

#: Litter of desktops is kept in memory, this much of it per file at most.
_LITTER_BYTES = 1 << 20
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteParts:
    """What a RemoteFilesystem is made of; see `mount.connect`."""

    client: TypedClient
    identity: Identity
    tree: RemoteTree
    overlay: Overlay
    content: ContentCache
    engine: TransferEngine
    bundler: Bundler
    stores: Stores
    flights: Flights


class RemoteFilesystem(Filesystem):
    """The files of one system. Thread-safe."""

    def __init__(
        self,
        parts: RemoteParts,
        home_links: Mapping[str, str],
        mountpoint: str = "",
    ) -> None:
        """*home_links* maps names at the system's root (HOME, SCRATCH) to remote directories."""
        self._client = parts.client
        self._identity = parts.identity
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._content = parts.content
        self._engine = parts.engine
        self._bundler = parts.bundler
        self._flights = parts.flights
        self.stores = parts.stores
        self.system = parts.tree.system
        self.home_links = dict(home_links)
        self._mountpoint = mountpoint
        self._made_links: dict[str, str] = {}  # path → the text we were given
        self._litter: dict[str, bytearray] = {}

    # -- looking -------------------------------------------------------------------------------

    def getattr(self, path: str) -> Attr:
        """Return the attributes of *path*: local changes first, then what the cluster says."""
        file = self._overlay.file(path)
        if file is not None and differs(file):
            return file.attr
        if self._overlay.is_gone(path):
            raise os_error(errno.ENOENT, path)
        if path in self._litter:
            return self._litter_attr(path)
        if self._is_home_link(path):
            return self._home_link_attr(path)
        attr = self._tree.getattr(path)
        if file is not None:
            attr = self._remembered(path, file, attr)
        return self._overlay.with_times(path, attr)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the entries of *path* by at most one request."""
        entries = dict(self._tree.listing(path))
        for entry in self._overlay.local_entries(path):
            entries[entry.name] = entry.attr
        if path == "/":
            entries.update({name: self._home_link_attr(f"/{name}") for name in self.home_links})
        return [
            DirEntry(name, attr)
            for name, attr in entries.items()
            if not name.startswith(guard.HIDDEN_PREFIX)
            and not self._overlay.is_gone(join(path, name))
        ] + [DirEntry(split(each)[1], self._litter_attr(each)) for each in self._litter_in(path)]

    def readlink(self, path: str) -> str:
        """Return the text of a link: verbatim where it was made here."""
        attr = self.getattr(path)
        if attr.kind is not Kind.SYMLINK:
            raise os_error(errno.EINVAL, path)
        made = self._made_links.get(path)
        if made is not None:
            return made
        if attr.target is None:
            self._tree.forget(path)
            attr = self._tree.getattr(path)
        return attr.target or ""

    def access(self, path: str, mask: int) -> None:
        """Raise EACCES where the remote mode, owner and group don't grant *mask*."""
        attr = self.getattr(path)
        if mask and attr.kind is not Kind.SYMLINK:
            self._identity.require(path, attr, mask)

    def getxattr(self, path: str, name: str) -> bytes:
        """Answer `user.firecrest.*` by name."""
        attr = self.getattr(path)
        field = name.removeprefix("user.firecrest.")
        value = self._fact(path, attr, field) if field != name else None
        if value is None:
            raise os_error(errno.ENODATA, path)
        return value.encode("utf-8", "surrogateescape")

    def refresh(self, path: str) -> None:
        """Forget what is believed at and below *path*; own changes stay."""
        self._tree.refresh(path)

    def sweep(self) -> None:
        """Remove archives of ours that could not be removed before."""
        self._bundler.sweep()

    # -- opening -------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> OpenFile:
        """Open *path*. What will be read is fetched now, so that sizes and bytes agree."""
        if path in self._litter:
            return MemoryHandle(self._litter[path], flags, _LITTER_BYTES)
        attr = self.getattr(path)
        if attr.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, path)
        if attr.kind is not Kind.FILE:
            raise os_error(errno.EPERM, path, "pipes, sockets and devices work on the cluster only")
        self._identity.require(path, attr, _wanted_access(flags))
        guard.refuse_unsendable(path)
        return self._open_file(path, flags)

    def _open_file(self, path: str, flags: int) -> OpenFile:
        file = self._overlay.file(path)
        if file is None:
            attr = self._tree.getattr(path)
            file = self._overlay.attach_or_get(path, lambda: self._content.new(attr))
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
        directory, name = split(path)
        guard.refuse_housekeeping(name, path)
        if guard.is_litter(name):
            return MemoryHandle(self._litter.setdefault(path, bytearray()), flags, _LITTER_BYTES)
        guard.refuse_unsendable(path)
        if self._exists(path):
            if flags & os.O_EXCL:
                raise os_error(errno.EEXIST, path)
            return self.open(path, flags)
        self._identity.require(path, self._writable_parent(directory), os.W_OK | os.X_OK)
        self._content.make_room(0)
        file = self._content.new(self._new_attr(path, mode & 0o7777))
        file.create()
        file.set_mode(mode & 0o7777)
        self._place(path, file)
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
            file, flags, self.stores.complete, self._reserve, self._released, self._synced
        )
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.stores.hold(file)
        return handle

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
        directory, name = split(path)
        if self._litter.pop(path, None) is not None:
            return
        if name.startswith(guard.HIDDEN_PREFIX):
            self._end_orphan(path)
            return
        attr = self.getattr(path)
        if attr.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, path)
        self._identity.require_removable(path, self._tree.getattr(directory), attr)
        file = self._overlay.file(path)
        if file is not None:
            self.stores.settle(file)
        if file is None or file.base is not None:
            self._remove(path, attr.kind)
        if file is not None and self._overlay.detach(path, file) is not None:
            self._content.drop(file)
        self._made_links.pop(path, None)

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory on the cluster."""
        directory, name = split(path)
        guard.refuse_housekeeping(name, path)
        guard.refuse_unsendable(path)
        if self._exists(path):
            raise os_error(errno.EEXIST, path)
        self._identity.require(path, self._writable_parent(directory), os.W_OK | os.X_OK)
        self._tree.made_directory(path, self._commit(lambda: self._mkdir(path, mode & 0o777)))

    def _mkdir(self, path: str, mode: int) -> Attr:
        self._client.mkdir(self.system.name, path)
        attr = self._client.stat(self.system.name, path)
        if attr.mode & 0o777 != mode:
            # Set-id bits that the directory inherited stay.
            self._client.chmod(self.system.name, path, attr.mode & 0o7000 | mode)
            attr = self._client.stat(self.system.name, path)
        return attr

    def rmdir(self, path: str) -> None:
        """Remove *path* once a fresh listing shows it empty."""
        attr = self.getattr(path)
        if attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.ENOTDIR, path)
        if self._is_fixed(path):
            raise os_error(errno.EBUSY, path, "the cluster's own directories stay")
        if any(differs(file) and each != path for each, file in self._overlay.files_below(path)):
            raise os_error(errno.ENOTEMPTY, path)
        self._identity.require_removable(path, self._tree.getattr(split(path)[0]), attr)
        for origin, gone in self._overlay.take_gone_below(path):
            self._remove_gone(origin, gone)
        self._remove(path, Kind.DIRECTORY)
        for each in [each for each in self._litter if is_below(each, path)]:
            del self._litter[each]

    def rename(self, old: str, new: str) -> None:
        """Rename a file; one that was never stored is renamed here alone."""
        if split(new)[1].startswith(guard.HIDDEN_PREFIX):
            self._begin_orphan(old, new)
            return
        guard.refuse_unsendable(old)
        guard.refuse_unsendable(new)
        guard.refuse_housekeeping(split(new)[1], new)
        attr = self.getattr(old)
        self._identity.require_removable(old, self._writable_parent(split(old)[0]), attr)
        target = self._attr_or_none(new)
        self._check_target(attr, new, target)
        if attr.kind is Kind.DIRECTORY:
            raise os_error(errno.EXDEV, old, "a directory on the cluster is copied, not renamed")
        if old in self._litter:
            self._litter[new] = self._litter.pop(old)
            return
        self._rename_file(old, new)

    def _check_target(self, attr: Attr, new: str, target: Attr | None) -> None:
        parent = self._writable_parent(split(new)[0])
        if target is None:
            self._identity.require(new, parent, os.W_OK | os.X_OK)
            return
        self._identity.require_removable(new, parent, target)
        if target.kind is Kind.DIRECTORY and attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.EISDIR, new)
        if target.kind is not Kind.DIRECTORY and attr.kind is Kind.DIRECTORY:
            raise os_error(errno.ENOTDIR, new)

    def _rename_file(self, old: str, new: str) -> None:
        file = self._overlay.file(old)
        replaced = self._overlay.file(new)
        for each in (file, replaced):
            if each is not None:
                self.stores.settle(each)
        if file is not None and file.base is None:
            self._rename_local(old, new, file)
        else:
            if file is not None and differs(file):
                self.stores.store_now(file)
            self._rename_remote(old, new)
        if old in self._made_links:
            self._made_links[new] = self._made_links.pop(old)
        self._identity.move_inode(old, new)

    def _rename_local(self, old: str, new: str, file: CachedFile) -> None:
        """Rename what the cluster has never seen: it will be stored under its last name."""
        base = self._overlay.take_gone(new) or self._remote_attr_or_none(new)
        replaced = self._overlay.move(old, new)
        if replaced is not None:
            self._content.drop(replaced)
        file.rebase(base)
        self.stores.changed(file)

    def _rename_remote(self, old: str, new: str) -> None:
        replaced = self._overlay.file(new)
        if replaced is not None and replaced.base is None:
            # It was never stored: nothing of it is on the cluster to be replaced.
            self._overlay.detach(new, replaced)
            self._content.drop(replaced)
        after = self._commit(lambda: self._bundler.rename(old, new))
        if after is None:
            return
        replaced = self._overlay.move(old, new)
        if replaced is not None:
            self._content.drop(replaced)
        file = self._overlay.file(new)
        if file is not None:
            file.adopt(after)
        self._overlay.take_gone(new)
        self._tree.changed(old, None)
        self._tree.changed(new, after)

    def symlink(self, target: str, path: str) -> None:
        """Make a symlink; relative and outside targets travel in a tar."""
        directory, name = split(path)
        guard.refuse_housekeeping(name, path)
        guard.refuse_unsendable(path)
        if self._exists(path):
            raise os_error(errno.EEXIST, path)
        self._identity.require(path, self._writable_parent(directory), os.W_OK | os.X_OK)
        text = links.remote_target(self._mountpoint, self.system.name, target)
        member = Member(name, Kind.SYMLINK, link=text, mode=0o777)
        self._commit(lambda: self._bundler.place([member], directory, directory))
        attr = self._commit(lambda: self._client.stat(self.system.name, path))
        if attr.kind is not Kind.SYMLINK:
            raise os_error(errno.EEXIST, path)
        self._tree.changed(path, replace(attr, target=text))
        self._made_links[path] = target

    def link(self, old: str, new: str) -> None:
        """Make a hard link on the cluster."""
        for path in (old, new):
            guard.refuse_unsendable(path)
        if self._exists(new):
            raise os_error(errno.EEXIST, new)
        self._identity.require(new, self._writable_parent(split(new)[0]), os.W_OK | os.X_OK)
        file = self._overlay.file(old)
        if file is not None and differs(file):
            self.stores.store_now(file)
        if self.getattr(old).kind is Kind.DIRECTORY:
            raise os_error(errno.EPERM, old)
        after = self._commit(lambda: self._bundler.link(old, new))
        self._tree.changed(old, after)
        self._tree.changed(new, after)

    # -- attributes ----------------------------------------------------------------------------

    def chmod(self, path: str, mode: int) -> None:
        """Set the mode: with the next store where there is one to come, else at once."""
        attr = self.getattr(path)
        self._identity.require_owner(path, attr)
        mode &= 0o7777
        file = self._overlay.file(path)
        if file is not None and differs(file):
            file.set_mode(mode)
            self.stores.changed(file)
            return
        if path in self._litter or mode == attr.mode:
            return
        guard.refuse_unsendable(path)
        self._commit(lambda: self._client.chmod(self.system.name, path, mode))
        remote = self._commit(lambda: self._client.stat(self.system.name, path))
        if file is not None:
            file.adopt(remote)
        self._tree.changed(path, remote)

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Accept what changes nothing; other owners and groups have no local names."""
        attr = self.getattr(path)
        if uid not in (-1, attr.uid) or gid not in (-1, attr.gid):
            raise os_error(
                errno.EPERM, path, "owners and groups of the cluster can't be named from here"
            )

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Set times: with the next store where there is one to come, else shown here."""
        attr = self.getattr(path)
        if not self._identity.may(attr, os.W_OK):
            self._identity.require_owner(path, attr)
        file = self._overlay.file(path)
        if file is not None and differs(file):
            file.set_times(atime_ns, mtime_ns)
            self.stores.changed(file)
        elif path not in self._litter:
            shown = attr if file is None else file.attr
            self._overlay.remember_times(path, shown, atime_ns, mtime_ns)

    # -- inside: looking -----------------------------------------------------------------------

    def _remembered(self, path: str, file: CachedFile, attr: Attr) -> Attr:
        """Return what is shown for a stored file whose copy we have, while it is the same file."""
        if file.describes(attr):
            return file.attr
        # Someone changed it on the cluster. Who has it open goes on with the version it opened.
        if self._overlay.detach(path, file) is not None:
            self._content.drop(file)
        return attr

    def _attr_or_none(self, path: str) -> Attr | None:
        try:
            return self.getattr(path)
        except FileNotFoundError:
            return None

    def _exists(self, path: str) -> bool:
        return self._attr_or_none(path) is not None

    def _remote_attr_or_none(self, path: str) -> Attr | None:
        file = self._overlay.file(path)
        if file is not None:
            return file.base
        try:
            return self._tree.getattr(path)
        except FileNotFoundError:
            return None

    def _writable_parent(self, directory: str) -> Attr:
        if self._tree.is_synthetic(directory):
            raise os_error(
                errno.EACCES, directory, "only the cluster's file systems can be written"
            )
        return self.getattr(directory)

    def _is_fixed(self, path: str) -> bool:
        return self._tree.is_synthetic(path) or self._tree.is_root(path)

    def _is_home_link(self, path: str) -> bool:
        return path.count("/") == 1 and path[1:] in self.home_links

    def _home_link_attr(self, path: str) -> Attr:
        text = links.shown_target(path, self.home_links[path[1:]])
        plain = self._tree.plain_directory(path)
        return replace(plain, kind=Kind.SYMLINK, mode=0o777, size=len(text), nlink=1, target=text)

    def _litter_in(self, directory: str) -> list[str]:
        return [path for path in list(self._litter) if split(path)[0] == directory]

    def _litter_attr(self, path: str) -> Attr:
        return replace(self._new_attr(path, 0o644), size=len(self._litter[path]))

    def _new_attr(self, path: str, mode: int) -> Attr:
        now = time.time_ns()
        return Attr(
            Kind.FILE,
            mode,
            0,
            now,
            uid=self._identity.uid,
            gid=self._identity.gid,
            owner=self._identity.user.name,
            group=self._identity.user.groups.get(self._identity.user.gid, ""),
            atime_ns=now,
            ctime_ns=now,
            source=Source.LOCAL,
            inode=self._identity.inode(path),
        )

    def _fact(self, path: str, attr: Attr, field: str) -> str | None:
        file = self._overlay.file(path)
        match field:
            case "state":
                return self._state(file)
            case "error":
                failure = self.stores.failure(file) if file is not None else None
                return None if failure is None else str(failure.strerror)
            case "owner":
                return self._name_of(
                    attr.owner, {self._identity.user.uid: self._identity.user.name}
                )
            case "group":
                return self._name_of(attr.group, self._identity.user.groups)
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

    @staticmethod
    def _name_of(text: str, names: Mapping[int, str]) -> str:
        return names.get(int(text), text) if text.isdigit() else text

    # -- inside: changing ----------------------------------------------------------------------

    def _commit(self, call: Callable[[], T]) -> T:
        """Run a request that changes the cluster; Ctrl-C doesn't part us from its answer."""
        return self._flights.run(call, interruptible=False)

    def _place(self, path: str, file: CachedFile) -> None:
        """Put the new *file* at *path*: over what was unlinked there a moment ago, if anything."""
        base = self._overlay.attach(path, file)
        if base is not None:
            file.rebase(base)

    def _remove(self, path: str, kind: Kind) -> None:
        guard.refuse_unsendable(path)
        self._commit(lambda: self._client.remove(self.system.name, path, kind))
        self._tree.changed(path, None)

    def _begin_orphan(self, path: str, hidden: str) -> None:
        """Unlink an open file here; the cluster keeps it until the last handle is closed."""
        attr = self.getattr(path)
        self._identity.require_removable(path, self._writable_parent(split(path)[0]), attr)
        file = self._overlay.file(path)
        if file is not None and not file.complete:
            # Who has it open shall be able to read it to the end.
            with suppress(OSError):
                self.stores.complete(file)
        file = self._overlay.orphan(path, hidden)
        if file is not None:
            self.stores.settle(file)

    def _end_orphan(self, hidden: str) -> None:
        file, origin, gone = self._overlay.end_orphan(hidden)
        if file is not None:
            self._content.drop(file)
        if gone is not None:
            self._remove_gone(origin, gone)

    def _remove_gone(self, origin: str, gone: Attr) -> None:
        """Remove on the cluster what was unlinked here, if it is still the same file."""
        now = self._attr_on_cluster(origin)
        if now is None:
            return
        if self._engine.is_same_version(origin, gone, now):
            self._remove(origin, now.kind)
        else:
            log.warning("%s changed on the cluster after it was removed here: kept", origin)
            self._tree.forget(origin)

    def _attr_on_cluster(self, path: str) -> Attr | None:
        try:
            return self._tree.remote_uid_attr(path)
        except FileNotFoundError:
            return None


def _wanted_access(flags: int) -> int:
    mode = flags & os.O_ACCMODE
    wanted = 0 if mode == os.O_WRONLY else os.R_OK
    if mode != os.O_RDONLY or flags & os.O_TRUNC:
        wanted |= os.W_OK
    return wanted
