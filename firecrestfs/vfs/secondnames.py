"""SecondNames: hard links that were made here, until the cluster has made them.

A second name is written down at once and made on the cluster after its file has landed. Where one
of the two goes before that, as with programs that make a file appear whole by link and unlink,
what is left is one file with one name, and costs what that costs.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Callable

from firecrestfs.errors import os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, Kind
from firecrestfs.paths import directory_of

from .entry import Entry
from .view import RemoteParts, RemoteView

#: So often one waits for a link that is being made right now.
_TRIES = 3


class SecondNames:
    """Gives files of one system more names, and takes them. Thread-safe."""

    def __init__(
        self,
        parts: RemoteParts,
        view: RemoteView,
        entry_at: Callable[[str, Attr], Entry],
        rename: Callable[[Entry, Entry], None],
    ) -> None:
        """*entry_at* returns what is known of a path; *rename* lets a file take a second name."""
        self._parts = parts
        self._view = view
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._stores = parts.stores
        self._entry_at = entry_at
        self._rename = rename

    def add(self, old: str, new: str) -> None:
        """Make *new* a hard link to *old*."""
        attr = self._view.getattr(old)
        if attr.kind is Kind.DIRECTORY or old in self._view.litter:
            raise os_error(errno.EPERM, old)
        self._tree.require_sendable(old, new)
        self._view.require_creatable(new, Kind.FILE)
        if self._tree.root_of(old) != self._tree.root_of(new):
            raise os_error(errno.EXDEV, new, "another file system of the cluster")
        entry = self._entry_at(old, attr)
        if entry.origin:
            self._tree.require_sendable(entry.origin)
        if entry.file is None or not self._tree.features.archives:
            self._link_now(entry, new)
            return
        name = Entry(uuid.uuid4().hex, Kind.FILE, new, "", link_of=entry)
        self._overlay.add(name)
        self._stores.note(name, entry)
        reach("link.noted")
        self._stores.changed(name)

    def _link_now(self, entry: Entry, new: str) -> None:
        """Make *new* a link to *entry*, a symlink, on the cluster."""
        for each in (entry, self._overlay.entry(directory_of(new)), self._overlay.in_the_way(new)):
            if each is not None and self._overlay.differs(each):
                self._stores.store_now(each)
        target = self._overlay.locate(new)
        if target is None:
            raise os_error(errno.EBUSY, new, "what had its name is not yet gone from the cluster")
        origin = entry.origin
        self._tree.require_sendable(target)
        self._parts.flights.commit(lambda: self._parts.bundler.link(origin, target))
        for path in (origin, target):
            self._tree.forget(path)

    # -- one of several names goes -------------------------------------------------------------

    def are_one(self, path: str, other: str) -> bool:
        """Tell whether both are names of one file, the cluster not knowing of it yet."""
        entry = self._overlay.entry(path)
        return entry is not None and self._overlay.entry(other) is entry

    def take(self, path: str, attr: Attr) -> Entry:
        """Return what goes when the name *path* is taken away; *attr* is what is shown there.

        A file that has another name takes that first.
        """
        for attempt in range(_TRIES):
            entry = self._overlay.entry(path)
            if entry is None or not entry.links:
                return self._entry_at(path, self._view.getattr(path) if attempt else attr)
            names = [each.path for each in entry.links]
            for each in list(entry.links):
                self._stores.settle(each)
            if not entry.links and all(self._view.attr_or_none(each) is None for each in names):
                text = "the cluster refused its other name: it would be gone"
                raise os_error(errno.EIO, path, text)
            with self._overlay.lock:
                if any(each.busy for each in entry.links):
                    continue
                shown = self._overlay.shown_at(path)
                if shown is entry and entry.links:
                    self._rename(entry, entry.links[0])
                    shown = Entry(uuid.uuid4().hex, Kind.FILE, "", "", link_of=entry)
                    self._overlay.add(shown)
                if shown is not None:
                    return shown
        raise os_error(errno.EBUSY, path, "its other name is being made on the cluster: try again")

    def moving(self, path: str, attr: Attr, over: Attr | None, new: str) -> Entry:
        """Return what is renamed when *path* gets the name *new*, where *over* is now.

        What has to replace something on the cluster is made there first: no failure may cost that.
        """
        entry, name = self._overlay.entry(path), self._overlay.shown_at(path)
        if entry is None or name is None or name is entry:
            return self._entry_at(path, attr)
        self._stores.settle(name)
        there = self._overlay.entry(new) if over is not None else None
        if over is not None and (there is None or there.origin or there.attempted):
            self._stores.store_now(name)
        name = self._overlay.shown_at(path)
        return self._entry_at(path, self._view.getattr(path)) if name is None else name
