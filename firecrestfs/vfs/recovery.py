"""Recovery: takes up what an earlier process left, as the journal has it.

What is doubtful is never stored and never deleted: it is set aside in lost+found, with a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.journal import Found, Journal, Record
from firecrestfs.faultpoints import reach
from firecrestfs.model import Attr, Kind
from firecrestfs.paths import name_of

from .entry import Entry, Moving, Sent
from .ghosts import parted
from .view import RemoteParts, RemoteView


class Recovery:
    """Takes up the records of one system, before anyone looks into it."""

    def __init__(self, parts: RemoteParts, view: RemoteView) -> None:
        self._view = view
        self._overlay = parts.overlay
        self._content = parts.content
        self._stores = parts.stores
        self._journal: Journal = parts.journal

    def take_up(self, found: Sequence[Found]) -> None:
        """Make the entries of all records again and let the cluster be told of them."""
        reach("recover.begun")
        entries: list[Entry] = []
        missed: set[str] = set()
        # Second names come after the files that they are of.
        for each in sorted(found, key=lambda each: bool(each.record.link_of)):
            try:
                entry = self._take_up(each)
            except OSError as exc:
                # One that can't be taken up must not keep the others from being.
                self._stores.report(each.record.where, f"can't be taken up: {exc}")
                self._stores.untaken[each.record.where] = exc
                missed.add(each.record.ident)
                continue
            if entry is not None:
                self._overlay.add(entry)
                entries.append(entry)
        entries += parted(self._overlay, entries)
        for entry in entries:
            there = self._overlay.unlinked_at(entry) if entry.path else None
            if there is not None:
                self._overlay.replace(entry, there)
        reach("recover.taken")
        self._stores.note(*entries)
        for each in found:
            if each.record.promised and each.record.ident not in missed:
                self._content.remove_dirty(each.record.promised)
        self._stores.changed(*entries)
        reach("recover.done")

    def _take_up(self, found: Found) -> Entry | None:
        record = found.record
        if record.link_of:
            return self._link_of(record)
        file = None
        if record.kind is Kind.FILE and record.path:
            file = self._file_of(found)
            if file is None:
                self._journal.forget(record.ident)
                return None
        return self._entry_of(record, file)

    def _link_of(self, record: Record) -> Entry | None:
        """Return the second name *record*; None where the file that it is of is lost."""
        source = self._overlay.by_ident(record.link_of)
        if source is None and record.path:
            self._stores.report(record.path, "not linked: the other file is no more")
            self._journal.forget(record.ident)
            return None
        entry = self._entry_of(record, None)
        entry.shown = None
        entry.link_of = source or Entry(record.link_of, Kind.FILE, "", "", shown=record.base)
        return entry

    def _file_of(self, found: Found) -> CachedFile | None:
        """Return the local copy with what was promised; None where nothing was, or it is lost."""
        record = found.record
        ident, name = record.ident, name_of(record.path)
        attr = record.base
        if attr is None or attr.kind is not Kind.FILE:
            # New; or put over a link, which is what the cluster still has.
            attr = self._view.new_attr(record.path, 0o644)
        if not self._holds_bytes(record):
            file = self._content.new(attr, ident)
            self._want(file, record)
            return file
        start = record.tail or 0
        if not record.closed and record.tail is not None and not record.promised:
            if not self._cut(record):
                return self._untouched(record, attr)
        elif not record.closed:
            taken = self._content.is_taken(record.promised, ident)
            if not (taken or self._content.drop_empty(ident)):
                kept = self._content.set_aside(ident, name)
                self._stores.report(
                    record.path, f"was being written when the mount died: kept as {kept}"
                )
            if not self._content.take_promised(record.promised, ident):
                return self._untouched(record, attr)
        recovered = self._content.recover(ident, attr)
        if recovered is None:
            self._stores.report(record.path, "its bytes are gone from the state directory")
            return self._untouched(record, attr)
        if not self._is_whole(found, start):
            kept = self._content.set_aside(ident, name, start)
            self._content.drop(recovered)
            self._stores.report(
                record.path, f"may not have been whole when the power was lost: kept as {kept}"
            )
            return self._untouched(record, attr)
        recovered.recover(record.base, record.mode, record.exact_mode, record.mtime_ns, record.tail)
        return recovered

    def _is_whole(self, found: Found, start: int) -> bool:
        """Tell whether the bytes that are there, from *start* on, are those that were promised."""
        record = found.record
        if found.trusted and not (found.rebooted and record.closed and record.crc != -1):
            return True
        return self._content.is_whole(record.ident, record.size, record.crc, start)

    def _cut(self, record: Record) -> bool:
        """Set aside what was appended after the last close; return whether anything is left."""
        end = max(record.size, record.tail or 0)
        if self._content.dirty_size(record.ident) > end:
            kept = self._content.set_aside(record.ident, name_of(record.path), end)
            self._stores.report(
                record.path, f"was being written when the mount died: kept as {kept}"
            )
        if record.size < 0:
            self._content.remove_dirty(record.ident)
        return record.size >= 0

    def _untouched(self, record: Record, attr: Attr) -> CachedFile | None:
        """Return a copy without bytes of a file of the cluster, None for one that was here."""
        if not (record.origin and record.base):
            return None
        file = self._content.new(attr, record.ident)
        if record.mode is not None:
            # chmod(2) has returned, whatever became of the bytes.
            file.set_mode(record.mode)
        return file

    @staticmethod
    def _holds_bytes(record: Record) -> bool:
        return record.size >= 0 or not record.closed

    @staticmethod
    def _want(file: CachedFile, record: Record) -> None:
        if record.mode is not None:
            file.set_mode(record.mode)
        if record.mtime_ns is not None:
            file.set_times(None, record.mtime_ns)

    def _entry_of(self, record: Record, file: CachedFile | None) -> Entry:
        entry = Entry(record.ident, record.kind, record.path, record.origin, file)
        entry.sent = tuple(Sent(*each) for each in record.sent)
        entry.attempted, entry.inherits = record.attempted, record.inherits
        entry.anew = record.anew
        entry.moving = None if record.moving is None else Moving(*record.moving)
        if file is None:
            entry.remote = record.base
            entry.text, entry.made_text = record.text, record.made_text
            entry.wanted_mode, entry.exact_mode = record.mode, record.exact_mode
            entry.shown = self._shown(record)
        return entry

    def _shown(self, record: Record) -> Attr:
        path = record.where
        attr = record.base or replace(self._view.new_attr(path, 0o777), kind=record.kind)
        if record.mode is not None:
            attr = replace(attr, mode=record.mode)
        if record.mtime_ns is not None:
            attr = replace(attr, mtime_ns=record.mtime_ns)
        if record.made_text:
            attr = replace(attr, target=record.made_text)
        return attr
