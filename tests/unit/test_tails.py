"""Copies that were only appended to: what was before need not be here, and is not stored again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.cache.cached_file import CachedFile, Promise, State
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.copying import checksum_of
from firecrestfs.model import Source

from .copies import where
from .tools import code_of, make_attr

LIMIT = 100
BASE = 1000


def large_file(places: tuple[Path, Path], size: int = BASE, **changes: Any) -> CachedFile:
    """Return a copy, of which nothing is here, of a file that a stat told of."""
    file = CachedFile(*places, "f", make_attr(size, **{"ino": 7, **changes}))
    file.opened(True)
    return file


def append(file: CachedFile, data: bytes) -> None:
    file.begin_change(appending=True)
    file.write(data, None, appending=True)


def beside(places: tuple[Path, Path]) -> bytes:
    """Return the copy that is kept of a closed version."""
    [path] = places[1].glob("*.closed")
    return path.read_bytes()


def test_only_the_end_is_here(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"more")
    assert (file.tail, file.attr.size, file.remote_size) == (BASE, BASE + 4, BASE)
    assert (file.state, file.complete, file.disk_bytes) == (State.DIRTY, False, 4)
    assert file.read(99, BASE) == b"more"
    assert file.read(99, BASE - 1) is None
    assert where(places) == "dirty"
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert (snapshot.data, snapshot.tail, snapshot.whole) == (b"more", BASE, False)
    assert snapshot.local is not None
    assert snapshot.local.size == BASE + 4


@pytest.mark.parametrize("known", [{"source": Source.LS}, {"ino": 0}])
def test_only_a_stat_tells_what_is_appended_to(
    places: tuple[Path, Path], known: dict[str, Any]
) -> None:
    file = large_file(places, **known)
    assert not file.appendable
    file.begin_change(appending=True)
    assert code_of(lambda: file.write(b"more", None, appending=True)) == errno.EIO


def test_nothing_else_is_written_into_what_is_not_here(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"more")
    assert code_of(lambda: file.write(b"x", 3)) == errno.EIO
    assert code_of(lambda: file.write(b"x", None)) == errno.EIO


def test_the_rest_comes_when_it_is_needed(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"more")
    assert file.missing(0, BASE + 4) == [(0, BASE)]
    assert file.put(0, b"a" * 600)
    assert file.put(500, b"a" * 500)
    assert file.complete
    assert file.read(9999, 0) == b"a" * BASE + b"more"
    # And then it can be changed as any other.
    file.begin_change()
    file.write(b"b", 0)
    assert file.tail is None
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert (snapshot.data, snapshot.tail, snapshot.whole) == (b"", None, True)


def test_what_was_here_before_stays(places: tuple[Path, Path]) -> None:
    """Where both places are on one disk."""
    file = large_file(places)
    file.put(BASE - 10, b"0123456789")
    append(file, b"more")
    if os.stat(places[0]).st_dev == os.stat(places[1]).st_dev:
        assert file.read(99, BASE - 10) == b"0123456789more"
    assert file.read(99, BASE) == b"more"


def test_it_lands(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"more")
    file.promise(closed=True)
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert file.stored(snapshot, make_attr(BASE + 4, ino=7))
    file.noted()
    assert (file.state, file.tail, file.partial) == (State.CLEAN, None, True)
    file.released(True)
    assert "dirty" not in where(places)
    assert file.read(99, BASE) in (b"more", None)
    file.opened(True)
    append(file, b" and more")
    assert file.tail == BASE + 4
    assert file.attr.size == BASE + 13


def test_it_is_appended_to_while_it_is_stored(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"one")
    snapshot = file.begin_store(LIMIT)
    append(file, b"two")
    assert snapshot is not None
    assert not file.stored(snapshot, make_attr(BASE + 3, ino=7))
    assert (file.state, file.tail) == (State.DIRTY, BASE + 3)
    crc = checksum_of(places[1] / "f", BASE + 3)
    assert file.promise(closed=True) == Promise(BASE + 6, crc, "", BASE + 3)
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert snapshot.data == b"two"


def test_only_a_beginning_of_it_has_landed(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"onetwo")
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert not file.stored(snapshot, make_attr(BASE + 3, ino=7))
    again = file.begin_store(LIMIT)
    assert again is not None
    assert (again.data, again.tail) == (b"two", BASE + 3)


def test_what_is_too_much_is_not_held_in_memory(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"x" * (LIMIT + 1))
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert (snapshot.data, snapshot.tail) == (b"", BASE)


def test_a_small_file_goes_as_it_is(places: tuple[Path, Path]) -> None:
    file = large_file(places, 10)
    file.fill(b"0123456789", make_attr(10, ino=7))
    append(file, b"more")
    snapshot = file.begin_store(LIMIT)
    assert snapshot is not None
    assert (snapshot.data, snapshot.tail, snapshot.local) == (b"0123456789more", None, None)


# -- what is promised ------------------------------------------------------------------------------


def test_what_was_closed_ends_where_it_ended(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"one")
    assert file.promise(closed=False) == Promise(-1, 0, "", BASE)
    first = file.promise(closed=True)
    assert first == Promise(BASE + 3, checksum_of(places[1] / "f", BASE), "", BASE)
    append(file, b"two")
    # Nothing is copied for that: it is the beginning of what is here.
    assert file.promise(closed=False) == first
    assert list(places[1].glob("*.closed")) == []


def test_it_is_overwritten(places: tuple[Path, Path]) -> None:
    file = large_file(places)
    append(file, b"one")
    file.promise(closed=True)
    append(file, b"two")
    file.begin_change()
    file.truncate(0)
    file.write(b"something else", 0)
    crc = checksum_of(places[1] / "f.closed", BASE)
    assert file.promise(closed=False) == Promise(BASE + 3, crc, "f.closed", BASE)
    assert beside(places)[BASE:] == b"one"
    assert file.read(99, 0) == b"something else"
    # What is here is all of it; the copy beside is of no account any more.
    whole = file.promise(closed=True)
    assert (whole.size, whole.tail) == (14, None)
    file.drop_promised()
    assert file.promise(closed=True) == Promise(14, checksum_of(places[1] / "f"), "", None)


def test_it_is_taken_up(tmp_path: Path) -> None:
    content = ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 30)
    local = tmp_path / "state/files/f"
    local.write_bytes(b"x" * BASE + b"more")
    assert content.is_whole("f", BASE + 4, checksum_of(local, BASE), BASE)
    assert not content.is_whole("f", BASE + 4, checksum_of(local, BASE) + 1, BASE)
    base = make_attr(BASE, ino=7)
    file = content.recover("f", base)
    assert file is not None
    file.recover(base, None, False, None, BASE)
    # What is before is the cluster's, whatever a disk has kept of it.
    assert file.read(99, BASE - 1) is None
    assert file.read(99, BASE) == b"more"
    assert (file.state, file.tail, file.disk_bytes) == (State.DIRTY, BASE, 4)


def test_set_aside(tmp_path: Path) -> None:
    content = ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 30)
    file = content.new(make_attr(1 << 40, ino=7))
    file.opened(True)
    append(file, b"more")
    where = content.keep_discarded(file, "log")
    assert where is not None
    assert where.name.startswith("log.appended-")
    assert where.read_bytes() == b"more"
    # What isn't here takes no room.
    with content.room(1 << 20):
        content.set_aside(file.ident, "log")
    with content.room(1 << 20):
        pass
