"""Journal: durable records of what was changed here and has not landed.

A record says where an entry is shown and where the cluster has it, not which calls led there: what
is undone again leaves nothing to do, and the order of records is of no matter.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from firecrestfs.model import Attr, Kind, Source

from .database import Database, Step

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entries (
    ident TEXT PRIMARY KEY,     -- of files also the name of the local copy in the state directory
    system TEXT NOT NULL,
    kind TEXT NOT NULL,         -- as `ls -l` shows it
    path TEXT NOT NULL,         -- where the mount shows it, JSON; "": it was unlinked
    origin TEXT NOT NULL,       -- where the cluster has it, JSON; "": nowhere yet
    closed INTEGER NOT NULL,    -- 0: it was being written
    more TEXT NOT NULL,         -- the other fields, JSON
    boot TEXT NOT NULL,         -- when it was written: the boot of this machine
    since REAL NOT NULL,        -- when it was first written, epoch seconds
    version INTEGER NOT NULL,   -- counts the changes of this record
    sealed INTEGER NOT NULL     -- 1: the bytes of this record survive a power loss
);
CREATE TABLE IF NOT EXISTS leftovers (
    system TEXT NOT NULL,
    path TEXT NOT NULL,         -- an archive of ours on the cluster, JSON
    PRIMARY KEY (system, path)
);
"""
# An update keeps the place of the record, and with it the order.
_UPSERT = """
INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0)
ON CONFLICT (ident) DO UPDATE SET
    system = excluded.system, kind = excluded.kind, path = excluded.path,
    origin = excluded.origin, closed = excluded.closed, more = excluded.more,
    boot = excluded.boot, version = version + 1, sealed = 0
"""
#: Changes that belong together by chance are written down so many at a time.
_AT_ONCE = 50
Item = TypeVar("Item")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of which the cluster is to be told something.

    `size` and `crc` tell of a closed file what its bytes were, to be believed after a power loss.
    `sent` lists the stores that were begun, as (size, SHA-256); `attempted` is where such a store
    may have left a new file; `moving` is a move that was begun: target, dev and ino.
    `promised` names the copy of the last closed version while a newer one is being written.
    `tail`: up to there the bytes of that version are those of `base`, which need not be here; `crc`
    is of what follows. While it is appended to, it has no copy, and `size` is where it ends.
    `inherits`: the parent passes on an ACL or, to directories, its group. `link_of`: this is to be
    a hard link to the entry of that ident. `anew`: it is to take the place of what is at `origin`.
    """

    ident: str
    system: str
    path: str
    origin: str
    kind: Kind = Kind.FILE
    closed: bool = True
    mode: int | None = None
    exact_mode: bool = False
    mtime_ns: int | None = None
    base: Attr | None = None
    text: str = ""
    made_text: str = ""
    size: int = -1
    crc: int = 0
    promised: str = ""
    tail: int | None = None
    sent: tuple[tuple[int, str], ...] = ()
    attempted: str = ""
    moving: tuple[str, int, int] | None = None
    inherits: bool = False
    anew: bool = False
    link_of: str = ""
    since: float = field(default=0.0, compare=False)  # when it was first written, epoch seconds

    @property
    def where(self) -> str:
        """The path by which to speak of it: where it is, or was before it was unlinked."""
        return self.path or self.origin or self.attempted


@dataclass(frozen=True, slots=True)
class Found:
    """A record as a later process finds it.

    `trusted`: no power was lost since its bytes came, or they were on the disk by then; `rebooted`:
    what came after them, and was not written down, may be there in their place.
    """

    record: Record
    trusted: bool
    rebooted: bool = False


class Journal:
    """What one state directory holds that has not landed. Thread-safe."""

    def __init__(self, database: Database, boot_id: str = "") -> None:
        """*boot_id* tells one boot of this machine from another; read where it isn't given."""
        self._database = database
        self._boot_id = boot_id or _BOOT_ID.read_text().strip()
        self.written = database.written
        database.make_tables(_SCHEMA)
        self._writing = threading.Lock()  # one writes down at a time; guards _newest
        self._newest: dict[str, int] = {}  # ident → the turn of what is written of it, see `note`
        self._taking = threading.Lock()  # guards the turns
        self._turn = 0
        self._looking: set[int] = set()  # turns of those who have yet to write

    def record(self, *records: Record) -> None:
        """Write down *records*, each in place of an earlier one of its entry, as one change."""
        self.change(records, ())

    def forget(self, *idents: str) -> None:
        """Drop the records of *idents*: they have landed, or are wanted no more."""
        self.change((), idents)

    def change(self, records: Sequence[Record], gone: Sequence[str]) -> None:
        """Write down *records* and drop those of *gone*, as one change."""
        self.note(lambda: (records, gone))

    def note(self, look: Callable[[], tuple[Sequence[Record], Sequence[str]]]) -> None:
        """Do what `change` does with what *look* finds; it may take its time.

        Of several threads who look at an entry, what is written in the end is what the last to
        begin has found: whoever looks after a change knows that it, or a later one, is noted.
        """
        with self._taking:
            self._turn += 1
            turn = self._turn
            self._looking.add(turn)
        found: tuple[Sequence[Record], Sequence[str]] = ((), ())
        try:
            found = look()
        finally:
            with self._writing:
                try:
                    self._write(*found, turn)
                finally:
                    self._end_locked(turn)

    def _end_locked(self, turn: int) -> None:
        with self._taking:
            self._looking.discard(turn)
            if not self._looking:
                self._newest.clear()

    def _write(self, records: Sequence[Record], gone: Sequence[str], turn: int) -> None:
        """Write what nobody has written of by what they saw later."""

        def is_newest(ident: str) -> bool:
            return self._newest.get(ident, 0) < turn

        steps: list[tuple[str, Step]] = [
            *((each.ident, (_UPSERT, _row(each, self._boot_id))) for each in records),
            *((ident, ("DELETE FROM entries WHERE ident = ?", (ident,))) for ident in gone),
        ]
        steps = [each for each in steps if is_newest(each[0])]
        if len(steps) == 1:
            self._database.execute(*steps[0][1])
        elif steps:
            self._database.execute_all([step for _, step in steps])
        self._newest.update((ident, turn) for ident, _ in steps)
        if steps and not self.written.is_set():
            self.written.set()

    def records(self) -> list[Record]:
        """Return all records, in the order in which they were first made."""
        return [each.record for each in self.found()]

    def found(self) -> list[Found]:
        """Return all records, and whether the bytes that belong to them can be trusted."""
        rows = self._database.execute("SELECT * FROM entries ORDER BY rowid")
        same = [row[7] == self._boot_id for row in rows]
        return [
            Found(_record(row), here or bool(row[10]), not here)
            for row, here in zip(rows, same, strict=True)
        ]

    # -- sealing -------------------------------------------------------------------------------

    def unsealed(self) -> list[tuple[str, int]]:
        """Return ident and version of the records that may not survive a power loss yet."""
        rows = self._database.execute("SELECT ident, version FROM entries WHERE sealed = 0")
        return [(ident, version) for ident, version in rows]

    def seal(self, marks: Iterable[tuple[str, int]] = ()) -> None:
        """Bring all records to the disk, those of *marks* noted as having their bytes there too.

        A record that has changed since its version was told stays unsealed.
        """
        for some in portions(list(marks)):
            update = "UPDATE entries SET sealed = 1 WHERE ident = ? AND version = ?"
            self._database.execute_all([(update, mark) for mark in some])
        self._database.seal()

    # -- archives of ours on the cluster -------------------------------------------------------

    def leave(self, system: str, path: str) -> None:
        """Note that *path* on *system* is ours and has to be removed."""
        self._database.record(
            ("INSERT OR IGNORE INTO leftovers VALUES (?, ?)", (system, json.dumps(path)))
        )

    def removed(self, system: str, path: str) -> None:
        """Note that *path* is no more."""
        self._database.execute(
            "DELETE FROM leftovers WHERE system = ? AND path = ?", (system, json.dumps(path))
        )

    def leftovers(self, system: str) -> list[str]:
        """Return what has to be removed on *system*."""
        rows = self._database.execute("SELECT path FROM leftovers WHERE system = ?", (system,))
        return [json.loads(row[0]) for row in rows]

    def close(self) -> None:
        """Close the database; nothing may be recorded after."""
        self._database.close()


def portions(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Cut *items* into pieces that keep others from the database for a short time only."""
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]


_MORE = (
    "mode",
    "exact_mode",
    "mtime_ns",
    "text",
    "made_text",
    "size",
    "crc",
    "promised",
    "tail",
    "inherits",
    "anew",
    "link_of",
)


def _row(record: Record, boot_id: str) -> tuple[Any, ...]:
    more = {name: getattr(record, name) for name in (*_MORE, "sent", "attempted", "moving")}
    if record.base is not None:
        more["base"] = _as_table(record.base)
    return (
        record.ident,
        record.system,
        record.kind.value,
        json.dumps(record.path),
        json.dumps(record.origin),
        int(record.closed),
        json.dumps(more),
        boot_id,
        time.time(),
    )


def _record(row: tuple[Any, ...]) -> Record:
    more = json.loads(row[6])
    moving = more.pop("moving")
    return Record(
        row[0],
        row[1],
        json.loads(row[3]),
        json.loads(row[4]),
        Kind(row[2]),
        bool(row[5]),
        base=_attr(more.pop("base", None)),
        sent=tuple((size, digest) for size, digest in more.pop("sent")),
        moving=None if moving is None else (moving[0], moving[1], moving[2]),
        since=row[8],
        **more,
    )


def _as_table(attr: Attr) -> dict[str, object]:
    return asdict(attr) | {"kind": attr.kind.value, "source": attr.source.value}


def _attr(table: dict[str, Any] | None) -> Attr | None:
    if table is None:
        return None
    return Attr(**table | {"kind": Kind(table["kind"]), "source": Source(table["source"])})
