"""Order: of which entries the cluster is told before others, and where that will leave them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from firecrestfs.model import Kind
from firecrestfs.paths import is_below

from .entry import Entry
from .places import Places


class Order(Places):
    """What waits for what among the entries of one system. Thread-safe (the tree lock)."""

    def planned(self, entry: Entry) -> str | None:
        """Return where *entry* will be once the directories above it are made, None: nowhere."""
        with self.lock:
            top = self.topmost_new(entry)
            above = self._target_locked(top)
            return None if above is None else above + entry.path[len(top.path) :]

    def new_parent(self, entry: Entry) -> Entry | None:
        """Return the nearest directory above *entry* that the cluster doesn't have yet."""
        with self.lock:
            for above in self._ancestors_locked(entry.path):
                if above.kind is Kind.DIRECTORY:
                    return above if not above.origin else None
            return None

    def ungiven_modes(self, path: str) -> list[Entry]:
        """Return *path* and the directories above it whose modes are still to be set."""
        with self.lock:
            known = self._shown.get(path)
            chain = [*([known] if known is not None else []), *self._ancestors_locked(path)]
            return [each for each in chain if each.origin and each.mode_differs]

    def topmost_new(self, entry: Entry) -> Entry:
        """Return the uppermost of *entry* and the directories above it that are to be made."""
        with self.lock:
            top = entry
            parent = self.new_parent(entry)
            while parent is not None:
                top, parent = parent, self.new_parent(parent)
            return top

    def topmost_removed(self, entry: Entry) -> Entry:
        """Return the uppermost of the unlinked *entry* and the unlinked directories above it."""
        with self.lock:
            unlinked = (each for each in self._origins_above_locked(entry.origin) if not each.path)
            return [entry, *unlinked][-1]

    def blockers(self, entry: Entry) -> list[Entry]:
        """Return the entries of which the cluster must be told before, or with it, of *entry*."""
        with self.lock:
            return list(self._blockers_locked(entry))

    def with_blockers(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return *entries* with all of which the cluster must be told before them."""
        found = {each.ident: each for each in entries}
        waiting = list(found.values())
        while waiting:
            for each in self.blockers(waiting.pop()):
                if each.ident not in found:
                    found[each.ident] = each
                    waiting.append(each)
        return list(found.values())

    # -- inside --------------------------------------------------------------------------------

    def _blockers_locked(self, entry: Entry) -> Iterator[Entry]:
        # Directories that are being renamed, or may have been, and in which the cluster has it.
        above_it = self._origins_above_locked(entry.origin or entry.attempted or "/")
        yield from (each for each in above_it if each.busy or each.moving is not None)
        if not entry.path:
            yield from self._removal_blockers_locked(entry)
            return
        if entry.moving is not None and entry.moving.target != self.planned(entry):
            # It was on its way elsewhere: to find out where it is it waits for nobody else, some of
            # whom may wait for that.
            return
        for above in self._ancestors_locked(entry.path):
            if above.busy or above.moving is not None or not above.origin:
                yield above
        yield from (each for each in entry.links if each.busy)
        source = entry.link_of
        if source is not None and (source.busy or not self._is_home_locked(source)):
            yield source
        if entry.kind is Kind.DIRECTORY:
            for each in self._idents.values():
                if each is not entry and each.busy and self._touches(each, entry):
                    yield each
        target = self._target_locked(entry)
        heading = self._heading_locked(target)
        if heading is not None and heading is not entry:
            yield heading
        there = self._unlinked_locked(target)
        if there is None or there is entry or there is entry.replacing:
            return
        if not self._is_cycle_locked(entry, there):
            yield there

    def _removal_blockers_locked(self, entry: Entry) -> Iterator[Entry]:
        """A directory goes after what was renamed out of it, and after stores into it.

        What was unlinked in it goes before, or along.
        """
        if entry.replaced_by is not None:
            yield entry.replaced_by
        heading = self._heading_locked(entry.origin)
        if heading is not None and heading is not entry:
            yield heading
        if entry.kind is not Kind.DIRECTORY or not entry.origin:
            return
        for each in self._idents.values():
            going = each.heading if each.busy else ""
            at = [where for where in (each.origin, each.attempted, going) if where]
            inside = each is not entry and any(is_below(where, entry.origin) for where in at)
            if inside and (each.busy or each.held or each.origin or not each.path):
                yield each

    def _is_cycle_locked(self, entry: Entry, there: Entry) -> bool:
        """Tell whether *there*, which is in the way of *entry*, waits for *entry* in turn."""
        seen = set()
        while there.path and there.ident not in seen:
            seen.add(there.ident)
            target = self._target_locked(there)
            following = self._origins.get(target) if target is not None else None
            if following is entry:
                return True
            if following is None or following is there:
                return False
            there = following
        return False

    @staticmethod
    def _touches(each: Entry, directory: Entry) -> bool:
        return bool(
            (each.path and is_below(each.path, directory.path))
            or (each.origin and directory.origin and is_below(each.origin, directory.origin))
        )

    def _unlinked_locked(self, target: str | None) -> Entry | None:
        """Return what the cluster has, or may have of a store, at *target*."""
        if target is None:
            return None
        there = self._origins.get(target)
        return there if there is not None else next(iter(self._attempts.get(target, [])), None)
