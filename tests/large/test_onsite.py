"""cp, mv and rm on the cluster itself: by jobs of ours, whose paths are quoted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..fs.drivers import Driver, KernelDriver
from ..fs.sites import Site
from ..harness import Server
from .test_reading import MIB, blob, orders
from .test_reading_faults import links
from .test_writing import same, uploads


@pytest.fixture
def kind() -> str:
    """What a job does is the same on either version."""
    return "v2-mfusepy"


def test_copying_moving_removing(fs: Driver, there: Path, server: Server, site: Site) -> None:
    assert isinstance(fs, KernelDriver)
    mounted = site.mounted
    assert mounted is not None
    (there / "a b").mkdir()
    (there / "a b" / "f").write_bytes(blob(MIB))
    fs.write_file("pending", b"not stored yet")
    done = mounted.cli("cp", fs.path("a b"), fs.path("pending"), fs.path("") + "/$(x)")
    assert done.returncode == 2  # no directory is there
    assert "$(x)" in done.stderr
    (there / "d").mkdir()
    done = mounted.cli("cp", fs.path("a b"), fs.path("pending"), fs.path("d"))
    assert done.returncode == 0, done.stderr
    assert same(there / "d" / "a b" / "f", blob(MIB))
    assert (there / "d" / "pending").read_bytes() == b"not stored yet"
    assert mounted.cli("mv", fs.path("d"), fs.path("e")).returncode == 0
    assert sorted(fs.listdir()) == ["a b", "e", "pending"]
    assert mounted.cli("rm", fs.path("pending")).returncode == 0
    assert mounted.cli("rm", fs.path("e")).returncode == 2
    assert mounted.cli("rm", "-r", fs.path("e")).returncode == 0
    assert os.listdir(there) == fs.listdir() == ["a b"]
    assert (orders(server), uploads(server)) == (0, 0)
    assert links(there) == []


def test_what_fails_is_told(fs: Driver, there: Path, site: Site) -> None:
    assert isinstance(fs, KernelDriver)
    assert site.mounted is not None
    done = site.mounted.cli("cp", fs.path("none"), fs.path("x"))
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "none" in done.stderr
    assert os.listdir(there) == []
