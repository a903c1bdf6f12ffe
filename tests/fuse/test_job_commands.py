"""`firecrestfs submit`, `jobs`, `cancel` and `wait` on a real mount."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import COMMAND_S, EmulatorProcess, Mounted

pytestmark = pytest.mark.fuse

SCRIPT = '#!/bin/bash\n#SBATCH --time=5\necho "$#: $* in $PWD, $GREETING"\n'


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    home = tmp_path_factory.mktemp("commands")
    settings = {"queue_seconds": 0.05}
    with (
        EmulatorProcess(
            home / "clusters", settings=settings, systems=("cluster", "other")
        ) as server,
        Mounted(server, home) as mounted,
    ):
        yield mounted


def firecrestfs(
    mounted: Mounted, *arguments: str | Path, cwd: Path | str = "/", text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command in the directory *cwd*, with *text* on its standard input."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-m", "firecrestfs", *map(str, arguments)],
        env=mounted.env | {"PYTHONPATH": str(root)},
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run.sh"
    path.write_text(SCRIPT)
    return path


def test_submit_takes_options_and_arguments_and_prints_as_sbatch(
    mounted: Mounted, script: Path
) -> None:
    here = mounted.path / "cluster/home/demo"
    options = ("-p", "part01", "--export", "ALL,GREETING=hello you", "-o", "out-%j.txt")
    done = firecrestfs(mounted, "submit", *options, script, "one", "two words", cwd=here)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert words[:3] == ["Submitted", "batch", "job"]
    waited = firecrestfs(mounted, "wait", words[3], "--system", "cluster")
    assert (waited.returncode, waited.stdout) == (0, f"{words[3]} COMPLETED 0\n")
    out = (here / f"out-{words[3]}.txt").read_text()
    assert out == "2: one two words in /home/demo, hello you\n"
    # The same again at once is another job, under the same name.
    again = firecrestfs(mounted, "submit", "--json", script, cwd=here)
    told = json.loads(again.stdout)
    assert told["jobid"] != words[3]
    rows = json.loads((mounted.path / "cluster/.jobs/queue.json").read_text())
    assert {row["name"] for row in rows} == {"run.sh"}


def test_submit_says_why_not(mounted: Mounted, script: Path) -> None:
    where = ("--system", "other")
    done = firecrestfs(mounted, "submit", *where, "--partition=nope", script)
    assert done.returncode == 2
    assert "invalid partition" in done.stderr
    assert not (mounted.path / "other/.jobs/run.sh").exists()
    assert firecrestfs(mounted, "submit", *where, text="no script\n").returncode == 2
    assert "which system" in firecrestfs(mounted, "submit", script).stderr
    assert "there are: cluster other" in firecrestfs(mounted, "submit", "-S", "x", script).stderr
    (script.parent / "p.py").write_text("#!/usr/bin/env python3\n")
    done = firecrestfs(mounted, "submit", *where, script.parent / "p.py", "argument")
    assert "shell scripts only" in done.stderr


def test_wait_and_cancel(mounted: Mounted) -> None:
    where = ("--system", "other")
    done = firecrestfs(mounted, "submit", *where, "--parsable", "-W", "--wrap", "exit 3")
    assert done.returncode == 3
    job_id = done.stdout.strip()
    assert firecrestfs(mounted, "wait", f"other:{job_id}").stdout == f"{job_id} FAILED 3\n"
    long = firecrestfs(mounted, "submit", *where, "--parsable", "--wrap", "sleep 60").stdout.strip()
    listed = firecrestfs(mounted, "jobs", "other", "--active").stdout
    assert long in listed
    assert job_id not in listed
    path = mounted.path / "other/.jobs" / long
    cancelled = firecrestfs(mounted, "cancel", path, "--json")
    assert json.loads(cancelled.stdout) == {"cancelled": [str(path)]}
    done = firecrestfs(mounted, "wait", *where, "--json")
    assert done.returncode == 1
    assert [row["state"] for row in json.loads(done.stdout)] == ["CANCELLED"]
    done = firecrestfs(mounted, "cancel", *where, "999")
    assert (done.returncode, "no such job" in done.stderr) == (1, True)
    everything = json.loads(firecrestfs(mounted, "jobs", "--json").stdout)
    assert set(everything) == {"cluster", "other"}
    assert long in {row["job_id"] for row in everything["other"]}
