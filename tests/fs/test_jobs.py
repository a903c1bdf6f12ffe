"""`.jobs`: a script that is dropped is submitted once, whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver

SCRIPT = b"#!/bin/bash\n#SBATCH --time=00:01:00\necho ran > out.txt\n"


def submitted(server: Server) -> int:
    return server.requests().count("jobs/submit")


def test_a_script_is_submitted_once(fs: Driver, there: Path, server: Server) -> None:
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert submitted(server) == 1
    assert fs.read_file(".jobs/run.sh.jobid").decode().strip().isdigit()
    assert fs.read_file(".jobs/run.sh") == SCRIPT
    assert "run.sh.jobid" in fs.listdir(".jobs")
    assert fs.getxattr(".jobs/run.sh", "user.firecrest.jobid").isdigit()
    # Reading it, touching it, copying attributes: no second job.
    fs.chmod(".jobs/run.sh", 0o755)
    fs.utime(".jobs/run.sh", 10**18, 10**18)
    fs.close(fs.open(".jobs/run.sh", os.O_RDWR))
    assert submitted(server) == 1


def test_it_runs_in_the_directory_of_its_jobs(fs: Driver, there: Path) -> None:
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert wait_for((there / "out.txt").exists, 20)
    assert wait_for(lambda: (there / "out.txt").read_text() == "ran\n")


def test_its_inputs_have_landed_when_it_is_submitted(fs: Driver, there: Path) -> None:
    fs.write_file("input", b"42\n")
    fs.write_file(".jobs/run.sh", b"#!/bin/bash\ncp input out.txt\n")
    assert (there / "input").read_bytes() == b"42\n"
    assert wait_for(
        lambda: (there / "out.txt").exists() and (there / "out.txt").read_text() == "42\n", 20
    )


def test_the_queue_is_shown(fs: Driver, server: Server) -> None:
    server.set(queue_seconds=3.0)
    fs.write_file(".jobs/waiting-one", b"#!/bin/bash\nsleep 0\n")
    job_id = fs.read_file(".jobs/waiting-one.jobid").decode().strip()
    queue = fs.read_file("/cluster/.jobs/queue").decode()
    assert queue.startswith("JOBID")
    assert any(job_id in line and "waiting-one" in line for line in queue.splitlines())


def test_a_job_that_has_just_started_is_not_shown_as_something_else(
    fs: Driver, there: Path, server: Server
) -> None:
    server.set(queue_seconds=0.0, half_known=60)
    fs.write_file(".jobs/started", b"#!/bin/bash\ntouch ran\n")
    assert wait_for((there / "ran").exists, 10)
    queue = fs.read_file("/cluster/.jobs/queue").decode()
    assert queue.startswith("JOBID")
    assert "allocation" not in queue


def test_what_is_no_script_is_refused(fs: Driver, server: Server) -> None:
    with pytest.raises(OSError) as refusal:
        fs.write_file(".jobs/data", b"this is not a script")
    assert refusal.value.errno == errno.EINVAL
    assert "#!" in fs.read_file(".jobs/data.error").decode()
    assert not fs.exists(".jobs/data.jobid")
    assert submitted(server) == 0


def test_a_refusal_by_the_scheduler_is_told(fs: Driver, there: Path, server: Server) -> None:
    body = {"errorType": "error", "message": "sbatch: error: invalid partition specified: nope"}
    server.faults([{"kind": "status", "match": "jobs/submit", "status": 500, "body": body}])
    with pytest.raises(OSError):
        fs.write_file(".jobs/run.sh", SCRIPT)
    assert "invalid partition" in fs.read_file(".jobs/run.sh.error").decode()


def test_a_script_under_a_temporary_name_waits_for_its_final_one(
    fs: Driver, server: Server
) -> None:
    fs.write_file(".jobs/.run.sh.swp", SCRIPT)
    fs.write_file(".jobs/run.sh.tmp", SCRIPT)
    assert submitted(server) == 0
    fs.rename(".jobs/run.sh.tmp", ".jobs/run.sh")
    assert submitted(server) == 1


def test_removing_a_script_forgets_it(fs: Driver, server: Server) -> None:
    fs.write_file(".jobs/run.sh", SCRIPT)
    fs.unlink(".jobs/run.sh")
    assert not fs.exists(".jobs/run.sh")
    assert not fs.exists(".jobs/run.sh.jobid")
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert submitted(server) == 2


def test_jobs_of_a_directory_that_is_not_there(fs: Driver) -> None:
    assert not fs.exists("none/.jobs")
    with pytest.raises(FileNotFoundError):
        fs.write_file("none/.jobs/run.sh", SCRIPT)


def test_looking_at_jobs_costs_no_submission(fs: Driver, server: Server) -> None:
    assert fs.listdir("/cluster/.jobs")[0] == "queue"
    assert fs.stat("/cluster/.jobs/queue").st_size > 0
    assert "jobs/submit" not in server.requests()
