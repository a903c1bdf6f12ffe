"""Waiting: what of one system waits to be told to the cluster, tried again and given up."""

from __future__ import annotations

import errno
from contextlib import suppress

from firecrestfs.cache.content import ContentCache
from firecrestfs.errors import os_error
from firecrestfs.model import Kind
from firecrestfs.paths import is_below, name_of

from .entry import Entry
from .overlay import Overlay
from .stores import Stores


class Waiting:
    """Acts on what has not landed. Thread-safe."""

    def __init__(self, overlay: Overlay, content: ContentCache, stores: Stores) -> None:
        self._overlay = overlay
        self._content = content
        self._stores = stores

    def any_below(self, path: str) -> bool:
        """Tell whether a change of *path* itself, or of something below it, waits."""
        return any(self._overlay.differs(each) for each in self._overlay.below(path))

    def resume(self) -> None:
        """Try at once what waits only because the cluster could not be told before."""
        for _, row in self._stores.pending():
            entry = self._overlay.by_ident(row.key)
            waits = row.error is not None and not row.parked and not row.in_flight
            if entry is not None and waits:
                self._stores.changed(entry)

    def retry(self, path: str) -> list[str]:
        """Try again what has failed at and below *path*; return the paths of that."""
        tried: list[str] = []
        again: list[Entry] = []
        for each, row in self._stores.pending():
            entry = self._overlay.by_ident(row.key)
            if entry is not None and row.error is not None and is_below(each, path):
                tried.append(each)
                if not row.in_flight:
                    self._stores.changed(entry)
                    again.append(entry)
        self._stores.press(again)
        return tried

    def is_undecided(self, path: str) -> bool:
        """Tell whether a change of *path* is still to be tried."""
        rows = [row for each, row in self._stores.pending() if each == path]
        return any(row.in_flight or not (row.parked or row.tries) for row in rows)

    def discard(self, path: str) -> dict[str, str]:
        """Give up what waits at and below *path*: the cluster's state shows again.

        lost+found keeps bytes for some days. Returns where those of each are now, empty for what
        had none. Raises EBUSY where one is open for writing, or can't be stopped.
        """
        changed = [each for each in self._overlay.below(path) if self._overlay.differs(each)]
        for entry in changed:
            if entry.file is not None and entry.file.writers:
                raise os_error(errno.EBUSY, entry.where, "a program has it open for writing")
        gone = {}
        for entry in sorted(changed, key=lambda each: each.where, reverse=True):
            self._stores.supersede(entry)
            self._stores.settle(entry)
            if entry.busy:
                raise os_error(errno.EBUSY, entry.where, "it is being stored right now: try again")
            if self._overlay.differs(entry):
                gone[entry.where] = self._give_up(entry)
        # What the cluster has been told to do must not be done later.
        with suppress(OSError):
            self._stores.forget_strays()
        return gone

    def _give_up(self, entry: Entry) -> str:
        kept = ""
        if entry.path and entry.file is not None and entry.content_differs:
            kept = str(self._content.keep_discarded(entry.file, name_of(entry.path)) or "")
        if entry.kind is Kind.DIRECTORY and entry.path and entry.origin:
            # What is in it goes back with it.
            self._stores.note(*self._overlay.move(entry, entry.origin))
        self._stores.discard(entry)
        return kept
