"""TransferEngine: which way a file goes to and comes from one system.

    fetch   the whole file by one request
    store   in place by one upload; or, for new files, in a tar: empty ones, those with times or a
            strict mode of their own, odd names, and many at once

What a store left on the cluster is proven by asking the cluster, never by an answer's status.
"""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import ConflictError, os_error
from firecrestfs.model import Attr, Kind, Source, StoreItem, System, UserInfo

from . import direct
from .bundle import Bundler, Member

log = logging.getLogger(__name__)

#: From this many new files in one directory on, a tar takes fewer requests than single uploads.
_BUNDLE_FROM = 3
#: What a tar adds to each member at most: its header, a PAX header, padding.
_MEMBER_OVERHEAD = 3 * 1024
#: The mode that an upload gives a new file on clusters with the usual umask.
_UPLOAD_MODE = 0o644
#: Characters that a file name can't keep on its way through an upload form.
_NOT_IN_FORMS = frozenset('"\r\n')


class TransferEngine:
    """Moves whole files of one system. Thread-safe; every method waits for the network."""

    def __init__(
        self, client: TypedClient, system: System, user: UserInfo, bundler: Bundler
    ) -> None:
        self._client = client
        self._system = system
        self._user = user
        self._bundler = bundler

    def fetch(self, path: str, attr: Attr) -> bytes:
        """Return the content of *path*, described by *attr*. Raises EFBIG over the direct limit."""
        return direct.fetch(self._client, self._system.name, path, attr, self._system.limits)

    def store(self, batch: Sequence[StoreItem]) -> dict[int, Attr | OSError]:
        """Store all of *batch*; return what each became on the cluster, or why it didn't.

        A `ConflictError` means that the bytes are safe on the cluster under another name.
        """
        results: dict[int, Attr | OSError] = {}
        for directory, items in _by_directory(batch).items():
            results.update(self._store_in(directory, items))
        return results

    # -- one directory -------------------------------------------------------------------------

    def _store_in(self, directory: str, items: list[StoreItem]) -> dict[int, Attr | OSError]:
        results: dict[int, Attr | OSError] = {}
        singles = items
        new = [item for item in items if item.base is None]
        if len(new) >= _BUNDLE_FROM:
            try:
                results = self._store_bundles(directory, new)
            except OSError as exc:
                # Singly, each file gets its own answer.
                log.info("bundle for %s failed, storing singly: %s", directory, exc)
            singles = [item for item in items if item.key not in results]
        for item in singles:
            try:
                results[item.key] = self._store_one(item)
            except OSError as exc:
                results[item.key] = exc
        return results

    def _store_bundles(self, directory: str, new: list[StoreItem]) -> dict[int, Attr | OSError]:
        taken = {entry.name for entry in self._client.list(self._system.name, directory)}
        absent = [item for item in new if _name(item.path) not in taken]
        results: dict[int, Attr | OSError] = {}
        for group in self._portions(absent):
            self._bundler.place([_member(item) for item in group], directory, directory)
        landed = {
            entry.name: entry.attr for entry in self._client.list(self._system.name, directory)
        }
        for item in absent:
            attr = landed.get(_name(item.path))
            if attr is not None and attr.size == len(item.data):
                try:
                    results[item.key] = self._with_mode(item, attr)
                except OSError as exc:
                    results[item.key] = exc
        return results

    def _portions(self, items: Iterable[StoreItem]) -> Iterable[list[StoreItem]]:
        """Cut *items* into lists whose tars fit one upload each."""
        room = self._system.limits.upload - 10 * 1024
        group: list[StoreItem] = []
        size = 0
        for item in items:
            cost = len(item.data) + _MEMBER_OVERHEAD
            if group and size + cost > room:
                yield group
                group, size = [], 0
            group.append(item)
            size += cost
        if group:
            yield group

    # -- one file ------------------------------------------------------------------------------

    def _store_one(self, item: StoreItem) -> Attr:
        limit = self._system.limits.upload
        if len(item.data) > limit:
            raise os_error(
                errno.EFBIG, item.path, direct.over_limit(len(item.data), limit, "store")
            )
        now = self._stat_or_none(item.path)
        if now is not None and not self._is_ours_to_overwrite(item, now):
            raise self._store_beside(item)
        if self._needs_tar(item) if now is None else self._may_replace(item, now):
            self._place(item)
        else:
            self._upload(item, now)
        return self._prove(item)

    def _upload(self, item: StoreItem, now: Attr | None) -> None:
        directory, name = _split(item.path)
        self._client.upload(self._system.name, directory, name, item.data)
        mode = _UPLOAD_MODE if now is None else now.mode
        if item.mode is not None and item.mode != mode:
            self._client.chmod(self._system.name, item.path, item.mode)

    def _place(self, item: StoreItem) -> None:
        directory = _split(item.path)[0]
        self._bundler.place([_member(item)], directory, directory)

    def _prove(self, item: StoreItem) -> Attr:
        attr = self._client.stat(self._system.name, item.path)
        if attr.size != len(item.data):
            raise os_error(
                errno.EIO,
                item.path,
                f"the cluster has {attr.size:,} bytes of {len(item.data):,} after the upload",
            )
        return self._with_mode(item, attr)

    def _with_mode(self, item: StoreItem, attr: Attr) -> Attr:
        """Give the landed file the mode it shall have where the way there didn't."""
        if item.mode is None or item.mode == attr.mode:
            return attr
        self._client.chmod(self._system.name, item.path, item.mode)
        if attr.source is Source.LS:
            return replace(attr, mode=item.mode)
        return self._client.stat(self._system.name, item.path)

    # -- decisions -----------------------------------------------------------------------------

    def _needs_tar(self, item: StoreItem) -> bool:
        strict = item.mode is not None and bool(_UPLOAD_MODE & ~item.mode)
        odd = not _NOT_IN_FORMS.isdisjoint(_name(item.path))
        return not item.data or item.mtime_ns is not None or strict or odd

    def _may_replace(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether the existing file *now* needs, and bears, being replaced by a new one."""
        if item.data and item.mtime_ns is None:
            return False
        return (
            now.kind is Kind.FILE
            and now.uid == self._user.uid
            and now.gid == self._user.gid
            and now.nlink == 1
            and not now.acl
            and not (item.base is not None and item.base.acl)
        )

    def _is_ours_to_overwrite(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether the remote file is still the one that the local changes are based on."""
        if item.base is None:
            return False
        if self.is_same_version(item.path, item.base, now):
            return True
        # A torn upload of ours or one whose answer got lost is no one else's change.
        return now.size == 0 and now.uid == self._user.uid and now.ino == item.base.ino != 0

    def is_same_version(self, path: str, known: Attr, now: Attr) -> bool:
        """Tell whether *now* (by stat) is the version of *path* that *known* describes."""
        if known.source is not Source.LS:
            return known.fingerprint == now.fingerprint
        seconds = 1_000_000_000
        if (known.size, known.mtime_ns // seconds) == (now.size, now.mtime_ns // seconds):
            return True
        # Times of listings come by way of a zone: ask for the very text before crying wolf.
        directory, name = _split(path)
        for entry in self._client.list(self._system.name, directory):
            if entry.name == name:
                return entry.attr.fingerprint == known.fingerprint
        return False

    def _store_beside(self, item: StoreItem) -> ConflictError:
        """Store *item* under a name of its own and return the error that tells so."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = f"{item.path}.conflict-{socket.gethostname()}-{stamp}"
        beside = replace(item, path=path, base=None)
        if self._stat_or_none(path) is not None:
            raise os_error(errno.EAGAIN, path, "a conflict copy of this very second exists")
        if self._needs_tar(beside):
            self._place(beside)
        else:
            self._upload(beside, None)
        return ConflictError(item.path, path, self._prove(beside))

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system.name, path)
        except FileNotFoundError:
            return None


def _member(item: StoreItem) -> Member:
    return Member(
        _name(item.path),
        data=item.data,
        mode=_UPLOAD_MODE if item.mode is None else item.mode,
        mtime_ns=item.mtime_ns,
    )


def _by_directory(batch: Sequence[StoreItem]) -> dict[str, list[StoreItem]]:
    groups: dict[str, list[StoreItem]] = defaultdict(list)
    for item in batch:
        groups[_split(item.path)[0]].append(item)
    return groups


def _split(path: str) -> tuple[str, str]:
    directory, _, name = path.rpartition("/")
    return directory or "/", name


def _name(path: str) -> str:
    return _split(path)[1]
