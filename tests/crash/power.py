"""A power loss, as the next start finds it: another boot id, and what was not fsynced is damaged.

What the mount fsynced is known from outside: see `nursery`. The journal is a database whose own
fsyncs aren't seen, so it is either as it is, or as it was at a moment that the test knows to be
older than the few seconds within which everything is promised to be on the disk.
"""

from __future__ import annotations

import random
import shutil
import uuid
from pathlib import Path

from .site import Site


class Power:
    """The power supply of a site's machine; made before its mount."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._boot = site.home / "boot_id"
        self._durable = site.home / "durable"
        self._journal = site.home / "journal-then"
        self._durable.mkdir()
        self._boot.write_text(f"{uuid.uuid4()}\n")
        site.machine = {"boot": str(self._boot), "durable": str(self._durable)}

    def remember_journal(self) -> None:
        """Keep the journal as it is now: all of it has reached the disk."""
        shutil.rmtree(self._journal, ignore_errors=True)
        self._journal.mkdir()
        for path in self._site.state_dir.glob("*.sqlite*"):
            shutil.copyfile(path, self._journal / path.name)

    def fail(self, chance: random.Random) -> None:
        """Kill the mount, and leave of its state what a disk might have."""
        self._site.kill()
        self._boot.write_text(f"{uuid.uuid4()}\n")
        for path in sorted((self._site.state_dir / "files").iterdir()):
            self._damage(path, chance)
        if self._journal.exists() and chance.random() < 0.5:
            for path in self._site.state_dir.glob("*.sqlite*"):
                path.unlink()
            for path in self._journal.iterdir():
                # The index of the log is memory, not disk.
                if not path.name.endswith("-shm"):
                    shutil.copyfile(path, self._site.state_dir / path.name)

    def _damage(self, path: Path, chance: random.Random) -> None:
        durable = self._durable / path.name
        size = path.stat().st_size
        if durable.exists():
            if chance.random() < 0.5:
                shutil.copyfile(durable, path)
            return
        match chance.choice(["gone", "empty", "cut", "zeros", "whole"]):
            case "gone":
                path.unlink()
            case "empty":
                path.write_bytes(b"")
            case "cut":
                path.write_bytes(path.read_bytes()[: size // 2])
            case "zeros":
                path.write_bytes(path.read_bytes()[: size // 2] + bytes(size - size // 2))
