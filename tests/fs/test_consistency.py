"""Other clients: when their changes are seen, and what happens where they meet ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver, mode_of
from .sites import Site, Sites

TTL, NEGATIVE_TTL = 1.5, 0.6


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that believes things for a short time only."""
    return sites.site(kind, ttl=TTL, negative_ttl=NEGATIVE_TTL)


def test_changes_of_others_are_seen_after_the_ttl(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old")
    assert fs.read_file("f") == b"old"
    (there / "f").write_bytes(b"new content")
    (there / "g").write_bytes(b"another")
    server.requests(reset=True)
    learnt = time.monotonic()
    shown = fs.stat("f").st_size
    if time.monotonic() - learnt < TTL / 3:
        assert (shown, server.requests()) == (3, [])
    time.sleep(TTL)
    assert fs.stat("f").st_size == 11
    assert sorted(fs.listdir()) == ["f", "g"]
    assert fs.read_file("f") == b"new content"
    (there / "f").unlink()
    time.sleep(TTL)
    with pytest.raises(FileNotFoundError):
        fs.stat("f")
    assert fs.listdir() == ["g"]


def test_an_absence_is_believed_for_a_short_time(fs: Driver, there: Path, server: Server) -> None:
    assert not fs.exists("f")
    begun = time.monotonic()
    (there / "f").write_bytes(b"x")
    server.requests(reset=True)
    found = fs.exists("f")
    if time.monotonic() - begun < NEGATIVE_TTL / 2:
        assert (found, server.requests()) == (False, [])
    assert wait_for(lambda: fs.exists("f"), 3 * NEGATIVE_TTL)
    assert fs.listdir() == ["f"]


def test_an_absence_that_a_listing_told_is_believed_as_short(fs: Driver, there: Path) -> None:
    (there / "other").write_bytes(b"x")
    assert fs.listdir() == ["other"]
    (there / "f").write_bytes(b"x")
    assert wait_for(lambda: fs.exists("f"), 3 * NEGATIVE_TTL)


def test_refresh_shows_changes_at_once(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / "f").write_bytes(b"old")
    assert fs.read_file("d/f") == b"old"
    assert not fs.exists("d/g")
    assert fs.listdir("d") == ["f"]
    (there / "d" / "f").write_bytes(b"new content")
    (there / "d" / "g").write_bytes(b"x")
    fs.refresh("d")
    assert fs.read_file("d/f") == b"new content"
    assert fs.exists("d/g")
    assert sorted(fs.listdir("d")) == ["f", "g"]
    (there / "d" / "g").unlink()
    fs.refresh("d/g")
    assert not fs.exists("d/g")


def test_modes_that_others_set_are_seen(fs: Driver, there: Path) -> None:
    """Also of what was read or changed here, of which a copy or a note is kept."""
    (there / "d").mkdir()
    (there / "f").write_bytes(b"content")
    assert fs.read_file("f") == b"content"
    fs.utime("d", 1, 2)
    (there / "f").chmod(0o755)
    (there / "d").chmod(0o700)
    fs.refresh()
    assert [mode_of(fs.stat(name)) for name in ("f", "d")] == [0o755, 0o700]


def test_own_changes_are_seen_at_once_beside_those_of_others(fs: Driver, there: Path) -> None:
    fs.listdir()
    fs.write_file("mine", b"mine")
    fs.mkdir("d")
    fs.symlink("mine", "link")
    assert sorted(fs.listdir()) == ["d", "link", "mine"]
    (there / "theirs").write_bytes(b"theirs")
    time.sleep(TTL)
    assert sorted(fs.listdir()) == ["d", "link", "mine", "theirs"]
    assert fs.read_file("mine") == b"mine"


def test_a_growing_log_can_be_followed(fs: Driver, there: Path) -> None:
    # tail -f: fstat and read on one descriptor.
    (there / "log").write_bytes(b"one\n")
    fd = fs.open("log")
    assert fs.read(fd, 100) == b"one\n"
    with (there / "log").open("ab") as log:
        log.write(b"two\n")
    assert wait_for(lambda: fs.fstat(fd).st_size == 8, 3 * TTL)
    assert fs.read(fd, 100) == b"two\n"
    with (there / "log").open("ab") as log:
        log.write(b"three\n")
    assert wait_for(lambda: fs.fstat(fd).st_size == 14, 3 * TTL)
    assert fs.read(fd, 100) == b"three\n"
    fs.close(fd)


# -- conflicts -------------------------------------------------------------------------------------


def conflict_copy(there: Path, name: str) -> Path:
    (found,) = there.glob(f"{name}.conflict-*")
    return found


def test_a_file_that_someone_made_first(fs: Driver, there: Path) -> None:
    fs.write_file("f", b"ours")
    (there / "f").write_bytes(b"theirs, made meanwhile")
    fs.sync()
    assert (there / "f").read_bytes() == b"theirs, made meanwhile"
    ours = conflict_copy(there, "f")
    assert ours.read_bytes() == b"ours"
    assert os.uname().nodename in ours.name
    assert any(ours.name in line for line in fs.errors())
    fs.refresh()
    assert sorted(fs.listdir()) == ["f", ours.name]
    assert fs.read_file("f") == b"theirs, made meanwhile"
    assert fs.read_file(ours.name) == b"ours"
    fs.land()


def test_a_file_that_someone_changed_after_we_read_it(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"base")
    assert fs.read_file("f") == b"base"
    fd = fs.open("f", os.O_RDWR)
    fs.pwrite(fd, b"ours", 0)
    (there / "f").write_bytes(b"theirs, longer")
    fs.close(fd)
    fs.sync()
    assert (there / "f").read_bytes() == b"theirs, longer"
    assert conflict_copy(there, "f").read_bytes() == b"ours"
    fs.refresh()
    assert fs.read_file("f") == b"theirs, longer"
    # The next change is one of the new version.
    fs.append("f", b", and ours")
    fs.land()
    assert (there / "f").read_bytes() == b"theirs, longer, and ours"


def test_a_replaced_file_of_equal_size_and_time_is_a_conflict_too(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"base")
    fs.write_file("f", b"1234")
    fs.land()
    when = os.stat(there / "f").st_mtime_ns
    (there / "new").write_bytes(b"abcd")
    os.replace(there / "new", there / "f")
    os.utime(there / "f", ns=(when, when))
    fs.append("f", b"5678")
    fs.sync()
    assert (there / "f").read_bytes() == b"abcd"
    assert conflict_copy(there, "f").read_bytes() == b"12345678"


def test_a_file_that_someone_removed_comes_back(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"base")
    assert fs.read_file("f") == b"base"
    fs.append("f", b", and ours")
    (there / "f").unlink()
    fs.land()
    assert (there / "f").read_bytes() == b"base, and ours"


def test_what_we_stored_ourselves_is_no_conflict(fs: Driver, there: Path) -> None:
    for number in range(4):
        fs.append("f", b"%d\n" % number)
        fs.land()
        if number % 2:
            fs.refresh()
    assert (there / "f").read_bytes() == b"0\n1\n2\n3\n"
    assert os.listdir(there) == ["f"]


def test_a_saved_file_over_one_that_someone_changed(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"base")
    assert fs.read_file("f") == b"base"
    fs.write_file("f.tmp", b"ours")
    (there / "f").write_bytes(b"theirs, longer")
    fs.rename("f.tmp", "f")
    fs.sync()
    contents = sorted((there / name).read_bytes() for name in os.listdir(there))
    assert contents == [b"ours", b"theirs, longer"]


def test_a_removed_file_that_someone_changed_is_not_lost(fs: Driver, there: Path) -> None:
    # rm of what isn't what we saw: as on any shared file system, the name is what counts.
    (there / "f").write_bytes(b"base")
    fs.stat("f")
    (there / "f").write_bytes(b"theirs, longer")
    fs.unlink("f")
    assert not fs.exists("f")


def test_the_kind_is_asked_afresh_before_something_is_removed(fs: Driver, there: Path) -> None:
    (there / "x").write_bytes(b"a file")
    fs.stat("x")
    (there / "x").unlink()
    (there / "x").mkdir()
    (there / "x" / "precious").write_bytes(b"theirs")
    fs.unlink("x")
    fs.land()
    assert fs.read_file("x/precious") == b"theirs"
    assert (there / "x" / "precious").exists()
