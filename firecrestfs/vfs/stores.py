"""Stores: where local copies, the cluster and the write-back queue of one system meet.

The queue knows keys, the copies their bytes, the engine requests; this is the one place that
knows all three.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from firecrestfs.cache.cached_file import CachedFile, Snapshot, State
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.journal import FileRecord, Journal
from firecrestfs.cache.metadata import boottime, split
from firecrestfs.errors import ConflictError, os_error
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, StoreItem
from firecrestfs.transfer.engine import TransferEngine
from firecrestfs.transfer.writeback import NO_ROOM, Pending, WriteBack

from .flights import Flights
from .overlay import Overlay, differs
from .tree import RemoteTree

log = logging.getLogger(__name__)

#: How long a namespace operation waits for a store of the same path that is running.
_IDLE_S = 60.0


class Stores:
    """Fetches and stores the local copies of one system. Thread-safe."""

    def __init__(
        self,
        tree: RemoteTree,
        overlay: Overlay,
        content: ContentCache,
        journal: Journal,
        engine: TransferEngine,
        flights: Flights,
        report: Callable[[str, str], None],
        delay_s: float,
    ) -> None:
        self._tree = tree
        self._overlay = overlay
        self._content = content
        self._journal = journal
        self._engine = engine
        self._flights = flights
        self.report = report  # tells the user of a path and what is wrong with it
        self._queue = WriteBack(
            self._store, self._directory_of, boottime, delay_s, on_parked=self._parked
        )

    # -- fetching ------------------------------------------------------------------------------

    def complete(self, file: CachedFile) -> None:
        """Fetch the content of *file*. Raises EFBIG over the direct limit."""
        if not file.complete:
            self._flights.run(lambda: self._fetch(file), ("get", file.ident))

    def _fetch(self, file: CachedFile) -> None:
        path = self._overlay.remote_path(file.ident)
        attr = file.base
        if file.complete or attr is None:
            return
        if not path:
            raise os_error(
                errno.ESTALE, None, "it changed or was removed on the cluster: open it again"
            )
        self._content.make_room(attr.size)
        data = self._engine.fetch(path, attr)
        if len(data) != attr.size:
            attr = self._version_of(path, data)
        file.fill(data, attr)
        self._content.used(file)

    def fetch_growth(self, file: CachedFile, attr: Attr) -> bool:
        """Take what was appended to *file* on the cluster; return whether that is all that changed.

        *attr* is what the cluster has now.
        """
        if not file.complete or attr.size < file.attr.size:
            return False

        def fetch() -> bool:
            path = self._overlay.remote_path(file.ident)
            data = self._engine.fetch(path, attr)
            version = attr if len(data) == attr.size else self._version_of(path, data)
            return file.grow(data, version)

        return self._flights.run(fetch, ("grow", file.ident))

    def _version_of(self, path: str, data: bytes) -> Attr:
        """Return the attributes of the version that *data* is: the known ones were outdated."""
        self._tree.forget(path)
        attr = self._tree.fetch_attr(path)
        # A file that goes on growing is read as far as it was.
        if attr.size < len(data):
            raise os_error(errno.EAGAIN, path, "it is being rewritten on the cluster; try again")
        return replace(attr, size=len(data))

    # -- the journal ---------------------------------------------------------------------------

    def note(self, file: CachedFile, *, closed: bool) -> None:
        """Write down that *file* holds something to be stored; *closed*: and that it is whole."""
        path = self._overlay.store_path(file.ident)
        if path and differs(file):
            system = self._tree.system.name
            self._journal.record(
                FileRecord(file.ident, system, path, closed, *file.wanted, base=file.base)
            )

    def give_up(self, path: str, file: CachedFile) -> None:
        """Let go of the clean *file*: something else is at *path* now."""
        if self._overlay.detach(path, file) is not None:
            self._content.drop(file)

    def remove_leftover(self, path: str, file: CachedFile) -> None:
        """Remove what a failed store of the new *file* may have left on the cluster."""
        if file.complete:
            data = file.read(file.attr.size, 0)
            self._flights.commit(lambda: self._engine.remove_leftover(path, data))
            self._tree.forget(path)

    def unlinked(self, file: CachedFile) -> None:
        """Note that *file* lost its name while open: nothing of it is to be stored any more."""
        self.settle(file)
        self._journal.forget(file.ident)

    def discard(self, file: CachedFile) -> None:
        """Drop *file* and what was written down of it: nobody wants it any more."""
        self._content.drop(file)
        self._journal.forget(file.ident)

    def recover(self, record: FileRecord, attr: Attr) -> None:
        """Take up what an earlier process left; *attr* is how the file is shown, sizes aside."""
        reach("recover.begun")
        name = split(record.path)[1]
        if not record.closed:
            where = self._content.set_aside(record.ident, name)
            self._journal.forget(record.ident)
            self.report(record.path, f"was being written when the mount died: kept as {where}")
            return
        file = self._content.recover(record.ident, attr)
        if file is None:
            self._journal.forget(record.ident)
            self.report(record.path, "its bytes are gone from the state directory")
            return
        file.recover(record.base, record.mode, record.exact_mode, record.mtime_ns)
        self._overlay.attach(record.path, file)
        self.changed(file)
        reach("recover.done")

    # -- storing -------------------------------------------------------------------------------

    def changed(self, file: CachedFile) -> None:
        """Store *file* after the settle delay; one that someone writes waits for its close."""
        if not file.writers and differs(file) and self._overlay.store_path(file.ident):
            self._queue.add(file.ident)

    def hold(self, file: CachedFile) -> None:
        """Don't begin to store *file*: it is being written."""
        self._queue.cancel(file.ident)

    def settle(self, file: CachedFile) -> None:
        """Wait until no store of *file* runs, and let none begin by itself."""
        if not self._queue.cancel(file.ident):
            self._queue.wait_idle(file.ident, _IDLE_S)
            self._queue.cancel(file.ident)

    def store_now(self, file: CachedFile) -> None:
        """Return when the cluster has what *file* holds now. Raises why it doesn't."""
        self._queue.add(file.ident)
        failed = self._queue.flush([file.ident], _IDLE_S)
        if file.ident in failed:
            raise failed[file.ident] or os_error(errno.ETIMEDOUT, None, "not stored in time")

    def flush(
        self,
        path: str = "/",
        timeout_s: float | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        patience: int | None = None,
    ) -> dict[str, OSError | None]:
        """Store everything at and below *path*, open files included, as it is now.

        With *patience*, what failed so often is reported although it is tried on.

        Returns the paths that did not land, with the reason where one is known.
        """
        idents = []
        for _, file in self._overlay.files_below(path):
            wanted = self._overlay.store_path(file.ident)
            if wanted and (differs(file) or file.state is State.STORING):
                self._queue.add(file.ident)
                idents.append(file.ident)
        failed = self._queue.flush(idents, timeout_s, interrupted, patience)
        return {self._overlay.path_of(ident): exc for ident, exc in failed.items()}

    def pending(self) -> list[tuple[str, Pending]]:
        """Return what has not landed with its paths, oldest first."""
        rows = [(self._overlay.path_of(row.key), row) for row in self._queue.pending()]
        return [(path, row) for path, row in rows if path]

    def failure(self, file: CachedFile) -> OSError | None:
        """Return why the last store of *file* failed."""
        return self._queue.error_of(file.ident)

    def require_room(self, path: str) -> None:
        """Raise what the cluster says to stores near *path* while it has no room for them."""
        root = self._tree.root_of(path)
        for other, row in self.pending():
            reason = row.error
            if self._tree.root_of(other) != root:
                continue
            if row.parked and reason is not None and reason.errno in NO_ROOM and other != path:
                text = f"{reason.strerror} (waiting for room there already: {other})"
                raise os_error(reason.errno, path, text)

    def stop(self) -> None:
        """Begin no further store."""
        self._queue.stop()

    # -- the queue calls -----------------------------------------------------------------------

    def _directory_of(self, ident: str) -> str:
        return split(self._overlay.path_of(ident))[0]

    def _store(self, idents: Sequence[str]) -> Mapping[str, OSError | None]:
        outcome: dict[str, OSError | None] = dict.fromkeys(idents)
        begun: list[tuple[CachedFile, Snapshot]] = []
        items: list[StoreItem] = []
        for ident in idents:
            path = self._overlay.store_path(ident)
            file = self._overlay.file(path)
            try:
                snapshot = file.begin_store() if file is not None else None
            except OSError as exc:
                outcome[ident] = exc
                continue
            if file is None or snapshot is None:
                continue
            items.append(_item(len(begun), path, snapshot))
            begun.append((file, snapshot))
        reach("store.begun")
        results = self._engine.store(items)
        for item, (file, snapshot) in zip(items, begun, strict=True):
            outcome[file.ident] = self._landed(item.path, file, snapshot, results[item.key])
        return outcome

    def _landed(
        self, path: str, file: CachedFile, snapshot: Snapshot, result: Attr | OSError
    ) -> OSError | None:
        if isinstance(result, ConflictError):
            self.report(path, str(result.strerror))
            self._tree.forget(path)
            # The local copy is the conflict copy from now on: who still writes it writes that.
            self._overlay.move(path, result.landed_as)
            path, result = result.landed_as, result.attr
        if isinstance(result, OSError):
            file.store_failed()
            return result
        self._tree.changed(path, result)
        reach("store.proven")
        if file.stored(snapshot, self._tree.localised(path, result)):
            self._journal.forget(file.ident)
            reach("store.forgotten")
        else:
            self.changed(file)
        return None

    def _parked(self, ident: str, exc: OSError) -> None:
        path = self._overlay.path_of(ident)
        self.report(
            path, f"not stored: {exc.strerror}; the bytes are kept here, `firecrestfs sync` retries"
        )


def _item(key: int, path: str, snapshot: Snapshot) -> StoreItem:
    return StoreItem(
        key,
        path,
        snapshot.data,
        snapshot.mode,
        snapshot.exact_mode,
        snapshot.mtime_ns,
        snapshot.base,
    )
