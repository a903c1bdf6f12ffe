"""Overlay: what was changed here and has not landed, laid over what the cluster has.

Entries change only in here, one short step at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.model import DirEntry, Kind
from firecrestfs.paths import is_below, join, name_of, split

from .entry import Change, Entry
from .order import Order


class Overlay(Order):
    """The entries of one system, and what the cluster is still to be told of them. Thread-safe."""

    # -- looking up ----------------------------------------------------------------------------

    def differs(self, entry: Entry) -> bool:
        """Tell whether *entry* shows something that the cluster doesn't have just so."""
        return bool(self.changes(entry))

    def is_needed(self, entry: Entry) -> bool:
        """Tell whether *entry* differs, or another name is to be made for it."""
        return bool(entry.links) or self.differs(entry)

    def changes(self, entry: Entry) -> list[Change]:
        """Return what the cluster is still to be told of *entry*, in order."""
        with self.lock:
            return self._changes_locked(entry)

    def local_entries(self, directory: str) -> list[DirEntry]:
        """Return the entries of *directory* that are new or changed here, or just landing."""
        with self.lock:
            names = sorted(self._names.get(directory, ()))
            entries = [self._shown[join(directory, name)] for name in names]
            return [
                DirEntry(name_of(each.path), each.attr)
                for each in entries
                if each.busy or self._changes_locked(each)
            ]

    # -- associations --------------------------------------------------------------------------

    def add(self, entry: Entry) -> None:
        """Put *entry* at its path and origin; what was shown there must have been taken away."""
        with self.lock:
            self._idents[entry.ident] = entry
            if entry.moving is not None:
                self.head(entry, entry.moving.target)
            if entry.path:
                self._show_locked(entry, entry.path)
                if entry.link_of is not None:
                    entry.link_of.links.append(entry)
            if entry.origin:
                self._settle_locked(entry, entry.origin)
            self._note_attempt_locked(entry)
            self._note_locked(entry)

    def add_or_get(self, path: str, make: Callable[[], Entry]) -> Entry:
        """Return the entry at *path*, made by *make* where there is none."""
        with self.lock:
            entry = self.entry(path)
            if entry is None:
                entry = make()
                self.add(entry)
            return entry

    def forget(self, entry: Entry) -> None:
        """Drop *entry*: nothing of it is left to be told or remembered."""
        with self.lock:
            self._hide_locked(entry)
            self._part_locked(entry)
            self._leave_locked(entry)
            self._idents.pop(entry.ident, None)
            self._odd.discard(entry.ident)
            self._forget_attempt_locked(entry)
            self.release(entry)
            if entry.replaced_by is not None:
                self.release(entry.replaced_by)
            for hidden in [key for key, each in self._orphans.items() if each is entry]:
                del self._orphans[hidden]

    def unlink(self, entry: Entry) -> None:
        """Show *entry* no more."""
        with self.lock:
            self._keep_locked(entry)
            self._hide_locked(entry)
            self._part_locked(entry)
            entry.path = ""
            self._note_locked(entry)
            self._note_attempt_locked(entry)
            self._note_heading_locked(entry)

    def move(self, entry: Entry, new: str) -> list[Entry]:
        """Show *entry*, with all below it, at *new*; return the entries that moved.

        None does where it was unlinked.
        """
        with self.lock:
            old = entry.path
            if not old:
                return []
            self._keep_locked(entry)
            moved = [each for each in self._shown.values() if is_below(each.path, old)]
            for each in moved:
                self._hide_locked(each)
            for each in moved:
                self._show_locked(each, new + each.path[len(old) :])
            for hidden in [key for key in self._orphans if is_below(key, old)]:
                self._orphans[new + hidden[len(old) :]] = self._orphans.pop(hidden)
            for each in moved:
                self._note_heading_locked(each)
            return moved

    def settle(self, entry: Entry, origin: str) -> list[Entry]:
        """Note that the cluster has *entry*, with all below it, at *origin* now ("": nowhere).

        Where a store may have left it is no question any more. Returns the entries that are, or may
        be, elsewhere.
        """
        with self.lock:
            old = entry.origin
            self._forget_attempt_locked(entry)
            entry.attempted = ""
            moved: list[Entry] = [entry]
            unsure: list[Entry] = []
            if old and origin and entry.kind is Kind.DIRECTORY:
                moved = [each for each in self._origins.values() if is_below(each.origin, old)]
                unsure = self._carry_unsure_locked(old, origin)
            for each in moved:
                self._leave_locked(each)
            for each in moved:
                end = each.origin[len(old) :] if each is not entry else ""
                if origin:
                    self._settle_locked(each, origin + end)
                else:
                    each.origin = ""
                    self._note_locked(each)
            return moved + [each for each in unsure if each not in moved]

    def _carry_unsure_locked(self, old: str, new: str) -> list[Entry]:
        """Take what may be below *old* along to *new*: stores and moves whose end isn't known."""
        carried = []
        for each in list(self._idents.values()):
            if each.attempted and is_below(each.attempted, old):
                self.attempt(each, new + each.attempted[len(old) :])
                carried.append(each)
            if each.moving is not None and is_below(each.moving.target, old):
                target = new + each.moving.target[len(old) :]
                each.moving = each.moving._replace(target=target)
                self.head(each, target)
                carried.append(each)
        return carried

    def attempt(self, entry: Entry, target: str) -> None:
        """Note that a store, whose answer is to come, may put the new *entry* at *target*."""
        with self.lock:
            self._forget_attempt_locked(entry)
            entry.attempted = target
            # It may have been unlinked a moment ago.
            self._note_attempt_locked(entry)
            self._note_locked(entry)

    def give_copy(self, entry: Entry, file: CachedFile) -> None:
        """Give *entry* another local copy, and with it another ident."""
        with self.lock:
            self._idents.pop(entry.ident, None)
            self._odd.discard(entry.ident)
            entry.ident, entry.file = file.ident, file
            self._idents[entry.ident] = entry
            self._note_locked(entry)

    # -- unlinked while open -------------------------------------------------------------------

    def orphan(self, entry: Entry, hidden: str) -> None:
        """Unlink *entry* here; it lives on as *hidden* until that is unlinked too."""
        with self.lock:
            self.unlink(entry)
            entry.held = bool(entry.origin)
            self._orphans[hidden] = entry

    def end_orphan(self, hidden: str) -> Entry | None:
        """Drop *hidden*; return the entry that it was."""
        with self.lock:
            entry = self._orphans.pop(hidden, None)
            if entry is not None:
                entry.held = entry.yielding = False
            return entry

    def make_way(self, entries: Iterable[Entry]) -> list[Entry]:
        """Let what was unlinked while open, and *entries* wait for, go or step aside; return it.

        It may stay open for days. What is all here is as good without the cluster.
        """
        with self.lock:
            waited_for = (
                each
                for entry in (entries if self._orphans else ())
                if self._changes_locked(entry)
                for each in self._blockers_locked(entry)
                if each.held
            )
            freed = list(dict.fromkeys(waited_for))
            for each in freed:
                each.held = False
                each.yielding = each.file is not None and not each.file.complete
            return freed

    def orphan_removed(self, entry: Entry) -> bool:
        """Note that the cluster has *entry* no more; tell whether it lives on, open."""
        with self.lock:
            is_open = self.is_orphaned(entry)
            if is_open:
                self.settle(entry, "")
            return is_open

    def has_ended(self, entry: Entry) -> bool:
        """Tell whether the orphan *entry* is neither open nor on the cluster any more."""
        with self.lock:
            known = self._idents.get(entry.ident) is entry
            return known and not (entry.where or self.is_orphaned(entry))

    def stepped_aside(self, entry: Entry) -> None:
        """Note that *entry* is in nobody's way any more: it stays until it is closed."""
        with self.lock:
            entry.yielding, entry.held = False, self.is_orphaned(entry)

    def is_orphan(self, path: str) -> bool:
        """Tell whether *path* is the hidden name of an open file that was unlinked."""
        return path in self._orphans

    def is_orphaned(self, entry: Entry) -> bool:
        """Tell whether *entry* was unlinked and is still open."""
        with self.lock:
            return any(each is entry for each in self._orphans.values())

    def release_orphans(self, directory: str) -> list[Entry]:
        """Let what was unlinked in *directory* be removed although it is open; return it.

        By its hidden name nobody will speak of it any more, not even when it is closed.
        """
        with self.lock:
            hidden = [
                key
                for key, each in self._orphans.items()
                if each.origin and is_below(key, directory)
            ]
            freed = [self._orphans.pop(key) for key in hidden]
            for each in freed:
                each.held = each.yielding = False
            return freed

    # -- one going over another ----------------------------------------------------------------

    def shown_at_origin(self, entry: Entry) -> Entry | None:
        """Return what is shown where the cluster would have it at the origin of *entry*."""
        with self.lock:
            origin = entry.origin or entry.attempted
            found = self._shown.get(self._place_locked(origin))
            return found if found is None or self._target_locked(found) == origin else None

    def unlinked_at(self, entry: Entry) -> Entry | None:
        """Return what was unlinked here, and is still where the cluster shall have *entry*."""
        with self.lock:
            target = self._target_locked(entry)
            there = self._unlinked_locked(target)
            return there if there is not None and there is not entry and not there.path else None

    def in_the_way(self, path: str) -> Entry | None:
        """Return what the cluster has, or may have, where *path* would be: it was taken away."""
        directory, name = split(path)
        with self.lock:
            above = self._locate_locked(directory)
            target = None if above is None else join(above, name)
            return self._heading_locked(target) or self._unlinked_locked(target)

    def replace(self, entry: Entry, there: Entry) -> None:
        """Let the move of *entry* take the place of the unlinked *there*, where it can.

        What only may be there is found out and removed first; so are directories and second names.
        """
        directory = Kind.DIRECTORY in (entry.kind, there.kind)
        with self.lock:
            if entry.origin and there.origin and not directory and there.link_of is None:
                self.release(entry)
                entry.replacing, there.replaced_by = there, entry

    def release(self, entry: Entry) -> Entry | None:
        """Let *entry* take nobody's place; return whose it would have taken."""
        with self.lock:
            there, entry.replacing = entry.replacing, None
            if there is not None:
                there.replaced_by = None
            return there

    def release_unreached(self, entry: Entry) -> None:
        """Let *entry* take nobody's place where it was renamed elsewhere before it could."""
        with self.lock:
            there = entry.replacing
            if there is None or entry.moving is not None:
                return
            if not entry.path or self._target_locked(entry) != there.origin:
                self.release(entry)

    # -- inside --------------------------------------------------------------------------------

    def _keep_locked(self, entry: Entry) -> None:
        """Add *entry* where it was clean, and has been forgotten since its caller looked it up."""
        if self._idents.get(entry.ident) is not entry:
            self.add(entry)

    def _changes_locked(self, entry: Entry) -> list[Change]:
        if not entry.path:
            gone = Change.MOVE if entry.yielding and entry.origin else Change.REMOVE
            return [gone] if entry.origin or entry.attempted else []
        if entry.link_of is not None:
            return [Change.LINK]
        found = []
        if not entry.origin and entry.file is None:
            found.append(Change.MAKE)
        elif entry.origin and (entry.moving is not None or not self._is_home_locked(entry)):
            # One that was being renamed may be elsewhere, although its name is the old one again.
            found.append(Change.MOVE)
        if entry.content_differs:
            found.append(Change.STORE)
            return found
        if entry.mode_differs:
            found.append(Change.SET)
        if entry.time_differs and entry.origin:
            found.append(Change.TOUCH)
        return found

    @staticmethod
    def _part_locked(entry: Entry) -> None:
        """Let *entry* be no second name, to be made, of another."""
        if entry.link_of is not None and entry in entry.link_of.links:
            entry.link_of.links.remove(entry)

    def _note_attempt_locked(self, entry: Entry) -> None:
        if entry.attempted and not entry.path and not entry.origin:
            self._attempts[entry.attempted].append(entry)

    def _note_heading_locked(self, entry: Entry) -> None:
        """Note whether *entry*, shown elsewhere now, is about to be at a name that it had."""
        at = entry.heading
        if self._heading_locked(at) is not entry:
            return
        if entry.path and self.planned(entry) == at:
            self._strays.discard(at)
        else:
            self._strays.add(at)

    def _forget_attempt_locked(self, entry: Entry) -> None:
        known = self._attempts.get(entry.attempted, [])
        if entry in known:
            known.remove(entry)
        if not known:
            self._attempts.pop(entry.attempted, None)
