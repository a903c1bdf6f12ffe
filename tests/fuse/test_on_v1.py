"""Everyday work on a mount of API v1, through the kernel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import EmulatorProcess, Mounted, local_home, wait_for

pytestmark = pytest.mark.fuse

_WORK = r"""
set -eu
mkdir $DAY && cd $DAY
mkdir run && cp -p /etc/passwd run/input && chmod 640 run/input
: > run/empty && ln -s input run/link && ln -s /home/demo/$DAY/run/input run/absolute
echo one > run/log && echo two >> run/log
sed -i s/one/three/ run/log
mv run/log run/log.txt && cp run/input run/copy && mv run/copy run/log.old
mv run kept && cat kept/link > kept/again && rm kept/log.old
cmp kept/input kept/again
mkdir away && echo x > away/x && rm -r away
"""


@pytest.fixture(scope="module", params=["mfusepy", "fuse"])
def mounted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    home = tmp_path_factory.mktemp("v1")
    with (
        EmulatorProcess(home / "clusters", api="v1") as server,
        Mounted(server, home, binding=request.param, options=["write_back=0.1"]) as mount,
    ):
        mount.there = local_home(server)  # type: ignore[attr-defined]
        yield mount


def test_a_day(mounted: Mounted) -> None:
    here, there = mounted.path / "cluster/home/demo", mounted.there  # type: ignore[attr-defined]
    day = f"day-{time.time_ns()}"
    with mounted.watching(60):
        environment = {**os.environ, "DAY": day}
        subprocess.run(["bash", "-c", _WORK], cwd=here, env=environment, timeout=60, check=True)
        assert mounted.cli("sync", str(here)).returncode == 0
    landed = {path.name: path for path in (Path(there) / day / "kept").iterdir()}
    assert sorted(landed) == ["absolute", "again", "empty", "input", "link", "log.txt"]
    assert landed["log.txt"].read_text() == "three\ntwo\n"
    assert landed["empty"].stat().st_size == 0
    assert landed["input"].stat().st_mode & 0o777 == 0o640
    assert landed["input"].stat().st_mtime_ns == Path("/etc/passwd").stat().st_mtime_ns
    assert not (Path(there) / day / "away").exists()


def test_a_job(mounted: Mounted) -> None:
    here, there = mounted.path / "cluster/home/demo", mounted.there  # type: ignore[attr-defined]
    with mounted.watching(60):
        (here / "input.txt").write_text("read by the job\n")
        (here / ".jobs" / "run.sh").write_text("#!/bin/bash\ncat /home/demo/input.txt > out.txt\n")
        job = (here / ".jobs" / "run.sh.jobid").read_text().strip()
        out = Path(there) / "out.txt"
        assert wait_for(lambda: out.exists() and out.read_text() == "read by the job\n", 20)
        assert job in (mounted.path / "cluster/.jobs/queue").read_text()
