"""Ghosts: what a store may have left under a name that is another's, or nobody's, by now."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from .entry import Entry
from .overlay import Overlay


def parted(overlay: Overlay, entries: Iterable[Entry]) -> list[Entry]:
    """Part from *entries*, renamed while it was open whether they landed, what they may have left.

    Returns it as entries that were unlinked: what is there, and is ours, is to be removed.
    """
    left = []
    with overlay.lock:
        for entry in entries:
            unsure = entry.path and entry.attempted and not entry.origin and not entry.busy
            if unsure and overlay.planned(entry) != entry.attempted:
                left.append(_ghost_of(entry))
                overlay.add(left[-1])
    return left


def _ghost_of(entry: Entry) -> Entry:
    ghost = Entry(uuid.uuid4().hex, entry.kind, "", "", text=entry.text)
    ghost.remote, ghost.link_of = entry.remote, entry.link_of
    ghost.attempted, ghost.sent, ghost.torn = entry.attempted, entry.sent, entry.torn
    entry.attempted, entry.sent, entry.torn = "", (), b""
    return ghost
