"""RemoteNames: making, removing and renaming entries of one system.

Changes are shown at once and written down; the cluster is told of them after the settle delay, as
they are then: what is undone until then costs nothing. Permissions are checked here, from modes and
ids, so that the cluster has little to refuse.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import suppress
from dataclasses import replace

from firecrestfs.errors import os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, Kind
from firecrestfs.paths import name_of

from . import guard, links
from .entry import Entry
from .ghosts import parted
from .identity import leaves_mode
from .secondnames import SecondNames
from .view import RemoteParts, RemoteView


class RemoteNames:
    """Changes names on one system. Thread-safe."""

    def __init__(self, parts: RemoteParts, view: RemoteView, mountpoint: str) -> None:
        self._parts = parts
        self._view = view
        self._identity = parts.identity
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._stores = parts.stores
        self._fetching = parts.fetching
        self._system = parts.tree.system.name
        self._mountpoint = mountpoint
        self._second = SecondNames(parts, view, self.entry_at, self._take_second)

    # -- removing ------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        """Remove *path*; what the cluster has never seen costs no request."""
        if self._view.litter.remove(path):
            return
        if name_of(path).startswith(guard.HIDDEN_PREFIX):
            self._end_orphan(path)
            return
        attr = self._view.getattr(path)
        if attr.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, path)
        self._identity.require_removable(path, self._view.parent_of(path), attr)
        entry = self._second.take(path, attr)
        self._tree.require_carriable(entry.origin)
        self._drop(entry)

    def rmdir(self, path: str) -> None:
        """Remove *path*, which a listing of the last seconds shows empty.

        What came into it meanwhile is found out before the cluster is told, and keeps it.
        """
        attr = self._view.getattr(path)
        if attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.ENOTDIR, path)
        if self._view.is_fixed(path):
            raise os_error(errno.EBUSY, path, "the cluster's own directories stay")
        self._identity.require_removable(path, self._view.parent_of(path), attr)
        self._require_empty(path)
        with self._overlay.lock:
            freed = self._overlay.release_orphans(path)
        self._stores.note(*freed)
        self._stores.changed(*freed)
        self._drop(self.entry_at(path, attr))
        self._view.litter.remove_below(path)

    def _require_empty(self, path: str) -> None:
        remote = self._overlay.locate(path)
        if remote is not None:
            self._tree.freshen(remote)
        if any(not self._view.is_litter_here(path, each.name) for each in self._view.readdir(path)):
            raise os_error(errno.ENOTEMPTY, path)

    def _drop(self, entry: Entry) -> None:
        """Show *entry* no more; the cluster is told where it may have something of it."""
        with self._overlay.lock:
            self._release_replaced(entry)
            adopter = self._adopter_of(entry)
            self._overlay.unlink(entry)
            kept = entry.busy or self._overlay.differs(entry)
            if adopter is not None and kept:
                self._adopt(adopter, entry)
                kept = False
        adopters = [] if adopter is None else [adopter]
        sources = [] if entry.link_of is None else [entry.link_of]
        self._stores.note(*adopters, *sources, entry)
        self._stores.changed(*adopters)
        if kept:
            self._stores.changed(entry)
        else:
            self._stores.discard(entry)

    def _release_replaced(self, entry: Entry) -> None:
        """What *entry* was renamed over stays removed although *entry* goes elsewhere.

        Where the cluster is renaming *entry* right now, or may have, that decides first.
        """
        if entry.busy or entry.moving is not None:
            return
        replaced = self._overlay.release(entry)
        if replaced is not None:
            self._stores.changed(replaced)

    # -- one file going over another -----------------------------------------------------------

    def _adopter_of(self, entry: Entry) -> Entry | None:
        """Return the new file that is shown where the cluster still has *entry*."""
        if (
            not (entry.origin or entry.attempted)
            or _is_under_way(entry)
            or entry.link_of is not None
            or entry.kind not in (Kind.FILE, Kind.SYMLINK)
        ):
            return None
        shown = self._overlay.shown_at_origin(entry)
        if shown is None or shown is entry or shown.origin or shown.busy or shown.file is None:
            return None
        return shown

    def _adopt(self, new: Entry, old: Entry) -> None:
        """Let the new file *new* be stored over *old*, which isn't shown any more."""
        base, origin, attempted = old.base, old.origin, old.attempted
        self._overlay.settle(old, "")
        new.sent += old.sent
        new.torn = new.torn or old.torn
        if not origin:
            # Never proven to be there: as new as before, but what is found may be ours.
            self._overlay.attempt(new, attempted)
            return
        self._overlay.settle(new, origin)
        new.anew = True
        assert new.file is not None
        new.file.rebase(base, new.file.attr.inode)

    def take_place(self, new: Entry) -> None:
        """Write down the new file *new*, which may be put where the cluster has another."""
        with self._overlay.lock:
            there = self._overlay.unlinked_at(new)
            if there is not None and self._adopter_of(there) is new:
                self._adopt(new, there)
            else:
                there = None
        self._stores.note(new, *([] if there is None else [there]))
        if there is not None:
            self._stores.cancel(there)
            if not self._overlay.is_orphaned(there):
                self._stores.discard(there)

    # -- making --------------------------------------------------------------------------------

    def mkdir(self, path: str, mode: int) -> None:
        """Make a directory."""
        parent = self._view.require_creatable(path, Kind.DIRECTORY)
        passed_on = parent.mode & stat.S_ISGID
        mode = mode & 0o1777 | passed_on
        shown = replace(
            self._view.new_attr(path, mode),
            kind=Kind.DIRECTORY,
            size=4096,
            acl=parent.acl,
            gid=parent.gid if passed_on else self._identity.gid,
        )
        wanted = None if leaves_mode(parent, Kind.DIRECTORY, mode) else mode
        entry = Entry(uuid.uuid4().hex, Kind.DIRECTORY, path, "", shown=shown, wanted_mode=wanted)
        entry.inherits = bool(passed_on) or parent.acl
        self._make(entry)

    def symlink(self, target: str, path: str) -> None:
        """Make a symlink."""
        self._view.require_creatable(path, Kind.SYMLINK)
        text = links.remote_target(self._mountpoint, self._system, target)
        if len(os.fsencode(text)) > _LINK_BYTES:
            raise os_error(errno.ENAMETOOLONG, path)
        attr = self._view.new_attr(path, 0o777)
        size = len(os.fsencode(target))
        shown = replace(attr, kind=Kind.SYMLINK, size=size, target=target)
        entry = Entry(uuid.uuid4().hex, Kind.SYMLINK, path, "", shown=shown)
        entry.text, entry.made_text = text, target
        self._make(entry)

    def _make(self, entry: Entry) -> None:
        self._overlay.add(entry)
        try:
            self._stores.note(entry)
        except OSError:
            self._overlay.forget(entry)
            raise
        self._stores.changed(entry)

    def link(self, old: str, new: str) -> None:
        """Make a hard link."""
        self._second.add(old, new)

    # -- renaming ------------------------------------------------------------------------------

    def rename(self, old: str, new: str) -> None:
        """Rename *old* to *new*: a file over a file, a directory over an empty one."""
        if name_of(new).startswith(guard.HIDDEN_PREFIX):
            self._begin_orphan(old, new)
            return
        self._tree.require_carriable(old)
        self._tree.require_carriable(new)
        guard.refuse_housekeeping(name_of(new), new)
        guard.refuse_too_long(new)
        parent_of_old, _ = self._view.parent_of(old), self._view.parent_of(new)
        attr = self._view.getattr(old)
        self._identity.require_removable(old, parent_of_old, attr)
        if old == new or self._second.are_one(old, new):
            return
        self._check_target(attr, new)
        if old in self._view.litter:
            self._rename_litter(old, new)
            return
        self._check_way(attr, old, new)
        over = self._view.attr_or_none(new)
        self._rename(self._second.moving(old, attr, over, new), new)
        self._view.litter.move_below(old, new)

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
        if target.kind is Kind.DIRECTORY:
            self._require_empty(new)

    def _check_way(self, attr: Attr, old: str, new: str) -> None:
        """Raise EXDEV where the cluster could not rename what it has: programs copy then."""
        if attr.kind is Kind.DIRECTORY and self._view.is_fixed(old):
            raise os_error(errno.EBUSY, old, "the cluster's own directories stay")
        if self._tree.root_of(old) != self._tree.root_of(new):
            raise os_error(errno.EXDEV, new, "another file system of the cluster")
        if not (self._tree.sends(old) and self._tree.sends(new)):
            self._check_way_of_odd(attr, old, new)
        if attr.kind is Kind.DIRECTORY and not self._tree.features.rename:
            origin = self._overlay.locate(old)
            if origin is not None and not self._parts.mover.can_move_tree(origin, new):
                raise os_error(errno.EXDEV, old, "a batch job can't carry this name")

    def _check_way_of_odd(self, attr: Attr, old: str, new: str) -> None:
        """Raise where the cluster has what would have to be renamed: its names can't be sent."""
        if attr.kind is Kind.DIRECTORY:
            self._tree.require_sendable(old, new)
        entry = self._overlay.entry(old)
        if entry is None or entry.origin or entry.attempted:
            text = "FirecREST can't rename from or to a name like this; a copy is made"
            raise os_error(errno.EXDEV, new, text)

    def _take_second(self, entry: Entry, name: Entry) -> None:
        """Let *entry* have its second name only."""
        self._rename(entry, name.path, name)

    def _rename(self, entry: Entry, new: str, replaced: Entry | None = None) -> None:
        """Show *entry* at *new*, where *replaced* is, which is looked for if it isn't told."""
        target = self._view.attr_or_none(new) if replaced is None else None
        if target is not None:
            replaced = self._second.take(new, target)
        with self._overlay.lock:
            self._release_replaced(entry)
            if replaced is not None:
                self._release_replaced(replaced)
                self._overlay.unlink(replaced)
            old, tree = entry.path, entry.kind is Kind.DIRECTORY
            moved = self._overlay.move(entry, new)
            # What is made under the old name next is another file from now on.
            self._identity.move_inode(old, new, tree=tree)
            left = parted(self._overlay, moved)
            there = self._overlay.unlinked_at(entry)
            adopted = there is not None and self._adopter_of(there) is entry
            if there is not None and adopted:
                self._adopt(entry, there)
            elif there is not None and not _is_under_way(there):
                self._overlay.replace(entry, there)
        gone = [each for each in {id(e): e for e in (replaced, there) if e is not None}.values()]
        reach("rename.moved")
        # All at once: what was renamed over is gone from the journal only with the rename in it.
        sources = [each.link_of for each in gone if each.link_of is not None]
        self._stores.note(*moved, *gone, *left, *sources)
        reach("rename.noted")
        self._stores.changed(*moved, *left)
        for each in gone:
            if each.busy or self._overlay.differs(each):
                self._stores.changed(each)
            elif not self._overlay.is_orphaned(each):
                self._stores.discard(each)

    def _rename_litter(self, old: str, new: str) -> None:
        """Rename what only this machine has; under a common name it becomes a file to store."""
        if guard.is_litter(name_of(new)):
            self._view.litter.rename(old, new)
            return
        attr, content = self._view.litter.attr(old), self._view.litter.content(old)
        target = self._view.attr_or_none(new)
        if target is not None:
            self._drop(self.entry_at(new, target))
        file = self._parts.content.new(replace(attr, size=0, inode=self._identity.inode(new)))
        file.create(attr.mode)
        if content:
            file.write(content, 0)
        if attr.mtime_ns != attr.ctime_ns:
            # It was given a time of its own.
            file.set_times(attr.atime_ns, attr.mtime_ns)
        entry = Entry(file.ident, Kind.FILE, new, "", file)
        self._overlay.add(entry)
        self.take_place(entry)
        self._stores.changed(entry)
        self._view.litter.remove(old)

    # -- unlinked while open -------------------------------------------------------------------

    def _begin_orphan(self, path: str, hidden: str) -> None:
        """Unlink an open file here; the cluster keeps it until the last handle is closed.

        Or until something else is to have its name.
        """
        attr = self._view.getattr(path)
        self._identity.require_removable(path, self._view.parent_of(path), attr)
        entry = self._second.take(path, attr)
        if entry.file is not None and not self._fetching.is_large(entry.file):
            # Who has it open shall be able to read it to the end.
            with suppress(OSError):
                self._fetching.complete(entry.file)
        with self._overlay.lock:
            self._release_replaced(entry)
            adopter = self._adopter_of(entry)
            self._overlay.orphan(entry, hidden)
            if adopter is not None:
                self._adopt(adopter, entry)
        self._stores.cancel(entry)
        others = [each for each in (adopter, entry.link_of) if each is not None]
        self._stores.note(entry, *others)
        taker = self._overlay.shown_at_origin(entry)
        if taker is not None:
            # Made while this had another name, it would wait for the close.
            self._stores.changed(taker)

    def _end_orphan(self, hidden: str) -> None:
        entry = self._overlay.end_orphan(hidden)
        if entry is None:
            return
        if entry.busy or self._overlay.differs(entry):
            self._stores.note(entry)
            self._stores.changed(entry)
        else:
            self._stores.discard(entry)

    # -- inside --------------------------------------------------------------------------------

    def entry_at(self, path: str, attr: Attr) -> Entry:
        """Return the entry shown at *path* as *attr*, made where nothing is known of it yet."""

        def make() -> Entry:
            origin = self._overlay.locate(path)
            assert origin is not None
            if attr.kind is Kind.FILE:
                file = self._parts.content.new(attr)
                return Entry(file.ident, Kind.FILE, path, origin, file)
            ident = uuid.uuid4().hex
            return Entry(ident, attr.kind, path, origin, shown=attr, remote=attr)

        return self._overlay.add_or_get(path, make)


def _is_under_way(entry: Entry) -> bool:
    """Tell whether the cluster is being told of *entry*, or of what is renamed over it.

    So is what an earlier process began to rename: where it is has to be found out first.
    """
    both = (entry, entry.replaced_by)
    return any(each.busy or each.moving is not None for each in both if each is not None)


#: Longest text of a symlink (PATH_MAX of Linux, without its end).
_LINK_BYTES = 4095
