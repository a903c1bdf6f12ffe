"""The database of one state directory (SQLite): what must outlive the process is committed here.

A change is committed before the call that it belongs to returns, without an fsync: it survives the
death of the process at once, and a power loss from the next `seal` on.
"""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from firecrestfs.errors import os_error

log = logging.getLogger(__name__)

#: Raised with every change of the tables; a database of a newer program is left alone.
_VERSION = 4
#: SQLite's own log is folded into the database when it is longer.
_LONG_WAL_BYTES = 16 << 20
#: Held back for some thousand changes on a full disk.
_RESERVE_BYTES = 8 << 20
#: A statement and its values.
Step = tuple[str, Sequence[Any]]


class Database:
    """One connection that all tables share. Thread-safe (a leaf lock over local disk I/O)."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises EPROTO for one that a newer program wrote."""
        self._path = str(path)
        self._reserve = f"{path}-reserve"
        self._lock = threading.RLock()  # guards _db: one writer at a time
        self.written = threading.Event()  # something waits to be sealed; for the one who seals
        with self._named_errors():
            try:
                self._open()
            except sqlite3.OperationalError as exc:
                # On a full disk, too, what waits must be had.
                if not (_finds_no_room(exc) and self._give_reserve()):
                    raise
                self._open()
        self._keep_reserve()

    def _open(self) -> None:
        self._db = sqlite3.connect(self._path, check_same_thread=False, isolation_level=None)
        try:
            self._set_up()
        except BaseException:
            self._db.close()
            raise

    def _set_up(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise os_error(
                errno.EPROTO, self._path, "written by a newer firecrestfs: use that, or update"
            )
        # Each change writes whole pages, and most are of one record.
        self._db.execute("PRAGMA page_size=2048")
        self._db.execute("PRAGMA journal_mode=WAL")
        # Once with a sync, which brings the name of SQLite's log to the disk too: see `seal`.
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT)")
        self._db.execute("INSERT OR REPLACE INTO meta VALUES ('opened', datetime('now'))")
        self._db.execute("PRAGMA synchronous=NORMAL")
        # A checkpoint syncs: only `seal` may do that, never a call that a program waits for.
        self._db.execute("PRAGMA wal_autocheckpoint=0")
        self._db.execute(f"PRAGMA user_version={_VERSION}")

    def make_tables(self, schema: str) -> None:
        """Run the `CREATE … IF NOT EXISTS` statements of *schema*."""
        with self._lock, self._named_errors():
            self._db.executescript(schema)

    def execute(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement, committed when this returns, and return its rows."""
        with self._lock, self._named_errors():
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.OperationalError as exc:
                if not (_finds_no_room(exc) and self._give_reserve()):
                    raise
                return self._db.execute(statement, values).fetchall()

    def execute_all(self, steps: Sequence[Step]) -> None:
        """Run all *steps* as one change, committed when this returns; an exception: none of it."""
        with self._lock, self._named_errors():
            try:
                self._run_all(steps)
            except sqlite3.OperationalError as exc:
                if not (_finds_no_room(exc) and self._give_reserve()):
                    raise
                self._run_all(steps)

    def record(self, *steps: Step) -> None:
        """Run all *steps* as `execute_all` does, and have them sealed within seconds."""
        self.execute_all(steps)
        if not self.written.is_set():
            self.written.set()

    def _run_all(self, steps: Sequence[Step]) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in steps:
                self._db.execute(statement, values)
            self._db.execute("COMMIT")
        except BaseException:
            # What found no room may have been undone by SQLite itself.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _keep_reserve(self) -> None:
        """Hold room back for the log: whoever removes files from a full disk writes here, too."""
        if os.path.exists(self._reserve):
            return
        with suppress(OSError):
            stat = os.statvfs(os.path.dirname(self._reserve) or ".")
            if stat.f_bavail * stat.f_frsize > 8 * _RESERVE_BYTES:
                fd = os.open(self._reserve, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(fd, 0, _RESERVE_BYTES)
                finally:
                    os.close(fd)

    def _give_reserve(self) -> bool:
        """Give the room that was held back; return whether there was any."""
        try:
            os.unlink(self._reserve)
        except FileNotFoundError:
            return False
        log.warning("%s: this machine's disk is full; what was held back is used", self._path)
        return True

    def seal(self) -> None:
        """Return when everything committed so far survives a power loss."""
        self._keep_reserve()
        if self._wal_bytes() > _LONG_WAL_BYTES:
            with self._lock, self._named_errors():
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        # What was committed is in SQLite's log. To sync that needs no lock, and nobody waits.
        fd = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the database; nothing may be executed after."""
        with self._lock:
            self._db.close()

    def _wal_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors of SQLite leave as `OSError`s that name the file."""
        try:
            yield
        except sqlite3.Error as exc:
            full = "full" in str(exc)
            code = errno.ENOSPC if full else errno.EIO
            raise os_error(code, self._path, f"the journal can't be used: {exc}") from exc


def _finds_no_room(exc: sqlite3.Error) -> bool:
    """Tell whether the disk may be full: the log's index tells that as an error of I/O."""
    return "full" in str(exc) or "I/O" in str(exc)
