"""How far staged transfers are: a row each, for people to look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: The rate is that of about so many last seconds.
_WINDOW_S = 10.0


class Row:
    """One transfer. Whoever moves it sets `stage` and `done`; sizes are bytes.

    Stages: queued (at the scheduler), staging, moving (to or from the object store), landing.
    """

    def __init__(self, path: str, direction: str, total: int) -> None:
        self.path = path
        self.direction = direction  # down, up
        self.total = total
        self.stage = "waiting"
        self.done = 0
        self._before = (time.monotonic(), 0)
        self._rate = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second, lately."""
        then, done = self._before
        now = time.monotonic()
        if now - then > 0.5:
            self._rate = max(self.done - done, 0) / (now - then)
        if now - then > _WINDOW_S:
            self._before = (now, self.done)
        return self._rate

    def begin(self, stage: str) -> None:
        """Enter *stage*."""
        if stage != self.stage:
            self.stage = stage
            self._before = (time.monotonic(), self.done)

    def as_dict(self, prefix: str = "") -> dict[str, Any]:
        """Return the row for JSON; `left` is seconds, None where nobody can tell."""
        rate = self.rate
        left = (self.total - self.done) / rate if rate and self.stage == "moving" else None
        return {
            "path": prefix + self.path,
            "direction": self.direction,
            "stage": self.stage,
            "done": self.done,
            "total": self.total,
            "rate": round(rate),
            "left": None if left is None else round(left),
        }

    def line(self, prefix: str = "") -> str:
        """Return the row as one line; *prefix* stands before the path."""
        percent = 100 * self.done // self.total if self.total else 100
        text = f"{self.direction:4} {self.stage:8} {prefix}{self.path}  "
        text += f"{self.done:,} of {self.total:,} bytes ({percent} %)"
        row = self.as_dict()
        if self.stage == "moving" and row["rate"]:
            text += f", {row['rate'] / 1e6:.1f} MB/s"
            text += "" if row["left"] is None else f", {row['left']} s left"
        return text


class Board:
    """The transfers that are under way. Thread-safe (a leaf lock)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _rows
        self._rows: list[Row] = []

    @contextmanager
    def showing(self, row: Row) -> Iterator[Row]:
        """Show *row* while the body runs."""
        self.show(row)
        try:
            yield row
        finally:
            self.hide(row)

    def show(self, row: Row) -> None:
        """Show *row* from now on."""
        with self._lock:
            if row not in self._rows:
                self._rows.append(row)

    def hide(self, row: Row) -> None:
        """Show *row* no more."""
        with self._lock:
            if row in self._rows:
                self._rows.remove(row)

    def rows(self) -> list[Row]:
        """Return all rows, oldest first."""
        with self._lock:
            return list(self._rows)

    def of(self, path: str) -> Row | None:
        """Return the row of *path*."""
        return next((row for row in self.rows() if row.path == path), None)
