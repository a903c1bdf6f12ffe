"""Journal: durable records of what was changed here and has not landed (SQLite).

A record is committed before the call that it belongs to returns, without an fsync: it survives the
death of the process at once, and a power loss as soon as the system has written it out.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Kind, Source

#: Raised with every change of the tables; a journal of a newer program is left alone.
_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    ident TEXT PRIMARY KEY,     -- name of the local copy in the state directory
    system TEXT NOT NULL,
    path TEXT NOT NULL,         -- where the cluster shall have it; not UTF-8: surrogates, escaped
    closed INTEGER NOT NULL,    -- 0: it was being written
    mode INTEGER,               -- to be given with the store; NULL: whatever comes
    exact_mode INTEGER NOT NULL,-- 0: the cluster's umask may take some of it
    mtime_ns TEXT,              -- a number; as text, since SQLite's end in 2262
    base TEXT                   -- the remote file it is based on, JSON; NULL: new
)
"""

# An update keeps the place of the record, and with it the order.
_UPSERT = """
INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (ident) DO UPDATE SET
    system = excluded.system, path = excluded.path, closed = excluded.closed,
    mode = excluded.mode, exact_mode = excluded.exact_mode, mtime_ns = excluded.mtime_ns,
    base = excluded.base
"""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One local copy that holds something the cluster doesn't have."""

    ident: str
    system: str
    path: str
    closed: bool
    mode: int | None
    exact_mode: bool
    mtime_ns: int | None
    base: Attr | None


class Journal:
    """The records of one state directory. Thread-safe (a leaf lock over local disk I/O)."""

    def __init__(self, path: Path) -> None:
        """Open or make the journal. Raises EPROTO for one that a newer program wrote."""
        self._path = str(path)
        self._lock = threading.Lock()  # guards _db: one writer at a time
        with self._named_errors():
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise os_error(
                    errno.EPROTO, self._path, "written by a newer firecrestfs: use that, or update"
                )
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute(_SCHEMA)
            self._db.execute(f"PRAGMA user_version={_VERSION}")

    def record(self, record: FileRecord) -> None:
        """Write down *record* in place of an earlier one of the same copy."""
        row = (
            record.ident,
            record.system,
            json.dumps(record.path),
            int(record.closed),
            record.mode,
            int(record.exact_mode),
            None if record.mtime_ns is None else str(record.mtime_ns),
            None if record.base is None else json.dumps(_as_table(record.base)),
        )
        with self._lock, self._named_errors():
            self._db.execute(_UPSERT, row)

    def forget(self, ident: str) -> None:
        """Drop the record of *ident*: it has landed, or is wanted no more."""
        with self._lock, self._named_errors():
            self._db.execute("DELETE FROM files WHERE ident = ?", (ident,))

    def records(self) -> list[FileRecord]:
        """Return all records, in the order in which they were first made."""
        with self._lock, self._named_errors():
            rows = self._db.execute("SELECT * FROM files ORDER BY rowid").fetchall()
        return [_record(*row) for row in rows]

    def close(self) -> None:
        """Close the database; nothing may be recorded after."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let errors of SQLite leave as `OSError`s that name the file."""
        try:
            yield
        except sqlite3.Error as exc:
            full = "full" in str(exc)
            code = errno.ENOSPC if full else errno.EIO
            raise os_error(code, self._path, f"the journal can't be used: {exc}") from exc


def _record(
    ident: str,
    system: str,
    path: str,
    closed: int,
    mode: int | None,
    exact_mode: int,
    mtime_ns: str | None,
    base: str | None,
) -> FileRecord:
    when = None if mtime_ns is None else int(mtime_ns)
    return FileRecord(
        ident, system, json.loads(path), bool(closed), mode, bool(exact_mode), when, _attr(base)
    )


def _as_table(attr: Attr) -> dict[str, object]:
    return asdict(attr) | {"kind": attr.kind.value, "source": attr.source.value}


def _attr(text: str | None) -> Attr | None:
    if text is None:
        return None
    table = json.loads(text)
    return Attr(**table | {"kind": Kind(table["kind"]), "source": Source(table["source"])})
