"""Compressed: one large file on its way to the cluster by one request, as an archive.

    compress ─ upload ─ extract under a name of ours ─ proven (by size and time) ─ renamed

What fits one request compressed needs no object store, and no wait for a job. The cluster's tar
has the time of one command for it; where that ends early, or the answer is lost, a look decides,
and what isn't proven is removed and goes the other way.
"""

from __future__ import annotations

import errno
import logging
import time
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from firecrestfs.cache.transfers import UploadRecord
from firecrestfs.errors import is_transient
from firecrestfs.model import Attr, StoreItem
from firecrestfs.paths import directory_of

from .bundle import OUR_PREFIX, Bundler, Member, below_plain
from .compressing import archive
from .packing import is_time, member_of
from .progress import Row
from .sending import Landing, opened

if TYPE_CHECKING:
    from .large_stores import LargeStores

log = logging.getLogger(__name__)

#: The most that the cluster is asked to unpack by one command: that must end within 5 s, the
#: servers' usual limit. A file system that writes 50 MB/s takes half of it.
UNPACKED_BYTES = 128 << 20
#: Where that was too much, half is tried from then on, but this much always.
_LEAST_BYTES = 16 << 20
#: The most that an archive may have, whatever a request may carry: it is held in memory.
_ARCHIVE_BYTES = 16 << 20
#: How long what was asked for may go on although its answer is lost: the time limit of a command,
#: and a margin (seconds). Between two looks a tar that is at it has written something.
_COMMAND_S, _LOOK_S = 6.0, 1.0
#: What the object store can't mend either.
_NO_OTHER_WAY = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS})


class Unfit(Exception):
    """It doesn't go this way: the text says why. Nothing is left of it."""


class Compressed:
    """Sends files of one system compressed. Thread-safe."""

    def __init__(self, bundler: Bundler, takes_archives: bool) -> None:
        self._bundler = bundler
        self._takes_archives = takes_archives
        self._bound = UNPACKED_BYTES  # replaced whole: no lock

    def send(self, stores: LargeStores, item: StoreItem, row: Row) -> Landing:
        """Return where *item* has landed, to be placed from there. Raises `Unfit`.

        Other errors are those that would meet it on any way, or pass.
        """
        assert item.local is not None
        if not self._takes_archives:
            raise Unfit("this server unpacks no archives of the kind")
        if item.size > self._bound:
            raise Unfit(f"more than {self._bound} bytes take too long to unpack")
        room = min(stores.system.limits.upload, _ARCHIVE_BYTES)
        temporary = f"{item.path.rpartition('/')[0]}/{OUR_PREFIX}{uuid.uuid4().hex}"
        member, into = _member_of(item, temporary)
        packed = _packed(stores, item, member, room)
        text = "%s goes by one request, compressed: its %d bytes become %d of the %d that it takes"
        log.info(text, item.path, item.size, len(packed), room)
        row.begin("moving")
        stores.leftovers.expect(temporary)
        try:
            attr = self._unpack(stores, item, packed, temporary, into)
            stores.require_wanted(item)
        except BaseException:
            stores.leftovers.remove(temporary)
            raise
        row.done = item.size
        self._bound = min(UNPACKED_BYTES, max(self._bound, 2 * item.size))
        stores.transfers.begin(_record_of(stores, item, temporary, attr))
        return Landing(temporary, attr, ())

    def _unpack(
        self,
        stores: LargeStores,
        item: StoreItem,
        packed: bytes,
        temporary: str,
        into: str,
        again: bool = False,
    ) -> Attr:
        """Return what *packed*, unpacked in *into*, has made at *temporary*, proven."""
        system, begun = stores.system.name, False
        try:
            with self._bundler.uploaded(packed, directory_of(temporary)) as path:
                begun = True
                stores.client.extract(system, path, into, compression="gzip")
        except OSError as exc:
            passes = is_transient(exc) and not getattr(exc, "ambiguous", False)
            if exc.errno in _NO_OTHER_WAY or passes:
                raise
            if not begun and not again and is_transient(exc):
                # An archive is nobody else's: another one does no harm.
                return self._unpack(stores, item, packed, temporary, into, again=True)
            attr = _settled(stores, item, temporary) if begun else None
            if attr is None:
                if begun and exc.errno == errno.ETIMEDOUT:
                    self._bound = min(self._bound, max(item.size // 2, _LEAST_BYTES))
                raise Unfit(f"the cluster didn't unpack it: {exc.strerror}") from exc
            return attr
        attr = _look(stores, temporary)
        if attr is None or not _is_whole(item, attr):
            raise Unfit("the cluster said that it has unpacked it, but has not")
        if stores.verify:
            stores.require_equal(item, temporary)
        return attr


def _member_of(item: StoreItem, temporary: str) -> tuple[Member, str]:
    """Return *item* as what is unpacked to *temporary*, and where it is to be unpacked."""
    folder = directory_of(temporary)
    members, into = below_plain([member_of(replace(item, path=temporary), folder)], folder)
    return members[0], into


def _packed(stores: LargeStores, item: StoreItem, member: Member, room: int) -> bytes:
    local = item.local
    assert local is not None
    with opened(item) as source:
        wanted = partial(stores.is_wanted, local)
        packed = archive(member, source, local.size, room, wanted)
    stores.require_wanted(item)
    if packed is None:
        raise Unfit(f"compressed it is over the {room} bytes of one request as well")
    return packed


def _record_of(stores: LargeStores, item: StoreItem, temporary: str, attr: Attr) -> UploadRecord:
    """Return by what we know our file again if we die while it is renamed."""
    local = item.local
    assert local is not None
    return UploadRecord(
        local.ident,
        stores.system.name,
        item.path,
        temporary,
        local.size,
        local.mtime_ns,
        {},
        {},
        complete=True,
        landed=attr.ino,
        landed_mtime=attr.mtime_ns // 1_000_000_000,
    )


def _settled(stores: LargeStores, item: StoreItem, temporary: str) -> Attr | None:
    """Return what a command whose answer is lost has made, if that is all; wait while it runs."""
    before, end = -1, time.monotonic() + _COMMAND_S
    while True:
        now = _look(stores, temporary)
        if now is not None and _is_whole(item, now):
            return now if _is_equal(stores, item, temporary) else None
        size = -1 if now is None else now.size
        stalled = size >= 0 and size == before
        if stalled or time.monotonic() > end or stores.stopped.wait(_LOOK_S):
            return None
        before = size


def _is_equal(stores: LargeStores, item: StoreItem, temporary: str) -> bool:
    try:
        stores.require_equal(item, temporary)
    except OSError as exc:
        log.info("%s is not proven to have been unpacked: %s", item.path, exc)
        return False
    return True


def _look(stores: LargeStores, path: str) -> Attr | None:
    try:
        return stores.client.stat(stores.system.name, path)
    except FileNotFoundError:
        return None


def _is_whole(item: StoreItem, attr: Attr) -> bool:
    """Tell whether tar is done with what is at *attr*: it gives the time last."""
    wanted = item.written_ns if item.mtime_ns is None else item.mtime_ns
    return attr.size == item.size and (wanted is None or is_time(attr, wanted))
