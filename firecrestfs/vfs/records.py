"""Records: what the journal has to know of an entry."""

from __future__ import annotations

from firecrestfs.cache.cached_file import Promise
from firecrestfs.cache.journal import Record

from .entry import Entry


def record_of(system: str, entry: Entry) -> Record:
    """Return what is to be written down of *entry* of *system*, as it is now."""
    file = entry.file
    mode, exact = entry.wanted_mode, entry.exact_mode
    promise = Promise(-1, 0, "", None)
    mtime_ns = None if entry.shown is None else entry.shown.mtime_ns
    if file is not None:
        mode, exact, mtime_ns = file.wanted
        promise = file.promise(closed=entry.closed)
    return Record(
        entry.ident,
        system,
        entry.path,
        entry.origin,
        entry.kind,
        entry.closed,
        mode,
        exact,
        mtime_ns,
        base=entry.base,
        text=entry.text,
        made_text=entry.made_text,
        size=promise.size,
        crc=promise.crc,
        promised=promise.beside,
        tail=promise.tail,
        sent=tuple((each.size, each.sha256) for each in entry.sent),
        attempted=entry.attempted,
        inherits=entry.inherits,
        anew=entry.anew,
        link_of=entry.link_of.ident if entry.link_of is not None else "",
        moving=entry.moving and (entry.moving.target, entry.moving.dev, entry.moving.ino),
    )
