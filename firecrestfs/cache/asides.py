"""Asides: `lost+found/` of a state directory, where nothing is deleted that might be missed.

lost+found/NAME-IDENT                       set aside: for the user to look at and remove
lost+found/discarded-YYYY-MM-DD/NAME-IDENT  given up by the user on that day
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

LOST_NAME = "lost+found"
_DISCARDED = "discarded-"


class Asides:
    """The lost+found of one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.top = state_dir / LOST_NAME

    def place(self, ident: str, name: str, *, discarded: bool = False) -> Path:
        """Return where bytes *ident* of a file called *name* are to be put; makes the directory."""
        # Room for what tells two of one name apart.
        kept = os.fsdecode(os.fsencode(name)[:200])
        directory = self.top / (time.strftime(f"{_DISCARDED}%Y-%m-%d") if discarded else "")
        for each in (self.top, directory):
            each.mkdir(exist_ok=True, mode=0o700)
        return directory / f"{kept}-{ident[:8]}"

    def keep(self, local: Path, name: str, *, discarded: bool = False) -> Path:
        """Keep the bytes of *local* (which stays), by a link where possible; return where."""
        target = self.place(local.name, name, discarded=discarded)
        target.unlink(missing_ok=True)
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
                    total += os.lstat(os.path.join(directory, name)).st_size
                except FileNotFoundError:
                    continue
        return total
