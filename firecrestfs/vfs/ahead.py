"""Staging ahead: who has read two large siblings one after the other will read the next ones.

Each staging may wait in a queue: forty files one after the other would be forty waits.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from firecrestfs.model import Kind
from firecrestfs.paths import join, split

from .tree import RemoteTree

log = logging.getLogger(__name__)

#: So many files are staged ahead.
_AHEAD = 4
#: Readers whose way is remembered.
_READERS = 100


class Ahead:
    """Watches which large files are read, and has the next ones staged. Thread-safe (a leaf)."""

    def __init__(self, tree: RemoteTree, prepare: Callable[[str], None]) -> None:
        """*prepare* has a large file staged that nobody reads yet; it doesn't wait for that."""
        self._tree = tree
        self._prepare = prepare
        self._lock = threading.Lock()  # guards _last
        self._last: OrderedDict[tuple[int, str], list[str]] = OrderedDict()  # → names, oldest first

    def reads(self, path: str, pid: int) -> None:
        """Hear that the process *pid* needs the large file at *path*."""
        directory, name = split(path)
        key = (_session_of(pid), directory)
        with self._lock:
            names = self._last.setdefault(key, [])
            self._last.move_to_end(key)
            while len(self._last) > _READERS:
                self._last.popitem(last=False)
            if name in names:
                return
            names.append(name)
            del names[:-2]
            if len(names) < 2 or names[0] > names[1]:
                return
        threading.Thread(
            target=self._stage_next, args=(directory, name), name="ahead", daemon=True
        ).start()

    def _stage_next(self, directory: str, name: str) -> None:
        limit = self._tree.system.limits.download
        try:
            listing = self._tree.listing(directory)
            after = sorted(
                each
                for each, attr in listing.items()
                if each > name and attr.kind is Kind.FILE and attr.size > limit
            )
            for each in after[:_AHEAD]:
                self._prepare(join(directory, each))
        except OSError as exc:
            log.info("nothing is staged ahead in %s: %s", directory, exc)


def _session_of(pid: int) -> int:
    """Return the session of a process: a loop in a shell reads each file by another one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(text.rpartition(")")[2].split()[3])
    except (OSError, ValueError, IndexError):
        return pid
