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
