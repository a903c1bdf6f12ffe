"""What staged transfers must remember beyond the process: uploads under way, and leftovers.

The links of an upload are secrets until they expire: the database is readable by its owner alone,
and a row goes as soon as its upload is over.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .database import Database, Step

_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    ident TEXT PRIMARY KEY,     -- the local copy that is sent
    system TEXT NOT NULL,
    path TEXT NOT NULL,         -- where the cluster shall have it in the end, JSON
    temporary TEXT NOT NULL,    -- where it lands first, JSON
    size INTEGER NOT NULL,      -- of the local copy as it is sent
    mtime_ns TEXT NOT NULL,
    ticket TEXT NOT NULL,       -- what the server announced, JSON; empty: it came by a tar
    parts TEXT NOT NULL,        -- the marks of the parts that were sent, by number, JSON
    complete INTEGER NOT NULL,  -- 1: they have been put together
    landed INTEGER NOT NULL     -- the inode of what has landed and been proven; 0: not yet
);
CREATE TABLE IF NOT EXISTS landings (
    ident TEXT PRIMARY KEY,     -- of the upload
    mtime INTEGER NOT NULL      -- of what has landed, epoch seconds
);
CREATE TABLE IF NOT EXISTS appends (
    ident TEXT PRIMARY KEY,     -- the local copy whose end is sent
    system TEXT NOT NULL,
    path TEXT NOT NULL,         -- of the file, JSON; "": nobody wants it, it has to be removed
    folder TEXT NOT NULL,       -- a directory of ours on the cluster, for what is sent, JSON
    start INTEGER NOT NULL,     -- how long the file was before
    size INTEGER NOT NULL,      -- how many bytes come behind that
    ino TEXT NOT NULL,          -- of the file
    mtime INTEGER NOT NULL,     -- of it before, epoch seconds
    job TEXT NOT NULL,          -- that appends them; "": not submitted, as far as is known
    words TEXT NOT NULL         -- the file with what the job says, JSON
);
CREATE TABLE IF NOT EXISTS staged_leftovers (
    system TEXT NOT NULL,
    path TEXT NOT NULL,         -- of a file or link of ours that may be on the cluster, JSON
    PRIMARY KEY (system, path)
)
"""

_SELECT = (
    "SELECT uploads.*, COALESCE(mtime, 0) FROM uploads LEFT JOIN landings"
    " ON uploads.ident = landings.ident"
)


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """One upload under way. `size` and `mtime_ns` tell which bytes it sends.

    `complete`: all parts have been sent and put together. `landed` is the inode of `temporary` once
    that is proven to hold everything, 0 before, and `landed_mtime` its time then (epoch seconds).
    """

    ident: str
    system: str
    path: str
    temporary: str
    size: int
    mtime_ns: int
    ticket: Mapping[str, Any]
    parts: Mapping[int, str]
    complete: bool = False
    landed: int = 0
    landed_mtime: int = 0


@dataclass(frozen=True, slots=True)
class AppendRecord:
    """Bytes that are being put behind those of a file on the cluster, by a job.

    `path` is empty where nobody wants that any more, and `folder` is to be removed. `start` and
    `size` are in bytes; `ino` and `mtime` (epoch seconds) are those of the file before. `job` is
    empty as long as none is known, `words` is the file with what it says.
    """

    ident: str
    system: str
    path: str
    folder: str
    start: int
    size: int
    ino: int
    mtime: int
    job: str = ""
    words: str = ""


class Transfers:
    """The tables of staged transfers of one state directory. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.stopped = threading.Event()  # set when the process begins nothing more
        database.make_tables(_SCHEMA)

    # -- uploads -------------------------------------------------------------------------------

    def begin(self, record: UploadRecord) -> None:
        """Write down an upload in place of an earlier one of the same copy."""
        upload = (
            "INSERT OR REPLACE INTO uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.ident,
                record.system,
                json.dumps(record.path),
                json.dumps(record.temporary),
                record.size,
                str(record.mtime_ns),
                json.dumps(record.ticket),
                json.dumps(record.parts),
                int(record.complete),
                record.landed,
            ),
        )
        self._database.record(upload, _landing(record.ident, record.landed_mtime))

    def sent(self, ident: str, number: int, mark: str) -> None:
        """Write down that part *number* has been sent, and what the store calls it."""
        update = "UPDATE uploads SET parts = json_set(parts, '$.' || ?, ?) WHERE ident = ?"
        self._database.record((update, (json.dumps(str(number)), mark, ident)))

    def completed(self, ident: str) -> None:
        """Write down that all parts have been put together."""
        self._database.record(("UPDATE uploads SET complete = 1 WHERE ident = ?", (ident,)))

    def landed(self, ident: str, inode: int, mtime: int) -> None:
        """Write down which inode, of which time (s), holds everything that was sent."""
        update = "UPDATE uploads SET landed = ? WHERE ident = ?", (inode, ident)
        self._database.record(update, _landing(ident, mtime))

    def upload(self, ident: str) -> UploadRecord | None:
        """Return the upload of the copy *ident*."""
        rows = self._database.execute(f"{_SELECT} WHERE uploads.ident = ?", (ident,))
        return _record(*rows[0]) if rows else None

    def uploads(self, system: str) -> list[UploadRecord]:
        """Return the uploads to *system*."""
        rows = self._database.execute(f"{_SELECT} WHERE system = ?", (system,))
        return [_record(*row) for row in rows]

    def end(self, ident: str) -> None:
        """Forget the upload of the copy *ident*: it is over."""
        tables = ("uploads", "landings")
        self._database.execute_all(
            [(f"DELETE FROM {table} WHERE ident = ?", (ident,)) for table in tables]
        )

    # -- appends -------------------------------------------------------------------------------

    def note_append(self, record: AppendRecord) -> None:
        """Write down an append, in place of an earlier one of the same copy."""
        self._database.record(_written(record))

    def retire_append(self, record: AppendRecord, ident: str) -> AppendRecord:
        """Write down, as *ident*, that all that is left of an append is to remove its folder."""
        retired = replace(record, ident=ident, path="")
        forgotten = "DELETE FROM appends WHERE ident = ?", (record.ident,)
        self._database.record(forgotten, _written(retired))
        return retired

    def appends(self, system: str) -> list[AppendRecord]:
        """Return the appends on *system*."""
        rows = self._database.execute("SELECT * FROM appends WHERE system = ?", (system,))
        return [_append(row) for row in rows]

    def end_append(self, ident: str) -> None:
        """Forget the append of the copy *ident*: nothing is left of it."""
        self._database.execute("DELETE FROM appends WHERE ident = ?", (ident,))

    def systems(self) -> set[str]:
        """Return the systems where something waits to be ended or removed."""
        rows = self._database.execute(
            "SELECT system FROM uploads UNION SELECT system FROM staged_leftovers"
            " UNION SELECT system FROM appends"
        )
        return {str(row[0]) for row in rows}

    # -- leftovers -----------------------------------------------------------------------------

    def may_leave(self, system: str, *paths: str) -> None:
        """Write down that *paths*, ours, may be left on *system*."""
        insert = "INSERT OR IGNORE INTO staged_leftovers VALUES (?, ?)"
        self._database.record(*((insert, (system, json.dumps(path))) for path in paths))

    def removed(self, system: str, *paths: str) -> None:
        """Note that *paths* are gone."""
        for path in paths:
            self._database.execute(
                "DELETE FROM staged_leftovers WHERE system = ? AND path = ?",
                (system, json.dumps(path)),
            )

    def leftovers(self, system: str) -> list[str]:
        """Return what may be left on *system*."""
        rows = self._database.execute(
            "SELECT path FROM staged_leftovers WHERE system = ?", (system,)
        )
        return [json.loads(row[0]) for row in rows]


def _record(
    ident: str,
    system: str,
    path: str,
    temporary: str,
    size: int,
    mtime_ns: str,
    ticket: str,
    parts: str,
    complete: int,
    landed: int,
    landed_mtime: int,
) -> UploadRecord:
    marks = {int(number): str(mark) for number, mark in json.loads(parts).items()}
    return UploadRecord(
        ident,
        system,
        json.loads(path),
        json.loads(temporary),
        size,
        int(mtime_ns),
        json.loads(ticket),
        marks,
        bool(complete),
        landed,
        landed_mtime,
    )


def _landing(ident: str, mtime: int) -> Step:
    """Return the statement that writes the time of what has landed down, and its values."""
    return "INSERT OR REPLACE INTO landings VALUES (?, ?)", (ident, mtime)


def _written(record: AppendRecord) -> tuple[str, tuple[Any, ...]]:
    """Return the statement that writes *record* down, and its values."""
    return "INSERT OR REPLACE INTO appends VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (
        record.ident,
        record.system,
        json.dumps(record.path),
        json.dumps(record.folder),
        record.start,
        record.size,
        str(record.ino),
        record.mtime,
        record.job,
        json.dumps(record.words),
    )


def _append(row: tuple[Any, ...]) -> AppendRecord:
    ident, system, path, folder, start, size, ino, mtime, job, words = row
    return AppendRecord(
        ident,
        system,
        json.loads(path),
        json.loads(folder),
        start,
        size,
        int(ino),
        mtime,
        job,
        json.loads(words),
    )
