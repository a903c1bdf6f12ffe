"""TransferEngine: which way a file goes to and comes from one system.

    fetch   the whole file by one request
    store   in place by one upload; or, for new entries, in a tar: empty files, those with times or
            a strict mode of their own, odd names, and many at once

What a store left on the cluster is proven by asking the cluster, never by an answer's status.
"""

from __future__ import annotations

import enum
import errno
import hashlib
import logging
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
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
from firecrestfs.paths import directory_of, name_of, split

from . import direct, modes
from .bundle import Bundler
from .carrying import Carrier, is_sendable
from .large_stores import LargeStores
from .packing import FILE_MODE, Packer, member_of
from .remote_job import RemoteJobs

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000


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
        large: LargeStores,
        conflict: str = "copy",
        atomic: bool = False,
        given: Callable[[str], Collection[int]] = lambda path: (),
        jobs: RemoteJobs | None = None,
    ) -> None:
        """*large* stores what is over the direct limit. *conflict*: what becomes of a store over
        somebody else's change. *atomic*: files of ours are replaced by a rename, never written
        into. See `Config`. *given*: the times (s) that we may have given a file meanwhile. *jobs*
        do what no request can.
        """
        self._given = given
        self._large = large
        self._atomic = atomic
        self._features = features
        self._conflict = conflict
        self._client = client
        self.files = Carrier(client, system.name, features.forbidden, bundler, jobs)
        self._system = system
        self._user = user
        self._bundler = bundler
        self._linked: dict[tuple[int, int], Attr] = {}  # dev, ino → our last store of such a file
        self._packer = Packer(client, system.name, bundler, system.limits.upload, self._with_mode)

    def fetch(self, path: str, attr: Attr) -> bytes:
        """Return the content of *path*, described by *attr*. Raises EFBIG over the direct limit."""
        return direct.fetch(self.files, path, attr, self._system.limits)

    def store(self, batch: Sequence[StoreItem]) -> dict[int, Attr | OSError]:
        """Store all of *batch*; return what each became on the cluster, or why it didn't.

        A `ConflictError` means that the bytes are safe on the cluster under another name.
        """
        results = self._packer.place(batch) if self._features.archives else {}
        refused: dict[str, OSError] = {}
        # Directories come before what is in them.
        for item in sorted(batch, key=lambda each: each.path):
            if item.key not in results:
                results[item.key] = self._outcome_of(item, refused)
        stored = (each for each in batch if isinstance(results[each.key], Attr | ConflictError))
        self._large.outdated(each.ident for each in stored if each.local is None)
        for attr in results.values():
            if isinstance(attr, Attr) and attr.nlink > 1:
                self._linked[attr.dev, attr.ino] = attr
        return results

    def newest_of(self, known: Attr) -> Attr:
        """Return *known*, or what we stored since by another name of that file."""
        return self._linked.get((known.dev, known.ino), known) if known.ino else known

    def _outcome_of(self, item: StoreItem, refused: dict[str, OSError]) -> Attr | OSError:
        """Store *item* singly; *refused* are the directories that could not be made."""
        for path, reason in refused.items():
            if item.path.startswith(path + "/"):
                return reason
        try:
            return self._store_one(item)
        except OSError as exc:
            if item.kind is Kind.DIRECTORY:
                refused[item.path] = exc
            return exc

    @property
    def large(self) -> LargeStores:
        """What stores files over the direct limit."""
        return self._large

    def may_append(self, path: str) -> bool:
        """Tell whether what is appended to the file *path* can be stored alone."""
        return self._large.appends.possible and not self._atomic and self.files.sends(path)

    def refuse_size(self, path: str, size: int) -> None:
        """Raise EFBIG, EOPNOTSUPP where *path* can't be stored with *size* bytes at all."""
        if not self.files.sends(path) and not self._packer.fits(size):
            text = "no request can carry this name, and a tar carries only small files; rename it"
            raise os_error(errno.EFBIG, path, text)
        if size > self._system.limits.upload:
            self._large.refuse(path, size)

    def chmod(self, path: str, mode: int) -> Attr:
        """Give what is at *path* this mode; return what it is then."""
        self.files.chmod(path, mode)
        return self.files.stat(path)

    def holds(
        self, path: str, now: Attr, sent: Sequence[tuple[int, str]], torn: bytes = b""
    ) -> bool:
        """Tell whether *path*, described by *now*, is what one of the stores *sent* left there.

        *torn*: or a beginning of these bytes.
        """
        if now.size == 0:
            # Torn, before its first byte.
            return True
        possible = {digest for size, digest in sent if size == now.size}
        if now.size <= len(torn):
            possible.add(digest_of(torn[: now.size]))
        return bool(possible) and self.files.checksum(path) in possible

    # -- one file ------------------------------------------------------------------------------

    def _store_one(self, item: StoreItem) -> Attr:
        if item.kind is Kind.DIRECTORY:
            return self._make_directory(item)
        if item.kind is Kind.SYMLINK:
            return self._make_link(item)
        if item.tail is None:
            self.refuse_size(item.path, item.size)
            self._large.require_way(item)
        now = self.files.stat_or_none(item.path)
        if now is not None and modes.takes_a_links_place(item, now, self._conflict):
            # Uploads follow links: what was renamed over the link must not go into its target.
            self.files.remove(item.path, Kind.SYMLINK)
            item, now = replace(item, base=None), None
        item = modes.with_inherited_mode(item, now)
        attr = self._large.append(item, now, self.is_same_version)
        if attr is not None:
            return self._with_mode(item, attr)
        standing = self._standing(item, now)
        if not item.whole or (standing is _Standing.CHANGED and self._conflict != "ours"):
            raise self._conflicting(item)
        if standing is not _Standing.LANDED:
            self._send(item, now)
        elif item.local is not None:
            self._large.tidy_landed(item)
        return self._prove(item)

    def _make_directory(self, item: StoreItem) -> Attr:
        with suppress(FileExistsError):
            self._client.mkdir(self._system.name, item.path)
        # One that was there: an answer got lost, and whether it has its mode by now is not known.
        attr = self.files.stat(item.path)
        if attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.EEXIST, item.path)
        if attr.uid != self._user.uid:
            return attr
        wanted = None if item.mode is None else item.mode & 0o777
        if wanted is not None and modes.needs_chmod(replace(item, mode=wanted), attr.mode & 0o777):
            # Set-id bits that the directory inherited stay.
            return self.chmod(item.path, attr.mode & 0o7000 | wanted)
        return attr

    def _make_link(self, item: StoreItem) -> Attr:
        there = self.files.stat_or_none(item.path)
        if there is not None:
            linked = there.kind is Kind.SYMLINK
            if linked and self.files.readlink(item.path) == item.link:
                # An answer of an earlier try got lost.
                return there
            raise os_error(errno.EEXIST, item.path, "something else has the name on the cluster")
        forbidden = self._features.forbidden
        sendable = self.files.sends(item.path)
        if self._features.any_link and sendable and is_sendable(item.link, forbidden):
            self._client.symlink(self._system.name, item.link, item.path, new=True)
        else:
            directory = directory_of(item.path)
            self._bundler.place([member_of(item, directory)], directory, directory)
        attr = self.files.stat(item.path)
        if attr.kind is not Kind.SYMLINK:
            raise os_error(errno.EEXIST, item.path)
        return attr

    def _send(self, item: StoreItem, now: Attr | None) -> None:
        """Send *item* over *now* the way that keeps most of what is there and is wanted."""
        parts = modes.takes_one_of_several(item, now)
        if item.local is not None:
            replaces = now is None or parts or self._is_plain(item, now)
            self._large.send(item, now, replaces=replaces and not item.inherits)
            return
        if parts:
            # Written into, it would change under its other names as well.
            self.files.remove_proven(item.path)
            now = None
        directory = directory_of(item.path)
        if self._needs_tar(item) if now is None else self._may_replace(item, now):
            self._bundler.place([member_of(item, directory)], directory, directory)
            return
        if self._atomic and now is not None and self._is_plain(item, now):
            self._replace(item, now)
        elif not item.data:
            self.files.empty(item.path)
        else:
            self.files.upload(item.path, item.data)
        mode = FILE_MODE if now is None else now.mode
        if item.mode is not None and modes.needs_chmod(item, mode):
            self.files.chmod(item.path, item.mode)

    def _replace(self, item: StoreItem, now: Attr) -> None:
        """Upload *item* under a hidden name and rename that over *now*."""
        directory, system = directory_of(item.path), self._system.name
        mode = now.mode if item.mode is None else item.mode
        with self._bundler.hidden(directory) as beside:
            self._client.upload(system, directory, name_of(beside), item.data)
            source = self.chmod(beside, mode)
            if self._features.rename:
                self._client.rename(system, beside, item.path, source=source)
            else:
                self._bundler.rename(beside, item.path, source, now)
            self._bundler.moved(beside)

    def _prove(self, item: StoreItem) -> Attr:
        try:
            attr = self.files.stat(item.path)
        except FileNotFoundError:
            text = "it was gone again right after it was stored; it is stored once more"
            raise os_error(errno.EAGAIN, item.path, text) from None
        if attr.size != item.size:
            raise os_error(
                errno.EIO,
                item.path,
                f"the cluster has {attr.size:,} bytes of {item.size:,} after the upload",
            )
        return self._with_mode(item, attr)

    def _with_mode(self, item: StoreItem, attr: Attr) -> Attr:
        """Give the landed file the mode it shall have where the way there didn't."""
        linked = item.kind is Kind.SYMLINK
        if linked or item.mode is None or not modes.needs_chmod(item, attr.mode):
            return attr
        self.files.chmod(item.path, item.mode)
        if attr.source is Source.LS:
            return replace(attr, mode=item.mode)
        return self.files.stat(item.path)

    # -- decisions -----------------------------------------------------------------------------

    def _needs_tar(self, item: StoreItem) -> bool:
        strict = item.mode is not None and bool(FILE_MODE & ~item.mode)
        if item.inherits:
            # tar would take from an ACL, which the parent passes on, what the umask takes.
            return strict or not self.files.uploads(item.path)
        empty = not item.data and not self._features.empty_upload
        return empty or item.mtime_ns is not None or strict or not self.files.uploads(item.path)

    def _may_replace(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether the existing file *now* needs, and bears, being replaced by a new one."""
        empty = not item.data and not self._features.empty_upload
        if not empty and item.mtime_ns is None and self.files.uploads(item.path):
            return False
        return self._is_plain(item, now)

    def _is_plain(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether *now* is a file of ours that nothing but its name speaks of."""
        # Of a name that can't be sent a listing tells, which knows nothing of further names.
        return (
            self.files.sends(item.path)
            and now.kind is Kind.FILE
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
        # Before it is somebody else's change, rule ourselves out: answers get lost, stores torn.
        if self._large.has_landed(item, now):
            return _Standing.LANDED
        if self._large.given_up.was_stored(now) or self._large.was_written_into(item):
            # An earlier version of ours.
            return _Standing.TORN
        if item.local is not None:
            return _Standing.CHANGED
        if now.kind is Kind.FILE and now.size <= len(item.data):
            ours = digest_of(item.data[: now.size])
            if now.size == 0 or self.files.checksum(item.path) == ours:
                return _Standing.LANDED if now.size == len(item.data) else _Standing.TORN
        if now.kind is Kind.FILE and item.sent and self.holds(item.path, now, item.sent, item.torn):
            # An earlier version of ours, whose answer got lost.
            return _Standing.TORN
        return _Standing.CHANGED

    def is_same_version(self, path: str, known: Attr, now: Attr) -> bool:
        """Tell whether *now* (by stat) is the version of *path* that *known* describes."""
        if known.kind is not now.kind:
            # The text of a link may be as long as the file was.
            return False
        if same_version(known, now) or self._is_touched(path, known, now):
            return True
        if known.source is not Source.LS:
            return False
        # Times of listings come by way of a zone: ask for the very text before crying wolf.
        directory, name = split(path)
        for entry in self.files.list(directory):
            if entry.name == name:
                return entry.attr.fingerprint == known.fingerprint
        return False

    def holds_version(self, path: str, known: Attr, now: Attr) -> bool:
        """The same, or that *now* begins with it: jobs of ours, and others, have appended to it."""
        same = self.is_same_version(path, known, now)
        return same or self._large.appends.made(path, known, now, alone=False)

    def _is_touched(self, path: str, known: Attr, now: Attr) -> bool:
        """Tell whether *now* is *known*, of which a job of ours has changed the time alone.

        Or behind which one has put what is stored here.
        """
        times = self._given(path)
        same = bool(times) and now.size == known.size and now.ino in (0, known.ino or now.ino)
        same = same and now.mtime_ns // _SECOND in times
        return same or self._large.appends.made(path, known, now, alone=True)

    def _conflicting(self, item: StoreItem) -> OSError:
        """Return the error for a store over somebody else's change, ours stored beside by then."""
        if self._conflict == "copy" and item.whole:
            return self._store_beside(item)
        if self._conflict != "fail":
            return ConflictError(item.path, "", None)
        text = (
            "changed on the cluster since it was read here; your version is kept on this machine "
            "(--conflict=fail)"
        )
        return os_error(errno.ESTALE, item.path, text)

    def _store_beside(self, item: StoreItem) -> ConflictError:
        """Store *item* under a name of its own and return the error that tells so."""
        path = modes.conflict_path(item.path)
        beside = replace(item, path=path, base=None)
        if self.files.stat_or_none(path) is not None:
            raise os_error(errno.EAGAIN, path, "a conflict copy of this very second exists")
        self._send(beside, None)
        return ConflictError(item.path, path, self._prove(beside))


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of *data* as the cluster's checksum tells it."""
    return hashlib.sha256(data).hexdigest()
