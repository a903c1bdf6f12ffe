"""Steady: asks the cluster for what we may be renaming there at the same time.

A rename lands some time after it was made here. Whoever asks for a file, or for what is in a
directory, in that very moment asks under a name that is no more: absent is then not the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from .entry import Entry
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
            moves, origin = self._overlay.moves, locate()
            try:
                return ask(origin)
            except FileNotFoundError:
                self.end_moves(origin)
                # This is asked for most of what isn't there: it has to be quick.
                if self._overlay.moves == moves or locate() == origin:
                    raise

    def settle(self, entry: Entry) -> None:
        """Wait until the cluster isn't being told of *entry*."""
        self._stores.settle(entry)

    def end_moves(self, origin: str) -> None:
        """Wait for a rename that is under way at *origin*, or that an earlier process began."""
        for entry in self._overlay.moving_at(origin):
            if entry.busy:
                self._stores.settle(entry)
            if entry.moving is not None:
                # Not heard of, it may have been carried out all the same: the next try finds out.
                with suppress(OSError):
                    self._stores.store_now(entry)
