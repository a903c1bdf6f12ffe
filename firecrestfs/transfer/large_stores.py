"""LargeStores: files over the direct limit on their way to the cluster.

    ticket ─ parts, several at a time ─ put together ─ landed (proven by a stat) ─ renamed

or, where one request carries it compressed, as `compressed` tells.

What is under way is written down, so that another process goes on where this one ended. The file
lands under a name of ours and is then renamed over its target, which nobody sees half-written;
where the target has more names, another owner or an ACL, it is written into instead.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import threading
from collections.abc import Callable, Iterable

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.transfers import Transfers, UploadRecord
from firecrestfs.errors import (
    ConflictError,
    FirecrestException,
    NotAppendedError,
    NotYetError,
    os_error,
)
from firecrestfs.model import Attr, Features, Kind, LocalFile, StoreItem, System, UserInfo

from .aliases import Aliases
from .appends import Appends
from .compressed import Compressed, Unfit
from .given_up import GivenUp, is_landed
from .leftovers import Leftovers
from .overrun import Overrun
from .placing import BEGUN, Placing
from .progress import Board, Row
from .sending import Landing, Sending, is_in_place, opened, superseded
from .staging import refuse_other_ways

log = logging.getLogger(__name__)

#: The most that v1's form takes: one request of S3.
_FORM_BYTES = 5 << 30
_BLOCK = 1 << 20
_SECOND = 1_000_000_000


class LargeStores:
    """Stores large files of one system. Thread-safe; `send` waits until a file has landed."""

    def __init__(
        self,
        client: TypedClient,
        system: System,
        user: UserInfo,
        features: Features,
        aliases: Aliases,
        placing: Placing,
        appends: Appends,
        transfers: Transfers,
        leftovers: Leftovers,
        board: Board,
        stopped: threading.Event,
        compressed: Compressed,
        verify: bool = False,
    ) -> None:
        """*compressed* is tried first. *verify*: prove what has landed by its checksum, too."""
        self.appends = appends
        self.client = client
        self.system = system
        self.v1 = features.version.startswith("1")
        self.account = user.accounts[0] if system.needs_account and user.accounts else None
        self.aliases = aliases
        self.transfers = transfers
        self.leftovers = leftovers
        self.stopped = stopped
        self.given_up = GivenUp(client, system.name, transfers, leftovers, stopped)
        self.verify = verify
        self.overrun = Overrun()
        self._compressed = compressed
        self._placing = placing
        self._board = board
        self._lock = threading.Lock()  # guards _unwanted
        self._unwanted: set[str] = set()  # copies whose transfer is to end

    def send(self, item: StoreItem, now: Attr | None, *, replaces: bool = False) -> None:
        """Make *item* the content of its path, where *now* is what is there. Raises why it isn't.

        *replaces*: a new file that a tar brings may take its place. After a passing failure the
        next try goes on where this one ended. A `ConflictError` tells that the target was changed
        by somebody else meanwhile, and under which name ours is. Once all is written down, call
        `noted`.
        """
        assert item.local is not None
        self.refuse(item.path, item.size)
        with self._lock:
            self._unwanted.discard(item.local.ident)
        now = self._freed(item, now)
        row = Row(item.path, "up", item.size)
        with self._board.showing(row):
            landing = self._landing(item, item.local, now, replaces, row)
            if landing.temporary != item.path:
                self._place(item, now, landing)
        self.given_up.tidy(landing)

    def _freed(self, item: StoreItem, now: Attr | None) -> Attr | None:
        """Return the file *now*, rid of a second name that a store of earlier bytes has left it."""
        record = self.transfers.upload(item.ident)
        if record is None or now is None or is_of(record, item) or not is_landed(record, now):
            return now
        self.given_up.bury(record)
        after = self.client.stat(self.system.name, item.path)
        return after if is_landed(record, after) else now

    def _landing(
        self, item: StoreItem, local: LocalFile, now: Attr | None, replaces: bool, row: Row
    ) -> Landing:
        """Bring *item* to the cluster, the way that takes least; return where it is."""
        record = self.transfers.upload(local.ident)
        in_place = self.v1 and now is not None and not self._placing.may_replace(item, now)
        if record is not None and is_in_place(record) and not in_place:
            self.given_up.require_copied(record)
        if record is not None and is_of(record, item) and (begun := self._placing.begun(record)):
            return begun
        if record is not None and not record.ticket:
            # It had landed, but is not at its path: anew.
            self.given_up.bury(record)
            record = None
        why = "a transfer of it has begun"
        if record is None:
            try:
                if not replaces:
                    raise Unfit("a tar can't bring what keeps owner, names and ACL of its target")
                return self._compressed.send(self, item, row)
            except Unfit as exc:
                why = str(exc)
        text = "%s goes by the object store, %s: its %d bytes are over the %d of one request; %s"
        way = "into the file that is there" if in_place else "under another name first"
        log.info(text, item.path, way, item.size, self.system.limits.upload, why)
        return Sending(self, item, local, row, in_place).run()

    def _place(self, item: StoreItem, now: Attr | None, landing: Landing) -> None:
        try:
            copied = self._placing.place(item, now, landing)
        except ConflictError:
            self.leftovers.gone(landing.temporary)
            raise
        if copied is not None:
            assert item.local is not None
            self._has_copied(item.local.ident, landing.temporary, copied)
        self.leftovers.gone(landing.temporary)

    def append(
        self, item: StoreItem, now: Attr | None, is_same: Callable[[str, Attr, Attr], bool]
    ) -> Attr | None:
        """Put what was appended to *item* behind the file *now*; return what that is then.

        None where it has to be sent as a whole, or, unless it is `whole`, has nothing to go behind
        any more. Raises `NotAppendedError` where the rest is to be fetched first. *is_same* tells
        whether the second is the version of a path that the first describes.
        """
        if item.tail is None:
            self.appends.stop(item.ident)
            return None
        same = (
            now is not None
            and item.base is not None
            and (now.kind, now.size) == (Kind.FILE, item.tail)
            and is_same(item.path, item.base, now)
        )
        if same and item.size == item.tail:
            return now
        if self.appends.begun(item) is not None or (same and item.data):
            return self._appended(item, now)
        if same and not item.whole:
            text = f"{item.size - item.tail:,} bytes are too many for one request"
            raise NotAppendedError(item.path, text)
        return None

    def require_way(self, item: StoreItem) -> None:
        """Raise EAGAIN while other bytes than those of *item* may be copied into its path."""
        for record in self.transfers.uploads(self.system.name):
            if is_in_place(record) and record.path == item.path:
                own = record.ident == item.ident
                # What is large goes by the same ticket, instead of what was sent before.
                if not own or item.local is None:
                    self.given_up.require_copied(record, replaced=own)

    def _appended(self, item: StoreItem, now: Attr | None) -> Attr | None:
        more = item.size - (item.tail or 0)
        text = "%s is appended to by a job: that takes %d bytes, not the %d of all of it"
        log.info(text, item.path, more, item.size)
        with self._lock:
            self._unwanted.discard(item.ident)
        row = Row(item.path, "up", more)
        row.begin("landing")
        try:
            with self._board.showing(row):
                return self.appends.send(item, now, lambda: self._require_wanted(item))
        except NotAppendedError as exc:
            log.info("%s goes as a whole: %s", item.path, exc.strerror)
            if not item.whole:
                raise
            return None

    def _require_wanted(self, item: StoreItem) -> None:
        if item.ident in self._unwanted:
            text = "it is not wanted any more"
            raise FirecrestException(errno.ECANCELED, text, item.path, transient=True)

    def noted(self, idents: Iterable[str]) -> None:
        """Forget the transfers of the copies *idents*: that they have landed is written down.

        Until then a process that dies has to know its own file again: see `has_landed`.
        """
        for ident in set(self.unfinished()).intersection(idents):
            self.transfers.end(ident)
            self.appends.end(ident)

    def outdated(self, idents: Iterable[str]) -> None:
        """End the uploads of the copies *idents*, other bytes of which went another way."""
        uploads = {each.ident: each for each in self.transfers.uploads(self.system.name)}
        for ident in uploads.keys() & set(idents):
            self.given_up.bury(uploads[ident])

    def refuse(self, path: str, size: int) -> None:
        """Raise where a file of *size* bytes can't be stored at all."""
        refuse_other_ways(self.system, path, "store")
        if self.v1 and size > _FORM_BYTES:
            text = f"{size:,} bytes are more than the {_FORM_BYTES:,} that API v1 can take"
            raise os_error(errno.EFBIG, path, text)

    def supersede(self, ident: str) -> None:
        """End the transfer of the copy *ident*, if there is one: its bytes are not wanted."""
        with self._lock:
            self._unwanted.add(ident)

    def unwanted(self, idents: Iterable[str]) -> None:
        """Remove what transfers of the copies *idents* have left, which nobody wants any more."""
        for ident in set(idents).intersection(self.unfinished()):
            record = self.transfers.upload(ident)
            if record is not None:
                self.given_up.bury(record)
            self.appends.forget(ident)

    def unfinished(self) -> list[str]:
        """Return the copies of which a transfer has begun and not ended."""
        records = self.transfers.uploads(self.system.name)
        return [record.ident for record in records if record.path] + self.appends.unfinished()

    def is_wanted(self, local: LocalFile) -> bool:
        """Tell whether the bytes of *local* are still to be sent."""
        return local.ident not in self._unwanted and not self.stopped.is_set()

    def require_wanted(self, item: StoreItem) -> None:
        """Raise ECANCELED, ESHUTDOWN where the bytes of *item* aren't to be sent any more."""
        assert item.local is not None
        if self.stopped.is_set():
            raise os_error(errno.ESHUTDOWN, item.path, "the mount is being taken down")
        if not item.local.unchanged or not self.is_wanted(item.local):
            raise superseded(item.path)

    def require_equal(self, item: StoreItem, path: str) -> None:
        """Raise EIO where the cluster has other bytes at *path* than those of *item*."""
        digest = hashlib.sha256()
        with opened(item) as source:
            while block := source.read(_BLOCK):
                digest.update(block)
        if self.client.checksum(self.system.name, path) != digest.hexdigest():
            text = "what has landed is not what was sent: the checksums differ"
            raise os_error(errno.EIO, item.path, text)

    def has_landed(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether *now* is what we have put there: the answer, or we, died before we knew."""
        record = None if item.local is None else self.transfers.upload(item.local.ident)
        return record is not None and is_of(record, item) and is_landed(record, now)

    def tidy_landed(self, item: StoreItem) -> None:
        """Remove the name under which *item* has landed first, if we died before that."""
        record = None if item.local is None else self.transfers.upload(item.local.ident)
        if record is not None and record.temporary != record.path:
            for path in (record.temporary, record.temporary + BEGUN):
                self.leftovers.expect(path)
                self.leftovers.remove(path)
            self.given_up.tidy(Landing(record.temporary, None, ()))

    def was_written_into(self, item: StoreItem) -> bool:
        """Tell whether a transfer of ours that ended early wrote into the target itself."""
        record = self.transfers.upload(item.ident)
        if record is None:
            return False
        if record.temporary == item.path:
            return True
        begun = self._placing.begun(record) is not None
        if begun and not is_of(record, item):
            # Only a job can tell whether what is there is ours: one that completes it first.
            return self._finished(record, item)
        # Where it is of this version, the next one finds that out.
        return begun

    def _finished(self, record: UploadRecord, item: StoreItem) -> bool:
        """Return False where an earlier version can't be completed: somebody else has changed it.

        Raises `NotYetError` once it is complete, and known for ours.
        """
        after = self._placing.finish(record, item.path)
        if after is None:
            return False
        self._has_copied(record.ident, record.temporary, after)
        raise NotYetError(item.path, 0.0, "an earlier version of it has been completed first")

    def _has_copied(self, ident: str, temporary: str, copied: Attr) -> None:
        """Note that what has landed as *temporary* is in its target, *copied*, as well."""
        # From here on we know our bytes again by what they were written into.
        self.transfers.landed(ident, copied.ino, copied.mtime_ns // _SECOND)
        self.leftovers.expect(temporary + BEGUN)
        self.leftovers.remove(temporary + BEGUN)


def is_of(record: UploadRecord, item: StoreItem) -> bool:
    """Tell whether *record* is of a transfer of *item*, as it is now, to where it shall go."""
    local = item.local
    if local is None or record.path != item.path:
        return False
    return (record.size, record.mtime_ns) == (local.size, local.mtime_ns)
