"""TextReads: pieces of large text files by single requests, without staging.

What `head`, `tail`, `less` and `tail -f` read of a log of gigabytes is a few pieces of it. They
come exact to the byte or not at all; whoever reads on and on is better served by the object store.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, System

log = logging.getLogger(__name__)

#: Bytes of one piece, where the server lets it be so large.
_PIECE = 128 << 10
#: So many reads of a file at a time, and one more in each second after: people, not programs.
_READS = 4
#: More requests than this for one read aren't worth it.
_MOST_PIECES = 8
#: What must be known of the old end of a file that has grown, to tell that it only has.
_OVERLAP = 4096
_FILES = 1000


@dataclass
class _Purse:
    """What a file may still cost. `exact`: no piece of it has been refused so far."""

    left: float = _READS
    since: float = 0.0
    exact: bool = True

    def take(self) -> bool:
        """Take one request out, if there is one."""
        now = time.monotonic()
        self.left = min(_READS, self.left + now - self.since) if self.since else self.left
        self.since = now
        if not self.exact or self.left < 1:
            return False
        self.left -= 1
        return True


class TextReads:
    """Fetches pieces of text files of one system. Thread-safe; methods wait for the network."""

    def __init__(
        self, client: TypedClient, system: System, is_same: Callable[[str, Attr, Attr], bool]
    ) -> None:
        """*is_same* tells whether a stat shows the version of a file that is known."""
        self._is_same = is_same
        self._client = client
        self._system = system
        self._piece = min(_PIECE, system.limits.view)
        self._lock = threading.Lock()  # guards _purses and what is in them
        self._purses: OrderedDict[str, _Purse] = OrderedDict()

    def fetch(self, path: str, file: CachedFile, start: int, end: int) -> bool:
        """Bring the bytes from *start* up to *end* into *file*; return whether that was done.

        Raises ESTALE where the cluster has another version of the file by now.
        """
        size = file.remote_size
        pieces = self._pieces(start, min(end, size), size)
        if len(pieces) > _MOST_PIECES or not self._take(file.ident):
            return False
        for low, high in pieces:
            if file.has(low, high - low):
                continue
            fresh = not file.partial
            ends = low == 0 or high == size
            data = self._view(file.ident, path, low, high - low, size, telling=ends)
            if data is None:
                return False
            if not fresh:
                self._require_same(path, file)
            if len(data) < high - low:
                raise os_error(
                    errno.ESTALE, path, "it became shorter on the cluster: open it again"
                )
            file.put(low, data)
        return True

    def grow(self, path: str, file: CachedFile, now: Attr) -> bool:
        """Take what was appended to *file*, which is *now* on the cluster, if that is all.

        The rest of what was appended may still have to be fetched.
        """
        old = file.attr.size
        overlap = min(_OVERLAP, old)
        known = file.read(overlap, old - overlap)
        if known is None or not self._take(file.ident):
            return False
        low = old - overlap
        want = min(now.size - low, self._piece)
        data = self._view(file.ident, path, low, want, now.size, telling=False)
        if data is None or data[:overlap] != known or len(data) <= overlap:
            return False
        if not file.extend(now if now.size >= old else replace(now, size=old)):
            return False
        file.put(old, data[overlap:])
        return True

    # -- inside --------------------------------------------------------------------------------

    def _pieces(self, start: int, end: int, size: int) -> list[tuple[int, int]]:
        """Return what to ask for, so that few requests will do for what is read next, too."""
        if size - start <= self._piece:
            return [(max(0, size - self._piece), size)]
        pieces = []
        while start < end:
            pieces.append((start, min(start + self._piece, size)))
            start += self._piece
        return pieces

    def _view(
        self, ident: str, path: str, start: int, size: int, total: int, *, telling: bool
    ) -> bytes | None:
        """Return exactly these bytes, None where they can't be had.

        *telling*: then no other piece of the file is tried any more.
        """
        try:
            return self._client.view(self._system.name, path, start, size, total=total)
        except FileNotFoundError:
            raise
        except OSError as exc:
            log.info("%s can't be read as text: %s", path, exc)
            if telling:
                with self._lock:
                    self._purse(ident).exact = False
            return None

    def _require_same(self, path: str, file: CachedFile) -> None:
        """Raise ESTALE where what came may be of another version than what is here."""
        now = self._client.stat(self._system.name, path)
        while True:
            base = file.base
            if base is not None and self._is_same(path, base, now):
                return
            grown = now.size > file.attr.size and self._has_only_grown(path, file, now)
            if grown and file.extend(now):
                return
            if file.base is base:
                raise os_error(errno.ESTALE, path, "it changed on the cluster: open it again")

    def _has_only_grown(self, path: str, file: CachedFile, now: Attr) -> bool:
        """Tell whether what is here is still there, as far as samples tell."""
        return all(
            self._view(file.ident, path, at, len(data), now.size, telling=False) == data
            for at, data in file.samples()
        )

    def _take(self, ident: str) -> bool:
        with self._lock:
            return self._purse(ident).take()

    def _purse(self, ident: str) -> _Purse:
        purse = self._purses.setdefault(ident, _Purse())
        self._purses.move_to_end(ident)
        while len(self._purses) > _FILES:
            self._purses.popitem(last=False)
        return purse
