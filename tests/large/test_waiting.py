"""Readers that wait for a staging: they hold nobody up, and can be stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fs.drivers import Driver, KernelDriver
from ..fs.sites import Site
from ..harness import Server, wait_for
from .conftest import LargeSites
from .test_reading import MIB, blob

#: What doesn't wait for a staging is done within this time (seconds), even on a busy machine.
PROMPT_S = 20.0
STAGING_S = 600.0


def stage_slowly(server: Server) -> None:
    """Let no staging end."""
    server.set(queue_seconds=STAGING_S)
    server.faults([{"kind": "stall", "match": "job/*", "seconds": 30.0, "count": -1}])


@contextlib.contextmanager
def readers(fs: Driver, names: list[str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run a `cat` for each of *names*."""
    assert isinstance(fs, KernelDriver)
    running = [
        subprocess.Popen(["cat", fs.path(name)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for name in names
    ]
    try:
        yield running
    finally:
        for each in running:
            each.kill()
            each.communicate(timeout=PROMPT_S)


@pytest.fixture(params=[("v2", "mfusepy"), ("v2", "fuse")], ids=["mfusepy", "fuse"])
def kind(request: pytest.FixtureRequest) -> tuple[str, str]:
    """On v2, where a staging waits as long as a queue is set to; both bindings."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def site(large_sites: LargeSites, kind: tuple[str, str]) -> Site:
    return large_sites.site(*kind)


def test_64_waiting_readers_hold_up_nobody(fs: Driver, there: Path, server: Server) -> None:
    names = [f"f{number}" for number in range(64)]
    for name in names:
        (there / name).write_bytes(blob(MIB))
    (there / "small").write_bytes(b"small")
    (there / "d").mkdir()
    fs.listdir()
    server.set(queue_seconds=STAGING_S)
    with readers(fs, names) as running:
        assert wait_for(lambda: len(blocked(fs)) >= 16, PROMPT_S)
        start = time.monotonic()
        assert len(fs.listdir()) == 66
        assert fs.listdir("d") == []
        assert fs.read_file("small") == b"small"
        fs.write_file("new", b"written meanwhile")
        assert fs.read_file("new") == b"written meanwhile"
        assert fs.stat("f3").st_size == MIB
        fs.status()
        assert time.monotonic() - start < PROMPT_S
        assert [each.poll() for each in running] == [None] * 64


def blocked(fs: Driver) -> list[str]:
    """Return the lines of `queue` that are of this test."""
    return [line for line in fs.control("queue").splitlines() if fs.base in line]


def test_ctrl_c_ends_the_wait(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(blob(MIB))
    server.set(queue_seconds=STAGING_S)
    with readers(fs, ["f"]) as (cat,):
        assert wait_for(lambda: bool(blocked(fs)), PROMPT_S)
        cat.send_signal(signal.SIGINT)
        assert cat.wait(PROMPT_S) == -signal.SIGINT
    # Another one finds the staging under way.
    server.set(queue_seconds=0.05)
    assert fs.read_file("f") == blob(MIB)


def test_opening_does_not_wait(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(blob(MIB))
    server.set(queue_seconds=STAGING_S)
    fd = fs.open("f")
    assert os.fstat(fd).st_size == MIB
    fs.close(fd)
