"""Packer: many new entries at once, as tars that the cluster unpacks.

A bundle carries only names that a fresh listing shows absent, with the directories that are new
themselves. What has landed is proven by another listing, whatever was answered meanwhile; what
isn't proven goes singly, where each entry gets an answer of its own.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from firecrestfs.api.typed import TypedClient
from firecrestfs.model import Attr, DirEntry, Kind, Source, StoreItem
from firecrestfs.paths import directory_of, join

from .bundle import Bundler, Member

log = logging.getLogger(__name__)

Results = dict[int, Attr | OSError]
#: From this many new entries on, a tar takes fewer requests than one after the other.
BUNDLE_FROM = 3
#: What a tar adds to each member at most: its header, a PAX header, padding.
_MEMBER_OVERHEAD = 3 * 1024
#: What a tar costs besides: its end, and a margin.
_ARCHIVE_OVERHEAD = 16 * 1024
FILE_MODE = 0o644
_DIRECTORY_MODE = 0o755
_SECOND = 1_000_000_000
_ZONE_STEP_S = 900
_FARTHEST_ZONES_S = 26 * 3600


class Packer:
    """Places new entries of one system. Thread-safe; waits for the network."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        bundler: Bundler,
        upload_limit: int,
        finish: Callable[[StoreItem, Attr], Attr],
    ) -> None:
        """*finish* gives what has landed the mode it shall have."""
        self._client = client
        self._system = system
        self._bundler = bundler
        self._room = upload_limit - _ARCHIVE_OVERHEAD
        self._finish = finish

    def place(self, batch: Sequence[StoreItem]) -> Results:
        """Place what is new in *batch* where that takes few requests; return what is proven."""
        new = {item.path: item for item in batch if item.base is None and self._may_go(item)}
        groups: defaultdict[str, list[StoreItem]] = defaultdict(list)
        for item in new.values():
            groups[_anchor(item.path, new)].append(item)
        results: Results = {}
        for anchor, items in groups.items():
            if len(items) >= BUNDLE_FROM:
                try:
                    self._place_below(anchor, items, results)
                except OSError as exc:
                    log.info("bundle for %s: %s", anchor, exc)
        return results

    def _may_go(self, item: StoreItem) -> bool:
        # Of an ACL that the parent passes on, tar takes what the umask would take from a mode.
        passed_on = item.inherits and item.kind is Kind.FILE
        return not passed_on and self.fits(item.size)

    def fits(self, size: int) -> bool:
        """Tell whether a tar can carry a file of *size* bytes."""
        return size + _MEMBER_OVERHEAD <= self._room

    def _place_below(self, anchor: str, items: Sequence[StoreItem], results: Results) -> None:
        """Place *items*, all below the existing directory *anchor*."""
        taken = {join(anchor, each.name): each.attr for each in self._list(anchor)}
        absent: list[StoreItem] = []
        inner: defaultdict[str, list[StoreItem]] = defaultdict(list)
        for item in items:
            top = _top(anchor, item.path)
            there = taken.get(top)
            if there is None:
                absent.append(item)
            elif item.path != top:
                inner[top].append(item)
            elif _has_landed(item, there):
                # An answer of an earlier try got lost.
                results[item.key] = self._finished(item, there)
        for top, members in inner.items():
            if taken[top].kind is Kind.DIRECTORY:
                self._place_below(top, members, results)
        if absent:
            self._extract(anchor, absent)
            found = self._look(anchor, absent, taken)
            for item in absent:
                attr = found.get(item.path)
                if attr is not None and _has_landed(item, attr):
                    results[item.key] = self._finished(item, attr)

    def _finished(self, item: StoreItem, attr: Attr) -> Attr | OSError:
        try:
            return self._finish(item, attr)
        except OSError as exc:
            return exc

    def _extract(self, anchor: str, items: Sequence[StoreItem]) -> None:
        """Unpack *items* below *anchor*; a failure is logged: the proof comes after."""
        # A directory that inherits is made by what is in it, or singly: tar would set its mode.
        members = [item for item in sorted(items, key=lambda each: each.path) if not item.inherits]
        for group in self._portions(members):
            try:
                self._bundler.place([member_of(each, anchor) for each in group], anchor, anchor)
            except OSError as exc:
                log.info("tar of %d entries for %s: %s", len(group), anchor, exc)

    def _portions(self, items: Iterable[StoreItem]) -> Iterable[list[StoreItem]]:
        """Cut *items* into lists whose tars fit one upload each."""
        group: list[StoreItem] = []
        size = 0
        for item in items:
            cost = item.size + _MEMBER_OVERHEAD
            if group and size + cost > self._room:
                yield group
                group, size = [], 0
            group.append(item)
            size += cost
        if group:
            yield group

    def _look(
        self, anchor: str, items: Sequence[StoreItem], before: Mapping[str, Attr]
    ) -> dict[str, Attr]:
        """Return what is at and around the paths of *items* now."""
        tops = {_top(anchor, item.path) for item in items if directory_of(item.path) != anchor}
        alone = not any(attr.kind is Kind.DIRECTORY for attr in before.values())
        whole = bool(tops) and alone
        found = {join(anchor, each.name): each.attr for each in self._list(anchor, whole)}
        if not whole:
            for top in tops:
                found.update({join(top, each.name): each.attr for each in self._list(top, True)})
        return found

    def _list(self, directory: str, recursive: bool = False) -> Sequence[DirEntry]:
        return self._client.list(self._system, directory, recursive=recursive)


def member_of(item: StoreItem, anchor: str) -> Member:
    """Return *item* as a member of an archive that is unpacked in *anchor*."""
    plain = _DIRECTORY_MODE if item.kind is Kind.DIRECTORY else FILE_MODE
    return Member(
        item.path[len(anchor.rstrip("/")) + 1 :],
        item.kind,
        data=item.data,
        mode=plain if item.mode is None else item.mode,
        mtime_ns=item.written_ns if item.mtime_ns is None else item.mtime_ns,
        link=item.link,
    )


def _has_landed(item: StoreItem, attr: Attr) -> bool:
    """Tell whether *attr* is what *item* leaves when it is unpacked."""
    if attr.kind is not item.kind:
        return False
    if item.kind is not Kind.FILE:
        return item.kind is Kind.DIRECTORY or attr.target in (None, item.link)
    wanted = item.written_ns if item.mtime_ns is None else item.mtime_ns
    return attr.size == item.size and (wanted is None or is_time(attr, wanted))


def is_time(attr: Attr, mtime_ns: int) -> bool:
    """Tell whether *attr* has the time *mtime_ns*, as far as it tells times."""
    apart = abs(attr.mtime_ns // _SECOND - mtime_ns // _SECOND)
    if apart == 0 or attr.source is not Source.LS:
        return apart == 0
    # Listings tell times without a zone, which may not be known yet: zones are whole quarters.
    return apart <= _FARTHEST_ZONES_S and apart % _ZONE_STEP_S == 0


def _anchor(path: str, new: Mapping[str, StoreItem]) -> str:
    """Return the nearest directory above *path* that isn't itself new."""
    directory = directory_of(path)
    while directory in new and directory != "/":
        directory = directory_of(directory)
    return directory


def _top(anchor: str, path: str) -> str:
    """Return the path of the entry of *anchor* that *path* is, or is in."""
    prefix = anchor.rstrip("/") + "/"
    return prefix + path[len(prefix) :].partition("/")[0]
