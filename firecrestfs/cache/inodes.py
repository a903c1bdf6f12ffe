"""Inodes: the numbers of files that were renamed here, which their paths no longer tell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from .database import Database, Step

_SCHEMA = """
CREATE TABLE IF NOT EXISTS inodes (
    system TEXT NOT NULL,
    path TEXT NOT NULL,         -- JSON
    number TEXT NOT NULL,       -- 64 bits are too many for SQLite's integers
    first TEXT NOT NULL,        -- of a directory: where it was first seen, JSON; else ""
    PRIMARY KEY (system, path)
)
"""
#: What was renamed longest ago is forgotten beyond so many of one system.
_KEPT = 50_000


class Inodes:
    """The numbers of one system's renamed files, which outlive the mount. Thread-safe."""

    def __init__(self, database: Database, system: str) -> None:
        self._database = database
        self._system = system
        database.make_tables(_SCHEMA)

    def load(self) -> tuple[dict[str, int], dict[str, str]]:
        """Return path → number, and of directories path → where it was first seen."""
        self._database.execute(
            "DELETE FROM inodes WHERE system = ? AND rowid NOT IN "
            "(SELECT rowid FROM inodes WHERE system = ? ORDER BY rowid DESC LIMIT ?)",
            (self._system, self._system, _KEPT),
        )
        rows = self._database.execute(
            "SELECT path, number, first FROM inodes WHERE system = ?", (self._system,)
        )
        numbers = {json.loads(path): int(number) for path, number, _ in rows}
        return numbers, {json.loads(path): json.loads(first) for path, _, first in rows if first}

    def put(
        self, numbers: Mapping[str, int], trees: Mapping[str, str], gone: Iterable[str] = ()
    ) -> None:
        """Remember *numbers*, and forget those of the paths *gone*.

        *trees* tells of directories among them where each was first seen.
        """
        delete = "DELETE FROM inodes WHERE system = ? AND path = ?"
        steps: list[Step] = [(delete, (self._system, json.dumps(path))) for path in gone]
        for path, number in numbers.items():
            first = json.dumps(trees[path]) if path in trees else ""
            row = (self._system, json.dumps(path), str(number), first)
            steps.append(("INSERT OR REPLACE INTO inodes VALUES (?, ?, ?, ?)", row))
        self._database.execute_all(steps)
