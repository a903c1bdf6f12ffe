"""GivenUp: uploads that nobody wants any more, until nothing is left of them on the cluster.

    ended here ─ ended there, as far as that can be done ─ over ─ what has landed is removed

What may still land is written down as long as it may: a sweep looks after it.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace

from firecrestfs.api.tickets import Standing, Ticket
from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.transfers import Transfers, UploadRecord
from firecrestfs.errors import FirecrestException, NotYetError, is_transient, os_error
from firecrestfs.model import Attr
from firecrestfs.paths import is_below

from .leftovers import Leftovers
from .placing import BEGUN
from .sending import Landing, folder_of_ours, is_in_place, looked

log = logging.getLogger(__name__)

_SECOND = 1_000_000_000
_REMEMBERED = 100
#: A job that was ordered so long ago (seconds) is known to the scheduler, if there is one.
_ORDERED_S = 60.0
#: Who waits looks so often whether to go on.
_SLICE_S = 0.2
#: Pause between two looks at what is to be copied by a server that does so once a minute (seconds).
_LOOK_S = 2.0


class GivenUp:
    """What stores of large files leave on one system. Thread-safe."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        transfers: Transfers,
        leftovers: Leftovers,
        stopped: threading.Event,
    ) -> None:
        self._client = client
        self._system = system
        self._transfers = transfers
        self._leftovers = leftovers
        self._stopped = stopped
        # What has landed and is wanted no more: other entries may still be about it.
        self._buried: deque[UploadRecord] = deque(maxlen=_REMEMBERED)
        self._orders: set[str] = set()  # those that this process is about to hear of
        self._ending = threading.Lock()  # one at a time ends orders: what it ends is written down

    def was_stored(self, now: Attr) -> bool:
        """Tell whether *now* is what a store of ours has left whose end was not written down.

        Whatever came after: another version, a rename, another copy under that name.
        """
        return any(is_landed(each, now) for each in self._known())

    def may_have_stored(self, path: str) -> bool:
        """Tell whether only a stat of *path* can answer that: a listing tells no inode."""
        return any(each.landed and each.path == path for each in self._known())

    def left_by(self, gone: Collection[str]) -> Callable[[str], bool]:
        """Return what tells whether a path is ours, and of no use once the files *gone* are."""
        records = self._transfers.uploads(self._system)
        unwanted = [
            each.temporary
            for each in records
            if not is_in_place(each) and (not each.path or each.path in gone)
        ]
        folders = {folder_of_ours(each) for each in unwanted}

        def is_left(path: str) -> bool:
            # Behind a dot: what is being put together there, or written into its target.
            ours = any(path == each or path.startswith(f"{each}.") for each in unwanted)
            return ours or path in folders or self._leftovers.holds(path)

        return is_left

    def _known(self) -> list[UploadRecord]:
        return [*self._transfers.uploads(self._system), *self._buried]

    def require_over(self, path: str, *, unlinked: bool = False) -> None:
        """Raise EAGAIN while what was sent to a file at or below *path* may yet be copied into it.

        API v1 does so whatever becomes of the file by then: it would be there again, or another.
        *unlinked*: what is at *path* is to go, so none need be copied that can't be.
        """
        for record in self._transfers.uploads(self._system):
            if is_in_place(record) and is_below(record.path, path):
                try:
                    self.require_copied(record)
                except NotYetError:
                    raise
                except OSError:
                    if unlinked and record.path == path:
                        self._empty(record)
                    raise

    def _empty(self, record: UploadRecord) -> None:
        """Have nothing copied where the server tries in vain: that may be what takes the room."""
        ticket = self._client.ticket(record.temporary, record.ticket)
        if not record.size or looked(ticket).standing is not Standing.TRYING:
            return
        try:
            with suppress(FileNotFoundError):
                if self._client.stat(self._system, record.path).nlink > 1:
                    return  # what was sent belongs to its other names, too
            ticket.give_up()
        except OSError as exc:
            log.info("%s: what can't be copied stays in the way: %s", record.path, exc)
            return
        self._transfers.begin(replace(record, size=0, landed=0, landed_mtime=0))

    def require_copied(self, record: UploadRecord, *, replaced: bool = False) -> None:
        """The same for one upload. *replaced*: other bytes follow, so none need be copied."""
        ticket = self._client.ticket(record.temporary, record.ticket)
        seen = looked(ticket)
        if seen.standing is Standing.OVER:
            if seen.fault is None and not record.landed:
                self._note_landed(record)
            return
        idle = seen.standing is Standing.WAITING and not _is_sent(record)
        if replaced and (seen.standing is Standing.TRYING or not record.complete):
            # Nothing may have been sent, and nothing come of it for as long as the link is good.
            try:
                ticket.give_up()
            except FirecrestException as exc:
                if exc.transient or not idle:
                    raise
                return
        elif idle:
            return
        text = "an earlier version of it is still being copied there: this change follows"
        if seen.standing is Standing.TRYING:
            raise os_error(errno.EAGAIN, record.path, text)
        raise NotYetError(record.path, _LOOK_S, text)

    # -- orders --------------------------------------------------------------------------------

    def ordering(self, temporary: str, target: str) -> UploadRecord:
        """Write down that an upload to *temporary* is about to be ordered, as one to *target*.

        Else the job of one whose answer nobody reads would wait for its object, and in others' way.
        """
        values = {"order": target, "at": time.time()}
        with suppress(OSError):  # those of earlier tries go with the next sweep then
            self.end_orders()
        ident = f"order.{uuid.uuid4().hex}"
        order = UploadRecord(ident, self._system, "", temporary, 0, 0, values, {})
        self._orders.add(order.ident)
        self._transfers.begin(order)
        return order

    def ordered(self, order: UploadRecord, failure: OSError | None = None) -> None:
        """Note that *order* was answered, or failed with *failure*."""
        if failure is None or not (is_transient(failure) or getattr(failure, "ambiguous", False)):
            self._transfers.end(order.ident)
        self._orders.discard(order.ident)

    def end_orders(self) -> None:
        """End the jobs of orders that nobody has heard the answer to."""
        with self._ending:
            self._end_orders()

    def _end_orders(self) -> None:
        records = self._transfers.uploads(self._system)
        known = {each.temporary for each in records if not _is_order(each)}
        for order in records:
            if not _is_order(order) or order.ident in self._orders:
                continue
            if self._transfers.upload(order.ident) is None:
                continue  # it was answered while others were looked for
            late = not 0 <= time.time() - order.ticket["at"] < _ORDERED_S
            if (
                order.temporary in known
                or self._client.end_order(self._system, order.ticket["order"])
                or late
            ):
                self._transfers.end(order.ident)

    def _note_landed(self, record: UploadRecord) -> None:
        """Write down which version has landed, so that it is known for ours."""
        try:
            now = self._client.stat(self._system, record.path)
        except FileNotFoundError:
            return
        if now.size == record.size:
            self._transfers.landed(record.ident, now.ino, now.mtime_ns // _SECOND)

    def leave(self, directory: str) -> None:
        """End what is under way below *directory*, which is about to be renamed.

        Its places are known by their paths. Raises EAGAIN where something is still to land.
        """
        for record in self._transfers.uploads(self._system):
            if record.path and is_below(record.temporary, directory):
                self.bury(record)
        self.sweep(directory=directory)
        self._leftovers.sweep(directory)

    def bury(self, record: UploadRecord) -> None:
        """Have the cluster stop, and remove what has landed so far."""
        if record.landed:
            self._buried.append(record)
        if not record.ticket:
            self._leftovers.expect(record.temporary, record.temporary + BEGUN)
            self._transfers.end(record.ident)
            self._leftovers.remove(record.temporary)
            self._leftovers.remove(record.temporary + BEGUN)
            return
        if is_in_place(record):
            self._leave_in_place(record)
            return
        # It may land all the same, whatever is answered: until that is over a sweep looks after it.
        ghost = replace(record, ident=f"{record.ident}.{uuid.uuid4().hex[:8]}", path="")
        self._transfers.begin(ghost)
        self._transfers.end(record.ident)
        try:
            ticket = self._client.ticket(ghost.temporary, ghost.ticket)
            ticket.give_up()
            if ghost.landed or _is_over(ticket):
                self._lay(ghost, ticket)
        except OSError as exc:
            log.info("the upload to %s could not be ended: %s", record.path, exc)

    def _leave_in_place(self, record: UploadRecord) -> None:
        """Forget *record*; but for as long as it may land, what else goes there has to wait."""
        try:
            over = _is_over(self._client.ticket(record.temporary, record.ticket))
        except OSError as exc:
            log.info("whether the upload to %s is over isn't known: %s", record.path, exc)
            over = False
        if _is_sent(record) and not over:
            ident, _, left = record.ident.partition(".")
            self._transfers.begin(replace(record, ident=f"{ident}.{left or uuid.uuid4().hex[:8]}"))
            if left:
                return
        self._transfers.end(record.ident)

    def _lay(self, ghost: UploadRecord, ticket: Ticket) -> None:
        """Remove what a transfer that was given up, and is over, has left."""
        if not ticket.undead:
            self._remove_pieces(ghost.temporary)
        for path in [ghost.temporary] + [ghost.temporary + BEGUN] * bool(ghost.landed):
            self._leftovers.expect(path)
            self._leftovers.remove(path)
        self.tidy(Landing(ghost.temporary, None, ticket.leftovers))
        self._transfers.end(ghost.ident)

    def _remove_pieces(self, temporary: str) -> None:
        """Remove what a job of v2 that ended early leaves beside its target: NAME.1 and so on."""
        folder, _, name = temporary.rpartition("/")
        try:
            entries = self._client.list(self._system, folder)
        except OSError as exc:
            log.info("pieces in %s may be left: %s", folder, exc)
            return
        for entry in entries:
            if entry.name.startswith(f"{name}."):
                self._leftovers.expect(f"{folder}/{entry.name}")
                self._leftovers.remove(f"{folder}/{entry.name}")

    def sweep(
        self,
        patience_s: float = 0.0,
        directory: str = "/",
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Remove what has landed, below *directory*, of transfers that were given up.

        Raises EAGAIN where one is still to land after *patience_s* seconds, or when to *stop*.
        """
        self.end_orders()
        end = time.monotonic() + patience_s
        for ghost in self._ghosts():
            if not is_below(ghost.temporary, directory):
                continue
            ticket = self._client.ticket(ghost.temporary, ghost.ticket)
            if not ticket.undead:
                # The first time may have been in vain.
                ticket.give_up()
            pause = 0.2
            while not _is_over(ticket):
                until = min(end, time.monotonic() + pause)
                while time.monotonic() < until and not (stop() or self._stopped.wait(_SLICE_S)):
                    pass
                if time.monotonic() > end or stop() or self._stopped.is_set():
                    text = "what was given up has yet to land, to be removed then"
                    raise os_error(errno.EAGAIN, ghost.temporary, text)
                pause = min(pause * 1.5, 5.0)
            self._lay(ghost, ticket)

    @property
    def haunted(self) -> bool:
        """Whether something that was given up may still land, or wait."""
        return any(not each.path for each in self._transfers.uploads(self._system))

    def _ghosts(self) -> list[UploadRecord]:
        records = self._transfers.uploads(self._system)
        return [each for each in records if not (each.path or _is_order(each))]

    def tidy(self, landing: Landing) -> None:
        """Remove what a transfer has left besides the file."""
        for path in landing.leftovers:
            self._leftovers.remove(path)
        folder = folder_of_ours(landing.temporary)
        if folder:
            self._leftovers.expect(folder)
            self._leftovers.remove(folder)


def is_landed(record: UploadRecord, now: Attr) -> bool:
    """Tell whether *now* is the very version that *record* tells to have landed."""
    same = bool(record.landed) and (now.ino, now.size) == (record.landed, record.size)
    # Who writes into it leaves inode and maybe size as they are.
    return same and record.landed_mtime in (0, now.mtime_ns // _SECOND)


def _is_order(record: UploadRecord) -> bool:
    """Tell whether *record* is of what may have been ordered, and no more is known of."""
    return "order" in record.ticket


def _is_sent(record: UploadRecord) -> bool:
    """Tell whether there is something, as far as is known, that can be copied."""
    return record.complete or bool(record.parts)


def _is_over(ticket: Ticket) -> bool:
    try:
        return looked(ticket).standing is Standing.OVER
    except FirecrestException as exc:
        if exc.transient:
            raise
        return True
