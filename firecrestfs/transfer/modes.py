"""Modes and names: what a stored file gets of that which it goes over, and what it leaves it."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace

from firecrestfs.model import Attr, Kind, StoreItem
from firecrestfs.paths import join, split

#: Bits that every other umask takes from new files, and those it takes all of or none.
_UMASK = 0o022
_CLASSES = (0o070, 0o007)
#: Longest name that file systems take.
_NAME_BYTES = 255


def with_inherited_mode(item: StoreItem, now: Attr | None) -> StoreItem:
    """Return *item* with the mode of the file it goes over, where nobody asked for another."""
    known = now or item.base
    if item.mode is not None or known is None:
        return item
    return replace(item, mode=known.mode, exact_mode=True)


def needs_chmod(item: StoreItem, mode: int) -> bool:
    """Tell whether a file with *mode* needs a chmod to be as *item* wants it."""
    wanted = item.mode if item.mode is not None else mode
    if item.exact_mode:
        return wanted != mode
    # What a umask takes from new files is the cluster's to decide.
    taken = _UMASK | sum(each for each in _CLASSES if not mode & each)
    return bool(mode & ~wanted or wanted & ~mode & ~taken)


def is_another(known: Attr, now: Attr) -> bool:
    """Tell whether *now*, found by a stat at the same path, is another file than *known* for sure.

    A listing tells too little of *known* for that.
    """
    if known.kind is not now.kind:
        return True
    both = known.ino and now.ino
    return bool(both) and (known.dev, known.ino) != (now.dev, now.ino)


def takes_one_of_several(item: StoreItem, now: Attr | None) -> bool:
    """Tell whether *item* takes one name of the file *now*, which has others."""
    return item.anew and now is not None and now.kind is Kind.FILE and now.nlink > 1


def takes_a_links_place(item: StoreItem, now: Attr, conflict: str) -> bool:
    """Tell whether *item* was put over the symlink that is at its path.

    Or overwrites what others have put there (*conflict*: `ours`).
    """
    known = item.base is not None and item.base.kind is Kind.SYMLINK
    return now.kind is Kind.SYMLINK and (known or (item.whole and conflict == "ours"))


def conflict_path(path: str) -> str:
    """Return where the copy of *path* goes that is kept beside somebody else's."""
    directory, name = split(path)
    mark = f".conflict-{socket.gethostname()}-{time.strftime('%Y%m%d-%H%M%S')}"
    while len(os.fsencode(name + mark)) > _NAME_BYTES:
        name = name[:-1]
    return join(directory, name + mark)
