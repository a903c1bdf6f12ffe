"""Jobs that have just started: v2's accounting knows them by their first step only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.api import Firecrest, TypedClient
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
    listed = {job.job_id: job for job in typed.jobs("cluster")}
    for job in (typed.job("cluster", started), listed[started]):
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


def test_a_job_that_is_really_called_so() -> None:
    raw = {**FRESH, "workingDirectory": "/scratch/jdoe"}
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
