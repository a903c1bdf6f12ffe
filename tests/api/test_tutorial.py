"""The tutorial of pyFirecREST, step by step, in its order and with its names, on both versions.

It is a document: what a step needs, the steps before it have made. Its reader changes one import.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import firecrestfs.api as f7t
from firecrestfs.emulator import Emulator

SIZE = 300_000
CONTENT = hashlib.shake_256(b"tutorial").digest(SIZE)


@pytest.fixture(scope="module", params=["v1", "v2"])
def site(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    settings = {"poll_interval": 0.2, "queue_seconds": 0.1, "status_cache": 0.0}
    root = tmp_path_factory.mktemp("site")
    with Emulator(root, api=request.param, settings=settings) as emulator:
        yield emulator
        assert emulator.alarms == []


class MyAuthorizationClass:
    """Anything that has `get_access_token` will do."""

    def __init__(self, source: f7t.ClientCredentialsAuth) -> None:
        self._source = source

    def get_access_token(self) -> str:
        return self._source.get_access_token()


@pytest.fixture(scope="module")
def here(site: Emulator, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What the steps share: the client, and a directory of files on either side."""
    auth = f7t.ClientCredentialsAuth(
        site.client_id, site.client_secret, site.token_url, min_token_validity=20
    )
    client = f7t.Firecrest(firecrest_url=site.url, authorization=MyAuthorizationClass(auth))
    system = site.systems[0]
    far = Path(system["local_home"])
    (far / "test_directory").mkdir()
    (far / "test_file.txt").write_text("some text\n")
    (far / ".hidden").write_text("")
    return SimpleNamespace(
        client=client,
        machine=system["name"],
        home=system["home"],
        far=far,
        near=tmp_path_factory.mktemp("near"),
    )


def wait_until(what: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it didn't happen in time"
        time.sleep(0.1)


# -- simple requests --------------------------------------------------------------------------


def test_01_all_systems(here: SimpleNamespace) -> None:
    systems = here.client.all_systems()
    shown = {key: systems[0][key] for key in ("description", "status", "system")}
    assert shown == {
        "description": "System ready",
        "status": "available",
        "system": here.machine,
    }


def test_02_list_files(here: SimpleNamespace) -> None:
    files = {entry["name"]: entry for entry in here.client.list_files(here.machine, here.home)}
    assert ".hidden" not in files
    found = files["test_file.txt"]
    assert set(found) == {
        *("group", "last_modified", "link_target", "name"),
        *("permissions", "size", "type", "user"),
    }
    assert (found["type"], found["size"], found["permissions"]) == ("-", "10", "rw-r--r--")
    assert found["link_target"] == ""
    time.strptime(found["last_modified"], "%Y-%m-%dT%H:%M:%S")
    assert files["test_directory"]["type"] == "d"
    every = here.client.list_files(here.machine, here.home, show_hidden=True)
    assert ".hidden" in {entry["name"] for entry in every}


# -- the scheduler ----------------------------------------------------------------------------


def test_03_submit_a_local_script(here: SimpleNamespace) -> None:
    script = here.near / "script.sh"
    script.write_text("#!/bin/bash\necho hello\n")
    job = here.client.submit(here.machine, script_local_path=str(script))
    fields = {"job_data_err", "job_data_out", "job_file", "job_file_err", "job_file_out"}
    assert fields | {"jobid", "result"} <= set(job)
    assert job["result"] == "Job submitted"
    wait_until(lambda: here.client.poll(here.machine, [job["jobid"]])[0]["state"] == "COMPLETED")
    assert here.client.view(here.machine, job["job_file_out"]) == "hello\n"


def test_04_submit_a_remote_script(here: SimpleNamespace) -> None:
    (here.far / "remote.sh").write_text("#!/bin/bash\necho here: $PWD\n")
    path = f"{here.home}/remote.sh"
    for how in ({"script_remote_path": path}, {"job_script": path, "local_file": False}):
        job = here.client.submit(here.machine, **how)
        assert job["job_file"] == path
        done = lambda job=job: here.client.poll(here.machine, [job["jobid"]])  # noqa: E731
        wait_until(lambda done=done: done()[0]["state"] == "COMPLETED")  # type: ignore[misc]
        assert job["job_file_out"].startswith(here.home + "/")


def test_05_poll_and_cancel(here: SimpleNamespace) -> None:
    job = here.client.submit(here.machine, script_str="#!/bin/bash\nsleep 60\n")
    wait_until(lambda: bool(here.client.poll_active(here.machine, [job["jobid"]])))
    (active,) = here.client.poll_active(here.machine, [job["jobid"]])
    assert active["jobid"] == job["jobid"]
    assert "Terminating" in here.client.cancel(here.machine, job["jobid"])
    state = lambda: here.client.poll(here.machine, jobs=[job["jobid"]])[0]["state"]  # noqa: E731
    wait_until(lambda: state().startswith("CANCELLED"))


# -- large files: download --------------------------------------------------------------------


def test_06_external_download(here: SimpleNamespace) -> None:
    (here.far / "large").write_bytes(CONTENT)
    # This call only starts the transfer of the file to the staging area.
    down_obj = here.client.external_download(here.machine, f"{here.home}/large")
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


def test_07_as_many_times_as_wanted(here: SimpleNamespace) -> None:
    stream, told = io.BytesIO(), []
    here.down.finish_download(stream, progress=lambda done, total: told.append((done, total)))
    assert stream.getvalue() == CONTENT
    assert told[-1] == (SIZE, SIZE)
    here.down.finish_download(str(here.near / "again"))
    assert (here.near / "again").read_bytes() == CONTENT


def test_08_the_link(here: SimpleNamespace) -> None:
    data = here.down.object_storage_data
    assert set(data) == {"source", "system_name", "url"}
    assert data["url"] == here.down.object_storage_link
    curl = subprocess.run(["curl", "-fsS", data["url"]], capture_output=True, check=True)
    assert curl.stdout == CONTENT


def test_09_invalidate_the_link(here: SimpleNamespace) -> None:
    here.down.invalidate_object_storage_link()
    assert not here.down.in_progress
    with pytest.raises(f7t.FirecrestException, match="invalidated"):
        here.down.finish_download(here.near / "too_late")
    assert not (here.near / "too_late").exists()


def test_10_an_empty_file(here: SimpleNamespace) -> None:
    (here.far / "empty").write_bytes(b"")
    here.client.external_download(here.machine, f"{here.home}/empty").finish_download(
        here.near / "empty"
    )
    assert (here.near / "empty").read_bytes() == b""
    up_obj = here.client.external_upload(here.machine, here.near / "empty", f"{here.home}/empty2")
    up_obj.finish_upload()
    up_obj.wait(timeout=20)
    assert (here.far / "empty2").read_bytes() == b""


# -- large files: upload ----------------------------------------------------------------------


@pytest.mark.parametrize("target", ["directory", "file"])
def test_11_external_upload(here: SimpleNamespace, target: str) -> None:
    source = here.near / f"for_{target}"
    source.write_bytes(CONTENT)
    path = here.far / "test_directory" / (source.name if target == "directory" else "renamed")
    remote = f"{here.home}/test_directory" + ("" if target == "directory" else "/renamed")
    up_obj = here.client.external_upload(here.machine, str(source), remote)
    wait_until(lambda: up_obj.status == "111")
    told: list[tuple[int, int]] = []
    up_obj.finish_upload(progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (SIZE, SIZE)
    seen = {up_obj.status}
    while up_obj.in_progress:
        seen.add(up_obj.status)
        time.sleep(0.1)
    assert seen <= {"111", "112", "113", "114"}
    assert up_obj.status == "114"
    assert path.read_bytes() == CONTENT


def test_12_upload_by_hand(here: SimpleNamespace) -> None:
    source = here.near / "by_hand"
    source.write_bytes(CONTENT)
    up_obj = here.client.external_upload(here.machine, str(source), f"{here.home}/by_hand")
    data = up_obj.object_storage_data
    assert data["parameters"]["url"].startswith("http")
    assert data["parameters"]["files"] == str(source)
    subprocess.run(data["command"], shell=True, check=True, capture_output=True)
    up_obj.wait(timeout=20)
    assert (here.far / "by_hand").read_bytes() == CONTENT


def test_13_upload_over_a_file_and_from_a_stream(here: SimpleNamespace) -> None:
    (here.far / "old").write_bytes(b"old" * SIZE)
    up_obj = here.client.external_upload(here.machine, io.BytesIO(CONTENT), f"{here.home}/old")
    up_obj.finish_upload(timeout=20)
    up_obj.wait(timeout=20)
    assert (here.far / "old").read_bytes() == CONTENT


# -- logging, errors --------------------------------------------------------------------------


def test_14_logging(here: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.INFO, "firecrestfs")
    down_obj = here.client.external_download(here.machine, f"{here.home}/large")
    down_obj.finish_download(io.BytesIO())
    lines = [record for record in caplog.records if record.name.startswith("firecrestfs")]
    assert any(line.levelno == logging.INFO for line in lines)
    token = here.client.session.tokens.get_access_token()
    text = "\n".join(record.getMessage() for record in caplog.records)
    assert "object store" in text
    assert token not in text
    assert "Signature=" not in text
    assert "X-Amz-Credential=" not in text


def test_15_errors(here: SimpleNamespace) -> None:
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


def test_16_parameters(here: SimpleNamespace) -> None:
    rows = {row["name"]: row for row in here.client.parameters()["utilities"]}
    assert rows["UTILITIES_MAX_FILE_SIZE"]["unit"] == "MB"


def test_17_what_the_transfers_leave(here: SimpleNamespace) -> None:
    left = [path.name for path in here.far.rglob(".f7t_*")]
    left += [path.name for path in here.far.parent.parent.rglob(".f7t_file_handling*")]
    assert left == []
