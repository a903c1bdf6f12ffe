"""A file that takes one of two names of another leaves the other what it is.

As `rsync` and `sed -i` do it; snapshots made of hard links live by that.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import Server
from .drivers import Driver
from .sites import WITHOUT_KERNEL

OLD = b"a file of two names"


@pytest.fixture(scope="session", params=WITHOUT_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """No kernel takes part in this."""
    return str(request.param)


def save(fs: Driver, data: bytes) -> None:
    """By way of a temporary name."""
    fs.write_file("tmp", data)
    fs.rename("tmp", "one")


def back_up(fs: Driver, data: bytes) -> None:
    """By way of a backup, which is removed."""
    fs.rename("one", "one~")
    fs.write_file("one", data)
    fs.unlink("one~")


def make_again(fs: Driver, data: bytes) -> None:
    """Under the name that was unlinked."""
    fs.unlink("one")
    fs.write_file("one", data)


@pytest.mark.parametrize("data", [b"new content", b"", os.urandom(6 << 20)], ids=len)
@pytest.mark.parametrize("act", [save, back_up, make_again], ids=lambda act: act.__name__)
def test_the_other_name_stays(
    fs: Driver, there: Path, act: Callable[[Driver, bytes], None], data: bytes
) -> None:
    (there / "one").write_bytes(OLD)
    os.link(there / "one", there / "two")
    fs.refresh()
    act(fs, data)
    fs.land()
    assert (there / "one").read_bytes() == data
    assert (there / "two").read_bytes() == OLD
    assert sorted(os.listdir(there)) == ["one", "two"]
    assert fs.errors() == []


@pytest.mark.parametrize("fault", ["lost_answer", "drop"])
@pytest.mark.parametrize("endpoint", ["*/rm", "*/upload"])
def test_and_where_something_fails(
    fs: Driver, there: Path, server: Server, endpoint: str, fault: str
) -> None:
    (there / "one").write_bytes(OLD)
    os.link(there / "one", there / "two")
    fs.refresh()
    server.faults([{"match": endpoint, "kind": fault}])
    save(fs, b"new content")
    fs.land()
    assert [(there / name).read_bytes() for name in ("one", "two")] == [b"new content", OLD]
    assert sorted(os.listdir(there)) == ["one", "two"]


def test_an_edit_in_place_changes_both(fs: Driver, there: Path) -> None:
    (there / "one").write_bytes(OLD)
    os.link(there / "one", there / "two")
    fs.refresh()
    fs.write_file("one", b"edited")
    fs.land()
    assert (there / "two").read_bytes() == b"edited"


def write_it(fs: Driver) -> None:
    fs.write_file("two", b"written after")


def write_it_later(fs: Driver) -> None:
    fd = fs.open("two", os.O_RDWR | os.O_TRUNC)
    fs.write(fd, b"written after")
    fs.land()
    fs.close(fd)


def write_what_was_open(fs: Driver) -> None:
    fd = fs.open("two", os.O_RDWR)
    fs.land()
    fs.pwrite(fd, b"written after" + bytes(len(OLD)), 0)
    fs.ftruncate(fd, len(b"written after"))
    fs.close(fd)


@pytest.mark.parametrize(
    "act", [write_it, write_it_later, write_what_was_open], ids=lambda act: act.__name__
)
def test_what_is_written_after_one_name_took_the_other(
    fs: Driver, there: Path, act: Callable[[Driver], None]
) -> None:
    """As rename(2) has it both names stay, which is found out when it is carried out."""
    (there / "one").write_bytes(OLD)
    os.link(there / "one", there / "two")
    fs.refresh()
    fs.rename("one", "two")
    act(fs)
    fs.land()
    fs.refresh()
    assert sorted(fs.listdir()) == sorted(os.listdir(there)) == ["one", "two"]
    assert (there / "two").read_bytes() == fs.read_file("two") == b"written after"
    assert (there / "one").samefile(there / "two")
    assert fs.errors() == []


@pytest.mark.parametrize("then", ["mode", "time"])
def test_what_is_set_after_one_name_took_the_other(fs: Driver, there: Path, then: str) -> None:
    (there / "one").write_bytes(OLD)
    os.link(there / "one", there / "two")
    fs.refresh()
    fs.rename("one", "two")
    if then == "mode":
        fs.chmod("two", 0o600)
    else:
        fs.utime("two", 10**18, 10**18)
    fs.land()
    found = (there / "two").stat()
    assert found.st_mode & 0o777 == 0o600 if then == "mode" else found.st_mtime_ns == 10**18
    assert (there / "one").samefile(there / "two")
