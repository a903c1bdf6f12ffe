"""The database of one state directory (SQLite): what must outlive the process is committed here.

A change is committed before the call that it belongs to returns, without an fsync: it survives the
death of the process at once, and a power loss from the next `seal` on.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firecrestfs.errors import os_error

#: Raised with every change of the tables; a database of a newer program is left alone.
_VERSION = 3
#: SQLite's own log is folded into the database when it is longer.
_LONG_WAL_BYTES = 16 << 20


class Database:
    """One connection that all tables share. Thread-safe (a leaf lock over local disk I/O)."""

    def __init__(self, path: Path) -> None:
        """Open or make the database. Raises EPROTO for one that a newer program wrote."""
        self._path = str(path)
        self._lock = threading.RLock()  # guards _db: one writer at a time
        with self._named_errors():
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
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
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is executed inside as one change, or, after an exception, none of it."""
        with self._lock, self._named_errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def seal(self) -> None:
        """Return when everything committed so far survives a power loss."""
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
