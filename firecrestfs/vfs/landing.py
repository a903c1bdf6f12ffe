"""Landing: carries out on the cluster what was changed here, and notes what became of it.

What the cluster refuses for good is taken back where the mount can show so without losing a byte:
a removal, a rename, a mode. What holds bytes is parked instead.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from firecrestfs.cache.cached_file import Snapshot
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.metadata import join, split
from firecrestfs.errors import ConflictError, is_transient
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, Kind, StoreItem
from firecrestfs.transfer.engine import TransferEngine, digest_of
from firecrestfs.transfer.moving import Mover, OneFileError
from firecrestfs.transfer.removing import Remover, Unlinked

from .entry import Change, Entry, Moving, Sent
from .identity import Identity
from .overlay import Overlay
from .tree import RemoteTree

log = logging.getLogger(__name__)

Outcome = dict[str, OSError | None]
#: Refusals after which what could not be removed or renamed may go later.
_WAITS = frozenset({errno.EDQUOT, errno.ENOSPC, errno.EROFS})


class Landing:
    """Tells the cluster of changes, a batch of one group at a time. Thread-safe."""

    def __init__(
        self,
        tree: RemoteTree,
        identity: Identity,
        overlay: Overlay,
        content: ContentCache,
        engine: TransferEngine,
        mover: Mover,
        remover: Remover,
        report: Callable[[str, str], None],
    ) -> None:
        self._tree = tree
        self._identity = identity
        self._overlay = overlay
        self._content = content
        self._engine = engine
        self._mover = mover
        self._remover = remover
        self.report = report  # tells the user of a path and what is wrong with it
        self.write_down: Callable[..., None] = lambda *entries: None  # into the journal

    def run(self, entries: Sequence[Entry]) -> Outcome:
        """Carry out the next change of each of *entries*; tell what became of it.

        None: done, or nothing to do (any more); changes that are left need another run.
        """
        begun = self._begin(entries)
        outcome: Outcome = {}
        try:
            for change, run in (
                (Change.REMOVE, self._remove),
                (Change.MOVE, self._move),
                (Change.MAKE, self._put),
                (Change.SET, self._set),
            ):
                batch = [entry for entry, first in begun if first is change]
                if batch:
                    outcome.update(run(batch))
        finally:
            with self._overlay.lock:
                for entry, _ in begun:
                    entry.busy = False
        return outcome

    def _begin(self, entries: Sequence[Entry]) -> list[tuple[Entry, Change]]:
        """Mark those of *entries* that may go now, each with what is to be done first."""
        begun: list[tuple[Entry, Change]] = []
        with self._overlay.lock:
            going = {entry.ident for entry in entries}
            for entry in entries:
                changes = self._overlay.changes(entry)
                gone = self._overlay.by_ident(entry.ident) is not entry or entry.held
                if gone or not changes or entry.busy:
                    continue
                if any(each.ident not in going for each in self._overlay.blockers(entry)):
                    continue
                first = Change.MAKE if changes[0] is Change.STORE else changes[0]
                entry.busy = True
                begun.append((entry, first))
        return begun

    # -- removing ------------------------------------------------------------------------------

    def _remove(self, entries: Sequence[Entry]) -> Outcome:
        """Remove what was unlinked, and nothing that has changed since."""
        for entry in entries:
            if entry.moving is not None:
                self._find(entry, entry.moving)
        wanted = {
            entry.where: Unlinked(entry.where, entry.kind, entry.base, entry.sent)
            for entry in entries
        }
        results = self._remover.remove(list(wanted.values()))
        outcome: Outcome = {}
        for entry in entries:
            outcome[entry.ident] = self._removed(entry, results[entry.where])
        return outcome

    def _removed(self, entry: Entry, failure: OSError | None) -> OSError | None:
        where = entry.where
        if failure is not None and (is_transient(failure) or failure.errno in _WAITS):
            return failure
        self._drop(entry)
        if failure is None:
            self._tree.changed(where, None)
        else:
            # It is shown again.
            self._tree.refresh(where)
            self.report(where, f"not removed: {failure.strerror}")
        return None

    def _drop(self, entry: Entry) -> None:
        self._overlay.forget(entry)
        self.write_down(entry)
        if entry.file is not None and not entry.file.opens:
            self._content.drop(entry.file)

    # -- renaming ------------------------------------------------------------------------------

    def _move(self, entries: Sequence[Entry]) -> Outcome:
        outcome: Outcome = {}
        for entry in entries:
            try:
                outcome[entry.ident] = self._move_one(entry)
            except OSError as exc:
                outcome[entry.ident] = self._move_failed(entry, exc)
        return outcome

    def _move_one(self, entry: Entry) -> OSError | None:
        old, target = entry.origin, self._overlay.target(entry)
        if target is None or target == old:
            return None
        there = self._overlay.by_origin(target)
        replacing = entry.replacing if there is entry.replacing else None
        if there is not None and replacing is None:
            # Two that take each other's names: one steps aside first.
            target, expected = self._mover.aside(target), None
        else:
            expected = replacing.base if replacing is not None else None

        def begin(source: Attr) -> None:
            entry.moving = Moving(target, source.dev, source.ino)
            self.write_down(entry)

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
        moved = self._overlay.settle(entry, target)
        self._identity.move_inode(old, target, tree=entry.kind is Kind.DIRECTORY)
        self._tree.changed(old, None)
        if entry.kind is Kind.DIRECTORY:
            self._tree.refresh(target)
        if entry.kind is Kind.SYMLINK:
            self._tree.forget(target)
        else:
            self._tree.changed(target, after)
        if entry.file is not None:
            entry.file.adopt(self._tree.localised(target, after))
        else:
            entry.landed(self._tree.localised(target, after))
        self.write_down(*moved)
        self._tidy(entry)

    def _take_target(self, entry: Entry, target: str) -> None:
        """Forget the unlinked file that *entry* has replaced at *target*."""
        there = self._overlay.by_origin(target)
        if there is not None and there is not entry and not there.path:
            self._drop(there)

    def _find(self, entry: Entry, moving: Moving) -> None:
        """Find out where a file is that was unlinked while it was being renamed."""
        with suppress(OSError):
            where = self._mover.find(entry.origin, moving)
            if where != entry.origin:
                self._take_target(entry, where)
                self._overlay.settle(entry, where)
            entry.moving = None

    def _move_beside(self, entry: Entry) -> None:
        """Something that was not known here has the name: ours gets another, both survive."""
        name = _conflict_name(entry.path)
        self.report(
            entry.path, f"the name is taken on the cluster; yours is kept as {split(name)[1]}"
        )
        self._tree.forget(entry.path)
        self.write_down(*self._overlay.move(entry, name))

    def _leave_both(self, entry: Entry, target: str) -> None:
        """Both names are one file on the cluster: both stay, and are shown again."""
        replaced, origin = self._overlay.release(entry), entry.origin
        for each in (entry, replaced):
            if each is not None:
                self._drop(each)
        self._tree.forget(origin)
        self._tree.forget(target)

    def _vanished(self, entry: Entry) -> None:
        """What was renamed here is no more on the cluster: only bytes that are here remain."""
        path = entry.path
        if entry.content_differs and entry.file is not None:
            self._overlay.settle(entry, "")
            entry.file.rebase(None, entry.file.attr.inode)
        else:
            self._tree.refresh(entry.origin)
            self._drop(entry)
            self.report(path, "it was renamed here, but is no more on the cluster")

    def _move_failed(self, entry: Entry, exc: OSError) -> OSError | None:
        if is_transient(exc) or exc.errno in _WAITS or entry.content_differs:
            return exc
        path, origin = entry.path, entry.origin
        entry.moving = None
        if self._overlay.entry(origin) is not None:
            return exc
        # Shown under its old name again; what it was renamed over is there as well.
        replaced = self._overlay.release(entry)
        moved = self._overlay.move(entry, origin)
        if replaced is not None:
            self._drop(replaced)
        self._tree.forget(path)
        self.write_down(*moved)
        self._tidy(entry)
        self.report(path, f"not renamed: {exc.strerror}; it has its old name again: {origin}")
        return None

    # -- making and storing --------------------------------------------------------------------

    def _put(self, entries: Sequence[Entry]) -> Outcome:
        outcome: Outcome = {}
        begun: list[tuple[Entry, Snapshot | None]] = []
        items: list[StoreItem] = []
        for entry in sorted(entries, key=lambda each: each.path):
            try:
                item, snapshot = self._item(len(items), entry)
            except OSError as exc:
                outcome[entry.ident] = exc
                continue
            if item is not None:
                items.append(item)
                begun.append((entry, snapshot))
        self.write_down(*(entry for entry, _ in begun))
        reach("store.begun")
        results = self._engine.store(items)
        for item, (entry, snapshot) in zip(items, begun, strict=True):
            outcome[entry.ident] = self._landed(entry, item, snapshot, results[item.key])
        return outcome

    def _item(self, key: int, entry: Entry) -> tuple[StoreItem | None, Snapshot | None]:
        """Return what the engine shall store for *entry*, None where there is nothing."""
        target = self._overlay.target(entry) or self._planned(entry)
        if entry.file is None:
            assert entry.shown is not None
            mtime_ns = entry.shown.mtime_ns
            mode = entry.wanted_mode if entry.kind is Kind.DIRECTORY else None
            item = StoreItem(key, target, b"", mode, mtime_ns=mtime_ns, kind=entry.kind)
            return replace(item, link=entry.text, inherits=entry.inherits), None
        snapshot = entry.file.begin_store()
        if snapshot is None:
            return None, None
        earlier = tuple(entry.sent)
        if snapshot.base is None:
            entry.attempted = target
        entry.sent = (*earlier, Sent(len(snapshot.data), digest_of(snapshot.data)))[-4:]
        return (
            StoreItem(
                key,
                target,
                snapshot.data,
                snapshot.mode,
                snapshot.exact_mode,
                snapshot.mtime_ns,
                snapshot.base,
                written_ns=entry.file.attr.mtime_ns,
                sent=earlier,
            ),
            snapshot,
        )

    def _planned(self, entry: Entry) -> str:
        """Return where *entry* will be once the directories above it are made, too."""
        top = self._overlay.topmost_new(entry)
        above = self._overlay.target(top)
        assert above is not None
        return above + entry.path[len(top.path) :]

    def _landed(
        self, entry: Entry, item: StoreItem, snapshot: Snapshot | None, result: Attr | OSError
    ) -> OSError | None:
        path = item.path
        if isinstance(result, ConflictError):
            self.report(path, str(result.strerror))
            self._tree.forget(path)
            if entry.path:
                # The copy is the conflict copy from now on: who still writes it writes that.
                shown = join(split(entry.path)[0], split(result.landed_as)[1])
                self._overlay.move(entry, shown)
            path, result = result.landed_as, result.attr
        if isinstance(result, OSError):
            if entry.file is not None:
                entry.file.store_failed()
                return result
            return self._not_made(entry, result)
        entry.sent, entry.attempted = (), ""
        self._overlay.settle(entry, path)
        if entry.kind is Kind.SYMLINK:
            result = replace(result, target=item.link)
        if entry.kind is Kind.DIRECTORY:
            self._tree.made_directory(path, result)
        else:
            self._tree.changed(path, result)
        if entry.file is None:
            if entry.wanted_mode == result.mode & 0o7777:
                entry.wanted_mode = None
            entry.landed(self._tree.localised(path, result))
            if entry.wanted_mode == item.mode:
                entry.wanted_mode = None
        elif snapshot is not None:
            reach("store.proven")
            entry.file.stored(snapshot, self._tree.localised(path, result))
        self._tidy(entry)
        return None

    def _not_made(self, entry: Entry, exc: OSError) -> OSError | None:
        """A directory or link was refused: show it no more, unless something waits for it."""
        needed = any(each is not entry for each in self._overlay.below(entry.path))
        if is_transient(exc) or exc.errno in _WAITS or needed or not entry.path:
            return exc
        path = entry.path
        self._drop(entry)
        self._tree.forget(path)
        self.report(path, f"not made: {exc.strerror}")
        return None

    # -- modes ---------------------------------------------------------------------------------

    def _set(self, entries: Sequence[Entry]) -> Outcome:
        outcome: Outcome = {}
        for entry in entries:
            mode = entry.file.wanted[0] if entry.file is not None else entry.wanted_mode
            if mode is None:
                continue
            try:
                after = self._engine.chmod(entry.origin, mode)
            except OSError as exc:
                outcome[entry.ident] = self._not_set(entry, exc)
                continue
            if entry.file is not None:
                entry.file.given_mode(mode, self._tree.localised(entry.origin, after))
            else:
                entry.wanted_mode = None if entry.wanted_mode == mode else entry.wanted_mode
                entry.landed(self._tree.localised(entry.origin, after))
            self._tree.changed(entry.origin, after)
            self._tidy(entry)
            outcome[entry.ident] = None
        return outcome

    def _not_set(self, entry: Entry, exc: OSError) -> OSError | None:
        if is_transient(exc):
            return exc
        if entry.file is not None:
            entry.file.take_back_mode()
        elif entry.remote is not None:
            entry.wanted_mode = None
            entry.landed(entry.remote)
        self.report(entry.path, f"its mode was not changed: {exc.strerror}")
        return None

    def _tidy(self, entry: Entry) -> None:
        """Forget what needs no remembering: a directory that is as the cluster has it."""
        plain = entry.kind is Kind.DIRECTORY and not entry.times_given
        if plain and not self._overlay.differs(entry):
            self._overlay.forget(entry)


def _conflict_name(path: str) -> str:
    return f"{path}.conflict-{socket.gethostname()}-{time.strftime('%Y%m%d-%H%M%S')}"
