"""API v2's transfers: batch jobs that move, copy, stage, and don't tell the truth about it."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator, SystemSpec

from .conftest import Client, wait_for

S3 = {"transferMethod": "s3"}


class Transfers:
    """A client's part of the transfers of one system."""

    def __init__(self, client: Client, home: Path, system: str = "cluster") -> None:
        self.client = client
        self.home = home
        self.base = f"/filesystem/{system}/transfer"

    def ask(self, name: str, **body: Any) -> requests.Response:
        method = "DELETE" if name == "rm" else "POST"
        options = {"params": body} if name == "rm" else {"json": body}
        return self.client.call(method, f"{self.base}/{name}", **options)

    def start(self, name: str, **body: Any) -> dict[str, Any]:
        response = self.ask(name, **body)
        assert response.ok, response.text
        return dict(response.json())

    def finish(self, started: dict[str, Any]) -> tuple[str, str, str]:
        """Wait for a job; return its state, output and errors without the dates."""
        job = started["transferJob"]
        done = self.client.wait(job["jobId"])
        logs = [self._log(job["logs"][name]) for name in ("outputLog", "errorLog")]
        return done["status"]["state"], logs[0], logs[1]

    def _log(self, path: str) -> str:
        return str(self.client.get("view", path).json()["output"])

    def run(self, name: str, **body: Any) -> tuple[str, str, str]:
        return self.finish(self.start(name, **body))

    def ticket(self, path: str, size: int) -> dict[str, Any]:
        return self.start("upload", sourcePath=path, transferDirectives={**S3, "fileSize": size})

    def send(self, ticket: dict[str, Any], data: bytes) -> requests.Response:
        """Send the parts, complete the upload; return the last answer."""
        directives = ticket["transferDirectives"]
        largest, rows = directives["maxPartSize"], ""
        for number, url in enumerate(directives["partsUploadUrls"], 1):
            part = data[(number - 1) * largest : number * largest]
            tag = requests.put(url, data=part, timeout=20).headers["ETag"]
            rows += f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>"
        return requests.post(directives["completeUploadUrl"], data=body, timeout=20)


@pytest.fixture
def transfers(emulator: Emulator, client: Client) -> Transfers:
    emulator.knobs.put("poll_interval", 0.1)
    return Transfers(client, emulator.cluster.local("/scratch/demo"))


@pytest.mark.parametrize(
    ("name", "body", "word"),
    [
        ("mv", {"sourcePath": "/home/demo/nope", "targetPath": "/home/demo/x"}, "move"),
        ("cp", {"sourcePath": "/home/demo/nope", "targetPath": "/home/demo/x"}, "copy"),
        ("rm", {"path": "/home/demo/nope"}, "delete"),
        ("compress", {"sourcePath": "/home/demo/nope", "targetPath": "/home/demo/x"}, "compress"),
        ("extract", {"sourcePath": "/home/demo/nope", "targetPath": "/home/demo"}, "extract"),
    ],
)
def test_jobs_that_fail_say_completed(
    name: str, body: dict[str, str], word: str, transfers: Transfers
) -> None:
    state, output, errors = transfers.run(name, **body)
    assert state == "COMPLETED"
    assert "successfully" not in output
    assert f"Unable to {word} files exit code:0 error:" in errors


def test_names_are_escaped_for_html(transfers: Transfers, home: Path) -> None:
    (home / "f").write_text("x")
    state, output, _ = transfers.run(
        "cp", sourcePath="/home/demo/f", targetPath="/home/demo/a&b<c>'d\"e"
    )
    assert "Files were successfully copied." in output
    assert (home / "a&amp;b&lt;c&gt;&#39;d&#34;e").exists()


def test_compress_with_a_pattern_and_another_compression(transfers: Transfers, home: Path) -> None:
    (home / "d").mkdir()
    for name in ("one.txt", "two.dat"):
        (home / "d" / name).write_text(name)
    body = {"sourcePath": "/home/demo/d", "targetPath": "/home/demo/d.tar"}
    _, output, _ = transfers.run(
        "compress", **body, matchPattern="./d/.*txt", compression="none", dereference=True
    )
    assert "Files compressed:\n./d/one.txt\n" in output
    (home / "out").mkdir()
    target = {"sourcePath": "/home/demo/d.tar", "targetPath": "/home/demo/out"}
    transfers.run("extract", **target, compression="none")
    assert [path.name for path in (home / "out" / "d").iterdir()] == ["one.txt"]


def test_a_system_may_want_an_account(emulator: Emulator, transfers: Transfers) -> None:
    emulator.knobs.put("needs_account", True)
    body = {"sourcePath": "/home/demo/a", "targetPath": "/home/demo/b"}
    assert transfers.ask("mv", **body).status_code == 400
    assert transfers.ask("mv", **body, account="nobody").status_code == 500
    state, _, _ = transfers.run("mv", **body, account="staff")
    assert state == "COMPLETED"


def test_an_upload_lands_at_the_next_look(
    emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    emulator.knobs.put("max_part_size", 5 * 1024 * 1024)
    data = bytes(range(256)) * 45056  # 11 MiB: three parts
    (home / "new").write_bytes(b"old")
    inode = (home / "new").stat().st_ino
    held = os.open(home / "new", os.O_RDONLY)  # lest the number is given to the next file
    ticket = transfers.ticket("/home/demo/new", len(data))
    assert len(ticket["transferDirectives"]["partsUploadUrls"]) == 3
    job_id = ticket["transferJob"]["jobId"]
    wait_for(lambda: transfers.client.state(job_id) == "RUNNING")
    assert (home / "new").read_bytes() == b"old"
    assert transfers.send(ticket, data).status_code == 200
    state, output, errors = transfers.finish(ticket)
    assert (state, errors) == ("COMPLETED", "")
    assert "File was successfully downloaded (size: 11.000MB)" in output
    assert (home / "new").read_bytes() == data
    assert (home / "new").stat().st_ino != inode
    os.close(held)
    assert [path.name for path in home.iterdir()] == ["new"]
    assert emulator.requests.count("job/head") >= 1
    assert emulator.requests.count("job/get") == 3


def test_a_growing_target_can_be_seen(emulator: Emulator, transfers: Transfers, home: Path) -> None:
    emulator.knobs.put("max_part_size", 5 * 1024 * 1024)
    emulator.faults.add("stall_body", "job/get", after=1, bytes=1024, seconds=1.5)
    size = 6 * 1024 * 1024
    ticket = transfers.ticket("/home/demo/big", size)
    transfers.send(ticket, b"x" * size)
    wait_for(lambda: (home / "big.2").exists() and (home / "big.2").stat().st_size > 0)
    assert (home / "big").stat().st_size == 5 * 1024 * 1024
    transfers.finish(ticket)
    assert (home / "big").stat().st_size == size


def test_an_upload_that_outgrows_the_quota_says_all_is_well(
    emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    emulator.knobs.put("quota", 100000)
    ticket = transfers.ticket("/home/demo/f", 200000)
    transfers.send(ticket, b"x" * 200000)
    state, output, errors = transfers.finish(ticket)
    assert (state, "successfully" in output) == ("COMPLETED", True)
    assert (home / "f").stat().st_size <= 100000


def test_an_upload_into_a_missing_directory_says_all_is_well(transfers: Transfers) -> None:
    ticket = transfers.ticket("/home/demo/no/such/f", 4)
    transfers.send(ticket, b"data")
    state, output, errors = transfers.finish(ticket)
    assert (state, "successfully" in output) == ("COMPLETED", True)
    assert "No such file or directory" in errors


def test_a_part_that_cannot_be_fetched_ends_the_job(
    emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    emulator.faults.add("status", "job/get", status=500, body="<Error/>")
    ticket = transfers.ticket("/home/demo/f", 4)
    transfers.send(ticket, b"data")
    state, _, errors = transfers.finish(ticket)
    assert (state, "Download failed: part 1" in errors) == ("FAILED", True)
    assert (home / "f.1").read_text() == "<Error/>"


def test_a_download_is_staged_by_a_job(
    emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    emulator.knobs.put("max_part_size", 10 * 1024 * 1024)
    data = bytes(range(256)) * 90000  # 22 MiB: three parts
    (home / "f").write_bytes(data)
    ticket = transfers.start("download", sourcePath="/home/demo/f", transferDirectives=S3)
    state, output, errors = transfers.finish(ticket)
    assert (state, errors) == ("COMPLETED", "")
    assert "Multipart file upload successfully completed" in output
    url = ticket["transferDirectives"]["downloadUrl"]
    assert requests.get(url, timeout=20).content == data
    assert emulator.requests.count("job/part") == 3
    assert list((transfers.home / "tmp").iterdir()) == []


def test_a_part_that_cannot_be_sent_is_tried_twice_and_then_left_out(
    emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    emulator.knobs.put("max_part_size", 6 * 1024 * 1024)
    (home / "f").write_bytes(b"x" * 11 * 1024 * 1024)
    body = {"sourcePath": "/home/demo/f", "transferDirectives": S3}
    emulator.faults.add("status", "job/part", status=500)
    state, _, errors = transfers.finish(transfers.start("download", **body))
    assert (state, "error_curl part" in errors) == ("COMPLETED", True)
    emulator.faults.add("drop", "job/part", count=-1, after=1)
    ticket = transfers.start("download", **body)
    state, output, errors = transfers.finish(ticket)
    assert (state, "upload_failed_part_" in errors) == ("COMPLETED", True)
    response = requests.get(ticket["transferDirectives"]["downloadUrl"], timeout=20)
    assert len(response.content) < 11 * 1024 * 1024


def test_completion_that_fails_in_a_job(
    emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    (home / "f").write_bytes(b"data")
    for kind, words in (("status", "error: 503"), ("drop", "Empty reply")):
        emulator.faults.add(kind, "job/complete")
        started = transfers.start("download", sourcePath="/home/demo/f", transferDirectives=S3)
        assert words in transfers.finish(started)[2]
        assert transfers.client.job(started["transferJob"]["jobId"])["status"]["exitCode"] == 70


@pytest.mark.parametrize("name", ["a b", "a&b", "a;b", "$(id)", "a\nb"])
def test_names_that_a_download_would_run_trip_an_alarm(
    name: str, emulator: Emulator, transfers: Transfers, home: Path
) -> None:
    (home / name).write_bytes(b"data")
    path = f"/home/demo/{name}"
    state, _, _ = transfers.run("download", sourcePath=path, transferDirectives=S3)
    assert state == "FAILED"
    assert len(emulator.alarms) == 1


@pytest.mark.parametrize(("name", "alarms"), [("a b", 0), ("a'b", 0), ("$(id)", 1), ("a`b", 1)])
def test_names_that_an_upload_would_run_trip_an_alarm(
    name: str, alarms: int, emulator: Emulator, transfers: Transfers
) -> None:
    transfers.ticket(f"/home/demo/{name}", 4)
    assert len(emulator.alarms) == alarms


@pytest.mark.parametrize(
    ("directives", "messages"),
    [
        (None, ["Input should be a valid dictionary or object to extract fields from"] * 3),
        ({}, ["Field required"] * 4),
        (
            {**S3, "fileSize": 1.5},
            [
                "Input should be <DataTransferType.wormhole: 'wormhole'>",
                "Field required",
                "Input should be a valid integer, unable to parse string as an integer",
                "Input should be <DataTransferType.streamer: 'streamer'>",
            ],
        ),
    ],
)
def test_bad_directives(directives: Any, messages: list[str], transfers: Transfers) -> None:
    response = transfers.ask("upload", sourcePath="/home/demo/x", transferDirectives=directives)
    assert response.status_code == 400
    assert [row["message"] for row in response.json()["data"]["fields"]] == messages


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Client]:
    systems = (SystemSpec("flow", transfer="streamer"), SystemSpec("hole", transfer="wormhole"))
    settings = {"queue_seconds": 0}
    with Emulator(tmp_path / "root", systems=systems, settings=settings) as emulator:
        client = Client(emulator.url, emulator.tokens.issue("demo", 300))
        Path(emulator.systems[0]["local_home"], "here").write_text("x")
        yield client
        client.http.close()


def test_streamer_is_announced(other: Client, tmp_path: Path) -> None:
    flow = Transfers(other, tmp_path, "flow")
    wanted = {"transferMethod": "streamer"}
    there = {"sourcePath": "/home/demo/here", "transferDirectives": wanted}
    missing = {"sourcePath": "/home/demo/nope", "transferDirectives": wanted}
    refused = flow.ask("upload", **there)
    assert (refused.status_code, refused.json()["message"]) == (
        403,
        "Target file '/home/demo/here' already exists.",
    )
    assert flow.ask("download", **missing).status_code == 404
    method = {**there, "transferDirectives": S3}
    assert flow.ask("download", **method).status_code == 400
    for started in (flow.start("upload", **missing), flow.start("download", **there)):
        coordinates = base64.urlsafe_b64decode(started["transferDirectives"]["coordinates"])
        assert set(json.loads(coordinates)) == {"ports", "ips", "secret"}


def test_wormhole_is_announced(other: Client, tmp_path: Path) -> None:
    hole = Transfers(other, tmp_path, "hole")
    body = {"sourcePath": "/home/demo/nope", "transferDirectives": {"transferMethod": "wormhole"}}
    assert "wormholeCode" in hole.start("download", **body)["transferDirectives"]
    assert hole.ask("upload", **body).status_code == 400
    body["transferDirectives"] = {"transferMethod": "wormhole", "wormholeCode": "7-a-b"}
    assert hole.start("upload", **body)["transferDirectives"] == {"transferMethod": "wormhole"}
    systems = other.call("GET", "/status/systems").json()["systems"]
    kinds = [row["dataOperation"]["data_transfer"]["serviceType"] for row in systems]
    assert kinds == ["streamer", "wormhole"]
