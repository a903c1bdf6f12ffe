"""Batch jobs: real processes that see the cluster's paths, in the states that Slurm shows."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator, Population, populate

from .conftest import Client, wait_for


def output(home: Path, job_id: str) -> str:
    return (home / f"slurm-{job_id}.out").read_text()


def test_jobs_run_here(emulator: Emulator) -> None:
    assert emulator.notes == []


def test_a_script_sees_the_clusters_paths_as_its_user(client: Client, home: Path) -> None:
    (home / "in.txt").write_text("input\n")
    (home / "closed").mkdir(mode=0)
    job = client.submit(
        'cat /home/demo/in.txt; echo "$HOME $SCRATCH $PWD $SLURM_JOB_ID"; id -un; date +%Z;'
        "ls closed; echo out > $SCRATCH/made; hostname; umask"
    )
    assert client.wait(job)["status"]["state"] == "COMPLETED"
    lines = output(home, job).splitlines()
    assert lines[:2] == ["input", f"/home/demo /scratch/demo /home/demo {job}"]
    assert lines[2] == "demo"
    assert lines[3] in ("CET", "CEST")
    assert lines[4] == "ls: cannot open directory 'closed': Permission denied"
    assert lines[5:] == ["nid001", "0022"]
    assert client.get("view", "/scratch/demo/made").json()["output"] == "out\n"
    entry = client.get("ls", f"/home/demo/slurm-{job}.out").json()["output"][0]
    assert entry["user"] == "demo"


def test_a_job_cannot_change_the_host(client: Client, home: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("safe")
    job = client.submit(f"touch /etc/x /usr/x /home/x; rm -rf {tmp_path}/*; echo $?")
    client.wait(job)
    assert "Read-only file system" in output(home, job)
    assert victim.read_text() == "safe"
    assert not Path("/etc/x").exists()


def test_directives_name_outputs_and_job(client: Client, home: Path) -> None:
    script = "#SBATCH -J sim --output=%x-%j.log\n#SBATCH -e err.txt\necho out; echo err >&2"
    job = client.submit(script)
    done = client.wait(job)
    assert done["name"] == "sim"
    assert (home / f"sim-{job}.log").read_text() == "out\n"
    assert (home / "err.txt").read_text() == "err\n"
    rows = client.call("GET", f"/compute/cluster/jobs/{job}/metadata").json()["jobs"]
    assert rows[0]["standardOutput"] == f"/home/demo/sim-{job}.log"
    assert rows[0]["standardError"] == "/home/demo/err.txt"


def test_exit_codes_and_signals(client: Client) -> None:
    status = client.wait(client.submit("exit 7"))["status"]
    assert (status["state"], status["exitCode"], status["interruptSignal"]) == ("FAILED", 7, 0)
    status = client.wait(client.submit("kill -9 $$"))["status"]
    assert (status["state"], status["exitCode"], status["interruptSignal"]) == ("FAILED", 0, 9)


def test_cancel_ends_all_processes_gently_then_not(
    emulator: Emulator, client: Client, home: Path
) -> None:
    emulator.knobs.put("kill_seconds", 0.5)
    polite = client.submit("trap 'echo bye; exit' TERM; echo ready; sleep 60 & wait")
    stubborn = client.submit("trap '' TERM; echo ready; while true; do sleep 0.1; done")
    for job in (polite, stubborn):
        wait_for(lambda job=job: (home / f"slurm-{job}.out").exists() and output(home, job) != "")
        assert client.call("DELETE", f"/compute/cluster/jobs/{job}").status_code == 204
    for job in (polite, stubborn):
        assert client.wait(job)["status"]["state"] == "CANCELLED by 1000"
        assert f"*** JOB {job} ON nid001 CANCELLED AT" in output(home, job)
    assert "bye" in output(home, polite)


def test_time_limit(client: Client, home: Path) -> None:
    job = client.submit("#SBATCH --time=0:01\nsleep 30")
    assert client.wait(job)["status"]["state"] == "TIMEOUT"
    assert "DUE TO TIME LIMIT" in output(home, job)


def test_jobs_wait_for_a_slot(emulator: Emulator, client: Client) -> None:
    emulator.knobs.put("slots", 1)
    first, second = client.submit("sleep 0.5"), client.submit("true")
    wait_for(lambda: client.state(first) == "RUNNING")
    assert client.state(second) == "PENDING"
    assert client.job(second)["nodes"] == ""
    assert client.wait(second)["status"]["state"] == "COMPLETED"


def test_pending_phase_and_accounting_delay(emulator: Emulator, client: Client) -> None:
    emulator.knobs.put("queue_seconds", 0.6)
    emulator.knobs.put("accounting_delay", 0.3)
    job = client.submit("true")
    assert client.call("GET", f"/compute/cluster/jobs/{job}").status_code == 404
    time.sleep(0.35)
    assert client.state(job) == "PENDING"
    assert client.wait(job)["status"]["state"] == "COMPLETED"


def test_an_array_shows_as_several_jobs(client: Client, home: Path) -> None:
    job = client.submit("#SBATCH --array=2-4\necho task $SLURM_ARRAY_TASK_ID")
    client.wait(job)
    wait_for(lambda: len(list(home.glob(f"slurm-{job}_*.out"))) == 3)
    rows = client.call("GET", f"/compute/cluster/jobs/{job}").json()["jobs"]
    assert len(rows) == 3
    wait_for(lambda: (home / f"slurm-{job}_3.out").read_text() == "task 3\n")


def test_many_jobs(emulator: Emulator, client: Client) -> None:
    jobs = [client.submit("true") for _ in range(30)]
    assert {client.wait(job)["status"]["state"] for job in jobs} == {"COMPLETED"}


def test_attach_runs_beside_a_running_job(client: Client, home: Path) -> None:
    job = client.submit("sleep 60")
    wait_for(lambda: client.state(job) == "RUNNING")
    path = f"/compute/cluster/jobs/{job}/attach"
    assert client.call("PUT", path, json={"command": "echo x > $HOME/beside"}).status_code == 204
    assert (home / "beside").read_text() == "x\n"
    assert client.call("PUT", path, json={"command": "exit 3"}).status_code == 500
    assert client.call("PUT", path, json={"command": "sleep 9"}).status_code == 408
    assert client.state(job) == "RUNNING"


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"partition": "nope"}, "invalid partition specified: nope"),
        ({"account": "nope"}, "Invalid account or account/partition"),
        ({"scriptPath": "/home/demo/nope"}, "Unable to open file /home/demo/nope"),
    ],
)
def test_refused_submissions(job: dict[str, str], words: str, client: Client) -> None:
    body = {"workingDirectory": "/home/demo", "script": "#!/bin/sh\n", **job}
    response = client.call("POST", "/compute/cluster/jobs", json={"job": body})
    assert response.status_code == 500
    assert words in response.json()["message"]


def test_where_jobs_cannot_run_they_fail_and_say_why(
    emulator: Emulator, client: Client, home: Path
) -> None:
    (emulator.root / ".jobroot").rmdir()
    job = client.submit("true")
    status = client.wait(job)["status"]
    assert (status["state"], status["exitCode"]) == ("FAILED", 1)
    assert "jobs can't run on this machine: mount" in output(home, job)
    assert "jobs can't run" in emulator.cluster.job_obstacle()


def test_values_of_env_end_at_a_comma(client: Client, home: Path) -> None:
    job = client.submit("echo $A-$B", env={"A": "1,2", "B": "x y"})
    client.wait(job)
    assert output(home, job) == "1-x y\n"


def test_populated_cluster_has_history_and_life(emulator: Emulator, client: Client) -> None:
    log = populate(emulator.cluster)
    jobs = client.call("GET", "/compute/cluster/jobs").json()["jobs"]
    states = {job["name"]: job["status"]["state"] for job in jobs}
    assert states["broken"] == "FAILED"
    wait_for(lambda: client.state(jobs[-1]["jobId"]) == "RUNNING")
    assert {"README.txt", "heat", "scratch"} <= set(client.names("/home/demo"))
    with Population(emulator.cluster):  # a second time changes nothing
        size = log.stat().st_size
        wait_for(lambda: log.stat().st_size > size)
    job = client.submit("", scriptPath="/home/demo/heat/submit.sh")
    wait_for(lambda: client.state(job) == "RUNNING")
