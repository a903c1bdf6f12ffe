"""Copies of which some ranges are here: filled, read, trimmed, extended, and never mixed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firecrestfs.cache.cached_file import CachedFile, State
from firecrestfs.cache.content import ContentCache

from .copies import where
from .tools import make_attr

MIB = 1 << 20


def partial(places: tuple[Path, Path], size: int) -> CachedFile:
    file = CachedFile(*places, "f", make_attr(size))
    file.opened(False)
    return file


def test_what_has_come_can_be_read(places: tuple[Path, Path]) -> None:
    file = partial(places, 10)
    assert file.put(4, b"efg")
    assert file.read(3, 4) == b"efg"
    assert file.read(4, 4) is None
    assert file.read(1, 0) is None
    assert file.missing(0, 99) == [(0, 4), (7, 10)]
    assert (file.partial, file.complete, file.disk_bytes) == (True, False, 3)


def test_the_last_part_makes_it_complete(places: tuple[Path, Path]) -> None:
    file = partial(places, 6)
    for offset in (4, 0, 2):
        file.put(offset, b"abcdef"[offset : offset + 2])
    assert file.complete
    assert file.read(99, 0) == b"abcdef"
    assert where(places) == "clean"


def test_what_is_here_is_not_written_again(places: tuple[Path, Path]) -> None:
    file = partial(places, 6)
    file.put(2, b"cd")
    file.put(0, b"XXXXXX")
    assert file.read(6, 0) == b"XXcdXX"


def test_nothing_comes_over_a_local_change(places: tuple[Path, Path]) -> None:
    file = CachedFile(*places, "f", make_attr(6))
    file.opened(True)
    file.put(0, b"abc")
    file.truncate(0)
    file.write(b"mine", 0)
    assert not file.put(3, b"def")
    assert (file.read(99, 0), file.state) == (b"mine", State.DIRTY)


def test_only_what_holds_nothing_becomes_another_version(places: tuple[Path, Path]) -> None:
    file = partial(places, 6)
    assert file.become(make_attr(8))
    assert file.attr.size == 8
    file.put(0, b"ab")
    assert not file.become(make_attr(9))


def test_a_longer_one_keeps_what_it_had(places: tuple[Path, Path]) -> None:
    file = partial(places, 4)
    file.put(0, b"abcd")
    assert file.complete
    assert file.extend(make_attr(6))
    assert not file.complete
    assert file.read(4, 0) == b"abcd"
    file.put(4, b"ef")
    assert (file.complete, file.read(99, 0)) == (True, b"abcdef")


def test_trimming_keeps_what_readers_are_near_to(places: tuple[Path, Path]) -> None:
    file = partial(places, 8 * MIB)
    for at in range(8):
        file.put(at * MIB, bytes([at]) * MIB)
    assert file.complete
    assert file.read(10, 4 * MIB, reader=1) == b"\x04" * 10
    gone = file.trim(keep_ahead=2 * MIB, keep_behind=MIB)
    assert gone > 4 * MIB
    assert file.disk_bytes == 8 * MIB - gone
    assert file.read(MIB, 5 * MIB, reader=1) == b"\x05" * MIB
    assert file.read(1, 0) is None
    assert os.stat(places[0] / "f").st_blocks * 512 <= 4 * MIB


def test_what_someone_writes_is_never_trimmed(places: tuple[Path, Path]) -> None:
    file = CachedFile(*places, "f", make_attr(MIB))
    file.opened(True)
    file.put(0, bytes(MIB))
    assert file.trim(0, 0) == 0


def test_a_pinned_copy_stays(places: tuple[Path, Path]) -> None:
    file = partial(places, MIB)
    file.put(0, bytes(MIB // 2))
    file.pinned = True
    file.released(False)
    assert (file.trim(0, 0), file.forget_bytes()) == (0, 0)
    file.pinned = False
    assert file.forget_bytes() == MIB // 2
    assert where(places) == ""


def test_a_discarded_copy_is_read_on_by_who_has_it_open(places: tuple[Path, Path]) -> None:
    file = partial(places, 6)
    file.put(0, b"abc")
    file.discard()
    assert file.put(3, b"d")
    assert file.read(4, 0) == b"abcd"
    file.released(False)
    assert not file.put(4, b"e")
    assert where(places) == ""


def test_the_bound_holds_for_one_file_that_is_larger(tmp_path: Path) -> None:
    content = ContentCache(tmp_path / "cache", tmp_path / "state", 4 * MIB)
    file = content.new(make_attr(16 * MIB))
    file.opened(False)
    for at in range(16):
        with content.room(MIB):
            file.put(at * MIB, bytes(MIB))
        content.used(file)
        file.read(MIB, at * MIB, reader=1)
        assert file.disk_bytes <= 5 * MIB


def test_samples(places: tuple[Path, Path]) -> None:
    file = partial(places, MIB)
    assert file.samples() == []
    file.put(10, b"first")
    file.put(9000, b"last")
    assert file.samples() == [(10, b"first"), (9000, b"last")]


@pytest.mark.parametrize("size", [0, 1])
def test_at_the_end(places: tuple[Path, Path], size: int) -> None:
    file = partial(places, size)
    assert file.read(10, size) == b""
    assert file.has(size, 10)
