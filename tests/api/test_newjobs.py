"""Jobs that have just started: v2's accounting knows them by their first step only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.api import Firecrest, TypedClient
from firecrestfs.api.jobfiles import options_of, whole
from firecrestfs.api.newjobs import NewJobs
from firecrestfs.emulator import Emulator

from ..harness import wait_for

#: As a server with Slurm 22.05 and its accounting told it.
FRESH = {
    "jobId": "15",
    "name": "allocation",
    "status": {"state": "PENDING", "stateReason": "None", "exitCode": 0, "interruptSignal": 0},
    "tasks": [{"id": "15.batch", "name": "batch", "status": {"state": "RUNNING"}}],
    "allocationNodes": 0,
    "group": "root",
    "partition": "",
    "user": "jdoe",
    "workingDirectory": "",
    "priority": 0,
}


@pytest.fixture
def started(emu: Emulator, client: Firecrest, home: tuple[str, Path]) -> Iterator[str]:
    """A job that has just started."""
    emu.knobs.put("half_known", 60)
    told = client.server().submit(
        "cluster",
        {
            "name": "mine",
            "workingDirectory": home[0],
            "partition": "part01",
            "script": "#!/bin/bash\nsleep 30\n",
        },
    )
    job_id = str(told["jobId"])
    assert wait_for(lambda: _state(client, job_id) == "RUNNING", 10)
    yield job_id
    TypedClient(client).cancel("cluster", job_id)


def _state(client: Firecrest, job_id: str) -> str:
    return str(client.server().job("cluster", job_id)[0]["status"]["state"])


def test_the_emulator_tells_as_little(emu: Emulator, started: str, client: Firecrest) -> None:
    other = Firecrest(emu.url, client.session.tokens)
    (raw,) = other.server().job("cluster", started)
    assert set(FRESH) <= set(raw)
    told = {"name": "", "workingDirectory": "", "partition": "", "allocationNodes": 0}
    assert {key: raw[key] for key in told} == told


def test_what_was_submitted_is_known(
    typed: TypedClient, client: Firecrest, started: str, home: tuple[str, Path]
) -> None:
    job = typed.job("cluster", started)
    assert (job.job_id, job.name, job.state) == (started, "mine", "RUNNING")
    assert (job.working_directory, job.partition) == (home[0], "part01")
    assert job.exit_code is None
    assert not job.ended
    (row,) = client.poll("cluster", [started])
    assert (row["name"], row["state"], row["partition"]) == ("mine", "RUNNING", "part01")
    assert client.poll_active("cluster", [started])[0]["name"] == "mine"


def test_when_accounting_knows_more_that_counts(
    emu: Emulator, typed: TypedClient, started: str
) -> None:
    emu.knobs.put("half_known", 0)
    assert typed.job("cluster", started).name == "mine"
    typed.cancel("cluster", started)
    assert wait_for(lambda: typed.job("cluster", started).state == "CANCELLED", 10)


def test_a_job_of_somebody_elses_program_has_no_name_yet() -> None:
    found = NewJobs().completed("cluster", FRESH)
    assert (found["name"], found["workingDirectory"], found["group"]) == ("", "", "")
    assert found["status"]["state"] == "RUNNING"
    assert found["status"]["exitCode"] is None


def test_a_job_that_has_ended_before_its_record_came() -> None:
    status = {"state": "COMPLETED", "stateReason": "None", "exitCode": 0}
    found = NewJobs().completed("cluster", {**FRESH, "status": status})
    assert (found["name"], found["status"]) == ("", status)


def test_a_job_that_is_really_called_so() -> None:
    raw = {**FRESH, "partition": "part01", "workingDirectory": "/scratch/jdoe"}
    assert NewJobs().completed("cluster", raw) == raw


def test_a_script_on_the_cluster_gives_its_name() -> None:
    jobs = NewJobs()
    jobs.remember("Cluster", "15", {"scriptPath": "/scratch/jdoe/run.sh"})
    assert jobs.completed("cluster", FRESH)["name"] == "run.sh"


def test_submissions_are_not_remembered_for_ever() -> None:
    jobs = NewJobs()
    for number in range(3000):
        jobs.remember("cluster", str(number), {"name": "job"})
    assert len(jobs._known) == 1000
    assert jobs.completed("cluster", {**FRESH, "jobId": "2999"})["name"] == "job"
    assert jobs.completed("cluster", {**FRESH, "jobId": "0"})["name"] == ""


# -- where jobs write -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("directives", "output", "error"),
    [
        ("", "/d r/slurm-7.out", "/d r/slurm-7.out"),
        ("#SBATCH -o out", "/d r/out", "/d r/out"),
        ("#SBATCH -oout -e=err", "/d r/out", "/d r/=err"),
        ("#SBATCH --output=/x/%j.o --error '/y z'  # why", "/x/7.o", "/y z"),
        ("#SBATCH --array=1-3", "Not available", "Not available"),
        ("#SBATCH -a 1-3 -o o", "/d r/o", "/d r/o"),
        ("#SBATCH -o %x", "Not available", "Not available"),
        ("#SBATCH -o 'unbalanced", "/d r/slurm-7.out", "/d r/slurm-7.out"),
        ("true\n#SBATCH -o late", "/d r/slurm-7.out", "/d r/slurm-7.out"),
    ],
)
def test_where_a_job_writes(directives: str, output: str, error: str) -> None:
    options = options_of(f"#!/bin/sh\n{directives}\necho\n")
    told = [path.split(" ")[0] if path != "Not available" else "/d" for path in (output, error)]
    assert whole((told[0], told[1]), "/d r", "7", options) == (output, error)


def test_the_submissions_options_count_first() -> None:
    jobs = NewJobs()
    job = {"workingDirectory": "/d r/", "standardOutput": "%x %j", "name": "mine"}
    jobs.remember("cluster", "7", job)
    raw = {
        "jobId": "7",
        "script": "#!/bin/sh\n#SBATCH -o other -e 'e r'\n",
        "standardOutput": "/d",
        "standardError": "/d",
    }
    found = jobs.with_whole_paths("cluster", raw)
    assert (found["standardOutput"], found["standardError"]) == ("/d r/mine 7", "/d r/e r")
    assert jobs.with_whole_paths("cluster", {**raw, "jobId": "8"}) == {**raw, "jobId": "8"}
