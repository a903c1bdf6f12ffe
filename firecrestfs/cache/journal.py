"""Journal: durable records of what was changed here and has not landed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from firecrestfs.model import Attr, Kind, Source

from .database import Database

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
    """What one state directory holds that has not landed. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.make_tables(_SCHEMA)

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
        self._database.execute(_UPSERT, row)

    def forget(self, ident: str) -> None:
        """Drop the record of *ident*: it has landed, or is wanted no more."""
        self._database.execute("DELETE FROM files WHERE ident = ?", (ident,))

    def records(self) -> list[FileRecord]:
        """Return all records, in the order in which they were first made."""
        return [
            _record(*row) for row in self._database.execute("SELECT * FROM files ORDER BY rowid")
        ]

    def close(self) -> None:
        """Close the database; nothing may be recorded after."""
        self._database.close()


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
