"""A rename that behaves like rename(2), made of one that behaves like `mv`.

`mv` moves *into* a directory that has the new name, copies between file systems, and may have
acted although its answer tells of a failure. So both ends are looked at first, and the inode that
ends up under the new name decides about success.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Protocol

from ..errors import FirecrestException
from ..model import Attr, Kind
from ..paths import directory_of
from .faults import IsADirectory, NotADirectory, NotFound, refusal
from .names import checked_path


class Mover(Protocol):
    """What a rename needs of the typed client."""

    def stat(self, system: str, path: str, *, follow: bool = False) -> Attr:
        """Return attributes."""
        ...

    def readlink(self, system: str, path: str) -> str:
        """Return a link's text."""
        ...

    def symlink(self, system: str, target: str, link: str) -> None:
        """Make a link."""
        ...

    def remove(self, system: str, path: str, kind: Kind) -> None:
        """Remove what is of *kind*; a directory only when it is empty."""
        ...

    def move(self, system: str, old: str, new: str) -> None:
        """Run the server's `mv`, once."""
        ...


class Rename:
    """One rename on one system; made, run, thrown away."""

    def __init__(self, client: Mover, system: str, old: str, new: str) -> None:
        self._client = client
        self._system = system
        self._old, self._new = checked_path(old), checked_path(new)

    def run(self, source: Attr | None) -> Attr | None:
        """Rename and prove it; None where both names are one file already. See `TypedClient`."""
        source = source or self._stat(self._old)
        if (self._new + "/").startswith(self._old + "/"):
            if self._new == self._old:
                return None
            raise refusal(errno.EINVAL, "a directory can't be moved into itself", self._old)
        target = self._stat_or_none(self._new)
        if target is not None and _same(source, target):
            return None
        self._check(source, target)
        link = self._clear_the_way(target)
        try:
            return self._moved(source)
        except BaseException:
            if link is not None:
                with suppress(OSError):
                    self._client.symlink(self._system, link, self._new)
            raise

    def _check(self, source: Attr, target: Attr | None) -> None:
        """Raise what rename(2) would."""
        beside = target
        if beside is None or beside.kind is Kind.DIRECTORY:
            parent = directory_of(self._new)
            beside = source if parent == directory_of(self._old) else None
            beside = beside or self._client.stat(self._system, parent, follow=True)
        if beside.dev != source.dev:
            raise refusal(errno.EXDEV, "on another file system of the cluster", self._new)
        if target is None:
            return
        if target.kind is Kind.DIRECTORY and source.kind is not Kind.DIRECTORY:
            raise IsADirectory(errno.EISDIR, "a directory on the cluster", self._new)
        if source.kind is Kind.DIRECTORY and target.kind is not Kind.DIRECTORY:
            raise NotADirectory(errno.ENOTDIR, "not a directory on the cluster", self._new)

    def _clear_the_way(self, target: Attr | None) -> str | None:
        """Remove what `mv` would move into; return the text of a removed link."""
        if target is None:
            return None
        if target.kind is Kind.DIRECTORY:
            self._client.remove(self._system, self._new, Kind.DIRECTORY)
        if target.kind is not Kind.SYMLINK or not self._leads_to_a_directory():
            return None
        text = self._client.readlink(self._system, self._new)
        self._client.remove(self._system, self._new, Kind.SYMLINK)
        return text

    def _leads_to_a_directory(self) -> bool:
        try:
            found = self._client.stat(self._system, self._new, follow=True)
        except FirecrestException as exc:
            if exc.transient:
                raise
            return False
        return found.kind is Kind.DIRECTORY

    def _moved(self, source: Attr) -> Attr:
        try:
            self._client.move(self._system, self._old, self._new)
        except FirecrestException as exc:
            if not exc.ambiguous:
                raise
            found = self._arrived(source)
            if found is None:
                raise self._settled(exc, source) from exc
            return found
        found = self._arrived(source)
        if found is None and source.kind is Kind.SYMLINK and self._is_where_it_was(source):
            text = "the cluster's mv takes a link and what it leads to for one file: both stay"
            raise refusal(errno.EIO, text, self._new)
        if found is None:
            text = "the cluster's mv succeeded, but something else is under the new name"
            raise refusal(errno.EIO, text, self._new, ambiguous=True)
        return found

    def _settled(self, exc: FirecrestException, source: Attr) -> FirecrestException:
        """Return *exc*, no longer ambiguous where the source is still where it was."""
        exc.ambiguous = exc.ambiguous and not self._is_where_it_was(source)
        return exc

    def _is_where_it_was(self, source: Attr) -> bool:
        with suppress(FirecrestException):
            return _same(self._stat(self._old), source)
        return False

    def _arrived(self, source: Attr) -> Attr | None:
        found = self._stat_or_none(self._new)
        return found if found is not None and _same(source, found) else None

    def _stat(self, path: str) -> Attr:
        return self._client.stat(self._system, path)

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._stat(path)
        except NotFound:
            return None


def _same(one: Attr, other: Attr) -> bool:
    return (one.dev, one.ino) == (other.dev, other.ino)
