"""One local copy: its states, what a store and a write do to each other, where its bytes lie."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from firecrestfs.cache.cached_file import CachedFile, State

from .copies import new_file, remote_file, where
from .tools import SECOND, make_attr, together

# -- modes and times that come while the bytes are on their way ------------------------------------


def test_attributes_that_change_during_a_store_send_no_bytes_again(
    places: tuple[Path, Path],
) -> None:
    """As `cp -p` and `unzip` do, to a file whose store has begun."""
    file = new_file(places, b"content")
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.set_times(None, 5 * SECOND + 7)
    file.set_mode(0o600)
    assert file.stored(snapshot, make_attr(7))
    assert file.state is State.CLEAN
    assert file.wanted == (0o600, True, 5 * SECOND + 7)
    assert (file.attr.mode, file.attr.mtime_ns) == (0o600, 5 * SECOND + 7)
    file.given_mode(0o600, make_attr(7, mode=0o600))
    file.given_time(5 * SECOND + 7, make_attr(7, mode=0o600, mtime_ns=5 * SECOND))
    assert file.wanted == (None, False, None)


def test_a_time_that_a_store_could_not_give_is_still_wanted(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"content")
    file.set_times(None, 5 * SECOND)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.stored(snapshot, make_attr(7, mtime_ns=9 * SECOND))
    assert file.wanted[2] == 5 * SECOND
    assert file.attr.mtime_ns == 5 * SECOND


def test_a_time_that_a_store_gave_is_wanted_no_more(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"content")
    file.set_times(None, 5 * SECOND + 7)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.stored(snapshot, make_attr(7, mtime_ns=5 * SECOND))
    assert file.wanted[2] is None
    assert file.attr.mtime_ns == 5 * SECOND + 7


# -- states and places ---------------------------------------------------------------------------


def test_a_fetched_copy_is_clean_and_reads(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    file.opened(False)
    assert (file.state, file.complete, where(places)) == (State.CLEAN, True, "clean")
    assert file.read(100, 1) == b"ello"
    assert file.read(100, 5) == b""
    assert file.begin_store(1 << 30) is None


def test_the_first_write_moves_the_bytes_where_they_survive(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    file.opened(True)
    assert file.read(5, 0) == b"hello"
    assert file.write(b"J", 0) == 1
    assert (file.state, where(places)) == (State.DIRTY, "dirty")
    assert file.read(5, 0) == b"Jello"


def test_a_stored_copy_moves_back_at_its_last_close(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    file.opened(True)
    file.write(b"J", 0)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert snapshot.data == b"Jello"
    assert file.state is State.STORING
    assert file.stored(snapshot, make_attr(5))
    file.noted()
    assert (file.state, where(places)) == (State.CLEAN, "dirty")
    file.released(True)
    assert where(places) == "clean"
    file.opened(False)
    assert file.read(9, 0) == b"Jello"


def test_a_copy_that_is_closed_when_its_store_lands_moves_back_then(
    places: tuple[Path, Path],
) -> None:
    file = new_file(places, b"new")
    file.released(True)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert where(places) == "dirty"
    file.stored(snapshot, make_attr(3))
    # As long as the journal says that it is to be stored, its bytes stay.
    assert where(places) == "dirty"
    file.opened(False)
    file.released(False)
    assert file.forget_bytes() == 0
    assert where(places) == "dirty"
    file.noted()
    assert where(places) == "clean"
    assert file.forget_bytes() == 3


def test_the_last_close_closes_the_descriptor(places: tuple[Path, Path]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    file = remote_file(places, b"hello")
    file.opened(False)
    file.opened(True)
    file.read(1, 0)
    file.write(b"J", 0)
    file.released(True)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    file.released(False)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_fill_never_undoes_a_local_change(places: tuple[Path, Path]) -> None:
    file = CachedFile(*places, "f", make_attr(5))
    file.opened(True)
    file.truncate(0)
    file.write(b"mine", 0)
    file.fill(b"cluster", make_attr(7))
    assert file.read(100, 0) == b"mine"


def test_a_second_fill_changes_nothing(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"one")
    file.fill(b"other", make_attr(5))
    file.opened(False)
    assert file.read(100, 0) == b"one"


# -- bytes ---------------------------------------------------------------------------------------


def test_reads_see_writes_at_once(places: tuple[Path, Path]) -> None:
    file = new_file(places)
    file.write(b"world", 6)
    file.write(b"hello ", 0)
    assert file.read(100, 0) == b"hello world"
    assert file.attr.size == 11


def test_a_hole_reads_as_zeros(places: tuple[Path, Path]) -> None:
    file = new_file(places)
    file.write(b"x", 3)
    assert file.read(100, 0) == b"\0\0\0x"


def test_appends_of_many_threads_are_all_whole(places: tuple[Path, Path]) -> None:
    file = new_file(places)
    lines = [f"{number:04}\n".encode() for number in range(8)]
    together(8, lambda number: [file.write(lines[number], None) for _ in range(200)])
    found = file.read(1 << 20, 0).splitlines(keepends=True)
    assert sorted(found) == sorted(lines * 200)


@pytest.mark.parametrize("size", [0, 2, 9])
def test_truncate_cuts_and_extends(places: tuple[Path, Path], size: int) -> None:
    file = remote_file(places, b"hello")
    file.opened(True)
    file.truncate(size)
    assert file.attr.size == size
    assert file.read(100, 0) == b"hello\0\0\0\0"[:size]
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert len(snapshot.data) == size


def test_truncate_to_nothing_needs_no_content(places: tuple[Path, Path]) -> None:
    file = CachedFile(*places, "f", make_attr(10**12))
    file.opened(True)
    file.truncate(0)
    assert (file.complete, file.attr.size, file.state) == (True, 0, State.DIRTY)


def test_a_write_that_fails_leaves_the_size_true(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_file(places, b"hello")

    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="full"):
            file.write(b"x", 100)
    assert file.attr.size == 5
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert snapshot.data == b"hello"


def test_a_copy_that_lost_bytes_is_not_stored(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"hello")
    os.truncate(places[1] / "f", 2)
    with pytest.raises(OSError, match="lost bytes") as info:
        file.begin_store(1 << 30)
    assert info.value.errno == errno.EIO
    assert file.state is State.DIRTY


# -- generations ---------------------------------------------------------------------------------


def test_a_write_during_a_store_leaves_the_file_dirty(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"one")
    first = file.begin_store(1 << 30)
    assert first is not None
    file.write(b"two", 0)
    assert not file.stored(first, make_attr(3))
    assert file.state is State.DIRTY
    second = file.begin_store(1 << 30)
    assert second is not None
    assert second.data == b"two"
    assert second.base == make_attr(3)
    assert file.stored(second, make_attr(3))
    assert file.state is State.CLEAN


def test_what_a_store_carries_does_not_change_under_it(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"one")
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.write(b"two", 0)
    assert snapshot.data == b"one"


def test_a_failed_store_leaves_the_file_dirty(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"one")
    file.begin_store(1 << 30)
    file.store_failed()
    assert file.state is State.DIRTY
    assert file.begin_store(1 << 30) is not None


def test_after_a_store_own_times_stay_and_the_remote_mode_shows(
    places: tuple[Path, Path],
) -> None:
    file = new_file(places, b"one", mode=0o664)
    mtime_ns = file.attr.mtime_ns
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert snapshot.mode == 0o664
    file.stored(snapshot, make_attr(3, mode=0o640, mtime_ns=9 * SECOND))
    assert (file.attr.mode, file.attr.mtime_ns) == (0o640, mtime_ns)
    assert file.base == make_attr(3, mode=0o640, mtime_ns=9 * SECOND)


def test_a_write_after_utimens_wins(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"one")
    file.set_times(5 * SECOND, 7 * SECOND)
    assert (file.attr.atime_ns, file.attr.mtime_ns) == (5 * SECOND, 7 * SECOND)
    file.write(b"x", 0)
    assert file.attr.mtime_ns > 7 * SECOND
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert snapshot.mtime_ns is None


def test_a_renamed_new_file_goes_over_another_base(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"one", mode=0o600)
    base = make_attr(99, mode=0o644)
    file.rebase(base, inode=42)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    assert (snapshot.base, snapshot.mode, file.attr.inode) == (base, 0o600, 42)
