"""Sealer: brings to the disk, within seconds, what was committed without waiting for it."""

from __future__ import annotations

import logging
import threading

from .content import ContentCache
from .journal import Journal

log = logging.getLogger(__name__)

#: From the first change on, this long until all that came since is sealed (seconds).
_EVERY_S = 1.0


class Sealer:
    """Seals in a thread of its own what the journal notes, or at once for who asks.

    The bytes come before the record that vouches for them; a file that changes meanwhile has
    another version of its record then, and stays unsealed.
    """

    def __init__(self, content: ContentCache, journal: Journal) -> None:
        self._content = content
        self._journal = journal
        self._lock = threading.Lock()  # one sealing at a time
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="seal", daemon=True)

    def start(self) -> None:
        """Begin to seal."""
        self._thread.start()

    def stop(self) -> None:
        """Seal once more and end."""
        self._ended.set()
        self._journal.written.set()
        self.seal()

    def seal(self) -> None:
        """Return when everything noted so far survives a power loss."""
        with self._lock:
            self._journal.written.clear()
            marks = self._journal.unsealed()
            self._content.sync_dirty([ident for ident, _ in marks])
            if marks:
                self._content.sync_names()
            self._journal.seal(marks)

    def _work(self) -> None:
        failed = ""
        while not self._ended.is_set():
            self._journal.written.wait()
            if self._ended.wait(_EVERY_S):
                return
            try:
                self.seal()
                failed = ""
            except Exception as exc:
                if str(exc) != failed:
                    failed = str(exc)
                    known = isinstance(exc, OSError)
                    text = "what was written may not survive a power loss: %s"
                    log.warning(text, exc, exc_info=not known)
                # Whatever it was: nobody else would try again, unless something is written.
                self._journal.written.set()
