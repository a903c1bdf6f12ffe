"""A running mount: what its process does with it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .api import TypedClient
from .cache.journal import Journal
from .cache.sealing import Sealer
from .cache.submissions import SubmissionLog
from .cache.transfers import Transfers
from .fuseops import FuseOperations
from .transfer.progress import Row
from .vfs.control import ErrorLog
from .vfs.flights import Flights
from .vfs.jobs import JobsFilesystem
from .vfs.namespace import Namespace
from .vfs.remote import RemoteFilesystem

#: A system that can't be asked who we are is asked again after this long.
_RECOVER_AGAIN_S = 30.0
_LOOK_S = 0.05


@dataclass
class Mount:
    """A wired mount: what the process that serves it needs to know."""

    client: TypedClient
    operations: FuseOperations
    namespace: Namespace
    flights: Flights
    errors: ErrorLog
    journal: Journal
    sealer: Sealer
    submissions: SubmissionLog
    transfers: Transfers
    recovering: bool = False  # what an earlier process left is still being taken up
    left: dict[str, str] = field(default_factory=dict)  # systems where it couldn't be, and why
    recover_again: float = 0.0  # when to try those again (monotonic seconds)
    was_away: bool = False  # whether the server was out of reach at the latest look

    def begin_recovery(self) -> None:
        """Take up, in a thread of its own, what an earlier process left."""
        self.recovering = True
        threading.Thread(target=self.recover, name="recover", daemon=True).start()

    def recover(self) -> None:
        """Take up what an earlier process left, in the systems where it wasn't yet."""
        try:
            self._recover()
        finally:
            self.recover_again = time.monotonic() + _RECOVER_AGAIN_S
            self.recovering = False

    def _recover(self) -> None:
        stores = {record.system for record in self.journal.records()} | self.transfers.systems()
        for name in sorted(stores.union(self.submissions.waiting_systems())):
            try:
                self.namespace.route(f"/{name}/")
                self.left.pop(name, None)
            except OSError as exc:
                reason = exc.strerror or str(exc)
                if self.left.get(name) != reason:
                    text = f"what waits to be stored goes on waiting: {reason}"
                    self.errors.report(f"/{name}", text)
                self.left[name] = reason

    def recover_rest(self) -> None:
        """Try again, in the background, where what an earlier process left can't be taken up."""
        if self.left and not self.recovering:
            self.begin_recovery()

    def files(self) -> dict[str, RemoteFilesystem]:
        """Return the systems that someone has looked into."""
        return {
            name: parts[0]
            for name, parts in self.namespace.connected().items()
            if isinstance(parts[0], RemoteFilesystem)
        }

    def jobs(self) -> dict[str, JobsFilesystem]:
        """Return the jobs of the systems that someone has looked into."""
        return {
            name: parts[1]
            for name, parts in self.namespace.connected().items()
            if isinstance(parts[1], JobsFilesystem)
        }

    def drain(
        self, timeout_s: float | None, stop: Callable[[], bool] = lambda: False
    ) -> dict[str, str]:
        """Store and submit everything; return what did not land, with the reason."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        failed: dict[str, str] = {}
        # What an earlier process left is part of it.
        self.recover_rest()
        while self.recovering and not (stop() or (end is not None and time.monotonic() > end)):
            time.sleep(_LOOK_S)
        for files in self.files().values():
            # All begin at once: one that can't be reached takes no time from the others.
            files.stores.flush("/", 0.0, stop)
        for name, files in self.files().items():
            rest = None if end is None else max(0.0, end - time.monotonic())
            failed.update(failures(name, files.stores.flush("/", rest, stop)))
            if not stop():
                left = math.inf if end is None else max(0.0, end - time.monotonic())
                failed |= swept(name, files, left, stop)
        for jobs in self.jobs().values():
            rest = None if end is None else max(0.0, end - time.monotonic())
            jobs.submissions.settle(rest, stop)
        return failed

    def marks(self) -> dict[str, int]:
        """Return how much was taken back so far, by system; for `refused`."""
        return {name: len(each.stores.notes.refusals()) for name, each in self.files().items()}

    def refused(self, marks: Mapping[str, int]) -> dict[str, str]:
        """Return what the cluster has refused, and was taken back here, since *marks*: reasons."""
        return {
            f"/{name}{path}": text
            for name, files in self.files().items()
            for path, text in files.stores.notes.refusals(marks.get(name, 0))
        }

    def pending(self) -> list[dict[str, Any]]:
        """Return what has not landed, a row each."""
        connected = self.files()
        rows = [row for name, files in connected.items() for row in _pending_rows(name, files)]
        rows += [row for jobs in self.jobs().values() for row in _submission_rows(jobs)]
        return rows + [
            {
                "path": f"/{each.system}{each.where}",
                "state": "waiting",
                "tries": 0,
                "error": self.left.get(each.system, ""),
            }
            for each in self.journal.records()
            if each.system not in connected
        ]

    def under_way(self) -> list[tuple[str, Row]]:
        """Return the staged transfers that are under way, each with its system."""
        return [(name, row) for name, files in self.files().items() for row in files.board.rows()]

    def resume(self) -> None:
        """Go on with what waits: the server is back, or takes our token again."""
        for files in self.files().values():
            files.waiting.resume()
        self.recover_rest()

    def look_after(self) -> None:
        """Every few seconds: see whether a server that is gone is back, if something waits."""
        away = self.client.circuit.unreachable() is not None
        if away and self.pending():
            self.client.circuit.ask()
        if self.was_away and not away:
            # What was on its way when the server came back missed the word.
            self.resume()
        self.was_away = away
        if not away and time.monotonic() > self.recover_again:
            self.recover_rest()

    def woke_up(self) -> None:
        """The machine slept: connections are dead, and what was known is old."""
        self.client.drop_connections()
        for files in self.files().values():
            files.expire()

    def stop(self) -> None:
        """Begin nothing more."""
        self.transfers.stopped.set()
        self.client.objects.drop_connections()
        for files in self.files().values():
            files.stores.stop()
        for jobs in self.jobs().values():
            jobs.submissions.stop()
        self.flights.shutdown()
        self.sealer.stop()


def swept(
    system: str, files: RemoteFilesystem, timeout_s: float, stop: Callable[[], bool]
) -> dict[str, str]:
    """Remove what is left to be removed; return what could not be, with the reason."""
    try:
        files.sweep(timeout_s, stop)
    except OSError as exc:
        return {f"/{system}{exc.filename or ''}": f"left behind: {exc.strerror}"}
    return {}


def failures(system: str, failed: dict[str, OSError | None]) -> dict[str, str]:
    """Return *failed* with paths as the mount has them, and reasons as text."""
    return {
        f"/{system}{path}": (exc.strerror or str(exc)) if exc else "not yet stored"
        for path, exc in failed.items()
    }


def _submission_rows(jobs: JobsFilesystem) -> list[dict[str, Any]]:
    return [
        {
            "path": f"/{each.system}{each.directory.rstrip('/')}/.jobs/{each.name}",
            "state": "waiting",
            "tries": 0,
            "error": jobs.submissions.status(each.ident),
        }
        for each in jobs.submissions.all()
        if each.under_way
    ]


def _pending_rows(system: str, files: RemoteFilesystem) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for path, row in files.stores.pending():
        state = "storing" if row.in_flight else "failed" if row.parked else "waiting"
        error = "" if row.error is None else str(row.error.strerror)
        rows.append(
            {"path": f"/{system}{path}", "state": state, "tries": row.tries, "error": error}
        )
    for path, exc in files.stores.untaken.items():
        error = f"can't be taken up: {exc.strerror}; it is tried again by the next mount"
        rows.append({"path": f"/{system}{path}", "state": "failed", "tries": 0, "error": error})
    told = {row["path"] for row in rows}
    waiting = {"state": "waiting", "tries": 0, "error": "a program has it open for writing"}
    written = (f"/{system}{path}" for path in files.stores.being_written())
    return rows + [{"path": path, **waiting} for path in written if path not in told]
