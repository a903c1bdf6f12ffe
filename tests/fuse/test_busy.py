"""Many readers that wait for a slow server don't hold up others."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from ..fs.drivers import KernelDriver
from ..harness import Server, wait_for

pytestmark = pytest.mark.fuse

READERS = 48


def test_readers_that_wait_leave_a_way_for_ls(
    fs: KernelDriver, there: Path, server: Server
) -> None:
    for number in range(READERS):
        (there / f"f{number}").write_bytes(b"x")
    for name in ("other", "more"):
        (there / name).mkdir()
        (there / name / "file").write_bytes(b"y")
    fs.listdir()
    server.faults([{"kind": "stall", "match": "*/download", "seconds": 3, "count": -1}])
    paths = [fs.path(f"f{number}") for number in range(READERS)]
    readers = [subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL) for path in paths]
    try:
        time.sleep(1)  # let them begin; were it too short, the test would only ask for less
        assert fs.listdir("other") == ["file"]
        fs.mkdir("more/new")
        assert fs.status()["draining"] is False
        assert wait_for((there / "more" / "new").is_dir, 30)
        waiting = sum(reader.poll() is None for reader in readers)
        assert waiting > READERS // 2, "the others had to wait for the readers"
    finally:
        server.faults([])
        codes = [reader.wait(60) for reader in readers]
    assert codes == [0] * READERS
