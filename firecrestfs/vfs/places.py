"""Places: where entries are shown, and where the cluster has them.

Two names matter for each entry: the path at which the mount shows it, and the origin at which the
cluster has it. They differ while a rename is on its way, and for everything below a directory that
was renamed: `locate` translates.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.model import Kind
from firecrestfs.paths import directory_of, is_below, join, split

from .entry import Entry


class Places:
    """The entries of one system by path, origin and ident. Thread-safe (the tree lock)."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # guards all below; reads of single keys go without
        self._shown: dict[str, Entry] = {}
        self._origins: dict[str, Entry] = {}
        self._idents: dict[str, Entry] = {}
        self._names: defaultdict[str, set[str]] = defaultdict(set)  # directory → names in _shown
        self._origin_names: defaultdict[str, set[str]] = defaultdict(set)  # the same of _origins
        # Where stores of what was unlinked may have landed.
        self._attempts: defaultdict[str, list[Entry]] = defaultdict(list)
        self._heading: dict[str, Entry] = {}  # where the cluster is putting entries right now
        self._strays: set[str] = set()  # those of these places that are shown elsewhere by now
        self._orphans: dict[str, Entry] = {}  # hidden path → entry that was unlinked while open
        self._odd: set[str] = set()  # idents of what can make others' paths differ from origins
        self.moves = 0  # counts what has got another origin

    def entry(self, path: str) -> Entry | None:
        """Return what is known of *path*, hidden names of unlinked open files included.

        Of a second name that is to be made it is the file itself.
        """
        found = self._shown.get(path) or self._orphans.get(path)
        return found if found is None or found.link_of is None else found.link_of

    def shown_at(self, path: str) -> Entry | None:
        """Return what stands for the name *path* alone: of a second name, that."""
        return self._shown.get(path)

    def by_ident(self, ident: str) -> Entry | None:
        """Return the entry *ident*, None once it is forgotten."""
        return self._idents.get(ident)

    def by_origin(self, origin: str) -> Entry | None:
        """Return the entry that the cluster has at *origin*."""
        return self._origins.get(origin)

    def file(self, path: str) -> CachedFile | None:
        """Return the local copy at *path*."""
        entry = self.entry(path)
        return entry.file if entry is not None else None

    def of_file(self, file: CachedFile) -> Entry | None:
        """Return the entry that *file* is the copy of."""
        entry = self._idents.get(file.ident)
        return entry if entry is not None and entry.file is file else None

    def locate(self, path: str) -> str | None:
        """Return where the cluster has what *path* shows; None where it can have nothing."""
        if not (self._odd or self._strays):
            entry = self._shown.get(path)
            return path if entry is None or entry.origin else None
        with self.lock:
            return self._locate_locked(path)

    def below(self, path: str) -> list[Entry]:
        """Return the entries shown at and below *path*, and those unlinked there."""
        with self.lock:
            shown = self._shown.get(path)
            if shown is None or shown.kind is Kind.DIRECTORY:
                candidates = list(self._idents.values())
            else:
                # What was unlinked, and may be there, is odd: nobody looks at all others for it.
                odd = [self._idents[ident] for ident in self._odd if ident in self._idents]
                candidates = [shown, *(each for each in odd if not each.path)]
            return [
                each
                for each in candidates
                if is_below(each.path or self._place_locked(each.where), path)
            ]

    def hidden_names(self, remote_directory: str) -> set[str]:
        """Return the names in *remote_directory* of what was unlinked or renamed away here."""
        if not (self._odd or self._strays):
            return set()
        with self.lock:
            away = {
                name
                for name in self._origin_names.get(remote_directory, ())
                if not self._is_home_locked(self._origins[join(remote_directory, name)])
            }
            strays = [path for path in list(self._strays) if self._is_stray_locked(path)]
            unwanted = (split(path) for path in (*self._attempts, *strays))
            return away | {name for above, name in unwanted if above == remote_directory}

    def all(self) -> list[Entry]:
        """Return all entries."""
        with self.lock:
            return list(self._idents.values())

    def target(self, entry: Entry) -> str | None:
        """Return where the cluster shall have *entry*: None while its directory isn't there."""
        with self.lock:
            return self._target_locked(entry)

    def head(self, entry: Entry, target: str) -> None:
        """Note that *entry* is about to be at *target* on the cluster, or may be there already."""
        with self.lock:
            entry.heading = target
            self._heading[target] = entry
            self._strays.discard(target)

    def _heading_locked(self, target: str | None) -> Entry | None:
        """Return what is about to be at *target*, wherever it is shown by now."""
        entry = self._heading.get(target or "")
        if entry is None:
            return None
        moving = entry.moving is not None and entry.moving.target == target
        under_way = moving or (entry.busy and entry.heading == target)
        if under_way and self._idents.get(entry.ident) is entry:
            return entry
        self._heading.pop(target or "")
        self._strays.discard(target or "")
        return None

    def _is_stray_locked(self, remote: str) -> bool:
        """Tell whether what may be at *remote* by now has got another name here, or none."""
        return remote in self._strays and self._heading_locked(remote) is not None

    def moving_at(self, origin: str) -> list[Entry]:
        """Return what the cluster has at *origin* and above, and is renaming right now.

        A rename that an earlier process began, and whose end isn't known, counts as well.
        """
        found = []
        with self.lock:
            at = origin
            while at not in ("", "/"):
                each = self._origins.get(at)
                if each is not None and (each.moving or each.busy):
                    found += [each] if each.moving or not self._is_home_locked(each) else []
                at = at.rpartition("/")[0]
        return found

    def _origins_above_locked(self, origin: str) -> Iterator[Entry]:
        """Yield the known directories that the cluster has above *origin*, nearest first."""
        directory = directory_of(origin)
        while directory not in ("", "/"):
            above = self._origins.get(directory)
            if above is not None:
                yield above
            directory = directory_of(directory)

    def _ancestors_locked(self, path: str) -> Iterator[Entry]:
        """Yield the known directories above *path*, nearest first."""
        directory = directory_of(path)
        while directory != "/":
            above = self._shown.get(directory)
            if above is not None:
                yield above
            directory = directory_of(directory)

    def _target_locked(self, entry: Entry) -> str | None:
        directory, name = split(entry.path)
        above = self._locate_locked(directory)
        return None if above is None else join(above, name)

    def _locate_locked(self, path: str) -> str | None:
        known, rest = path, ""
        while known not in self._shown and known != "/":
            known, name = split(known)
            rest = f"/{name}{rest}"
        entry = self._shown.get(known)
        if entry is not None and not entry.origin:
            return None
        top = entry.origin if entry is not None else ""
        remote = f"{top}{rest}" or "/"
        # Something else that was there, or may land there, is shown elsewhere now or not at all.
        at = remote
        while at != top and at != "/":
            if at in self._origins or at in self._attempts or self._is_stray_locked(at):
                return None
            at = directory_of(at)
        return remote

    def _place_locked(self, origin: str) -> str:
        """Return where the mount would show what the cluster has at *origin*."""
        directory, rest = origin, ""
        while directory not in ("", "/"):
            directory, name = split(directory)
            rest = f"/{name}{rest}"
            above = self._origins.get(directory)
            if above is not None and above.path:
                return f"{above.path}{rest}"
        return origin

    def _is_home_locked(self, entry: Entry) -> bool:
        return bool(entry.path) and self._target_locked(entry) == entry.origin

    def _note_locked(self, entry: Entry) -> None:
        # A new file makes no difference to any path but its own.
        matters = entry.origin or entry.kind is Kind.DIRECTORY
        unlinked = not entry.path and entry.attempted
        if (entry.path != entry.origin and matters) or unlinked:
            self._odd.add(entry.ident)
        else:
            self._odd.discard(entry.ident)

    def _show_locked(self, entry: Entry, path: str) -> None:
        entry.path = path
        self._shown[path] = entry
        directory, name = split(path)
        self._names[directory].add(name)
        self._note_locked(entry)

    def _hide_locked(self, entry: Entry) -> None:
        if self._shown.get(entry.path) is entry:
            del self._shown[entry.path]
            _drop_name(self._names, entry.path)

    def _settle_locked(self, entry: Entry, origin: str) -> None:
        self.moves += entry.origin not in ("", origin)
        entry.origin = origin
        self._origins[origin] = entry
        directory, name = split(origin)
        self._origin_names[directory].add(name)
        self._note_locked(entry)

    def _leave_locked(self, entry: Entry) -> None:
        if self._origins.get(entry.origin) is entry:
            del self._origins[entry.origin]
            _drop_name(self._origin_names, entry.origin)


def _drop_name(table: defaultdict[str, set[str]], path: str) -> None:
    directory, name = split(path)
    table[directory].discard(name)
    if not table[directory]:
        del table[directory]
