"""Removals: files that were unlinked while open, to be removed on the cluster once they are closed.

Until the cluster has removed it, the name stays unseen in the mount, whatever goes wrong.
"""

from __future__ import annotations

import logging
import threading

from firecrestfs.errors import os_error
from firecrestfs.model import Attr

from .overlay import Overlay
from .view import RemoteParts

log = logging.getLogger(__name__)

#: A removal that failed is tried again after this long (seconds).
_AGAIN_S = 30.0
#: Who makes a file of a name that is being removed waits for the removal at most so long.
_PATIENCE_S = 60.0


class Removals:
    """Removes unlinked files of one system. Thread-safe."""

    def __init__(self, parts: RemoteParts) -> None:
        self._parts = parts
        self._overlay: Overlay = parts.overlay
        self._lock = threading.Lock()  # guards all below
        self._running: dict[str, threading.Event] = {}
        self._overdue: set[str] = set()
        self._waiting = False  # a timer for the next try is set

    def remove(self, path: str) -> None:
        """Remove what was unlinked at *path*, if it is still the same file. Raises why it isn't."""
        done = threading.Event()
        with self._lock:
            self._running[path] = done
        try:
            gone = self._overlay.gone(path)
            if gone is not None:
                self._remove(path, gone)
                self._overlay.take_gone(path)
        finally:
            with self._lock:
                self._running.pop(path, None)
            done.set()

    def remove_or_retry(self, path: str) -> None:
        """Remove as `remove` does; what fails is told, and tried again until it is done."""
        try:
            self.remove(path)
        except OSError as exc:
            self._parts.stores.report(path, f"not yet removed on the cluster: {exc.strerror}")
            with self._lock:
                self._overdue.add(path)
            self._try_later()

    def retry(self) -> None:
        """Try again what failed before. Raises the last failure."""
        with self._lock:
            paths, self._overdue = sorted(self._overdue), set()
        failure: OSError | None = None
        for path in paths:
            try:
                self.remove(path)
            except OSError as exc:
                failure = os_error(exc.errno or 0, path, f"{path} can't be removed: {exc.strerror}")
                with self._lock:
                    self._overdue.add(path)
        if failure is not None:
            raise failure

    def wait_for(self, path: str) -> None:
        """Return when no removal of *path* is running: what is made there must not be removed."""
        with self._lock:
            running = self._running.get(path)
        if running is not None:
            running.wait(_PATIENCE_S)

    # -- inside --------------------------------------------------------------------------------

    def _remove(self, path: str, gone: Attr) -> None:
        client, system = self._parts.client, self._parts.tree.system.name
        try:
            now = self._parts.flights.commit(lambda: client.stat(system, path))
        except FileNotFoundError:
            self._parts.tree.changed(path, None)
            return
        if self._parts.engine.is_same_version(path, gone, now):
            self._parts.flights.commit(lambda: client.remove(system, path, now.kind))
            self._parts.tree.changed(path, None)
        else:
            text = "it changed on the cluster after it was removed here: kept there"
            self._parts.stores.report(path, text)
            self._parts.tree.forget(path)

    def _try_later(self) -> None:
        with self._lock:
            if self._waiting or not self._overdue:
                return
            self._waiting = True
        timer = threading.Timer(_AGAIN_S, self._on_time)
        timer.daemon = True
        timer.start()

    def _on_time(self) -> None:
        with self._lock:
            self._waiting = False
        try:
            self.retry()
        except OSError as exc:
            log.info("%s", exc)
        self._try_later()
