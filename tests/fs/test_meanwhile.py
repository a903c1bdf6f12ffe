"""What another client does meanwhile to what was renamed here costs neither side its bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .drivers import Driver
from .sites import WITHOUT_KERNEL, Site, Sites


@pytest.fixture(scope="session", params=WITHOUT_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """No kernel takes part in this."""
    return str(request.param)


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that stores when it is told to."""
    return sites.site(kind, write_back=600.0)


def test_what_it_was_renamed_over_stays(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"the source")
    (there / "b").write_bytes(b"the target")
    fs.refresh()
    fs.rename("a", "b")
    (there / "a").unlink()
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"the target"
    assert fs.read_file("b") == b"the target"
    assert fs.listdir() == ["b"]


def test_what_was_written_takes_the_name(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"the source")
    (there / "b").write_bytes(b"the target")
    fs.refresh()
    fs.append("a", b", edited")
    fs.rename("a", "b")
    (there / "a").unlink()
    fs.land()
    assert fs.listdir() == ["b"]
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"the source, edited"


def test_somebody_elses_change_of_what_was_edited_and_renamed(fs: Driver, there: Path) -> None:
    """Both survive: that it was renamed says nothing of what is in it."""
    (there / "a").write_bytes(b"the source")
    fs.refresh()
    fs.append("a", b", edited")
    fs.rename("a", "b")
    (there / "a").write_bytes(b"theirs, meanwhile")
    fs.land()
    found = {(there / name).read_bytes() for name in os.listdir(there)}
    assert found == {b"theirs, meanwhile", b"the source, edited"}
    assert len(os.listdir(there)) == 2


def test_somebody_elses_change_of_what_was_read_and_renamed(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"the source")
    fs.refresh()
    assert fs.read_file("a") == b"the source"
    fs.rename("a", "b")
    (there / "a").write_bytes(b"theirs, meanwhile")
    fs.land()
    assert fs.read_file("b") == b"theirs, meanwhile"


def test_somebody_elses_change_of_what_was_read_and_given_a_mode(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"the source")
    fs.refresh()
    assert fs.read_file("a") == b"the source"
    fs.chmod("a", 0o600)
    (there / "a").write_bytes(b"theirs, meanwhile")
    fs.land()
    assert (there / "a").stat().st_mode & 0o777 == 0o600
    assert fs.read_file("a") == b"theirs, meanwhile"
    fs.append("a", b", edited")
    fs.land()
    assert (there / "a").read_bytes() == b"theirs, meanwhile, edited"
