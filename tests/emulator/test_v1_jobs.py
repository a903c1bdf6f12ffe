"""Tasks, jobs and internal transfers of API v1, beyond what the recordings hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.emulator import Emulator

from .conftest import V1Client, wait_for

_HOME = "/home/demo"


def submit(client: V1Client, script: str, **form: str) -> dict[str, Any]:
    files = {"file": ("job.sh", f"#!/bin/bash\n{script}\n")}
    return dict(client.result("POST", "/compute/jobs/upload", files=files, data=form))


def account_of(client: V1Client, job_id: str) -> dict[str, str]:
    rows = client.result("GET", "/compute/acct", params={"jobs": job_id})
    return dict(rows[0])


def wait_for_job(client: V1Client, job_id: str) -> dict[str, str]:
    wait_for(
        lambda: account_of(client, job_id)["state"] not in ("PENDING", "RUNNING", "COMPLETING")
    )
    return account_of(client, job_id)


def transfer(client: V1Client, name: str, **form: str) -> dict[str, Any]:
    return dict(client.result("POST", f"/storage/xfer-internal/{name}", data=form))


def test_upload_gets_a_directory_of_its_own(v1_client: V1Client, v1_home: Path) -> None:
    env = json.dumps({"WHO": "me", "N": 3})
    data = submit(v1_client, "echo $WHO $N", env=env)
    folder = next((v1_home / "firecrest").iterdir())
    assert data["job_file"] == f"{_HOME}/firecrest/{folder.name}/job.sh"
    assert wait_for_job(v1_client, data["jobid"])["exit_code"] == "0:0"
    assert (folder / f"slurm-{data['jobid']}.out").read_text() == "me 3\n"


def test_queue_shows_the_ends_of_the_output(v1_client: V1Client) -> None:
    data = submit(v1_client, "printf '%2000s\\n' end; sleep 30")
    job_id = data["jobid"]
    wait_for(lambda: account_of(v1_client, job_id)["state"] == "RUNNING")

    def row() -> dict[str, str]:
        rows = v1_client.result("GET", "/compute/jobs", params={"jobs": job_id})
        return dict(rows["0"])

    wait_for(lambda: row()["job_data_out"] != "")
    assert len(row()["job_data_out"]) == 999
    assert row()["start_time"].startswith("0:")  # the elapsed time: these two are swapped
    assert "T" in row()["time"]
    everybody = v1_client.result("GET", "/compute/jobs", params={"userJobs": "false"})
    assert everybody["0"]["job_file"] == ""
    cancelled = v1_client.result("DELETE", f"/compute/jobs/{job_id}")
    assert cancelled == f"scancel: Terminating job {job_id}"
    assert wait_for_job(v1_client, job_id)["state"].startswith("CANCELLED by ")
    assert v1_client.result("GET", "/compute/jobs", params={"jobs": job_id}) == {}


def test_pages_of_jobs(v1_client: V1Client) -> None:
    ids = [submit(v1_client, "true")["jobid"] for _ in range(3)]
    for job_id in ids:
        wait_for_job(v1_client, job_id)

    def page(**query: str) -> Any:
        return v1_client.result("GET", "/compute/acct", params=query)

    assert [row["jobid"] for row in page(pageSize="2", pageNumber="0")] == ids[:2]
    assert [row["jobid"] for row in page(pageSize="2", pageNumber="1")] == ids[2:]
    assert page(pageSize="2", pageNumber="2") == "pageNumber (2) is greater than total pages (2)"
    assert page(pageNumber="-1") == "pageNumber (-1) cannot be a negative number"
    assert v1_client.result("GET", "/compute/jobs", params={"pageNumber": "1"}) == (
        "pageNumber (1) is greater than total pages (1)"
    )


def test_only_whole_days_limit_accounting(v1_client: V1Client) -> None:
    job_id = submit(v1_client, "true")["jobid"]
    wait_for_job(v1_client, job_id)

    def count(**query: str) -> int:
        return len(v1_client.result("GET", "/compute/acct", params=query))

    assert count(starttime="2999-01-01") == 0
    assert count(starttime="2999-01-01T00:00:00") == 1  # dropped silently
    assert count(endtime="2001-01-01") == 0


def test_one_job_is_never_found(v1_client: V1Client) -> None:
    task = v1_client.begin("GET", "/compute/jobs/1")
    assert v1_client.task(task)["status"] == "100"
    bad = v1_client.call("GET", "/compute/jobs?jobs=2,")
    assert bad.json()["error"] == "Jobs list wrong format"


def test_script_over_the_limit(v1: Emulator, v1_client: V1Client) -> None:
    v1.knobs.put("max_ops_file_size", 1000)
    files = {"file": ("job.sh", "#!/bin/bash\n" + "#" * 1000)}
    response = v1_client.call("POST", "/compute/jobs/upload", files=files)
    words = "Failed to upload batch script. The file is over 0.00095367431640625 MB"
    assert (response.status_code, response.json()["description"]) == (413, words)


def test_path_in_a_header_that_is_not_latin_1(v1_client: V1Client) -> None:
    form = {"targetPath": f"{_HOME}/日本.sh"}
    assert v1_client.call("POST", "/compute/jobs/path", data=form).status_code == 502


def test_tasks_belong_to_their_users(v1: Emulator, v1_client: V1Client) -> None:
    task = v1_client.begin("GET", "/compute/nodes")
    other = V1Client(v1.url, v1.tokens.issue("somebody", 300))
    assert other.call("GET", f"/tasks/{task}").status_code == 403
    assert other.call("GET", f"/tasks?tasks={task}").json() == {"tasks": {}}
    other.http.close()
    assert "task_url" not in v1_client.listed(task)
    assert v1_client.call("GET", "/tasks/x").json() == {"error": "Task x does not exist"}


def test_transfers_end_completed_whatever_happens(v1_client: V1Client, v1_home: Path) -> None:
    (v1_home / "f").write_text("f")
    (v1_home / "d").mkdir()
    data = transfer(v1_client, "cp", sourcePath=f"{_HOME}/f", targetPath=f"{_HOME}/d/with space")
    assert wait_for_job(v1_client, data["jobid"])["state"] == "COMPLETED"
    assert (v1_home / "d/with space").read_text() == "f"
    data = transfer(v1_client, "mv", sourcePath=f"{_HOME}/nope", targetPath=f"{_HOME}/x")
    assert wait_for_job(v1_client, data["jobid"])["state"] == "COMPLETED"
    error = v1_client.get("view", data["job_file_err"]).json()["output"]
    assert error == "mv: cannot stat '/home/demo/nope': No such file or directory\n"


def test_transfer_waits_for_another_job(v1_client: V1Client, v1_home: Path) -> None:
    first = submit(v1_client, "sleep 0.3; echo made > ~/made")["jobid"]
    data = transfer(
        v1_client,
        "mv",
        sourcePath=f"{_HOME}/made",
        targetPath=f"{_HOME}/moved",
        stageOutJobId=first,
        jobName="second",
    )
    assert wait_for_job(v1_client, data["jobid"])["name"] == "second"
    assert (v1_home / "moved").read_text() == "made\n"


@pytest.mark.parametrize(
    ("time", "good"),
    [
        *(("10", True), ("0", False), ("10:30", True), ("10:61", False), ("1:00:00", True)),
        *(("1-12", True), ("1-24", False), ("1-2:30", True), ("1-2:30:15", True), ("", False)),
    ],
)
def test_times_of_transfers(v1_client: V1Client, time: str, good: bool) -> None:
    form = {"targetPath": f"{_HOME}/nope", "time": time}
    response = v1_client.call("POST", "/storage/xfer-internal/rm", data=form)
    assert response.status_code == (201 if good else 400)
    if good:
        v1_client.wait(response.json()["task_id"])
