"""Landing: carries out on the cluster what was changed here, and notes what became of it.

What the cluster refuses for good is taken back where the mount can show so without losing a byte:
a removal, a rename, a mode. What holds bytes is parked instead.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from firecrestfs.cache.cached_file import CachedFile, Snapshot
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.journal import portions
from firecrestfs.errors import ConflictError, NotAppendedError, is_transient
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, Kind, StoreItem
from firecrestfs.paths import directory_of, join, name_of
from firecrestfs.transfer.bundle import OUR_PREFIX
from firecrestfs.transfer.engine import TransferEngine, digest_of
from firecrestfs.transfer.modes import is_another
from firecrestfs.transfer.removing import Remover, Unlinked
from firecrestfs.transfer.touching import Touch, Toucher

from .entry import Change, Entry, Sent
from .hardlinks import HardLinks
from .moves import WAITS, Begun, Moves, Outcome
from .notes import Notes
from .overlay import Overlay
from .tree import RemoteTree

log = logging.getLogger(__name__)


class Landing:
    """Tells the cluster of changes, a batch of one group at a time. Thread-safe."""

    def __init__(
        self,
        tree: RemoteTree,
        overlay: Overlay,
        content: ContentCache,
        engine: TransferEngine,
        remover: Remover,
        moves: Moves,
        hardlinks: HardLinks,
        notes: Notes,
        toucher: Toucher,
    ) -> None:
        self._tree = tree
        self._overlay = overlay
        self._content = content
        self._engine = engine
        self._remover = remover
        self._moves = moves
        self._hardlinks = hardlinks
        self._notes = notes
        self._toucher = toucher
        #: Returns when all of a file is here; set later.
        self.complete: Callable[[CachedFile], None] = lambda file: None

    def run(self, entries: Sequence[Entry]) -> Outcome:
        """Carry out the next change of each of *entries*; tell what became of it.

        None: done, or nothing to do (any more); changes that are left need another run.
        """
        outcome = self._complete(entries)
        begun = self._begin([each for each in entries if each.ident not in outcome])
        try:
            for change, run in (
                (Change.REMOVE, self._remove),
                (Change.MOVE, self._moves.run),
                (Change.MAKE, self._put),
                (Change.SET, self._set),
                (Change.LINK, self._hardlinks.run),
                (Change.TOUCH, self._touch),
            ):
                batch = [each for each in begun if each.change is change]
                if batch:
                    outcome.update(run(batch))
        finally:
            with self._overlay.lock:
                for each in begun:
                    each.entry.busy = False
                    self._overlay.release_unreached(each.entry)
        for entry in [each.entry for each in begun if self._overlay.has_ended(each.entry)]:
            self._notes.drop(entry)  # it was closed while it was removed
        return outcome

    def _complete(self, entries: Sequence[Entry]) -> Outcome:
        """Fetch what is missing of files that have to go as a whole; tell what can't be had now."""
        outcome: Outcome = {}
        for entry in entries:
            file, limit = entry.file, self._tree.system.limits.upload
            if file is None or file.complete or file.tail is None:
                continue
            if file.whole_only or file.attr.size - file.tail > limit:
                try:
                    self.complete(file)
                except OSError as exc:
                    # What is no more as it was gives way to what is there: that is found out next.
                    if exc.errno not in (errno.ESTALE, errno.ENOENT):
                        outcome[entry.ident] = exc
        return outcome

    def _begin(self, entries: Sequence[Entry]) -> list[Begun]:
        """Mark those of *entries* that may go now; where they go stays so from here on."""
        begun: list[Begun] = []
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
                target = entry.where if first is Change.REMOVE else self._moves.planned(entry)
                if target is not None:
                    entry.busy = True
                    if first is not Change.REMOVE:
                        self._overlay.head(entry, target)
                    begun.append(Begun(entry, first, target))
        return begun

    # -- removing ------------------------------------------------------------------------------

    def _remove(self, begun: Sequence[Begun]) -> Outcome:
        """Remove what was unlinked, and nothing that has changed since."""
        outcome: Outcome = {}
        for each in begun:
            try:
                self._engine.large.given_up.require_over(each.target, unlinked=True)
                self._moves.find(each.entry)
            except OSError as exc:
                # It may be under either name.
                outcome[each.entry.ident] = exc
        # What was renamed over, as was found out now, is gone.
        known = [(each.entry, self._overlay.by_ident(each.entry.ident)) for each in begun]
        entries = [entry for entry, now in known if now is entry and entry.ident not in outcome]
        wanted = [
            Unlinked(each.where, each.kind, each.base, each.sent, each.torn, each.text)
            for each in entries
        ]
        results = self._remover.remove(list({each.path: each for each in wanted}.values()))
        for entry, gone in zip(entries, wanted, strict=True):
            outcome[entry.ident] = self._removed(entry, gone.path, results[gone.path])
        return outcome

    def _removed(self, entry: Entry, where: str, failure: OSError | None) -> OSError | None:
        if failure is not None and (is_transient(failure) or failure.errno in WAITS):
            return failure
        if failure is not None and name_of(where).startswith(OUR_PREFIX):
            # It had stepped aside for another: under that name nobody would ever see it.
            return failure
        if failure is None:
            # First this: what is known no more is looked for in the tree.
            self._tree.changed(where, None)
            self._gone(entry)
        else:
            # It is shown again.
            self._gone(entry)
            self._tree.refresh(where)
            # What others have changed since stays, as it shall; else it is a refusal.
            stays = failure.errno in (errno.ESTALE, errno.ENOTEMPTY)
            tell = self._notes.report if stays else self._notes.refused
            tell(where, f"not removed: {failure.strerror}")
        return None

    def _gone(self, entry: Entry) -> None:
        """Forget what was unlinked; whoever has it open, under a hidden name, goes on with it."""
        if self._overlay.orphan_removed(entry):
            self._notes.write_down(entry)
        else:
            self._notes.drop(entry)

    # -- making and storing --------------------------------------------------------------------

    def _put(self, batch: Sequence[Begun]) -> Outcome:
        outcome: Outcome = {}
        begun: list[tuple[Entry, Snapshot | None]] = []
        items: list[StoreItem] = []
        for each in sorted(batch, key=lambda each: each.target):
            entry = each.entry
            try:
                item, snapshot = self._item(len(items), entry, each.target)
            except OSError as exc:
                outcome[entry.ident] = exc
                continue
            if item is not None:
                items.append(item)
                begun.append((entry, snapshot))
        for some in portions([entry for entry, _ in begun]):
            self._notes.write_down(*some)
        reach("store.begun")
        results = self._engine.store(items)
        for item, (entry, snapshot) in zip(items, begun, strict=True):
            outcome[entry.ident] = self._landed(entry, item, snapshot, results[item.key])
        return outcome

    def _item(
        self, key: int, entry: Entry, target: str
    ) -> tuple[StoreItem | None, Snapshot | None]:
        """Return what the engine shall store for *entry*, None where there is nothing."""
        if entry.file is None:
            assert entry.shown is not None
            mtime_ns = entry.shown.mtime_ns
            mode = entry.wanted_mode if entry.kind is Kind.DIRECTORY else None
            self._overlay.attempt(entry, target)
            exact = entry.exact_mode
            item = StoreItem(key, target, b"", mode, exact, mtime_ns=mtime_ns, kind=entry.kind)
            return replace(item, link=entry.text, inherits=entry.inherits), None
        snapshot = entry.file.begin_store(self._tree.system.limits.upload)
        if snapshot is None:
            return None, None
        earlier = tuple(entry.sent)
        if snapshot.base is None:
            self._overlay.attempt(entry, target)
        if snapshot.local is None:
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
                torn=entry.torn,
                inherits=entry.inherits,
                local=snapshot.local,
                ident=entry.ident,
                tail=snapshot.tail,
                whole=snapshot.whole,
                anew=entry.anew,
            ),
            snapshot,
        )

    def _landed(
        self, entry: Entry, item: StoreItem, snapshot: Snapshot | None, result: Attr | OSError
    ) -> OSError | None:
        path = item.path
        if isinstance(result, ConflictError) and result.attr is None:
            self._yielded(entry, result, item)
            return None
        if isinstance(result, ConflictError):
            self._notes.report(path, str(result.strerror))
            self._tree.forget(path)
            if entry.path:
                # The copy is the conflict copy from now on: who still writes it writes that.
                shown = join(directory_of(entry.path), name_of(result.landed_as))
                self._moves.show_at(entry, shown)
            path, result = result.landed_as, result.attr or result
        if isinstance(result, OSError):
            if entry.file is not None:
                entry.file.store_failed()
                if isinstance(result, NotAppendedError):
                    entry.file.whole_only = True
                if getattr(result, "ambiguous", False) and item.local is None:
                    # Some beginning of it may be there now, whatever is written here meanwhile.
                    entry.torn = item.data
                return result
            return self._not_made(entry, result)
        entry.sent, entry.torn, entry.anew = (), b"", False
        self._overlay.settle(entry, path)
        if snapshot is not None and snapshot.base is None:
            # It may have been renamed before it was stored.
            self._tree.keep_inode(path, entry.attr.inode)
        if entry.kind is Kind.SYMLINK:
            result = replace(result, target=item.link)
        if entry.kind is Kind.DIRECTORY:
            self._tree.made_directory(path, result)
        else:
            self._tree.changed(path, result)
        if entry.file is None:
            self._has_landed(entry, item, self._tree.localised(path, result))
        elif snapshot is not None:
            reach("store.proven")
            entry.file.stored(snapshot, self._tree.localised(path, result))
            reach("store.landed")
        self._notes.tidy(entry)
        return None

    def _has_landed(self, entry: Entry, item: StoreItem, remote: Attr) -> None:
        """Note that the directory or link *entry* is *remote* now; it may be changing again."""
        with self._overlay.lock:
            if entry.wanted_mode in (item.mode, remote.mode & 0o7777):
                # Asked for anew meanwhile, the same bits are wanted for sure.
                again = entry.exact_mode and not item.exact_mode
                if not again or entry.wanted_mode == remote.mode & 0o7777:
                    entry.wanted_mode, entry.exact_mode = None, False
            entry.landed(remote)

    def _yielded(self, entry: Entry, conflict: ConflictError, item: StoreItem) -> None:
        """Show theirs again; ours goes to lost+found."""
        kept = None
        if entry.file is not None:
            entry.file.store_failed()
            name = name_of(entry.where)
            # What there is nothing any more to append to hasn't been given up by anybody.
            kept = self._content.keep_discarded(entry.file, name, discarded=item.whole)
        self._notes.report(entry.where, f"{conflict.strerror}; yours is kept as {kept}")
        self._tree.forget(entry.where)
        self._notes.drop(entry)

    def _not_made(self, entry: Entry, exc: OSError) -> OSError | None:
        """A directory or link was refused: show it no more, unless something waits for it."""
        needed = any(each is not entry for each in self._overlay.below(entry.path))
        if is_transient(exc) or exc.errno in WAITS or needed or not entry.path:
            return exc
        path = entry.path
        self._notes.drop(entry)
        self._tree.forget(path)
        self._notes.refused(path, f"not made: {exc.strerror}")
        return None

    # -- modes ---------------------------------------------------------------------------------

    def _set(self, begun: Sequence[Begun]) -> Outcome:
        outcome: Outcome = {}
        for entry in (each.entry for each in begun):
            mode = entry.file.wanted[0] if entry.file is not None else entry.wanted_mode
            if mode is None:
                continue
            try:
                after = self._engine.chmod(entry.origin, mode)
            except OSError as exc:
                outcome[entry.ident] = self._not_set(entry, exc)
                continue
            if entry.base is not None and is_another(entry.base, after):
                self._notes.report(entry.where, "another file there got the mode by chmod")
            if entry.file is not None:
                entry.file.given_mode(mode, self._tree.localised(entry.origin, after))
            else:
                with self._overlay.lock:
                    entry.wanted_mode = None if entry.wanted_mode == mode else entry.wanted_mode
                    entry.landed(self._tree.localised(entry.origin, after))
            self._tree.changed(entry.origin, after)
            self._notes.tidy(entry)
            outcome[entry.ident] = None
        return outcome

    def _not_set(self, entry: Entry, exc: OSError) -> OSError | None:
        if is_transient(exc):
            return exc
        if entry.file is not None:
            entry.file.take_back_mode()
        elif entry.remote is not None:
            with self._overlay.lock:
                entry.wanted_mode = None
                entry.landed(entry.remote)
        # It may have been given all the same.
        self._tree.forget(entry.origin)
        self._notes.refused(entry.path, f"its mode was not changed: {exc.strerror}")
        return None

    def forget_strays(self) -> None:
        """End jobs whose times nobody wants any more. Raises the first failure."""
        self._toucher.sweep(
            lambda: {each.origin for each in self._overlay.all() if each.time_differs}
        )

    # -- times ---------------------------------------------------------------------------------

    def _touch(self, begun: Sequence[Begun]) -> Outcome:
        wanted: dict[str, Touch] = {}
        for entry in (each.entry for each in begun):
            file = entry.file
            if file is not None and file.base is not None and file.wanted[2] is not None:
                wanted[entry.ident] = Touch(entry.origin, file.base, file.wanted[2])
        results = self._toucher.touch(list(wanted.values()))
        outcome: Outcome = {}
        for entry in (each.entry for each in begun):
            touch = wanted.get(entry.ident)
            if touch is not None:
                outcome[entry.ident] = self._touched(entry, touch, results[touch.path])
        return outcome

    def _touched(self, entry: Entry, touch: Touch, result: Attr | OSError) -> OSError | None:
        assert entry.file is not None
        if isinstance(result, OSError):
            if is_transient(result):
                return result
            entry.file.take_back_time()
            self._tree.forget(touch.path)
            self._notes.report(entry.where, f"its time was not changed: {result.strerror}")
            return None
        if entry.origin == touch.path:
            entry.file.given_time(touch.mtime_ns, self._tree.localised(touch.path, result))
            self._tree.changed(touch.path, result)
        return None
