"""HardLinks: makes on the cluster the second names that files were given here."""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence

from firecrestfs.errors import is_transient, os_error
from firecrestfs.model import Attr
from firecrestfs.paths import name_of
from firecrestfs.transfer.linking import Linker, Wish
from firecrestfs.transfer.modes import conflict_path

from .entry import Entry
from .identity import Identity
from .moves import WAITS, Begun, Outcome
from .notes import Notes
from .overlay import Overlay
from .tree import RemoteTree


class HardLinks:
    """Makes the hard links of one system. Thread-safe; waits for the network."""

    def __init__(
        self,
        tree: RemoteTree,
        identity: Identity,
        overlay: Overlay,
        linker: Linker,
        notes: Notes,
    ) -> None:
        self._tree = tree
        self._identity = identity
        self._overlay = overlay
        self._linker = linker
        self._notes = notes

    def run(self, begun: Sequence[Begun]) -> Outcome:
        """Make each of *begun*, second names all of them; tell what became of it."""
        outcome: Outcome = {}
        going: dict[str, tuple[Entry, Entry]] = {}  # target → the second name, its file
        wishes = []
        for entry, _, target in begun:
            source = entry.link_of
            if source is None or not source.origin:
                text = "its file is not yet on the cluster"
                outcome[entry.ident] = os_error(errno.EAGAIN, entry.path, text)
                continue
            going[target] = entry, source
            wishes.append(Wish(source.origin, target, source.attr.nlink))

        def begin(sources: Mapping[str, Attr]) -> None:
            # From here on they may be there, whatever is heard of them.
            for target, attr in sources.items():
                going[target][0].remote = attr
                self._overlay.attempt(going[target][0], target)
            self._notes.write_down(*(going[target][0] for target in sources))

        results = self._linker.link(wishes, begin)
        for wish in wishes:
            entry, source = going[wish.new]
            result = results[wish.new]
            if isinstance(result, OSError):
                outcome[entry.ident] = self._not_made(entry, result)
            else:
                self._made(entry, source, wish, result)
                outcome[entry.ident] = None
        return outcome

    def _made(self, entry: Entry, source: Entry, wish: Wish, after: Attr) -> None:
        origin, target = wish.old, wish.new
        self._identity.share_inode(origin, target)
        file = source.file
        if file is not None and file.base is not None and _is_one(file.base, after):
            file.adopt(self._tree.localised(origin, after))
        for path in (origin, target):
            self._tree.changed(path, after)
        with self._overlay.lock:
            # Last: what is known no more is looked for in the tree.
            entry.remote = after
            if entry.path:
                self._overlay.forget(entry)
        self._notes.write_down(entry, source)

    def _not_made(self, entry: Entry, exc: OSError) -> OSError | None:
        """Take *entry* back, visibly, where trying again can't help."""
        if is_transient(exc) or exc.errno in WAITS:
            return exc
        path = entry.path
        if not path:
            # It was unlinked meanwhile; what may be there is looked for next.
            if not entry.attempted:
                self._notes.drop(entry)
            return None
        if isinstance(exc, FileExistsError):
            name = conflict_path(path)
            text = f"the name is taken on the cluster; yours is kept as {name_of(name)}"
            self._notes.write_down(*self._overlay.move(entry, name))
            self._notes.report(path, text)
        else:
            self._notes.drop(entry)
            self._notes.refused(path, f"not linked: {exc.strerror}")
        self._tree.forget(path)
        return None


def _is_one(known: Attr, now: Attr) -> bool:
    """Tell whether *now* is *known* but for the times and the count that a link changes."""
    second = 1_000_000_000
    return (known.size, known.mtime_ns // second) == (now.size, now.mtime_ns // second) and (
        not known.ino or known.ino == now.ino
    )
