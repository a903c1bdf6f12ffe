"""Sending: one large file on its way to a name on the cluster, until it is proven to be there."""

from __future__ import annotations

import errno
import logging
import time
import uuid
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

from firecrestfs.api.tickets import Seen, Standing, Ticket
from firecrestfs.cache.transfers import UploadRecord
from firecrestfs.errors import FirecrestException, is_transient, os_error
from firecrestfs.model import Attr, LocalFile, StoreItem

from .aliases import is_plain
from .bundle import OUR_PREFIX
from .overrun import OverranError
from .progress import Row

if TYPE_CHECKING:
    from .large_stores import LargeStores

log = logging.getLogger(__name__)

#: Parts of one file that travel at the same time.
_AT_ONCE = 4
_FIRST_S, _LONGEST_S = 0.2, 5.0
#: Time that a landing may take (seconds), besides that for its bytes.
_LANDING_S, _LANDING_BYTES_S = 86_400.0, 1_000_000
#: Between two looks whether what is being sent is still waited for (seconds).
_ALIVE_S = 60.0
#: A link that has expired, or an upload that the store has forgotten: another ticket helps.
_WORN_OUT = frozenset({errno.EACCES, errno.ENOENT, errno.ESTALE})
#: What a transfer gives a new file, with the usual umask.
_UMASKED = 0o644


@dataclass(frozen=True, slots=True)
class Landing:
    """Where a file has landed: what is there, proven, and what else of the transfer may be left."""

    temporary: str
    attr: Attr | None
    leftovers: tuple[str, ...]


class Sending:
    """One try to send one file. Made, run and forgotten by one thread."""

    def __init__(
        self, stores: LargeStores, item: StoreItem, local: LocalFile, row: Row, in_place: bool
    ) -> None:
        """*in_place*: write into the target itself, which keeps its inode."""
        self._stores = stores
        self._item = item
        self._local = local
        self._row = row
        self._in_place = in_place
        self._stack = ExitStack()
        self._done: dict[int, int] = {}
        self._crashed = False  # the cluster has tried to fetch it, in vain
        self._goes_on_there = False  # and tries it again
        self._is_first = True  # nothing else was sent by this ticket
        self._alive = time.monotonic()  # when the cluster was known last to wait for it

    def run(self) -> Landing:
        """Return where the file has landed. Raises why it hasn't."""
        with self._stack:
            for last in (False, True):
                record = self._taken_up() or self._begun()
                ticket = self._stores.client.ticket(record.temporary, record.ticket)
                self._stores.leftovers.keep(*ticket.leftovers)
                try:
                    if not record.complete:
                        self._send(record, ticket)
                    attr = self._landed(record, ticket)
                    return Landing(record.temporary, attr, ticket.leftovers)
                except OSError as exc:
                    if not self._goes_on(record, exc, last):
                        raise
        raise os_error(errno.EIO, self._item.path, "not stored")

    def _goes_on(self, record: UploadRecord, exc: OSError, last: bool) -> bool:
        """Clean up after *exc* where that must be; return whether another ticket may help."""
        if self._stores.stopped.is_set() and exc.errno != errno.ECANCELED:
            return False
        if is_transient(exc) and exc.errno != errno.ECANCELED and not self._crashed:
            return False
        if self._in_place and (exc.errno == errno.ECANCELED or self._goes_on_there):
            # It lands all the same: what comes next has to know of it.
            return False
        self._stores.given_up.bury(record)
        if isinstance(exc, OverranError):
            return False
        worn_out = (exc.errno in _WORN_OUT or (self._crashed and is_transient(exc))) and not last
        self._crashed = False
        if worn_out:
            log.info("%s: %s: sending it anew", self._item.path, exc)
        return worn_out

    # -- tickets -------------------------------------------------------------------------------

    def _taken_up(self) -> UploadRecord | None:
        """Return the transfer that an earlier try has begun, if it is good for this one."""
        record = self._stores.transfers.upload(self._local.ident)
        if record is None:
            return None
        same = (record.path, record.size, record.mtime_ns) == (
            self._item.path,
            self._local.size,
            self._local.mtime_ns,
        )
        plain = self._stores.v1 or is_plain(record.temporary)
        in_place = record.temporary == record.path
        if same and plain and in_place == self._in_place and self._is_alive(record):
            log.info("%s: going on with the transfer that was begun", self._item.path)
            self._is_first = False
            return record
        if in_place and self._in_place and self._can_be_resent(record):
            self._is_first = False
            return self._resent(record)
        self._stores.given_up.bury(record)
        return None

    def _can_be_resent(self, record: UploadRecord) -> bool:
        """Tell whether other bytes can be sent by the same ticket.

        Where they can, they must: another one would not keep the first from landing later.
        """
        ticket = self._stores.client.ticket(record.temporary, record.ticket)
        return not ticket.bound and looked(ticket).standing is not Standing.OVER

    def _resent(self, record: UploadRecord) -> UploadRecord:
        again = replace(
            record,
            path=self._item.path,
            size=self._local.size,
            mtime_ns=self._local.mtime_ns,
            parts={},
            complete=False,
            landed=0,
            landed_mtime=0,
        )
        self._stores.transfers.begin(again)
        return again

    def _is_alive(self, record: UploadRecord) -> bool:
        if record.complete:
            return True
        try:
            seen = self._stores.client.ticket(record.temporary, record.ticket).look()
        except FirecrestException as exc:
            if exc.transient and not exc.ambiguous:
                raise
            return False
        return seen.standing is Standing.WAITING

    def _begun(self) -> UploadRecord:
        stores, item = self._stores, self._item
        self._is_first = True
        temporary = item.path if self._in_place else self._temporary()
        self._row.begin("queued")
        target = temporary
        if not stores.v1 and not is_plain(temporary):
            folder, _, name = temporary.rpartition("/")
            target = f"{self._stack.enter_context(stores.aliases.of(folder))}/{name}"
        if not self._in_place:
            stores.leftovers.expect(temporary)
        # On v1 a task waits then, which is in nobody's way.
        order = None if stores.v1 else stores.given_up.ordering(temporary, target)
        ticket = self._ordered(order, target)
        stores.leftovers.expect(*ticket.leftovers)
        record = UploadRecord(
            self._local.ident,
            stores.system.name,
            item.path,
            temporary,
            self._local.size,
            self._local.mtime_ns,
            ticket.as_dict(),
            {},
        )
        stores.transfers.begin(record)
        if order is not None:
            stores.given_up.ordered(order)
        # The record knows of it now: no sweep of the next mount may take its directory away.
        stores.leftovers.gone(temporary, folder_of_ours(temporary))
        return record

    def _ordered(self, order: UploadRecord | None, target: str) -> Ticket:
        """Order the upload to *target*, which *order* tells of."""
        stores, size = self._stores, self._item.size
        try:
            return stores.client.order_upload(
                stores.system.name, target, size, account=stores.account
            )
        except OSError as exc:
            if order is not None:
                stores.given_up.ordered(order, exc)
            raise

    def _temporary(self) -> str:
        """Return a name of ours in the target's directory; what is private gets a private place."""
        stores, item = self._stores, self._item
        folder = item.path.rpartition("/")[0]
        temporary = f"{folder}/{OUR_PREFIX}{uuid.uuid4().hex}"
        if item.mode is not None and _UMASKED & ~item.mode:
            stores.leftovers.expect(temporary)
            stores.client.mkdir(stores.system.name, temporary)
            stores.client.chmod(stores.system.name, temporary, 0o700)
            temporary += "/file"
        return temporary

    # -- parts ---------------------------------------------------------------------------------

    def _send(self, record: UploadRecord, ticket: Ticket) -> None:
        self._row.begin("moving")
        marks = dict(record.parts)
        for number in marks:
            self._count(number, min(ticket.part_size, self._local.size))
        missing = [number for number in range(ticket.parts) if number not in marks]
        failed = False

        def send(number: int) -> None:
            def wanted() -> bool:
                return not failed and self._stores.is_wanted(self._local)

            def progress(done: int, total: int) -> None:
                self._count(number, done)

            self._require_waiting(record, ticket)
            with opened(self._item) as source:
                mark = ticket.send(number, source, self._local.size, progress, wanted)
            marks[number] = mark
            self._stores.transfers.sent(self._local.ident, number, mark)

        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="part") as pool:
            futures = [pool.submit(send, number) for number in missing]
            wait(futures, return_when=FIRST_EXCEPTION)
            failed = any(each.done() and each.exception() for each in futures)
            for each in futures:
                each.cancel()
        faults = [fault for each in futures if not each.cancelled() and (fault := each.exception())]
        if faults:
            # Parts that were stopped because of another tell nothing.
            raise next((each for each in faults if not _is_superseded(each)), faults[0])
        self._stores.require_wanted(self._item)
        ticket.complete([marks[number] for number in range(ticket.parts)])
        if self._in_place and not self._is_first:
            self._require_in_time(record, ticket)
        self._stores.transfers.completed(self._local.ident)

    def _require_waiting(self, record: UploadRecord, ticket: Ticket) -> None:
        """Raise where the job that was to fetch it has ended, though not all is sent."""
        if time.monotonic() - self._alive < _ALIVE_S:
            return
        self._alive = time.monotonic()
        if (seen := self._look(ticket)).standing is Standing.OVER:
            raise self._refused(record, seen)

    def _count(self, number: int, done: int) -> None:
        self._done[number] = done
        self._row.done = sum(self._done.values())

    # -- landing -------------------------------------------------------------------------------

    def _landed(self, record: UploadRecord, ticket: Ticket) -> Attr:
        """Return what is at the temporary name once that is all that was sent."""
        self._row.begin("landing")
        pause, waited = _FIRST_S, 0.0
        while (seen := self._look(ticket)).standing is not Standing.OVER:
            if seen.standing is Standing.TRYING:
                self._goes_on_there = True
                raise self._refused(record, seen)
            # What was rewritten meanwhile need not wait for a queue to come to its end.
            outdated = not (self._in_place or self._local.unchanged)
            if (
                self._stores.stopped.wait(pause)
                or outdated
                or not self._stores.is_wanted(self._local)
            ):
                self._stores.require_wanted(self._item)
            waited += pause
            if waited > _LANDING_S + self._local.size / _LANDING_BYTES_S:
                raise os_error(errno.EIO, self._item.path, "it did not land within a day")
            pause = min(pause * 1.5, _LONGEST_S)
        attr = self._stat_or_none(record.temporary)
        if attr is None or attr.size != self._local.size:
            raise self._refused(record, seen)
        if self._in_place and seen.fault is not None:
            self._require_written(record)
        if self._stores.verify:
            self._stores.require_equal(self._item, record.temporary)
        self._stores.require_wanted(self._item)
        seconds = attr.mtime_ns // 1_000_000_000
        self._stores.transfers.landed(self._local.ident, attr.ino, seconds)
        self._stores.overrun.landed(self._local)
        return attr

    def _require_in_time(self, record: UploadRecord, ticket: Ticket) -> None:
        """Raise where what was sent by *ticket* before may have been copied instead of this."""
        while (seen := self._look(ticket)).standing is Standing.COPYING:
            if self._stores.stopped.wait(_FIRST_S):
                self._stores.require_wanted(self._item)
        if seen.standing is Standing.OVER:
            self._require_written(record)

    def _require_written(self, record: UploadRecord) -> None:
        """Raise EAGAIN where the target isn't proven to have more of ours than the size."""
        try:
            self._stores.require_equal(self._item, record.temporary)
        except OSError as exc:
            if is_transient(exc) and exc.errno != errno.ETIMEDOUT:
                raise
            self._crashed = True
            text = f"not proven to have been copied: {exc.strerror}"
            raise FirecrestException(errno.EAGAIN, text, self._item.path, transient=True) from exc

    def _look(self, ticket: Ticket) -> Seen:
        try:
            return looked(ticket)
        except FirecrestException as exc:
            if not exc.transient:
                raise
            log.info("landing: %s; looking again", exc.strerror)
            return Seen(Standing.WAITING)

    def _refused(self, record: UploadRecord, seen: Seen) -> OSError:
        """Return why the file has not landed, as well as that can be found out."""
        self._crashed = True
        if seen.overran_s is not None:
            return self._stores.overrun.refusal(self._local, self._item.path, seen.overran_s)
        folder = record.temporary.rpartition("/")[0]
        probe = f"{OUR_PREFIX}{uuid.uuid4().hex}"
        self._stores.leftovers.expect(f"{folder}/{probe}")
        name = self._stores.system.name
        try:
            self._stores.client.upload(name, folder, probe, b"probe" * 800, new=True)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
                return os_error(exc.errno, self._item.path, exc.strerror)
        finally:
            self._stores.leftovers.remove(f"{folder}/{probe}")
        if seen.fault is not None and seen.fault.errno != errno.EIO:
            return os_error(seen.fault.errno or errno.EIO, self._item.path, seen.fault.strerror)
        words = f": {seen.fault.strerror}" if seen.fault else ""
        text = f"the cluster could not fetch it from the object store{words}"
        return FirecrestException(errno.EAGAIN, text, self._item.path, transient=True)

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._stores.client.stat(self._stores.system.name, path)
        except FileNotFoundError:
            return None


def looked(ticket: Ticket) -> Seen:
    """Return how far the cluster is with *ticket*, which the server may have forgotten."""
    try:
        return ticket.look()
    except FirecrestException as exc:
        if not exc.ambiguous:
            raise
        # What has landed tells.
        return Seen(Standing.OVER, exc)


def is_in_place(record: UploadRecord) -> bool:
    """Tell whether *record* is of what the cluster copies into the very file it is for."""
    return bool(record.ticket) and record.temporary == record.path


def folder_of_ours(temporary: str) -> str:
    """Return the directory of ours that *temporary* lies in, "" where that is none."""
    folder = temporary.rpartition("/")[0]
    return folder if folder.rpartition("/")[2].startswith(OUR_PREFIX) else ""


def _is_superseded(fault: BaseException) -> bool:
    return isinstance(fault, OSError) and fault.errno == errno.ECANCELED


def opened(item: StoreItem) -> BinaryIO:
    """Open the local file of *item*. Raises ECANCELED where it is gone."""
    assert item.local is not None
    try:
        return open(item.local.path, "rb")
    except FileNotFoundError:
        raise superseded(item.path) from None


def superseded(path: str) -> OSError:
    """Return why a store ends before its time: other bytes are wanted there, or none."""
    text = "it changed, or is not wanted any more, while it was being stored"
    return FirecrestException(errno.ECANCELED, text, path, transient=True)
