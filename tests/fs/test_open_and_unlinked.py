"""Files that are unlinked while someone has them open."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver


def gone(there: Path) -> bool:
    """Tell whether the directory becomes empty: close(2) returns before the file is released."""
    return wait_for(lambda: os.listdir(there) == [], 5)


def test_reading_on(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"content")
    fd = fs.open("f")
    fs.unlink("f")
    assert not fs.exists("f")
    assert fs.listdir() == []
    assert fs.pread(fd, 100, 0) == b"content"
    assert fs.fstat(fd).st_size == 7
    fs.close(fd)
    assert gone(there)


def test_reading_on_what_was_never_read(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"content")
    fd = fs.open("f", os.O_RDWR)
    fs.unlink("f")
    assert fs.pread(fd, 100, 0) == b"content"
    fs.close(fd)
    assert gone(there)


def test_writing_on(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"content")
    fd = fs.open("f", os.O_RDWR)
    fs.unlink("f")
    fs.pwrite(fd, b"!", 7)
    assert fs.pread(fd, 100, 0) == b"content!"
    fs.close(fd)
    fs.land()
    assert gone(there)


def test_a_temporary_file_costs_nothing(fs: Driver, there: Path, server: Server) -> None:
    fs.listdir()
    server.requests(reset=True)
    fd = fs.open("tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fs.unlink("tmp")
    fs.write(fd, b"scratch data")
    assert fs.pread(fd, 100, 0) == b"scratch data"
    fs.close(fd)
    fs.land()
    assert server.requests() == []
    assert os.listdir(there) == []


def test_a_new_file_of_the_same_name(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    fd = fs.open("f")
    fs.unlink("f")
    fs.write_file("f", b"new content")
    assert fs.pread(fd, 100, 0) == b"old"
    assert fs.read_file("f") == b"new content"
    fs.land()
    fs.close(fd)
    # Long enough for a late removal to come.
    assert not wait_for(lambda: not (there / "f").exists(), 0.3)
    assert fs.read_file("f") == b"new content"
    fs.land()
    assert (there / "f").read_bytes() == b"new content"
    assert os.listdir(there) == ["f"]


def test_a_file_that_someone_replaced_meanwhile_is_kept(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    fd = fs.open("f")
    fs.unlink("f")
    (there / "f").write_bytes(b"somebody else's")
    fs.close(fd)
    assert not wait_for(lambda: not (there / "f").exists(), 0.3)
    assert (there / "f").read_bytes() == b"somebody else's"


def test_removing_the_directory_too(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / "f").write_bytes(b"content")
    fd = fs.open("d/f", os.O_RDWR)
    fs.unlink("d/f")
    if fs.mounted_by_kernel:
        # libfuse keeps the file under a hidden name; rm -rf of such a directory succeeds.
        fs.rmdir("d")
        # Then it knows no path of the file any more.
        assert fs.pread(fd, 100, 0) == b"content"
        fs.pwrite(fd, b"d", 7)
        fs.ftruncate(fd, 9)
        fs.fsync(fd)
        assert fs.pread(fd, 100, 0) == b"contentd\0"
        fs.close(fd)
    else:
        fs.close(fd)
        fs.rmdir("d")
    assert gone(there)


def test_what_is_open_is_found_under_its_new_name(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.mkdir("d/e")
    fd = fs.open("d/e/f", os.O_RDWR | os.O_CREAT)
    fs.write(fd, b"content")
    fs.rename("d/e/f", "d/e/g")
    fs.rename("d", "new")
    fs.ftruncate(fd, 4)
    fs.pwrite(fd, b"ended", 4)
    assert fs.fstat(fd).st_size == 9
    fs.close(fd)
    assert fs.read_file("new/e/g") == b"contended"
    fs.land()
    assert (there / "new/e/g").read_bytes() == b"contended"


def test_an_open_set_user_id_file_is_cut(fs: Driver, there: Path) -> None:
    """The kernel takes the bits in the same call, which then tells of no path either."""
    fs.write_file("f", b"content")
    fs.chmod("f", 0o4755)
    fd = fs.open("f", os.O_RDWR)
    fs.ftruncate(fd, 3)
    fs.close(fd)
    assert fs.read_file("f") == b"con"
    fs.land()
    assert (there / "f").read_bytes() == b"con"


@pytest.mark.parametrize("stored", [False, True])
def test_two_handles(fs: Driver, there: Path, stored: bool) -> None:
    fs.write_file("f", b"content")
    if stored:
        fs.land()
    first, second = fs.open("f"), fs.open("f")
    fs.unlink("f")
    fs.close(first)
    assert fs.pread(second, 100, 0) == b"content"
    fs.close(second)
    fs.land()
    assert gone(there)


def test_a_removal_that_fails_is_made_good(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    fd = fs.open("f")
    fs.unlink("f")
    server.faults([{"kind": "status", "match": "ops/rm", "status": 503, "body": "no", "count": -1}])
    fs.close(fd)
    assert not wait_for(lambda: fs.exists("f"), 0.5)
    assert (there / "f").exists()
    assert "f" not in fs.listdir()
    server.faults([])
    assert fs.sync() == {}
    assert gone(there)


def test_a_name_is_free_at_once(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    fd = fs.open("f")
    fs.unlink("f")
    fs.close(fd)
    fs.close(fs.open("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    fs.write_file("f", b"new")
    fs.land()
    assert (there / "f").read_bytes() == b"new"


def test_what_has_no_name_is_never_stored(fs: Driver, there: Path, server: Server) -> None:
    fs.listdir()
    server.requests(reset=True)
    fd = fs.open("tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fs.write(fd, b"before")
    fs.unlink("tmp")
    fs.write(fd, b"after")
    # It is open still: storing everything leaves it out.
    assert fs.sync() == {}
    assert fs.pending() == {}
    assert fs.pread(fd, 100, 0) == b"beforeafter"
    fs.close(fd)
    assert server.requests() == []
    assert os.listdir(there) == []


MAKERS: dict[str, Callable[[Driver], None]] = {
    "file": lambda fs: fs.write_file("f", b"first"),
    "symlink": lambda fs: fs.symlink("first", "f"),
    "directory": lambda fs: fs.mkdir("f"),
}


@pytest.mark.parametrize("made", MAKERS)
def test_a_new_file_while_the_old_one_is_on_its_way(
    fs: Driver, there: Path, server: Server, made: str
) -> None:
    assert not fs.exists("f")
    making = ("*upload", "*mkdir", "*symlink", "*extract")
    server.faults([{"kind": "stall", "match": each, "seconds": 1.2} for each in making])
    MAKERS[made](fs)
    thread = threading.Thread(target=fs.sync, daemon=True)
    thread.start()
    assert wait_for(lambda: fs.pending().get("f", {}).get("state") == "storing")
    (fs.rmdir if made == "directory" else fs.unlink)("f")
    # What is on its way is hidden, also where it has landed before it is removed.
    assert not wait_for(lambda: fs.exists("f") or fs.listdir() != [], 1.0)
    thread.join(60)
    assert not thread.is_alive()
    for content in (b"second", b"third"):
        fs.close(fs.open("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        fs.write_file("f", content)
        fs.land()
        assert (there / "f").read_bytes() == content
        fs.unlink("f")
    fs.land()
    assert os.listdir(there) == []


def test_a_name_stays_free_while_it_is_removed(fs: Driver, there: Path) -> None:
    stop = threading.Event()

    def store() -> None:
        while not stop.is_set():
            fs.sync()

    thread = threading.Thread(target=store)
    thread.start()
    try:
        for number in range(60):
            fs.close(fs.open("f", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            fs.write_file("f", b"%d" % number)
            assert fs.listdir() == ["f"]
            fs.unlink("f")
            assert not fs.exists("f")
            assert fs.listdir() == []
    finally:
        stop.set()
        thread.join()
    fs.land()
    assert os.listdir(there) == []


TAKERS: dict[str, Callable[[Driver], None]] = {
    "symlink": lambda fs: fs.symlink("elsewhere", "f"),
    "directory": lambda fs: fs.mkdir("f"),
    "renamed directory": lambda fs: fs.rename("d", "f"),
    "second name": lambda fs: fs.link("other", "f"),
}


@pytest.mark.parametrize("taker", TAKERS)
def test_what_takes_the_name_of_an_open_file_lands(fs: Driver, there: Path, taker: str) -> None:
    """A program may keep its old log open for days: nothing waits for its close."""
    (there / "f").write_bytes(b"old")
    (there / "other").write_bytes(b"content")
    (there / "d").mkdir()
    fd = fs.open("f", os.O_RDWR)
    fs.unlink("f")
    TAKERS[taker](fs)
    assert fs.sync() == {}
    assert fs.pending() == {}
    expected = {"symlink": os.path.islink, "second name": os.path.isfile}
    assert expected.get(taker, os.path.isdir)(there / "f")
    assert fs.pread(fd, 100, 0) == b"old"
    assert fs.pwrite(fd, b"er", 3) == 2
    fs.fsync(fd)
    assert fs.fstat(fd).st_size == 5
    assert fs.pread(fd, 100, 0) == b"older"
    fs.close(fd)
    fs.land()
    assert expected.get(taker, os.path.isdir)(there / "f")
    assert sorted(fs.listdir()) == sorted(os.listdir(there))
    assert fs.errors() == []
