"""Journal: durable records of what was changed here and has not landed (SQLite).

A record is committed before the call that it belongs to returns, without an fsync: it survives the
death of the process at once, and a power loss as soon as the system has written it out.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import threading
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
    mtime_ns INTEGER,
    base TEXT                   -- the remote file it is based on, JSON; NULL: new
)
"""


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One local copy that holds something the cluster doesn't have."""

    ident: str
    system: str
    path: str
    closed: bool
    mode: int | None
    mtime_ns: int | None
    base: Attr | None


class Journal:
    """The records of one state directory. Thread-safe (a leaf lock over local disk I/O)."""

    def __init__(self, path: Path) -> None:
        """Open or make the journal. Raises EPROTO for one that a newer program wrote."""
        self._lock = threading.Lock()  # guards _db: one writer at a time
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise os_error(
                errno.EPROTO, str(path), "written by a newer firecrestfs: use that, or update"
            )
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_SCHEMA)
        self._db.execute(f"PRAGMA user_version={_VERSION}")

    def record(self, record: FileRecord) -> None:
        """Write down *record* in place of an earlier one of the same copy."""
        base = None if record.base is None else json.dumps(_as_table(record.base))
        row = (
            record.ident,
            record.system,
            json.dumps(record.path),
            int(record.closed),
            record.mode,
            record.mtime_ns,
            base,
        )
        with self._lock:
            self._db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    def forget(self, ident: str) -> None:
        """Drop the record of *ident*: it has landed, or is wanted no more."""
        with self._lock:
            self._db.execute("DELETE FROM files WHERE ident = ?", (ident,))

    def records(self) -> list[FileRecord]:
        """Return all records, in the order in which they were first made."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM files ORDER BY rowid").fetchall()
        return [
            FileRecord(ident, system, json.loads(path), bool(closed), mode, mtime_ns, _attr(base))
            for ident, system, path, closed, mode, mtime_ns, base in rows
        ]

    def close(self) -> None:
        """Close the database; nothing may be recorded after."""
        with self._lock:
            self._db.close()


def _as_table(attr: Attr) -> dict[str, object]:
    return asdict(attr) | {"kind": attr.kind.value, "source": attr.source.value}


def _attr(text: str | None) -> Attr | None:
    if text is None:
        return None
    table = json.loads(text)
    return Attr(**table | {"kind": Kind(table["kind"]), "source": Source(table["source"])})
