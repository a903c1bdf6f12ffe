"""The official client for API v1 drives the emulator: nobody here wrote what it sends."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import firecrest
import pytest

from firecrestfs.emulator import Emulator

from .conftest import wait_for

# Its requests leave sockets to the garbage collector; some of its ways are deprecated by itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

_HOME = "/home/demo"


@pytest.fixture
def official(v1: Emulator) -> Iterator[firecrest.v1.Firecrest]:
    auth = firecrest.ClientCredentialsAuth(v1.client_id, v1.client_secret, v1.token_url)
    client = firecrest.v1.Firecrest(v1.url, auth)
    client.polling_sleep_times = [0.02] * 500
    yield client
    client._session.close()
    gc.collect()  # while its warnings are ignored


def _wait_for_job(client: firecrest.v1.Firecrest, job_id: str) -> dict[str, Any]:
    done = ("COMPLETED", "FAILED", "CANCELLED")
    wait_for(lambda: client.poll("cluster", [job_id])[0]["state"].startswith(done))
    return dict(client.poll("cluster", [job_id])[0])


def test_status(official: firecrest.v1.Firecrest) -> None:
    assert {row["service"] for row in official.all_services()} >= {"utilities", "storage"}
    assert official.service("compute")["status"] == "available"
    assert official.all_systems()[0]["system"] == "cluster"
    assert official.system("cluster")["status"] == "available"
    assert official.filesystems()["cluster"][0]["path"] == "/home"
    assert official.filesystems("cluster")["cluster"][1]["path"] == "/scratch"
    assert official.parameters()["general"][0]["value"] == "1.16.6"


def test_files(official: firecrest.v1.Firecrest, tmp_path: Path) -> None:
    official.mkdir("cluster", f"{_HOME}/a/b", p=True)
    source = tmp_path / "source.txt"
    source.write_text("one\ntwo\n")
    official.simple_upload("cluster", str(source), f"{_HOME}/a", "f.txt")
    rows = official.list_files("cluster", f"{_HOME}/a", show_hidden=True)
    assert [row["name"] for row in rows] == ["b", "f.txt"]
    recursive = official.list_files("cluster", _HOME, recursive=True)
    assert "a/f.txt" in [row["name"] for row in recursive if row]
    assert official.stat("cluster", f"{_HOME}/a/f.txt", dereference=True)["size"] == 8
    assert official.file_type("cluster", f"{_HOME}/a/f.txt") == "ASCII text"
    assert len(official.checksum("cluster", f"{_HOME}/a/f.txt")) == 64
    assert official.view("cluster", f"{_HOME}/a/f.txt") == "one\ntwo\n"
    assert official.head("cluster", f"{_HOME}/a/f.txt", lines=1) == "one\n"
    assert official.head("cluster", f"{_HOME}/a/f.txt", lines=1, skip_ending=True) == "one\n"
    assert official.tail("cluster", f"{_HOME}/a/f.txt", bytes=4) == "two\n"
    assert official.tail("cluster", f"{_HOME}/a/f.txt", lines=2, skip_beginning=True) == "two\n"
    target = tmp_path / "target.txt"
    official.simple_download("cluster", f"{_HOME}/a/f.txt", str(target))
    assert target.read_text() == "one\ntwo\n"


def test_names_and_attributes(official: firecrest.v1.Firecrest, v1_home: Path) -> None:
    (v1_home / "f").write_text("content")
    official.copy("cluster", f"{_HOME}/f", f"{_HOME}/g")
    official.mv("cluster", f"{_HOME}/g", f"{_HOME}/h")
    official.symlink("cluster", f"{_HOME}/h", f"{_HOME}/link")
    official.chmod("cluster", f"{_HOME}/h", "600")
    official.chown("cluster", f"{_HOME}/h", owner="demo", group="staff")
    official.simple_delete("cluster", f"{_HOME}/link")
    assert sorted(path.name for path in v1_home.iterdir()) == ["f", "h"]
    official.compress("cluster", f"{_HOME}/h", f"{_HOME}/h.tgz")
    (v1_home / "out").mkdir()
    official.extract("cluster", f"{_HOME}/h.tgz", f"{_HOME}/out")
    assert (v1_home / "out/h").read_text() == "content"
    assert official.whoami() == official.whoami("cluster") == "demo"
    assert official.groups("cluster")["group"] == {"id": "1000", "name": "staff"}


def test_errors(official: firecrest.v1.Firecrest) -> None:
    with pytest.raises(firecrest.HeaderException, match="No such file"):
        official.stat("cluster", f"{_HOME}/nope")
    with pytest.raises(firecrest.HeaderException):
        official.list_files("nosuch", _HOME)
    with pytest.raises(firecrest.FirecrestException, match="has invalid char"):
        official.stat("cluster", f"{_HOME}/it's")


def test_jobs(official: firecrest.v1.Firecrest, v1_home: Path, tmp_path: Path) -> None:
    script = "#!/bin/bash\necho $WHO\n"
    job = official.submit("cluster", script_str=script, env_vars={"WHO": "me"})
    assert job["result"] == "Job submitted"
    assert _wait_for_job(official, job["jobid"])["state"] == "COMPLETED"
    assert official.view("cluster", job["job_file_out"]) == "me\n"
    (v1_home / "long.sh").write_text("#!/bin/bash\nsleep 60\n")
    remote = official.submit("cluster", script_remote_path=f"{_HOME}/long.sh")
    local = tmp_path / "local.sh"
    local.write_text(script)
    official.submit("cluster", script_local_path=str(local))
    active = official.poll_active("cluster", [remote["jobid"]])
    assert active[0]["job_file"] == f"{_HOME}/long.sh"
    assert "Terminating" in official.cancel("cluster", remote["jobid"])
    assert _wait_for_job(official, remote["jobid"])["state"].startswith("CANCELLED")
    with pytest.raises(firecrest.FirecrestException):
        official.submit("cluster", script_str="no interpreter\n")


def test_machines(official: firecrest.v1.Firecrest) -> None:
    assert official.nodes("cluster")[0]["NodeName"] == "nid001"
    assert official.nodes("cluster", ["nid001"])[0]["State"] == ["IDLE"]
    assert [row["PartitionName"] for row in official.partitions("cluster")] == ["part01", "xfer"]
    assert official.partitions("cluster", ["xfer"])[0]["Default"] == "NO"
    assert official.reservations("cluster") == []


def test_internal_transfers(official: firecrest.v1.Firecrest, v1_home: Path) -> None:
    (v1_home / "f").write_text("content")
    (v1_home / "out").mkdir()
    for job in (
        official.submit_copy_job("cluster", f"{_HOME}/f", f"{_HOME}/copy", job_name="mine"),
        official.submit_rsync_job("cluster", f"{_HOME}/f", f"{_HOME}/synced", time="00:05:00"),
        official.submit_compress_job("cluster", f"{_HOME}/f", f"{_HOME}/f.tgz"),
    ):
        assert job["system"] == "cluster"
        assert _wait_for_job(official, job["jobid"])["state"] == "COMPLETED"
    for job in (
        official.submit_move_job("cluster", f"{_HOME}/copy", f"{_HOME}/moved"),
        official.submit_delete_job("cluster", f"{_HOME}/synced"),
        official.submit_extract_job("cluster", f"{_HOME}/f.tgz", f"{_HOME}/out"),
    ):
        _wait_for_job(official, job["jobid"])
    names = {path.name for path in v1_home.iterdir()}
    assert names == {"f", "out", "moved", "f.tgz", "firecrest"}
    assert (v1_home / "out/f").read_text() == "content"


def test_external_download(official: firecrest.v1.Firecrest, v1_home: Path, tmp_path: Path) -> None:
    (v1_home / "big").write_bytes(b"x" * 100_000)
    download = official.external_download("cluster", f"{_HOME}/big")
    wait_for(lambda: not download.in_progress)
    assert download.status == "117"
    assert "X-Amz-Signature" in download.object_storage_link
    download.finish_download(str(tmp_path / "big"))
    assert (tmp_path / "big").stat().st_size == 100_000
    download.invalidate_object_storage_link()


def test_external_upload(official: firecrest.v1.Firecrest, v1_home: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.bin"
    source.write_bytes(b"x" * 100_000)
    upload = official.external_upload("cluster", str(source), _HOME)
    wait_for(lambda: upload.status == "111")
    upload.finish_upload()  # with the real curl
    wait_for(lambda: upload.status == "114")
    assert (v1_home / "source.bin").read_bytes() == source.read_bytes()
