"""One local copy: which version it is of, and what is left when it is discarded or forgotten."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.model import Source

from .copies import new_file, remote_file, where
from .tools import SECOND, make_attr

# -- which version -------------------------------------------------------------------------------


def test_a_copy_knows_its_version(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    assert file.describes(make_attr(5))
    assert not file.describes(make_attr(6))
    assert not file.describes(make_attr(5, mtime_ns=1))
    assert not file.describes(make_attr(5, ino=7))


def test_across_sources_size_and_second_decide(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    listed = make_attr(5, source=Source.LS, listed="2023-11-14T23:13:20")
    assert file.describes(listed)
    assert not file.describes(replace(listed, mtime_ns=listed.mtime_ns + SECOND))


def test_a_new_file_is_no_remote_version(places: tuple[Path, Path]) -> None:
    assert not new_file(places, b"hello").describes(make_attr(5))


# -- the end -------------------------------------------------------------------------------------


def test_open_handles_go_on_reading_what_was_discarded(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    file.opened(False)
    file.discard()
    assert where(places) == ""
    assert file.read(9, 0) == b"hello"
    file.released(False)


def test_discarding_an_open_file_that_holds_nothing_yet(places: tuple[Path, Path]) -> None:
    file = CachedFile(*places, "f", make_attr(5))
    file.opened(False)
    file.discard()
    file.released(False)


@pytest.mark.parametrize("change", ["write", "append", "truncate"])
def test_what_was_discarded_takes_no_more_changes(places: tuple[Path, Path], change: str) -> None:
    """Nothing would ever store them; what was open is read on, and nothing is left behind."""
    file = remote_file(places, b"hello")
    file.opened(True)
    file.discard()
    with pytest.raises(OSError, match="open it again") as info:
        if change == "truncate":
            file.truncate(0)
        else:
            file.write(b"J", 0 if change == "write" else None)
    assert info.value.errno == errno.ESTALE
    assert (file.read(9, 0), file.attr.size) == (b"hello", 5)
    file.released(True)
    assert where(places) == ""


def test_a_discarded_dirty_file_leaves_nothing(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"hello")
    file.discard()
    assert file.read(9, 0) == b"hello"
    assert file.begin_store(1 << 30) is None
    file.released(True)
    assert where(places) == ""


def test_a_store_that_lands_after_the_discard_brings_nothing_back(
    places: tuple[Path, Path],
) -> None:
    file = new_file(places, b"hello")
    file.released(True)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.discard()
    file.stored(snapshot, make_attr(5))
    assert where(places) == ""


def test_only_clean_closed_copies_are_forgotten(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    file.opened(False)
    file.forget_bytes()
    assert file.complete
    file.released(False)
    file.forget_bytes()
    assert (file.complete, where(places)) == (False, "")
    file.fill(b"again", make_attr(5))
    file.opened(True)
    assert file.read(9, 0) == b"again"
    file.write(b"A", 0)
    file.released(True)
    file.forget_bytes()
    assert file.complete


def test_a_disk_that_fills_up_in_the_move_keeps_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store has landed; that its bytes can't go back to the cache is no failure of the store."""
    clean, dirty = tmp_path / "clean", tmp_path / "dirty"
    clean.mkdir()
    dirty.mkdir()
    file = new_file((clean, dirty), b"hello")
    file.released(True)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None

    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        file.stored(snapshot, make_attr(5))
    file.opened(False)
    assert file.read(9, 0) == b"hello"


def test_sync_is_for_any_state(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"hello")
    file.sync()
    file.opened(True)
    file.write(b"J", 0)
    file.sync()
    file.released(True)
    file.sync()
    assert (places[1] / "f").read_bytes() == b"Jello"


# -- growing -------------------------------------------------------------------------------------


def test_what_was_appended_on_the_cluster_is_taken(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"one\n")
    file.opened(False)
    grown = make_attr(8, mtime_ns=2_000_000_000 * SECOND)
    file.grow(b"one\ntwo\n", grown)
    assert file.read(99, 0) == b"one\ntwo\n"
    assert (file.attr.size, file.attr.mtime_ns, file.base) == (8, grown.mtime_ns, grown)
    assert file.describes(grown)
    assert not file.describes(make_attr(4))
    file.released(False)
    assert where(places) == "clean"


@pytest.mark.parametrize("data", [b"ONE\ntwo\n", b"ONE\n", b"one", b""])
def test_another_content_is_no_growth(places: tuple[Path, Path], data: bytes) -> None:
    """Who has it open reads on what he opened."""
    file = remote_file(places, b"one\n")
    file.opened(False)
    file.grow(data, make_attr(len(data), mtime_ns=1))
    assert file.read(99, 0) == b"one\n"
    assert file.base == make_attr(4)


def test_growth_never_undoes_a_local_change(places: tuple[Path, Path]) -> None:
    file = remote_file(places, b"one\n")
    file.opened(True)
    file.write(b"mine\n", None)
    file.grow(b"one\ntheirs\n", make_attr(11))
    assert file.read(99, 0) == b"one\nmine\n"


def test_what_was_discarded_does_not_grow(places: tuple[Path, Path]) -> None:
    """Its reader goes on with what he opened, and nothing is left behind."""
    file = remote_file(places, b"one\n")
    file.opened(False)
    file.discard()
    file.grow(b"ONE\ntwo\n", make_attr(8))
    assert file.read(99, 0) == b"one\n"
    file.released(False)
    assert where(places) == ""
