"""Asides: `lost+found/` of a state directory, where nothing is deleted that might be missed.

lost+found/NAME-IDENT                       set aside: for the user to look at and remove
lost+found/discarded-YYYY-MM-DD/NAME-IDENT  given up by the user on that day
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from .copying import copy_end

LOST_NAME = "lost+found"
_DISCARDED = "discarded-"


class Asides:
    """The lost+found of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.top = state_dir / LOST_NAME

    def place(self, ident: str, name: str, *, discarded: bool = False) -> Path:
        """Return where bytes *ident* of a file called *name* are to be put; makes the directory.

        Nothing is there: what was set aside of the same file before stays.
        """
        # Room for what tells two of one name apart.
        kept = os.fsdecode(os.fsencode(name)[:200])
        directory = self.top / (time.strftime(f"{_DISCARDED}%Y-%m-%d") if discarded else "")
        for each in (self.top, directory):
            each.mkdir(exist_ok=True, mode=0o700)
        # Idents of one process begin alike, and end with a number.
        target = directory / f"{kept}-{ident[:8]}{ident[20:].lstrip('0')}"
        free, number = target, 0
        while os.path.lexists(free):
            number += 1
            free = target.with_name(f"{target.name}.{number}")
        return free

    def keep(self, local: Path, name: str, start: int = 0, *, discarded: bool = False) -> Path:
        """Keep the bytes of *local* (which stays), by a link where possible; return where.

        Those before *start* aren't its own: a file of what is behind them is kept then.
        """
        target = self.place(local.name, tail_name(name, start), discarded=discarded)
        if start:
            copy_end(local, target, start)
            return target
        try:
            os.link(local, target)
        except OSError:
            shutil.copy2(local, target)
        return target

    def expired(self, before: float) -> list[Path]:
        """Return the directories of what was discarded on days that ended before *before*."""
        day = time.strftime(f"{_DISCARDED}%Y-%m-%d", time.localtime(before))
        try:
            names = sorted(os.listdir(self.top))
        except FileNotFoundError:
            return []
        return [self.top / name for name in names if name.startswith(_DISCARDED) and name < day]

    def used_bytes(self) -> int:
        """Return the bytes of all that is kept."""
        total = 0
        for directory, _, names in os.walk(self.top):
            for name in names:
                try:
                    total += bytes_taken(os.lstat(os.path.join(directory, name)))
                except FileNotFoundError:
                    continue
        return total


def tail_name(name: str, start: int) -> str:
    """Return *name*, or, for what was appended to a file of it behind *start*, that it is so."""
    return f"{name}.appended" if start else name


def bytes_taken(stat: os.stat_result) -> int:
    """Return how many bytes a file takes: holes take none."""
    return min(stat.st_size, stat.st_blocks * 512)
