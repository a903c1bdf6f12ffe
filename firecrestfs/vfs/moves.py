"""Moves: renames on the cluster what was renamed here.

What the cluster refuses for good gets its old name back; where another file has taken the new one,
ours gets a name of its own: both survive.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from firecrestfs.errors import is_transient
from firecrestfs.model import Attr, Kind
from firecrestfs.paths import name_of
from firecrestfs.transfer.bundle import OUR_PREFIX
from firecrestfs.transfer.modes import conflict_path
from firecrestfs.transfer.moving import Expected, Mover, OneFileError

from .entry import Change, Entry, Moving
from .identity import Identity
from .notes import Notes
from .overlay import Overlay
from .tree import RemoteTree

Outcome = dict[str, OSError | None]
#: Refusals after which what could not be removed or renamed may go later.
WAITS = frozenset({errno.EDQUOT, errno.ENOSPC, errno.EROFS})


class Begun(NamedTuple):
    """What the cluster is being told of one entry."""

    entry: Entry
    change: Change
    target: str  # where on the cluster


class Moves:
    """Carries out the renames of one system. Thread-safe; waits for the network."""

    def __init__(
        self, tree: RemoteTree, identity: Identity, overlay: Overlay, mover: Mover, notes: Notes
    ) -> None:
        self._tree = tree
        self._identity = identity
        self._overlay = overlay
        self._mover = mover
        self._notes = notes

    def run(self, begun: Sequence[Begun]) -> Outcome:
        """Rename each of *begun* on the cluster; tell what became of it."""
        outcome: Outcome = {}
        for entry, _, target in begun:
            try:
                outcome[entry.ident] = self._move_one(entry, target)
            except OSError as exc:
                outcome[entry.ident] = self._move_failed(entry, exc)
        return outcome

    def planned(self, entry: Entry) -> str | None:
        """Return where *entry* will be: what was unlinked while open steps aside for another."""
        return self._overlay.planned(entry) if entry.path else self._mover.aside(entry.origin)

    def _move_one(self, entry: Entry, target: str) -> OSError | None:
        if entry.moving is not None and entry.moving.target != target:
            # First it is written down where it is: the next try may not be heard of, either.
            # What is left to do goes after whatever is in its way from there.
            self.find(entry)
            return None
        if entry.origin == target:
            return None
        there = self._overlay.by_origin(target)
        replacing = entry.replacing if there is entry.replacing else None
        if there is not None and replacing is None:
            # Two that take each other's names: one steps aside first.
            self.find(entry)
            target = self._mover.aside(target)
        old = entry.origin
        expected = (
            None if replacing is None else Expected(replacing.base, replacing.sent, replacing.torn)
        )

        def begin(source: Attr) -> None:
            entry.moving = Moving(target, source.dev, source.ino)
            self._notes.write_down(entry)

        try:
            after = self._mover.move(old, target, entry.kind, expected, entry.moving, begin)
        except OneFileError:
            self._leave_both(entry, target)
        except FileExistsError:
            self._move_beside(entry)
        except FileNotFoundError:
            self._vanished(entry)
        else:
            self._moved(entry, old, target, after)
        return None

    def _moved(self, entry: Entry, old: str, target: str, after: Attr) -> None:
        entry.moving = None
        self._overlay.release(entry)
        self._take_target(entry, target)
        # First this: from the next step on it is looked for under its new name.
        if entry.kind is Kind.DIRECTORY:
            self._tree.refresh(target)
        if entry.kind is Kind.SYMLINK:
            self._tree.forget(target)
        else:
            self._tree.changed(target, after)
        with self._overlay.lock:
            # In one step: nobody shall find it under its old name in between.
            moved = self._overlay.settle(entry, target)
            self._tree.changed(old, None)
            if entry.yielding:
                self._overlay.stepped_aside(entry)
        self._adopt(entry, self._tree.localised(target, after))
        self._notes.write_down(*moved)
        self._notes.tidy(entry)

    def _take_target(self, entry: Entry, target: str) -> None:
        """Forget the unlinked file that *entry* has replaced at *target*."""
        there = self._overlay.by_origin(target)
        if there is not None and there is not entry and not there.path:
            self._notes.drop(there)

    def show_at(self, entry: Entry, path: str) -> list[Entry]:
        """Show *entry* at *path*, with its number; return what moved with it."""
        old = entry.path
        moved = self._overlay.move(entry, path)
        self._identity.move_inode(old, path, tree=entry.kind is Kind.DIRECTORY)
        return moved

    def find(self, entry: Entry) -> None:
        """Find out where a file is that went elsewhere, or away, while it was being renamed."""
        moving, old = entry.moving, entry.origin
        if moving is None:
            return
        if entry.kind is Kind.DIRECTORY:
            self._mover.call_off(old, moving.target)
        where, now = self._mover.find(old, moving)
        entry.moving = None
        entry.unheard = moving if where == old and entry.kind is Kind.DIRECTORY else None
        if where != old:
            self._take_target(entry, where)
        replaced = entry.replacing
        if replaced is not None and replaced.origin != self._overlay.target(entry):
            # It was renamed over that, and has not replaced it.
            self._overlay.release(entry)
        for path in (old, where):
            self._tree.refresh(path)
        moved = self._overlay.settle(entry, where)
        if now is not None and now.kind is entry.kind:
            self._adopt(entry, self._tree.localised(where, now))
        self._notes.write_down(*moved)

    @staticmethod
    def _adopt(entry: Entry, now: Attr) -> None:
        if entry.file is not None:
            entry.file.adopt(now)
        else:
            entry.landed(now)

    def _move_beside(self, entry: Entry) -> None:
        """Something that was not known here has the name: ours gets another, both survive."""
        path = entry.path
        if not path:
            # It was unlinked meanwhile.
            return
        name = conflict_path(path)
        self._notes.report(
            path, f"the name is taken on the cluster; yours is kept as {name_of(name)}"
        )
        self._tree.forget(path)
        self._notes.write_down(*self.show_at(entry, name))

    def _leave_both(self, entry: Entry, target: str) -> None:
        """Both names are one file on the cluster: both stay, and are shown again.

        But for one that was unlinked meanwhile, under the new name. What that was given since, or
        will be by who has it open, goes into the file.
        """
        replaced, origin = self._overlay.release(entry), entry.origin
        if replaced is not None and entry.path:
            self._notes.drop(replaced)
        entry.moving = None
        if entry.path and entry.file is not None:
            self._overlay.settle(entry, target)
            self._notes.write_down(entry)
        else:
            self._notes.drop(entry)
        self._tree.forget(origin)
        self._tree.forget(target)

    def _vanished(self, entry: Entry) -> None:
        """What was renamed here is no more on the cluster: only bytes that are here remain.

        They take the name, as those of a new file would. Without any the rename has failed.
        """
        if self._has_run_late(entry):
            return
        path, replaced = entry.path, self._overlay.release(entry)
        entry.moving = None
        self._tree.refresh(entry.origin)
        if entry.content_differs and entry.file is not None:
            self._overlay.settle(entry, "")
            entry.file.rebase(None, entry.file.attr.inode)
            if replaced is not None:
                self._take_over(entry, replaced)
            return
        if not path:
            # It was unlinked meanwhile, and with it what it was renamed over.
            self._notes.drop(entry)
            return
        if replaced is not None:
            # Shown again: whoever waits for its removal waits in vain.
            self._tree.refresh(replaced.origin)
            self._notes.drop(replaced)
        self._notes.drop(entry)
        self._notes.report(path, "it was renamed here, but is no more on the cluster")

    def _has_run_late(self, entry: Entry) -> bool:
        """Tell whether *entry* is where a job of which nobody had heard has put it since.

        What is left to do goes on from there.
        """
        old = entry.origin
        if entry.unheard is not None:
            entry.moving = entry.unheard
            self.find(entry)
            entry.unheard = None
        return entry.origin != old

    def _take_over(self, entry: Entry, replaced: Entry) -> None:
        """Let the bytes of *entry* be stored into what it was renamed over."""
        base, origin = replaced.base, replaced.origin
        with self._overlay.lock:
            self._overlay.settle(replaced, "")
            self._overlay.settle(entry, origin)
        entry.sent, entry.torn, entry.anew = replaced.sent, replaced.torn, True
        assert entry.file is not None
        entry.file.rebase(base, entry.file.attr.inode)
        self._notes.write_down(entry, replaced)
        if not self._overlay.is_orphaned(replaced):
            self._notes.drop(replaced)

    def _move_failed(self, entry: Entry, exc: OSError) -> OSError | None:
        if is_transient(exc) or exc.errno in WAITS or entry.content_differs or entry.yielding:
            return exc
        path, origin = entry.path, entry.origin
        if not path:
            # It was unlinked meanwhile: wherever it is now, it is to be removed there.
            return None
        if name_of(origin).startswith(OUR_PREFIX) or self._overlay.entry(origin) is not None:
            # It stepped aside for another, which has that name by now or is about to.
            return exc
        entry.moving = None
        # Shown under its old name again; what it was renamed over is there as well.
        replaced = self._overlay.release(entry)
        moved = self.show_at(entry, origin)
        if replaced is not None:
            self._notes.drop(replaced)
        self._tree.forget(path)
        self._notes.write_down(*moved)
        self._notes.tidy(entry)
        self._notes.refused(path, f"not renamed: {exc.strerror}; back at its old name: {origin}")
        return None
