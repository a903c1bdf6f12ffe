"""Groups: of which changes the cluster is told together."""

from __future__ import annotations

from collections.abc import Hashable

from firecrestfs.model import Kind
from firecrestfs.paths import directory_of

from .entry import Change
from .overlay import Overlay
from .tree import RemoteTree


class Groups:
    """Sorts the changes of one system by what becomes of them. Thread-safe."""

    def __init__(self, tree: RemoteTree, overlay: Overlay) -> None:
        self._tree = tree
        self._overlay = overlay

    def of(self, ident: str) -> Hashable:
        """Return what *ident* can be told together with: what has an equal value."""
        entry = self._overlay.by_ident(ident)
        if entry is None:
            return ""
        changes = self._overlay.changes(entry)
        if not changes:
            return ""
        if changes[0] is Change.REMOVE:
            top = self._overlay.topmost_removed(entry)
            where = top.origin or top.attempted
            return "remove", where if top.kind is Kind.DIRECTORY else directory_of(where)
        if changes[0] is Change.MOVE:
            return "move", ident
        if changes[0] is Change.LINK:
            return "link", self._tree.root_of(entry.path)
        if changes[0] is Change.SET:
            return "set", directory_of(entry.path)
        if changes[0] is Change.TOUCH:
            return "touch"
        if self.is_heavy(ident):
            return "large", ident
        return "put", directory_of(self._overlay.topmost_new(entry).path)

    def is_heavy(self, ident: str) -> bool:
        """Tell whether the bytes of *ident* take more than a request."""
        entry = self._overlay.by_ident(ident)
        if entry is None or entry.file is None or not (entry.path and entry.content_differs):
            return False
        large = entry.file.attr.size > self._tree.system.limits.upload
        return large or entry.file.tail is not None
