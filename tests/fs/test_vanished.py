"""What was renamed here is gone from the cluster before it is told: the target is not lost too."""

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
