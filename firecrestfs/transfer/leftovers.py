"""What staged transfers may leave on a cluster: links and temporary names of ours, logs of jobs.

Each is written down before it comes to be, and struck out once it is gone, so that what a crash
leaves behind is removed by the next mount.
"""

from __future__ import annotations

import logging
import threading

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.transfers import Transfers
from firecrestfs.paths import is_below

log = logging.getLogger(__name__)


class Leftovers:
    """The leftovers of one system. Thread-safe."""

    def __init__(self, client: TypedClient, system: str, transfers: Transfers) -> None:
        self._client = client
        self._system = system
        self._transfers = transfers
        self._lock = threading.Lock()  # guards _abandoned
        self._abandoned = set(transfers.leftovers(system))  # of processes that are gone, first

    def expect(self, *paths: str) -> None:
        """Write down that *paths* may come to be."""
        self._transfers.may_leave(self._system, *paths)

    def keep(self, *paths: str) -> None:
        """Let no sweep remove *paths*: what they belong to goes on."""
        with self._lock:
            self._abandoned.difference_update(paths)

    def gone(self, *paths: str) -> None:
        """Strike *paths* out: they are gone, or have never been."""
        self._transfers.removed(self._system, *paths)
        with self._lock:
            self._abandoned.difference_update(paths)

    def abandon(self, *paths: str) -> None:
        """Leave *paths* to a later sweep."""
        with self._lock:
            self._abandoned.update(paths)

    def remove(self, path: str) -> None:
        """Remove *path* now if that can be done, else by a later sweep."""
        try:
            self._remove(path)
        except OSError as exc:
            log.warning("%s:%s is left behind for now: %s", self._system, path, exc)
            self.abandon(path)

    def holds(self, path: str) -> bool:
        """Tell whether *path* is left to a later sweep."""
        return path in self._abandoned

    def sweep(self, directory: str = "/") -> None:
        """Remove what nobody needs any more below *directory*. Raises the first failure."""
        with self._lock:
            paths = sorted(path for path in self._abandoned if is_below(path, directory))
        for path in paths:
            self._remove(path)

    @property
    def any(self) -> bool:
        """Whether there is something to sweep."""
        return bool(self._abandoned)

    def _remove(self, path: str) -> None:
        try:
            kind = self._client.stat(self._system, path).kind
            self._client.remove(self._system, path, kind)
        except (FileNotFoundError, NotADirectoryError):
            # It went with its directory, whose name may be another file's by now.
            pass
        self.gone(path)
