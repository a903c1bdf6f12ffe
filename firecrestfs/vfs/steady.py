"""Steady: asks the cluster for what we may be renaming there at the same time.

A rename lands some time after it was made here. Whoever asks for a file, or for what is in a
directory, in that very moment asks under a name that is no more: absent is then not the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from .overlay import Overlay
from .stores import Stores

T = TypeVar("T")


class Steady:
    """Asks again where a rename of ours came in between. Thread-safe."""

    def __init__(self, overlay: Overlay, stores: Stores) -> None:
        self._overlay = overlay
        self._stores = stores

    def ask(self, locate: Callable[[], str], ask: Callable[[str], T]) -> T:
        """Return what *ask* finds at *locate()*, the place on the cluster. Raises what they do."""
        while True:
            origin = locate()
            try:
                return ask(origin)
            except FileNotFoundError:
                if not self.has_moved(locate, origin):
                    raise

    def has_moved(self, locate: Callable[[], str], origin: str) -> bool:
        """Tell whether what was at *origin* is elsewhere now by our own doing.

        Waits for a rename that is under way there, one that an earlier process began included.
        """
        for entry in self._overlay.moving_at(origin):
            if entry.busy:
                self._stores.settle(entry)
            else:
                with suppress(OSError):
                    self._stores.store_now(entry)
        return locate() != origin
