"""Versions that were closed and not yet stored: kept beside while newer ones are written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from firecrestfs.cache import copying
from firecrestfs.cache.cached_file import CachedFile, State
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.copying import checksum_of, copy_beside

from .copies import new_file, remote_file
from .tools import code_of, make_attr


def closed_file(places: tuple[Path, Path], data: bytes = b"promised") -> CachedFile:
    file = new_file(places, data)
    file.promise(closed=True)
    return file


def beside(places: tuple[Path, Path]) -> list[bytes]:
    """Return the contents of the copies that are kept of closed versions."""
    return [each.read_bytes() for each in places[1].glob("*.closed")]


def test_the_closed_version_is_kept_when_it_is_written_on(places: tuple[Path, Path]) -> None:
    file = closed_file(places)
    file.begin_change()
    file.write(b"BROKEN", 0)
    assert file.promised == "f.closed"
    assert beside(places) == [b"promised"]
    assert file.read(99, 0) == b"BROKENed"


def test_what_is_kept_is_known_by_its_size_and_sum(places: tuple[Path, Path]) -> None:
    """After a power loss nothing else tells whether the copy is whole."""
    file = closed_file(places)
    before = file.promise(closed=True)
    file.begin_change()
    file.write(b"BROKEN, and longer", 0)
    promise = file.promise(closed=False)
    assert promise == before._replace(beside="f.closed")
    assert promise[:2] == (8, checksum_of(places[1] / "f.closed"))


def test_a_version_is_kept_once_however_often_it_is_written_on(places: tuple[Path, Path]) -> None:
    file = closed_file(places)
    for letter in (b"A", b"B"):
        file.begin_change()
        file.write(letter, 0)
    assert beside(places) == [b"promised"]


@pytest.mark.parametrize("what", ["never closed", "clean", "stored"])
def test_nothing_is_kept_of_what_was_not_promised_or_has_landed(
    places: tuple[Path, Path], what: str
) -> None:
    file = remote_file(places, b"x") if what == "clean" else new_file(places, b"x")
    if what == "stored":
        file.promise(closed=True)
        snapshot = file.begin_store(1 << 30)
        assert snapshot is not None
        assert file.stored(snapshot, make_attr(1))
    file.begin_change()
    assert file.promised == ""
    assert beside(places) == []
    assert file.state is State.DIRTY


def test_a_newer_close_ends_the_older_promise(places: tuple[Path, Path]) -> None:
    file = closed_file(places)
    file.begin_change()
    file.write(b"NEWER", 0)
    size, crc = file.promise(closed=True)[:2]
    file.drop_promised()
    assert (file.promised, beside(places)) == ("", [])
    assert (size, crc) == (8, checksum_of(places[1] / "f"))
    file.begin_change()
    file.write(b"X", 0)
    assert beside(places) == [b"NEWERsed"]


def test_a_store_of_the_closed_version_keeps_it_until_a_newer_is_whole(
    places: tuple[Path, Path],
) -> None:
    """It was being sent when somebody wrote on: that its bytes landed says nothing of these."""
    file = closed_file(places)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.begin_change()
    file.write(b"B", 0)
    assert not file.stored(snapshot, make_attr(8))
    assert file.state is State.DIRTY
    later = file.begin_store(1 << 30)
    assert later is not None
    assert later.data == b"Bromised"
    assert later.base == make_attr(8)
    assert file.stored(later, make_attr(8))
    assert (file.promised, beside(places)) == ("", [])


def test_a_change_while_it_is_stored_is_stored_again(places: tuple[Path, Path]) -> None:
    """Even one that has only begun: nobody may take the copy for what the cluster has."""
    file = closed_file(places)
    snapshot = file.begin_store(1 << 30)
    assert snapshot is not None
    file.begin_change()
    assert not file.stored(snapshot, make_attr(8))
    assert file.state is State.DIRTY


def test_a_failed_store_leaves_the_promise(places: tuple[Path, Path]) -> None:
    file = closed_file(places)
    assert file.begin_store(1 << 30) is not None
    file.begin_change()
    file.write(b"B", 0)
    file.store_failed()
    assert beside(places) == [b"promised"]


def test_what_is_discarded_keeps_no_version(places: tuple[Path, Path]) -> None:
    file = closed_file(places)
    file.begin_change()
    file.discard()
    assert list(places[1].iterdir()) == []
    assert code_of(file.begin_change) == errno.ESTALE


def test_a_large_version_is_not_copied_in_a_write(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "_COPY_BYTES", 4)
    source, target = places[1] / "large", places[1] / "copy"
    source.write_bytes(b"12345")
    if copy_beside(source, target):
        assert target.read_bytes() == b"12345", "blocks are shared here"
    else:
        assert not target.exists()
    source.write_bytes(b"1234")
    assert copy_beside(source, target)
    assert target.read_bytes() == b"1234"


def test_a_full_disk_refuses_the_change_and_leaves_no_half_copy(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The promised version must not be written on unless a copy of it is whole."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    file = closed_file(places)
    monkeypatch.setattr(copying, "fcntl", _NoReflinks)
    monkeypatch.setattr(copying.shutil, "copyfileobj", full)
    assert code_of(file.begin_change) == errno.ENOSPC
    assert file.promised == ""
    assert beside(places) == []
    assert file.read(99, 0) == b"promised"
    monkeypatch.undo()
    file.begin_change()
    assert beside(places) == [b"promised"]


class _NoReflinks:
    """A machine whose file system can't share blocks."""

    @staticmethod
    def ioctl(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no reflinks")


# -- over a death --------------------------------------------------------------------------------


@pytest.fixture
def content(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 20)


def test_the_promised_version_takes_the_place_of_what_was_being_written(
    content: ContentCache, tmp_path: Path
) -> None:
    files = tmp_path / "state" / "files"
    (files / "a").write_text("half")
    (files / "a.closed").write_text("promised")
    assert not content.take_promised("", "a")
    assert not content.take_promised("b.closed", "a")
    assert not content.take_promised("a.closed", "a")
    assert not content.is_taken("a.closed", "a")
    assert (files / "a").read_text() == "half"
    content.set_aside("a", "name")
    # Twice: the first to do so may have died.
    for _ in range(2):
        assert content.take_promised("a.closed", "a")
        assert content.is_taken("a.closed", "a")
        assert (files / "a").read_text() == "promised"
    content.remove_dirty("a.closed")
    assert os.listdir(files) == ["a"]
    assert (files / "a").read_text() == "promised"


def test_the_promised_version_is_taken_where_there_are_no_links(
    content: ContentCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*paths: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "state/files/a.closed").write_text("promised")
    assert content.take_promised("a.closed", "a")
    assert os.listdir(tmp_path / "state/files") == ["a"]


def test_whole_is_what_has_size_and_sum_of_the_close(content: ContentCache, tmp_path: Path) -> None:
    file = content.new(make_attr())
    file.create(0o644)
    file.write(b"content", 0)
    size, crc = file.promise(closed=True)[:2]
    path = tmp_path / "state" / "files" / file.ident
    assert content.is_whole(file.ident, size, crc)
    for damage in (b"", b"conten", b"CONTENT", bytes(7), b"content2"):
        path.write_bytes(damage)
        assert not content.is_whole(file.ident, size, crc)
    # A file too large to be summed up at its close is never proven whole.
    path.write_bytes(b"content")
    assert not content.is_whole(file.ident, size, -1)


def test_bytes_are_synced_where_they_are(
    content: ContentCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    files = [content.new(make_attr()) for _ in range(450)]
    for file in files[:-1]:
        file.create(0o644)
    # One that isn't there, or is no more, keeps none of the others from the disk.
    content.sync_dirty([each.ident for each in reversed(files)])
    names = [tmp_path / "state" / "files" / each.ident for each in files[:-1]]
    assert sorted(synced) == sorted(each.stat().st_ino for each in names)
    content.sync_names()


def test_the_checksum_of_a_close_is_that_of_its_bytes(places: tuple[Path, Path]) -> None:
    """Whether it was summed up piece by piece as it was written, or has to be read again."""
    file = new_file(places, b"")
    for data, offset in ((b"one", 0), (b" two", 3), (b"TWO", 4), (b"", 99), (b"!", None)):
        file.begin_change()
        file.write(data, offset)
        assert file.promise(closed=True)[:2] == (file.attr.size, checksum_of(places[1] / "f"))
    for size in (5, 0, 2):
        file.truncate(size)
        file.write(b"more", None)
        assert file.promise(closed=True)[:2] == (size + 4, checksum_of(places[1] / "f"))


def test_two_of_one_name_are_both_set_aside(content: ContentCache, tmp_path: Path) -> None:
    for ident in ("a" * 32, "b" * 32):
        (tmp_path / "state" / "files" / ident).write_text(ident[0])
        content.set_aside(ident, "n" * 255)
    kept = sorted((tmp_path / "state" / "lost+found").iterdir())
    assert [each.read_text() for each in kept] == ["a", "b"]
