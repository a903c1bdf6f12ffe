"""Finding the job of a request whose answer got lost; what is told of jobs in several records."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator

from ..harness import wait_for
from .script import ScriptedServer, reply
from .test_typed import scripted

S = "cluster"
SCRIPT = "#!/bin/bash\nsleep 2"


@pytest.fixture(scope="module", params=["v2", "v1"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def mark() -> str:
    return uuid.uuid4().hex


def lose(emu: Emulator) -> None:
    emu.faults.add("lost_answer", "jobs/submit" if emu.api == "v2" else "compute/jobs/path")


def find(typed: TypedClient, path: str, mark: str, **how: object) -> str | None:
    told = {"name": "x", "directory": path, "since": time.time() - 1}
    return typed.find_submission(S, mark, **told | how)  # type: ignore[arg-type]


def test_a_lost_job_is_found_by_its_mark(
    typed: TypedClient, emu: Emulator, home: tuple[str, Path], mark: str
) -> None:
    path, local = home
    first = typed.submit(S, script=SCRIPT, working_directory=path, name="x", marker="fedcba98")
    assert find(typed, path, mark) is None
    lose(emu)
    with pytest.raises(OSError):
        typed.submit(S, script=SCRIPT, working_directory=path, name="x", marker=mark)
    last = typed.submit(S, script=SCRIPT, working_directory=path, name="x", marker="00112233")
    assert wait_for(lambda: find(typed, path, mark) is not None, 10)
    found = find(typed, path, mark)
    assert found not in (None, first, last)
    # Whatever the clocks and the numbers of jobs say, but not among the jobs of others, nor under
    # another name.
    assert find(typed, path, mark, after=10**9, since=time.time() + 86400) == found
    assert find(typed, path, mark, others={found}) is None
    assert find(typed, path, mark, name="y") is None
    typed.forget_submission(S, path, mark)
    assert [name for name in local.iterdir() if ".fcfs" in name.name] == []
    for job_id in (first, found, last):
        typed.cancel(S, str(job_id))


def test_a_script_of_the_cluster_is_found_by_name_and_directory(
    typed: TypedClient, home: tuple[str, Path], mark: str
) -> None:
    path, local = home
    (local / "x").write_text(SCRIPT)
    job_id = typed.submit(S, script_path=f"{path}/x", working_directory=path, marker=mark)
    assert wait_for(lambda: find(typed, path, mark, in_place=True) == job_id, 10)
    assert find(typed, path, mark, in_place=True, after=int(job_id)) is None
    assert find(typed, path + "/other", mark, in_place=True, after=int(job_id) - 1) is None
    typed.cancel(S, job_id)


def test_a_mark_changes_nothing_of_what_runs(
    typed: TypedClient, emu: Emulator, home: tuple[str, Path], mark: str
) -> None:
    path, local = home
    script = "#!/bin/bash\necho $LINENO\nfalse"
    line = "2\n" if emu.api == "v2" else "3\n"  # v1 writes the name into the script
    job_id = typed.submit(S, script=script, working_directory=path, name="x", marker=mark)
    assert wait_for(lambda: typed.job(S, job_id).ended, 10)
    job = typed.job(S, job_id)
    assert (job.state, job.exit_code, job.name) == ("FAILED", 1, "x")
    assert (local / f"slurm-{job_id}.out").read_text() == line


def test_all_tasks_of_an_array(typed: TypedClient, home: tuple[str, Path]) -> None:
    script = "#!/bin/bash\n#SBATCH --array=0-2\ntrue\n"
    job_id = typed.submit(S, script=script, working_directory=home[0])
    assert len(typed.job_tasks(S, job_id)) == 3
    told = typed.job_metadata(S, job_id)["standardOutput"]
    assert told == f"{home[0]}/slurm-{job_id}_0.out"


def record(job_id: str, state: str) -> dict[str, object]:
    return {"jobId": job_id, "name": "x", "status": {"state": state}}


@pytest.mark.parametrize("order", [1, -1])
def test_a_requeued_job_has_not_ended(server: ScriptedServer, order: int) -> None:
    runs = [record("7", "NODE_FAIL"), record("7", "PENDING")][::order]
    rows = [*runs, record("8", "FAILED"), record("8", "COMPLETED")]
    server.play(reply(200, {"jobs": rows}, {"F7T-AppVersion": "2.x.x"}))
    found = {job.job_id: job.state for job in scripted(server).jobs(S)}
    assert found == {"7": "PENDING", "8": "COMPLETED"}
