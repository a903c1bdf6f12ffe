"""Facts: what the mount knows of a file besides its attributes, as `user.firecrest.*`."""

from __future__ import annotations

import errno
from abc import abstractmethod
from collections.abc import Mapping

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.errors import os_error
from firecrestfs.model import Attr
from firecrestfs.transfer.progress import Board

from .base import Filesystem
from .entry import Entry
from .identity import Identity
from .overlay import Overlay
from .stores import Stores
from .view import RemoteView


class Facts(Filesystem):
    """The extended attributes of one system's files."""

    stores: Stores
    board: Board
    _view: RemoteView
    _overlay: Overlay
    _identity: Identity

    @abstractmethod
    def fetch(self, path: str) -> None:
        """Return when all of *path* is here."""

    @abstractmethod
    def _current_copy(self, path: str) -> CachedFile: ...

    def getxattr(self, path: str, name: str) -> bytes:
        """Answer `user.firecrest.*` by name."""
        attr = self._view.getattr(path)
        field = name.removeprefix("user.firecrest.")
        value = self._fact(path, attr, field) if field != name else None
        if value is None:
            raise os_error(errno.ENODATA, path)
        return value.encode("utf-8", "surrogateescape")

    def setxattr(self, path: str, name: str, value: bytes) -> None:
        """Take `user.firecrest.pin`: `1` keeps the file here, whole, `0` lets it go."""
        if name != "user.firecrest.pin" or value not in (b"0", b"1"):
            raise os_error(errno.ENOTSUP, path)
        self._current_copy(path).pinned = value == b"1"
        if value == b"1":
            self.fetch(path)

    def _fact(self, path: str, attr: Attr, field: str) -> str | None:
        entry = self._overlay.entry(path)
        user = self._identity.user
        match field:
            case "state":
                return self._state(entry, self._overlay.shown_at(path))
            case "error":
                failure = self.stores.failure(entry) if entry is not None else None
                return None if failure is None else str(failure.strerror)
            case "pin":
                file = entry.file if entry is not None else None
                return None if file is None else str(int(file.pinned))
            case "progress":
                row = self.board.of(entry.where if entry is not None else path)
                return None if row is None else row.line()
            case "owner":
                return _name_of(attr.owner, {user.uid: user.name})
            case "group":
                return _name_of(attr.group, user.groups)
            case "path":
                return path
            case "target":
                return attr.target
        return None

    def _state(self, entry: Entry | None, name: Entry | None) -> str:
        if name is not None and name is not entry and not self._overlay.differs(entry or name):
            # Of a second name that is still to be made.
            entry = name
        if entry is None or not self._overlay.differs(entry):
            complete = entry is not None and entry.file is not None and entry.file.complete
            return "cached" if complete else "remote"
        if self.stores.failure(entry) is not None:
            return "failed"
        return "storing" if entry.busy else "dirty"


def _name_of(text: str, names: Mapping[int, str]) -> str:
    return names.get(int(text), text) if text.isdigit() else text
