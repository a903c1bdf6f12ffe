"""RemoteNames: making, removing and renaming entries of one system.

Changes are carried out on the cluster before the call returns; what only exists here changes only
here. Files that are unlinked while open stay on the cluster until the last handle is closed.
"""

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from dataclasses import replace

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.metadata import split
from firecrestfs.errors import os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, Kind
from firecrestfs.transfer.bundle import Member

from . import guard, links
from .overlay import differs
from .removals import Removals
from .view import RemoteParts, RemoteView

log = logging.getLogger(__name__)

#: How long a rename of a directory waits until what was changed in it is stored (seconds).
_SETTLE_S = 60.0


class RemoteNames:
    """Changes names on one system. Thread-safe."""

    def __init__(self, parts: RemoteParts, view: RemoteView, mountpoint: str) -> None:
        self._parts = parts
        self._view = view
        self._client = parts.client
        self._identity = parts.identity
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._stores = parts.stores
        self._system = parts.tree.system.name
        self._mountpoint = mountpoint
        self.removals = Removals(parts)

    # -- removing ------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        """Remove *path*; a file that was never stored costs no request."""
        if self._view.litter.remove(path):
            return
        if split(path)[1].startswith(guard.HIDDEN_PREFIX):
            self._end_orphan(path)
            return
        attr = self._view.getattr(path)
        if attr.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, path)
        self._identity.require_removable(path, self._view.parent_of(path), attr)
        file = self._overlay.file(path)
        failed = file is not None and self._stores.failure(file) is not None
        if file is not None:
            self._stores.settle(file)
        if file is None or file.base is not None:
            self._remove(path, attr.kind)
        elif failed:
            self._stores.remove_leftover(path, file)
        if file is not None and self._overlay.detach(path, file) is not None:
            self._stores.discard(file)
        self._view.made_links.pop(path, None)

    def rmdir(self, path: str) -> None:
        """Remove *path* once a fresh listing shows it empty."""
        attr = self._view.getattr(path)
        if attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.ENOTDIR, path)
        if self._view.is_fixed(path):
            raise os_error(errno.EBUSY, path, "the cluster's own directories stay")
        if any(differs(file) for _, file in self._overlay.files_below(path)):
            raise os_error(errno.ENOTEMPTY, path)
        self._identity.require_removable(path, self._view.parent_of(path), attr)
        for origin in self._overlay.gone_below(path):
            self.removals.remove(origin)
        self._remove(path, Kind.DIRECTORY)
        self._view.litter.remove_below(path)

    def _remove(self, path: str, kind: Kind) -> None:
        self._tree.require_sendable(path)
        self._parts.flights.commit(lambda: self._client.remove(self._system, path, kind))
        self._tree.changed(path, None)

    # -- making --------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory on the cluster."""
        self._view.require_creatable(path)
        attr = self._parts.flights.commit(lambda: self._mkdir(path, mode & 0o777))
        self._tree.made_directory(path, attr)

    def _mkdir(self, path: str, mode: int) -> Attr:
        self._client.mkdir(self._system, path)
        attr = self._client.stat(self._system, path)
        if attr.mode & 0o777 != mode:
            # Set-id bits that the directory inherited stay.
            self._client.chmod(self._system, path, attr.mode & 0o7000 | mode)
            attr = self._client.stat(self._system, path)
        return attr

    def symlink(self, target: str, path: str) -> None:
        """Make a symlink; its text travels in a tar where requests can't carry any text."""
        self._view.require_creatable(path)
        text = links.remote_target(self._mountpoint, self._system, target)
        directory, name = split(path)
        member = Member(name, Kind.SYMLINK, link=text, mode=0o777)

        def place() -> Attr:
            features = self._tree.features
            if features.any_link and not any(each in text for each in features.forbidden):
                self._client.symlink(self._system, text, path)
            else:
                self._parts.bundler.place([member], directory, directory)
            return self._client.stat(self._system, path)

        attr = self._parts.flights.commit(place)
        if attr.kind is not Kind.SYMLINK:
            raise os_error(errno.EEXIST, path)
        self._tree.changed(path, replace(attr, target=text))
        self._view.made_links[path] = target

    def link(self, old: str, new: str) -> None:
        """Make a hard link on the cluster."""
        self._tree.require_sendable(old)
        self._view.require_creatable(new)
        if self._view.getattr(old).kind is Kind.DIRECTORY:
            raise os_error(errno.EPERM, old)
        self._store_if_changed(old)
        after = self._parts.flights.commit(lambda: self._parts.bundler.link(old, new))
        file = self._overlay.file(old)
        if file is not None:
            file.adopt(self._tree.localised(old, after))
        self._learn(old, after)
        self._learn(new, after)

    # -- renaming ------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """Rename a file; one that was never stored is renamed here alone."""
        if split(new)[1].startswith(guard.HIDDEN_PREFIX):
            self._begin_orphan(old, new)
            return
        self._tree.require_sendable(old, new)
        guard.refuse_housekeeping(split(new)[1], new)
        self.removals.wait_for(new)
        parent_of_old, _ = self._view.parent_of(old), self._view.parent_of(new)
        attr = self._view.getattr(old)
        self._identity.require_removable(old, parent_of_old, attr)
        self._check_target(attr, new)
        if attr.kind is Kind.DIRECTORY:
            self._rename_directory(old, new)
            return
        if old in self._view.litter:
            self._rename_litter(old, new)
            return
        self._rename_file(old, new)

    def _rename_litter(self, old: str, new: str) -> None:
        """Rename what only this machine has; under a common name it becomes a file to store."""
        if guard.is_litter(split(new)[1]):
            self._view.litter.rename(old, new)
            return
        attr, content = self._view.litter.attr(old), self._view.litter.content(old)
        base = self._overlay.take_gone(new) or self._view.remote_attr_or_none(new)
        file = self._parts.content.new(replace(attr, size=0))
        file.create(attr.mode)
        if content:
            file.write(content, 0)
        file.rebase(base, self._identity.inode(new))
        self._drop(self._overlay.detach(new))
        self._overlay.attach(new, file)
        self._stores.note(file, closed=True)
        self._stores.changed(file)
        self._view.litter.remove(old)

    def _check_target(self, attr: Attr, new: str) -> None:
        target = self._view.attr_or_none(new)
        parent = self._view.parent_of(new)
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
        for each in (file, self._overlay.file(new)):
            if each is not None:
                self._stores.settle(each)
        if file is not None and file.base is None:
            self._rename_here(old, new, file)
        else:
            self._store_if_changed(old)
            self._rename_there(old, new)
        if old in self._view.made_links:
            self._view.made_links[new] = self._view.made_links.pop(old)

    def _rename_directory(self, old: str, new: str) -> None:
        """Rename a directory where the server can, what was changed in it stored first."""
        if self._view.is_fixed(old):
            raise os_error(errno.EBUSY, old, "the cluster's own directories stay")
        if not self._tree.features.rename:
            raise os_error(errno.EXDEV, old, "a directory on the cluster is copied, not renamed")
        failed = self._stores.flush(old, _SETTLE_S)
        for path, reason in failed.items():
            raise reason or os_error(errno.EBUSY, path, "it is still being stored")
        after = self._parts.flights.commit(lambda: self._client.rename(self._system, old, new))
        if after is None:
            return
        for path, _ in self._overlay.files_below(old):
            self._drop(self._overlay.move(path, new + path[len(old) :]))
        self._identity.move_inode(old, new)
        self._tree.refresh(old)
        self._tree.refresh(new)

    def _rename_on_cluster(self, old: str, new: str) -> Attr | None:
        if self._tree.features.rename:
            return self._client.rename(self._system, old, new)
        return self._parts.bundler.rename(old, new)

    def _rename_here(self, old: str, new: str, file: CachedFile) -> None:
        """Rename what the cluster has never seen: it will be stored under its last name."""
        base = self._overlay.take_gone(new) or self._view.remote_attr_or_none(new)
        self._drop(self._overlay.move(old, new))
        self._identity.move_inode(old, new)
        file.rebase(base, self._identity.inode(new))
        reach("rename.moved")
        self._stores.note(file, closed=not file.writers)
        reach("rename.noted")
        self._stores.changed(file)

    def _rename_there(self, old: str, new: str) -> None:
        replaced = self._overlay.file(new)
        if replaced is not None and replaced.base is None:
            # It was never stored: nothing of it is on the cluster to be replaced.
            self._drop(self._overlay.detach(new, replaced))
        after = self._parts.flights.commit(lambda: self._rename_on_cluster(old, new))
        if after is None:
            return
        self._drop(self._overlay.move(old, new))
        self._overlay.take_gone(new)
        self._identity.move_inode(old, new)
        file = self._overlay.file(new)
        if file is not None:
            file.adopt(self._tree.localised(new, after))
        self._tree.changed(old, None)
        self._learn(new, after)

    def _learn(self, path: str, attr: Attr) -> None:
        """Note what a request told of *path*; the text of a link it didn't tell."""
        if attr.kind is Kind.SYMLINK:
            self._tree.forget(path)
        else:
            self._tree.changed(path, attr)

    def _store_if_changed(self, path: str) -> None:
        file = self._overlay.file(path)
        if file is not None and differs(file):
            self._stores.store_now(file)

    def _drop(self, file: CachedFile | None) -> None:
        if file is not None:
            self._stores.discard(file)

    # -- unlinked while open -------------------------------------------------------------------

    def _begin_orphan(self, path: str, hidden: str) -> None:
        """Unlink an open file here; the cluster keeps it until the last handle is closed."""
        attr = self._view.getattr(path)
        self._identity.require_removable(path, self._view.parent_of(path), attr)
        file = self._overlay.file(path)
        if file is not None and not file.complete:
            # Who has it open shall be able to read it to the end.
            with suppress(OSError):
                self._stores.complete(file)
        if file is not None:
            # What a store that is running now leaves on the cluster is to be removed later, too.
            self._stores.settle(file)
        file = self._overlay.orphan(path, hidden)
        if file is not None:
            self._stores.unlinked(file)

    def _end_orphan(self, hidden: str) -> None:
        file, origin = self._overlay.end_orphan(hidden)
        self._drop(file)
        if origin:
            self.removals.remove_or_retry(origin)
