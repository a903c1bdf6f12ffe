"""A running mount: what its process and its control files do with it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api import TypedClient
from .cache.journal import Journal
from .cache.metadata import is_below
from .cache.submissions import SubmissionLog
from .config import Config
from .door import interrupted
from .errors import os_error
from .fuseops import FuseOperations
from .vfs.control import ErrorLog, as_json
from .vfs.flights import Flights
from .vfs.jobs import JobsFilesystem
from .vfs.namespace import Namespace
from .vfs.remote import RemoteFilesystem

#: After so many failures in vain `sync` says so; the stores are tried on.
_TRIES = 3


@dataclass
class Mount:
    """A wired mount: what the process that serves it needs to know."""

    client: TypedClient
    operations: FuseOperations
    namespace: Namespace
    flights: Flights
    errors: ErrorLog
    journal: Journal
    submissions: SubmissionLog

    def recover(self) -> None:
        """Look into the systems for which an earlier process left something to be done."""
        stores = {record.system for record in self.journal.records()}
        for name in sorted(stores.union(self.submissions.waiting_systems())):
            try:
                self.namespace.route(f"/{name}/")
            except OSError as exc:
                self.errors.report(f"/{name}", f"what waits to be stored goes on waiting: {exc}")

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
        for name, files in self.files().items():
            rest = None if end is None else max(0.0, end - time.monotonic())
            failed.update(_failures(name, files.stores.flush("/", rest, stop)))
            failed |= _swept(name, files)
        for jobs in self.jobs().values():
            rest = None if end is None else max(0.0, end - time.monotonic())
            jobs.submissions.settle(rest, stop)
        return failed

    def pending(self) -> list[dict[str, Any]]:
        """Return what has not landed, a row each."""
        connected = self.files()
        rows = [row for name, files in connected.items() for row in _pending_rows(name, files)]
        rows += [row for jobs in self.jobs().values() for row in _submission_rows(jobs)]
        return rows + [
            {"path": f"/{each.system}{each.path}", "state": "waiting", "tries": 0, "error": ""}
            for each in self.journal.records()
            if each.system not in connected
        ]

    def stop(self) -> None:
        """Begin nothing more."""
        for files in self.files().values():
            files.stores.stop()
        for jobs in self.jobs().values():
            jobs.submissions.stop()
        self.flights.shutdown()


class Controls:
    """What the files of `.firecrestfs/` show and do."""

    def __init__(self, config: Config, mountpoint: str, log_path: Path | None) -> None:
        self._config = config
        self._mountpoint = mountpoint
        self._log_path = log_path
        self._since = time.time()
        self.mount: Mount | None = None

    def reads(self) -> dict[str, Callable[[], str]]:
        """Return the files that are made on reading."""
        return {
            "status.json": self._status,
            "queue": self._queue,
            "errors": lambda: "".join(f"{line}\n" for line in self._wired().errors.lines()),
            "log": self._log,
            "stats.json": lambda: as_json({"requests": self._wired().client.stats()}),
        }

    def commands(self) -> dict[str, Callable[[str], str]]:
        """Return the files that carry out what is written into them."""
        return {"refresh": self._refresh, "ctl": self._ctl}

    def _wired(self) -> Mount:
        assert self.mount is not None
        return self.mount

    def _status(self) -> str:
        mount = self._wired()
        return as_json(
            {
                "pid": os.getpid(),
                "url": self._config.url,
                "mountpoint": self._mountpoint,
                "state_dir": str(self._config.local_state_dir),
                "cache_dir": str(self._config.local_cache_dir),
                "since": self._since,
                "systems": sorted(mount.namespace.names()),
                "connected": sorted(mount.namespace.connected()),
                "draining": mount.operations.draining,
                "pending": mount.pending(),
                "errors": mount.errors.lines()[-5:],
            }
        )

    def _queue(self) -> str:
        rows = self._wired().pending()
        return "".join(
            f"{row['state']:8} {row['path']}  {row['error']}".rstrip() + "\n" for row in rows
        )

    def _log(self) -> str:
        if self._log_path is None:
            return ""
        with self._log_path.open("rb") as file:
            file.seek(max(0, self._log_path.stat().st_size - 65536))
            return file.read().decode("utf-8", "replace")

    def _refresh(self, path: str) -> str:
        """Drop what is believed at and below *path*, a path within the mount."""
        for name, files in self._wired().files().items():
            prefix = f"/{name}"
            if is_below(prefix, path or "/"):
                files.refresh("/")
            elif is_below(path, prefix):
                files.refresh(path[len(prefix) :])
        for name, jobs in self._wired().jobs().items():
            if is_below(f"/{name}", path or "/") or is_below(path, f"/{name}"):
                jobs.refresh("/")
        return ""

    def _ctl(self, line: str) -> str:
        """Carry out `sync PATH`; the answer is JSON, read from the same descriptor."""
        verb, _, path = line.partition(" ")
        if verb != "sync":
            raise os_error(errno.EINVAL, "ctl", f"unknown command: {verb}")
        mount = self._wired()
        mount.client.renew_credentials()
        failed: dict[str, str] = {}
        for name, files in mount.files().items():
            prefix = f"/{name}"
            if is_below(prefix, path or "/"):
                failed |= self._sync(name, files, "/")
            elif is_below(path, prefix):
                failed |= self._sync(name, files, path[len(prefix) :])
        return as_json({"failed": failed})

    @staticmethod
    def _sync(system: str, files: RemoteFilesystem, path: str) -> dict[str, str]:
        stores = files.stores.flush(files.followed(path), None, interrupted, patience=_TRIES)
        return _failures(system, stores) | _swept(system, files)


def _swept(system: str, files: RemoteFilesystem) -> dict[str, str]:
    """Remove what is left to be removed; return what could not be, with the reason."""
    try:
        files.sweep()
    except OSError as exc:
        return {f"/{system}{exc.filename or ''}": f"left behind: {exc.strerror}"}
    return {}


def _failures(system: str, failed: dict[str, OSError | None]) -> dict[str, str]:
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
    rows = []
    for path, row in files.stores.pending():
        state = "storing" if row.in_flight else "failed" if row.parked else "waiting"
        error = "" if row.error is None else str(row.error.strerror)
        rows.append(
            {"path": f"/{system}{path}", "state": state, "tries": row.tries, "error": error}
        )
    return rows
