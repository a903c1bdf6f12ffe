"""Waiting: what of one system waits to be stored, tried again and given up."""

from __future__ import annotations

import errno

from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.metadata import is_below, split
from firecrestfs.errors import os_error

from .overlay import Overlay, differs
from .stores import Stores


class Waiting:
    """Acts on what has not landed. Thread-safe."""

    def __init__(self, overlay: Overlay, content: ContentCache, stores: Stores) -> None:
        self._overlay = overlay
        self._content = content
        self._stores = stores

    def resume(self) -> None:
        """Try at once what waits only because it could not be stored before."""
        for path, row in self._stores.pending():
            file = self._overlay.file(path)
            waits = row.error is not None and not row.parked and not row.in_flight
            if file is not None and waits:
                self._stores.changed(file)

    def retry(self, path: str) -> list[str]:
        """Try again what has failed at and below *path*; return the paths of that."""
        tried = []
        for each, row in self._stores.pending():
            file = self._overlay.file(each)
            if file is not None and row.error is not None and is_below(each, path):
                tried.append(each)
                if not row.in_flight:
                    self._stores.changed(file)
        return tried

    def is_undecided(self, path: str) -> bool:
        """Tell whether a store of *path* is still to be tried."""
        rows = [row for each, row in self._stores.pending() if each == path]
        return any(row.in_flight or not (row.parked or row.tries) for row in rows)

    def discard(self, path: str) -> dict[str, str]:
        """Give up what waits to be stored at and below *path*; lost+found keeps it for some days.

        Returns where the bytes of each are now. Raises EBUSY where one is open for writing.
        """
        found = self._overlay.files_below(path)
        changed = [(each, file) for each, file in found if self._overlay.store_path(file.ident)]
        for each, file in changed:
            if file.writers:
                raise os_error(errno.EBUSY, each, "a program has it open for writing: end that")
        gone = {}
        for each, file in changed:
            self._stores.settle(file)
            if not differs(file):
                continue
            where = self._content.keep_discarded(file, split(each)[1])
            if self._overlay.detach(each, file) is not None:
                self._stores.discard(file)
                gone[each] = str(where or "")
        return gone
