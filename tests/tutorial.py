"""The tutorial of pyFirecREST, step by step, in its order and with its names.

It is a document: what a step needs, the steps before it have made. Its reader changes one import.
`tests/api` follows it on both versions of the emulator, `tests/live` on a real server.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pytest

import firecrestfs.api as f7t

SIZE = 300_000
CONTENT = hashlib.shake_256(b"tutorial").digest(SIZE)


def wait_until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it didn't happen in time"
        time.sleep(0.1)


class MyAuthorizationClass:
    """Anything that has `get_access_token` will do."""

    def __init__(self, source: f7t.ClientCredentialsAuth) -> None:
        self._source = source

    def get_access_token(self) -> str:
        return self._source.get_access_token()


class Far(Protocol):
    """The directory on the cluster, not by way of the client under test where that can be."""

    def put(self, name: str, data: bytes) -> object:
        """Write a file."""

    def get(self, name: str) -> bytes:
        """Read a file."""

    def mkdir(self, name: str) -> None:
        """Make a directory."""

    def logs(self) -> list[str]:
        """List what transfers have left behind."""


@dataclass
class Here:
    """What the steps share: the client, and a directory of files on either side."""

    client: f7t.Firecrest
    machine: str
    home: str
    far: Far
    near: Path
    account: str | None = None
    #: How long the cluster may take for a job or a transfer, in seconds.
    patience: float = 20.0
    #: What the scheduler told of the jobs.
    jobs: list[dict[str, Any]] = field(default_factory=list)
    down: f7t.ExternalDownload = field(init=False)

    def prepare(self) -> None:
        """Make what the first steps find there."""
        self.far.mkdir("test_directory")
        self.far.put("test_file.txt", b"some text\n")
        self.far.put(".hidden", b"x")

    def submit(self, **how: Any) -> dict[str, Any]:
        job = self.client.submit(self.machine, account=self.account, **how)
        self.jobs.append(job)
        return job

    def download(self, name: str) -> f7t.ExternalDownload:
        return self.client.external_download(
            self.machine, f"{self.home}/{name}", account=self.account
        )

    def upload(self, source: Any, name: str) -> f7t.ExternalUpload:
        return self.client.external_upload(
            self.machine, source, f"{self.home}/{name}", account=self.account
        )

    def until(self, what: Callable[[], bool]) -> None:
        wait_until(what, self.patience)

    def ends(self, job: dict[str, Any], state: str = "COMPLETED") -> None:
        """Wait until accounting, which may not know a job at first, has it in *state*."""

        def found() -> bool:
            rows = self.client.poll(self.machine, [job["jobid"]])
            return bool(rows) and rows[0]["state"].startswith(state)

        self.until(found)


class TutorialSteps:
    """The steps; whoever follows them provides the fixture `here`."""

    # -- simple requests --------------------------------------------------------------------------

    def test_01_all_systems(self, here: Here) -> None:
        systems = here.client.all_systems()
        shown = {key: systems[0][key] for key in ("description", "status", "system")}
        assert shown == {
            "description": "System ready",
            "status": "available",
            "system": here.machine,
        }

    def test_02_list_files(self, here: Here) -> None:
        files = {entry["name"]: entry for entry in here.client.list_files(here.machine, here.home)}
        assert ".hidden" not in files
        found = files["test_file.txt"]
        assert set(found) == {
            *("group", "last_modified", "link_target", "name"),
            *("permissions", "size", "type", "user"),
        }
        assert (found["type"], found["size"]) == ("-", "10")
        # The rest is the cluster's umask.
        assert found["permissions"].startswith("rw-")
        assert found["link_target"] == ""
        time.strptime(found["last_modified"], "%Y-%m-%dT%H:%M:%S")
        assert files["test_directory"]["type"] == "d"
        every = here.client.list_files(here.machine, here.home, show_hidden=True)
        assert ".hidden" in {entry["name"] for entry in every}

    # -- the scheduler ----------------------------------------------------------------------------

    def test_03_submit_a_local_script(self, here: Here) -> None:
        script = here.near / "script.sh"
        script.write_text("#!/bin/bash\necho hello\n")
        job = here.submit(script_local_path=str(script))
        fields = {"job_data_err", "job_data_out", "job_file", "job_file_err", "job_file_out"}
        assert fields | {"jobid", "result"} <= set(job)
        assert job["result"] == "Job submitted"
        here.ends(job)
        here.until(lambda: here.client.view(here.machine, job["job_file_out"]) == "hello\n")

    def test_04_submit_a_remote_script(self, here: Here) -> None:
        here.far.put("remote.sh", b"#!/bin/bash\necho here: $PWD\n")
        path = f"{here.home}/remote.sh"
        for how in ({"script_remote_path": path}, {"job_script": path, "local_file": False}):
            job = here.submit(**how)
            assert job["job_file"] == path
            here.ends(job)
            assert job["job_file_out"].startswith(here.home + "/")

    def test_05_poll_and_cancel(self, here: Here) -> None:
        job = here.submit(script_str="#!/bin/bash\nsleep 60\n")
        here.until(lambda: bool(here.client.poll_active(here.machine, [job["jobid"]])))
        (active,) = here.client.poll_active(here.machine, [job["jobid"]])
        assert active["jobid"] == job["jobid"]
        assert "Terminating" in here.client.cancel(here.machine, job["jobid"])
        here.ends(job, "CANCELLED")

    # -- large files: download --------------------------------------------------------------------

    def test_06_external_download(self, here: Here) -> None:
        here.far.put("large", CONTENT)
        # This call only starts the transfer of the file to the staging area.
        down_obj = here.download("large")
        here.down = down_obj
        assert down_obj.client is here.client
        assert down_obj.task_id
        seen = set()
        while down_obj.in_progress:
            seen.add(down_obj.status)
            time.sleep(0.1)
        assert down_obj.status == "117"
        assert seen <= {"100", "116", "117"}
        down_obj.finish_download(here.near / "my_local_file")
        assert (here.near / "my_local_file").read_bytes() == CONTENT
        assert [path.name for path in here.near.iterdir() if ".part" in path.name] == []

    def test_07_as_many_times_as_wanted(self, here: Here) -> None:
        stream = io.BytesIO()
        told: list[tuple[int, int]] = []
        here.down.finish_download(stream, progress=lambda done, total: told.append((done, total)))
        assert stream.getvalue() == CONTENT
        assert told[-1] == (SIZE, SIZE)
        here.down.finish_download(str(here.near / "again"))
        assert (here.near / "again").read_bytes() == CONTENT

    def test_08_the_link(self, here: Here) -> None:
        data = here.down.object_storage_data
        assert set(data) == {"source", "system_name", "url"}
        assert data["url"] == here.down.object_storage_link
        curl = subprocess.run(["curl", "-fsS", data["url"]], capture_output=True, check=True)
        assert curl.stdout == CONTENT

    def test_09_invalidate_the_link(self, here: Here) -> None:
        here.down.invalidate_object_storage_link()
        assert not here.down.in_progress
        with pytest.raises(f7t.FirecrestException, match="invalidated"):
            here.down.finish_download(here.near / "too_late")
        assert not (here.near / "too_late").exists()

    def test_10_an_empty_file(self, here: Here) -> None:
        here.far.put("empty", b"")
        here.download("empty").finish_download(here.near / "empty", timeout=here.patience)
        assert (here.near / "empty").read_bytes() == b""
        up_obj = here.upload(here.near / "empty", "empty2")
        up_obj.finish_upload()
        up_obj.wait(timeout=here.patience)
        assert here.far.get("empty2") == b""

    # -- large files: upload ----------------------------------------------------------------------

    @pytest.mark.parametrize("target", ["directory", "file"])
    def test_11_external_upload(self, here: Here, target: str) -> None:
        source = here.near / f"for_{target}"
        source.write_bytes(CONTENT)
        name = "test_directory/" + (source.name if target == "directory" else "renamed")
        up_obj = here.upload(str(source), "test_directory" if target == "directory" else name)
        here.until(lambda: up_obj.status == "111")
        told: list[tuple[int, int]] = []
        up_obj.finish_upload(progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (SIZE, SIZE)
        seen = {up_obj.status}
        while up_obj.in_progress:
            seen.add(up_obj.status)
            time.sleep(0.1)
        assert seen <= {"111", "112", "113", "114"}
        assert up_obj.status == "114"
        assert here.far.get(name) == CONTENT

    def test_12_upload_by_hand(self, here: Here) -> None:
        source = here.near / "by_hand"
        source.write_bytes(CONTENT)
        up_obj = here.upload(str(source), "by_hand")
        data = up_obj.object_storage_data
        assert data["parameters"]["url"].startswith("http")
        assert data["parameters"]["files"] == str(source)
        subprocess.run(data["command"], shell=True, check=True, capture_output=True)
        up_obj.wait(timeout=here.patience)
        assert here.far.get("by_hand") == CONTENT

    def test_13_upload_over_a_file_and_from_a_stream(self, here: Here) -> None:
        here.far.put("old", b"old" * SIZE)
        up_obj = here.upload(io.BytesIO(CONTENT), "old")
        up_obj.finish_upload(timeout=here.patience)
        up_obj.wait(timeout=here.patience)
        assert here.far.get("old") == CONTENT

    # -- logging, errors --------------------------------------------------------------------------

    def test_14_logging(self, here: Here, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.INFO, "firecrestfs")
        here.download("large").finish_download(io.BytesIO(), timeout=here.patience)
        lines = [record for record in caplog.records if record.name.startswith("firecrestfs")]
        assert any(line.levelno == logging.INFO for line in lines)
        token = here.client.session.tokens.get_access_token()
        text = "\n".join(record.getMessage() for record in caplog.records)
        assert "object store" in text
        assert token not in text
        assert "Signature=" not in text
        assert "X-Amz-Credential=" not in text

    def test_15_errors(self, here: Here) -> None:
        with pytest.raises(f7t.FirecrestException) as caught:
            here.client.list_files(here.machine, f"{here.home}/nowhere")
        exc = caught.value
        assert isinstance(exc, OSError)
        assert isinstance(exc, f7t.HeaderException)
        assert isinstance(exc, FileNotFoundError)
        answer = exc.responses[-1]
        assert answer.status_code in (400, 404)
        assert answer.json() == json.loads(answer.body)
        assert "authorization" not in {name.lower() for name in answer.headers}
        with pytest.raises(FileNotFoundError):
            here.client.external_upload(here.machine, here.near / "nothing", here.home)

    def test_16_parameters(self, here: Here) -> None:
        rows = {row["name"]: row for row in here.client.parameters()["utilities"]}
        assert rows["UTILITIES_MAX_FILE_SIZE"]["unit"] == "MB"

    def test_17_what_the_transfers_leave(self, here: Here) -> None:
        assert here.far.logs() == []
