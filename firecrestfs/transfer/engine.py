"""TransferEngine: which way a file goes to and comes from one system.

    fetch   the whole file by one request
    store   in place by one upload; or, for new files, in a tar: empty ones, those with times or a
            strict mode of their own, odd names, and many at once

What a store left on the cluster is proven by asking the cluster, never by an answer's status.
"""

from __future__ import annotations

import enum
import errno
import hashlib
import logging
import socket
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import ConflictError, os_error
from firecrestfs.model import (
    Attr,
    Features,
    Kind,
    Source,
    StoreItem,
    System,
    UserInfo,
    same_version,
)

from . import direct
from .bundle import Bundler, Member

log = logging.getLogger(__name__)

#: From this many new files in one directory on, a tar takes fewer requests than single uploads.
_BUNDLE_FROM = 3
#: What a tar adds to each member at most: its header, a PAX header, padding.
_MEMBER_OVERHEAD = 3 * 1024
#: What a tar costs besides: its end, and a margin.
_ARCHIVE_OVERHEAD = 16 * 1024
#: The mode that an upload gives a new file on clusters with the usual umask.
_UPLOAD_MODE = 0o644
#: Bits that umasks of clusters take from new files.
_UMASK = 0o022
#: Characters that a file name can't keep on its way through an upload form.
_NOT_IN_FORMS = frozenset('"\r\n')


class _Standing(enum.Enum):
    """How a remote file stands to the one that a store is based on."""

    EXPECTED = "the same, or both absent"
    LANDED = "it holds what is to be stored: an answer got lost"
    TORN = "it holds the beginning of it: a store of ours was cut"
    CHANGED = "somebody else wrote it"


class TransferEngine:
    """Moves whole files of one system. Thread-safe; every method waits for the network."""

    def __init__(
        self,
        client: TypedClient,
        system: System,
        user: UserInfo,
        bundler: Bundler,
        features: Features,
    ) -> None:
        self._features = features
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

    def remove_leftover(self, path: str, data: bytes) -> None:
        """Remove *path* if it holds what a store of *data* that failed has left there."""
        now = self._stat_or_none(path)
        standing = self._standing(StoreItem(0, path, data), now)
        if now is not None and standing in (_Standing.LANDED, _Standing.TORN):
            self._client.remove(self._system.name, path, Kind.FILE)

    # -- one directory -------------------------------------------------------------------------

    def _store_in(self, directory: str, items: list[StoreItem]) -> dict[int, Attr | OSError]:
        new = [item for item in items if item.base is None and self._fits_bundle(item)]
        results: dict[int, Attr | OSError] = {}
        if len(new) >= _BUNDLE_FROM:
            results = self._store_bundles(directory, new)
        for item in items:
            if item.key not in results:
                try:
                    results[item.key] = self._store_one(item)
                except OSError as exc:
                    results[item.key] = exc
        return results

    def _store_bundles(self, directory: str, new: list[StoreItem]) -> dict[int, Attr | OSError]:
        """Store new files in tars; return those that are proven, whatever went wrong meanwhile.

        The others go singly, where each gets its own answer.
        """
        results: dict[int, Attr | OSError] = {}
        try:
            taken = {entry.name for entry in self._client.list(self._system.name, directory)}
            absent = [item for item in new if _name(item.path) not in taken]
            for group in self._portions(absent):
                self._place(directory, group)
            listed = self._client.list(self._system.name, directory)
        except OSError as exc:
            log.info("bundle for %s: %s", directory, exc)
            return results
        landed = {entry.name: entry.attr for entry in listed}
        for item in absent:
            attr = landed.get(_name(item.path))
            if attr is not None and attr.kind is Kind.FILE and attr.size == len(item.data):
                try:
                    results[item.key] = self._with_mode(item, attr)
                except OSError as exc:
                    results[item.key] = exc
        return results

    def _place(self, directory: str, items: Sequence[StoreItem]) -> None:
        """Extract *items* in *directory*; a failure is logged: the proof comes after."""
        try:
            self._bundler.place([_member(item) for item in items], directory, directory)
        except OSError as exc:
            log.info("tar of %d files for %s: %s", len(items), directory, exc)

    def _fits_bundle(self, item: StoreItem) -> bool:
        return len(item.data) + _MEMBER_OVERHEAD <= self._bundle_room

    @property
    def _bundle_room(self) -> int:
        return self._system.limits.upload - _ARCHIVE_OVERHEAD

    def _portions(self, items: Iterable[StoreItem]) -> Iterable[list[StoreItem]]:
        """Cut *items* into lists whose tars fit one upload each."""
        group: list[StoreItem] = []
        size = 0
        for item in items:
            cost = len(item.data) + _MEMBER_OVERHEAD
            if group and size + cost > self._bundle_room:
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
        if now is not None and _is_link_to_replace(item, now):
            # Uploads follow links: what was renamed over the link must not go into its target.
            self._client.remove(self._system.name, item.path, Kind.SYMLINK)
            item, now = replace(item, base=None), None
        item = _with_inherited_mode(item, now)
        standing = self._standing(item, now)
        if standing is _Standing.CHANGED:
            raise self._store_beside(item)
        if standing is not _Standing.LANDED:
            self._send(item, now)
        return self._prove(item)

    def _send(self, item: StoreItem, now: Attr | None) -> None:
        """Send *item* over *now* the way that keeps most of what is there and is wanted."""
        directory, name = _split(item.path)
        if self._needs_tar(item) if now is None else self._may_replace(item, now):
            self._bundler.place([_member(item)], directory, directory)
            return
        if not item.data:
            self._client.empty(self._system.name, item.path)
        else:
            self._client.upload(self._system.name, directory, name, item.data)
        mode = _UPLOAD_MODE if now is None else now.mode
        if item.mode is not None and _mode_to_set(item, mode):
            self._client.chmod(self._system.name, item.path, item.mode)

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
        if item.mode is None or not _mode_to_set(item, attr.mode):
            return attr
        self._client.chmod(self._system.name, item.path, item.mode)
        if attr.source is Source.LS:
            return replace(attr, mode=item.mode)
        return self._client.stat(self._system.name, item.path)

    # -- decisions -----------------------------------------------------------------------------

    def _needs_tar(self, item: StoreItem) -> bool:
        strict = item.mode is not None and bool(_UPLOAD_MODE & ~item.mode)
        empty = not item.data and not self._features.empty_upload
        return empty or item.mtime_ns is not None or strict or _is_odd(item.path)

    def _may_replace(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether the existing file *now* needs, and bears, being replaced by a new one."""
        empty = not item.data and not self._features.empty_upload
        if not empty and item.mtime_ns is None and not _is_odd(item.path):
            return False
        return (
            now.kind is Kind.FILE
            and now.uid == self._user.uid
            and now.gid == self._user.gid
            and now.nlink == 1
            and not now.acl
            and not (item.base is not None and item.base.acl)
        )

    def _standing(self, item: StoreItem, now: Attr | None) -> _Standing:
        """Tell how the remote file *now* stands to what *item* is based on."""
        if now is None:
            return _Standing.EXPECTED
        if item.base is not None and self.is_same_version(item.path, item.base, now):
            return _Standing.EXPECTED
        # Before it is somebody else's change, rule ourselves out: a store whose answer got lost,
        # or one that was torn.
        if now.kind is Kind.FILE and now.size <= len(item.data):
            ours = hashlib.sha256(item.data[: now.size]).hexdigest()
            if now.size == 0 or self._client.checksum(self._system.name, item.path) == ours:
                return _Standing.LANDED if now.size == len(item.data) else _Standing.TORN
        return _Standing.CHANGED

    def is_same_version(self, path: str, known: Attr, now: Attr) -> bool:
        """Tell whether *now* (by stat) is the version of *path* that *known* describes."""
        if same_version(known, now):
            return True
        if known.source is not Source.LS:
            return False
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
        self._send(beside, None)
        return ConflictError(item.path, path, self._prove(beside))

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system.name, path)
        except FileNotFoundError:
            return None


def _is_odd(path: str) -> bool:
    """Tell whether an upload form would change the name of *path*."""
    return not _NOT_IN_FORMS.isdisjoint(_name(path))


def _is_link_to_replace(item: StoreItem, now: Attr) -> bool:
    """Tell whether *item* was put over the symlink that is at its path."""
    known = item.base is not None and item.base.kind is Kind.SYMLINK
    return known and now.kind is Kind.SYMLINK


def _with_inherited_mode(item: StoreItem, now: Attr | None) -> StoreItem:
    """Return *item* with the mode of the file it goes over, where nobody asked for another."""
    known = now or item.base
    if item.mode is not None or known is None:
        return item
    return replace(item, mode=known.mode, exact_mode=True)


def _mode_to_set(item: StoreItem, mode: int) -> bool:
    """Tell whether a file with *mode* needs a chmod to be as *item* wants it."""
    wanted = item.mode if item.mode is not None else mode
    if item.exact_mode:
        return wanted != mode
    # What a umask takes from new files is the cluster's to decide.
    return bool(mode & ~wanted or wanted & ~mode & ~_UMASK)


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
