"""Stores: where entries, the journal and the write-back queue of one system meet.

The queue knows keys, entries their copies and places, `landing` the requests; this is the one
place that knows all three.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.journal import Journal, Record, portions
from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import is_transient, os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr
from firecrestfs.paths import is_below
from firecrestfs.transfer.engine import TransferEngine
from firecrestfs.transfer.queued import Pending
from firecrestfs.transfer.writeback import NO_ROOM, WriteBack

from .entry import Change, Entry
from .flights import Flights
from .ghosts import parted
from .groups import Groups
from .landing import Landing
from .notes import Notes
from .overlay import Overlay
from .records import record_of
from .tree import RemoteTree

log = logging.getLogger(__name__)

#: How long an operation that can't go on without it waits for a store that is running.
_IDLE_S = 60.0
#: What waits as long as a large file takes is told of a failure after so many tries.
_TRIES = 3


class Stores:
    """Tells the cluster of changes. Thread-safe."""

    def __init__(
        self,
        tree: RemoteTree,
        overlay: Overlay,
        content: ContentCache,
        journal: Journal,
        engine: TransferEngine,
        flights: Flights,
        landing: Landing,
        notes: Notes,
        delay_s: float,
        seal: Callable[[], None] = lambda: None,
        *,
        write_through: bool = False,
        remote_fsync: bool = False,
    ) -> None:
        """*seal* returns when everything written down so far survives a power loss.

        *write_through*: every close waits until the cluster has the file; *remote_fsync*: every
        fsync does.
        """
        self._write_through = write_through
        self._remote_fsync = remote_fsync
        self.seal = seal
        self._tree = tree
        self._overlay = overlay
        self._content = content
        self._journal = journal
        self._engine = engine
        self._flights = flights
        self.landing = landing
        self.notes, self.report = notes, notes.report
        self.untaken: dict[str, OSError] = {}  # what an earlier process left and can't be taken up
        notes.write_down = self.note
        self._groups = Groups(tree, overlay)
        self._queue = WriteBack(
            self._store,
            self._groups.of,
            boottime,
            delay_s,
            on_parked=self._parked,
            blockers=self._blockers_of,
            heavy=self._groups.is_heavy,
        )

    # -- before something is read ---------------------------------------------------------------

    def give_modes(self, path: str) -> None:
        """Set on the cluster the modes that were changed here at and above *path*.

        Whoever was let in by a chmod a moment ago must not find the door still shut.
        """
        for entry in reversed(self._overlay.ungiven_modes(path)):
            with suppress(OSError):
                self.store_now(entry)

    # -- the journal ---------------------------------------------------------------------------

    def note(self, *entries: Entry, gone: Sequence[str] = ()) -> None:
        """Write down what the cluster is still to be told of *entries*, all as one change.

        The records of *gone* are dropped with it.
        """

        def look() -> tuple[list[Record], list[str]]:
            records, landed = [], list(gone)
            for entry in entries:
                if self._overlay.by_ident(entry.ident) is entry and self._overlay.is_needed(entry):
                    records.append(record_of(self._tree.system.name, entry))
                else:
                    landed.append(entry.ident)
            return records, landed

        self._journal.note(look)

    def changing(self, file: CachedFile, appending: bool = False, goes_on: bool = False) -> None:
        """Note that someone is about to change *file*: what was closed before stays promised.

        Too large to be copied, that is stored first; EINTR once who asked waits no more. Not where
        who has changed it *goes_on*: a process that shares what it has open has ended, no more.
        """
        entry = self._overlay.of_file(file)
        if not file.begin_change(appending=appending):
            if entry is not None and not goes_on:
                self._store_first(entry)
            file.begin_change(appending=appending, at_any_rate=True)
        if entry is not None:
            entry.closed = False
            self.note(entry)

    def _store_first(self, entry: Entry) -> None:
        """Return when the closed version of *entry* is stored, or can't be for now."""
        try:
            self.store_now(entry, asked=True)
        except OSError as exc:
            if self._flights.interrupted():
                raise
            text = "written on before it is stored: should the mount die, look into lost+found"
            self.report(entry.where, f"{text} ({exc.strerror})")
        # What is written from now on waits for its close, as at the open.
        self.cancel(entry)

    def closed(self, file: CachedFile) -> None:
        """Note that what was written into *file* is whole."""
        entry = self._overlay.of_file(file)
        if entry is not None:
            entry.closed = True
            self.note(entry)
            file.drop_promised()
            if self._write_through:
                self.store_now(entry, asked=True)

    def synced(self, file: CachedFile) -> None:
        """Make what was written down durable. Raises why the last store failed, if it did."""
        self.seal()
        entry = self._overlay.of_file(file)
        if entry is None:
            return
        if self._remote_fsync and self._overlay.differs(entry):
            self.store_now(entry, asked=True)
        failure = self.failure(entry)
        if failure is not None:
            raise failure

    def give_up(self, entry: Entry) -> None:
        """Let go of the clean *entry*: something else is at its path now."""
        self._overlay.forget(entry)
        if entry.file is not None:
            self._content.drop(entry.file)

    def renew(self, entry: Entry, attr: Attr) -> None:
        """Let *entry* stand for another version, *attr*, of its file: the old copy is outdated."""
        old = entry.file
        if not self._overlay.is_needed(entry):
            self.give_up(entry)
        elif old is not None:
            new = self._content.new(attr)
            if old.wanted[0] is not None:
                new.set_mode(old.wanted[0])
            self._queue.cancel(old.ident)
            self._overlay.give_copy(entry, new)
            # At once: else a death in between would cost what it is to be told besides.
            self.note(entry, *entry.links, gone=[old.ident])
            self.changed(entry)
            self._content.drop(old)

    def discard(self, entry: Entry) -> None:
        """Drop *entry*, its bytes and what was written down of it: nobody wants it any more."""
        for each in list(entry.links):
            self.discard(each)
        self._queue.cancel(entry.ident)
        self.give_up(entry)
        self._journal.forget(entry.ident)

    # -- telling the cluster -------------------------------------------------------------------

    def changed(self, *entries: Entry) -> None:
        """Tell the cluster of *entries* after the settle delay; what is written waits."""
        for entry in (*entries, *self._overlay.make_way(entries)):
            if not entry.path:
                # It was unlinked, maybe while it is sent.
                self.supersede(entry)
            if self._may_go(entry):
                self._queue.add(entry.ident)
            elif not self._overlay.differs(entry):
                self._queue.cancel(entry.ident)

    def _may_go(self, entry: Entry) -> bool:
        if entry.held or self._overlay.by_ident(entry.ident) is not entry:
            return False
        writing = entry.path and entry.file is not None and entry.file.writers
        return not writing and self._overlay.differs(entry)

    def press(self, entries: Iterable[Entry]) -> None:
        """Tell the cluster of *entries* now, not after the settle delay, as far as they may go."""
        ready = [each.ident for each in self._overlay.with_blockers(entries) if self._may_go(each)]
        self._queue.flush(ready, 0.0)

    def wake(self) -> None:
        """Look at once for what is due."""
        self._queue.look()

    def cancel(self, entry: Entry) -> None:
        """Don't tell the cluster of *entry*, for now."""
        self._queue.cancel(entry.ident)

    def supersede(self, entry: Entry) -> None:
        """Let the bytes of *entry*, if they are on their way, not arrive."""
        if entry.busy:
            self._engine.large.supersede(entry.ident)

    def settle(self, entry: Entry) -> None:
        """Wait until the cluster isn't being told of *entry*."""
        if entry.busy:
            self._queue.wait_idle(entry.ident, _IDLE_S)

    def store_now(self, entry: Entry, *, asked: bool = False) -> None:
        """Return when the cluster knows all of *entry* but its time. Raises why it doesn't.

        *asked* for by a close or an fsync: as long as a large file gets on. EINTR once who asked
        waits no more; it is stored all the same.
        """
        if self._is_known(entry):
            return

        def is_done() -> bool:
            return self._is_known(entry) or (asked and self._flights.interrupted())

        large = asked and self._groups.is_heavy(entry.ident)
        limit, tries = (None, _TRIES) if large else (_IDLE_S, None)
        failed = self._flush(self._overlay.with_blockers([entry]), limit, is_done, tries)
        if entry.ident in failed and not self._is_known(entry):
            code = errno.EINTR if asked and self._flights.interrupted() else errno.ETIMEDOUT
            raise failed[entry.ident] or os_error(code, None, "not stored in time")

    def _is_known(self, entry: Entry) -> bool:
        """Tell whether the cluster has *entry* but for a time, which its scheduler may let wait."""
        return all(each is Change.TOUCH for each in self._overlay.changes(entry))

    def flush(
        self,
        path: str = "/",
        timeout_s: float | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        patience: int | None = None,
        *,
        times: bool = True,
    ) -> dict[str, OSError | None]:
        """Tell the cluster of everything at and below *path*, open files included, as it is now.

        With *patience*, what failed so often is reported although it is tried on. Not *times*:
        those that jobs give are not waited for.

        Returns the paths that did not land, with the reason where one is known.
        """

        def is_owed(entry: Entry) -> bool:
            return self._overlay.differs(entry) and (times or not self._is_known(entry))

        entries = self._overlay.with_blockers(
            each for each in self._overlay.below(path) if is_owed(each)
        )

        def is_done() -> bool:
            return interrupted() or not (times or any(is_owed(each) for each in entries))

        failed = self._flush(entries, timeout_s, is_done, patience)
        left = ((self._overlay.by_ident(ident), exc) for ident, exc in failed.items())
        owed = {_where(each): exc for each, exc in left if each is None or is_owed(each)}
        return owed | {each: exc for each, exc in self.untaken.items() if is_below(each, path)}

    def _flush(
        self,
        entries: Iterable[Entry],
        timeout_s: float | None,
        interrupted: Callable[[], bool],
        patience: int | None,
    ) -> dict[str, OSError | None]:
        idents = [each.ident for each in entries if not each.held]
        for ident in idents:
            self._queue.add(ident)
        return self._queue.flush(idents, timeout_s, interrupted, patience)

    def pending(self) -> list[tuple[str, Pending]]:
        """Return what has not landed with its paths, oldest first."""
        rows = [(_where(self._overlay.by_ident(row.key)), row) for row in self._queue.pending()]
        return [(path, row) for path, row in rows if path]

    def being_written(self) -> list[str]:
        """Return the paths of what has not landed and is open for writing: it waits for a close."""
        open_ones = [each for each in self._overlay.all() if each.file and each.file.writers]
        return [each.path for each in open_ones if each.path and self._overlay.differs(each)]

    def failure(self, entry: Entry) -> OSError | None:
        """Return why the cluster could not be told of *entry* the last time."""
        return self._queue.error_of(entry.ident)

    def require_room(self, path: str) -> None:
        """Raise what the cluster says to stores near *path* while it has no room for them."""
        if not self._queue.has_parked():
            return
        root = self._tree.root_of(path)
        for other, row in self.pending():
            reason = row.error
            if self._tree.root_of(other) != root:
                continue
            if row.parked and reason is not None and reason.errno in NO_ROOM and other != path:
                text = f"{reason.strerror} (waiting for room there already: {other})"
                raise os_error(reason.errno, path, text)

    def forget_strays(self) -> None:
        """End transfers and jobs whose results nobody wants any more. Raises the first failure."""
        self.landing.forget_strays()
        begun = self._engine.large.unfinished()
        self._engine.large.unwanted(each for each in begun if self._overlay.by_ident(each) is None)

    def stop(self) -> None:
        """Begin nothing more."""
        self._queue.stop()

    # -- the queue calls -----------------------------------------------------------------------

    def _blockers_of(self, ident: str) -> Sequence[str]:
        entry = self._overlay.by_ident(ident)
        return [] if entry is None else [each.ident for each in self._overlay.blockers(entry)]

    def _store(self, idents: Sequence[str]) -> Mapping[str, OSError | None]:
        found = [self._overlay.by_ident(ident) for ident in idents]
        entries = [each for each in found if each is not None]
        outcome: dict[str, OSError | None] = dict.fromkeys(idents)
        outcome.update(self.landing.run(entries))
        left = parted(self._overlay, entries)
        if left:
            self.note(*entries, *left)
            self.changed(*left)
        failures = ((each, outcome[each.ident]) for each in entries)
        settled = [each for each, exc in failures if exc is None or not is_transient(exc)]
        for some in portions(settled):
            self.note(*some)
            for each in some:
                if each.file is not None:
                    each.file.noted()
        done = [each for each in settled if outcome[each.ident] is None]
        known = [each for each in done if self._overlay.by_ident(each.ident) is each]
        # A rename alone, or nothing at all, leaves a transfer that has begun to be gone on with.
        self._engine.large.noted(each.ident for each in known if not each.content_differs)
        with suppress(OSError):  # what is left then is for the next sweep
            self._engine.large.unwanted(each.ident for each in done if each not in known)
        reach("store.forgotten")
        # What changed meanwhile goes next.
        self.changed(*done)
        return outcome

    def _parked(self, ident: str, exc: OSError) -> None:
        self.report(
            _where(self._overlay.by_ident(ident)),
            f"not stored: {exc.strerror}; kept here: `firecrestfs retry`, `discard` or `export` it",
        )


def _where(entry: Entry | None) -> str:
    return "" if entry is None else entry.where
