"""What a user action costs: requests, counted by the server."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ..harness import Server
from .drivers import Driver


@pytest.fixture
def asked(fs: Driver, server: Server) -> object:
    """A call that returns the requests since the last time, with the directory known."""
    fs.listdir()
    server.requests(reset=True)
    return lambda: server.requests(reset=True)


def fill(there: Path, number: int, size: int = 10) -> None:
    for each in range(number):
        (there / f"f{each:04}").write_bytes(b"x" * size)


def test_ls_l(fs: Driver, there: Path, server: Server) -> None:
    fill(there, 300)
    for expected in (["ops/ls"], []):
        names = fs.listdir()
        for name in names:
            fs.lstat(name)
        assert len(names) == 300
        assert server.requests(reset=True) == expected


def test_stat_of_one_file_answers_for_its_siblings(fs: Driver, there: Path, server: Server) -> None:
    fill(there, 20)
    for name in os.listdir(there):
        assert fs.stat(name).st_size == 10
    assert not fs.exists("none")
    assert server.requests() == ["ops/ls"]


def test_cat_after_ls(fs: Driver, there: Path, server: Server) -> None:
    fill(there, 3)
    fs.listdir()
    server.requests(reset=True)
    fs.read_file("f0000")
    assert server.requests(reset=True) == ["ops/download"]
    fs.read_file("f0000")
    assert server.requests(reset=True) == []


def test_names_that_are_not_there(fs: Driver, there: Path, server: Server) -> None:
    fs.listdir()
    server.requests(reset=True)
    for number in range(50):
        assert not fs.exists(f"none-{number}")
    assert server.requests() == []


def test_a_walk(fs: Driver, there: Path, server: Server) -> None:
    for number in range(20):
        (there / f"d{number}").mkdir()
        (there / f"d{number}" / "f").write_bytes(b"x")
    for name in fs.listdir():
        assert fs.listdir(name) == ["f"]
        fs.lstat(f"{name}/f")
    assert len(server.requests()) <= 21


def test_storing_one_file(fs: Driver, server: Server) -> None:
    fs.listdir()
    server.requests(reset=True)
    fs.write_file("f", b"content")
    assert server.requests() == []
    fs.land()
    assert len(server.requests(reset=True)) <= 3
    fs.read_file("f")
    fs.stat("f")
    fs.listdir()
    assert server.requests() == []


def test_copying_many_files_into_the_mount(fs: Driver, there: Path, server: Server) -> None:
    fs.mkdir("d")
    server.requests(reset=True)
    for number in range(150):
        fs.write_file(f"d/f{number}", b"x" * 4096)
        fs.utime(f"d/f{number}", 10**18, 10**18)
    fs.land()
    assert len(os.listdir(there / "d")) == 150
    assert len(server.requests(reset=True)) <= 12
    # And again, as rsync looks: nothing to do.
    for number in range(150):
        assert fs.stat(f"d/f{number}").st_mtime_ns == 10**18
    assert len(server.requests()) <= 2


def test_a_backup_of_hard_links(fs: Driver, there: Path, server: Server) -> None:
    """As `cp -al` makes it; then a file of it is saved anew, and is the same file still."""
    for top in ("t", "t/d"):
        (there / top).mkdir()
        for number in range(30):
            (there / top / f"f{number}").write_text(f"{top} {number}")
    fs.listdir("t")
    fs.listdir("t/d")
    server.requests(reset=True)
    for top in ("t", "t/d"):
        fs.mkdir(top.replace("t", "copy"))
        for number in range(30):
            fs.link(f"{top}/f{number}", f"{top.replace('t', 'copy')}/f{number}")
    fs.land()
    assert len(server.requests()) <= 16
    for top in ("t", "t/d"):
        for number in range(30):
            copy = f"{top.replace('t', 'copy')}/f{number}"
            assert (there / copy).samefile(there / top / f"f{number}")
            assert fs.stat(copy).st_nlink == 2
    fs.write_file("t/f7", b"saved anew")
    fs.land()
    assert (there / "copy/f7").read_bytes() == b"saved anew"
    assert not [name for name in os.listdir(there / "t") if "conflict" in name]


def test_a_save_of_vim(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old\n")
    fs.listdir()
    fs.read_file("f")
    server.requests(reset=True)
    fs.close(fs.open(".f.swp", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    fs.close(fs.open("4913", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    fs.unlink("4913")
    fs.write_file("f~", b"old\n")
    fs.write_file("f", b"new content\n")
    fs.fsync_file("f")
    fs.unlink("f~")
    fs.unlink(".f.swp")
    fs.land()
    assert (there / "f").read_bytes() == b"new content\n"
    assert len(server.requests()) <= 3
    assert server.requests().count("ops/upload") == 1


def test_appending_again_and_again_is_stored_once(fs: Driver, there: Path, server: Server) -> None:
    fs.listdir()
    server.requests(reset=True)
    for number in range(20):
        fs.append("log", b"line %d\n" % number)
    fs.land()
    assert server.requests().count("ops/upload") == 1


def test_a_file_that_is_gone_before_it_was_stored_costs_nothing(fs: Driver, server: Server) -> None:
    fs.listdir()
    server.requests(reset=True)
    fs.write_file("tmp", b"x")
    fs.unlink("tmp")
    fs.land()
    assert server.requests() == []


def test_an_idle_mount_is_silent(fs: Driver, there: Path, server: Server) -> None:
    fs.write_file("f", b"x")
    fs.land()
    fd = fs.open("f")
    server.requests(reset=True)
    time.sleep(1.5)
    assert server.requests() == []
    fs.close(fd)


def test_permission_and_kind_are_known(fs: Driver, there: Path, server: Server) -> None:
    fill(there, 5)
    (there / "link").symlink_to("f0000")
    fs.listdir()
    server.requests(reset=True)
    for name in os.listdir(there):
        assert fs.access(name, os.R_OK)
        assert not fs.access(name, os.X_OK)
    assert fs.readlink("link") == "f0000"
    fs.statvfs("")
    fs.listxattr("f0000")
    assert server.requests() == []
