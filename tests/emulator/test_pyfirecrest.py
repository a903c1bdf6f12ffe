"""The official client drives the emulator: nobody here wrote what it sends and expects."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import firecrest
import pytest
from firecrest.FirecrestException import TransferJobFailedException

from firecrestfs.emulator import Emulator

# Its token requests leave sockets to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def official(emulator: Emulator) -> Iterator[firecrest.v2.Firecrest]:
    auth = firecrest.ClientCredentialsAuth(
        emulator.client_id, emulator.client_secret, emulator.token_url
    )
    client = firecrest.v2.Firecrest(emulator.url, auth)
    yield client
    client._session.close()
    gc.collect()  # while its warnings are ignored


def test_status(official: firecrest.v2.Firecrest) -> None:
    assert official.systems()[0]["name"] == "cluster"
    assert official.userinfo("cluster")["user"]["name"] == "demo"
    assert official.partitions("cluster")[0]["name"] == "part01"
    assert official.nodes("cluster")[0]["name"] == "nid001"
    assert official.reservations("cluster") == []


def test_files(official: firecrest.v2.Firecrest, home: Path, tmp_path: Path) -> None:
    official.mkdir("cluster", "/home/demo/a/b", create_parents=True)
    source = tmp_path / "source.txt"
    source.write_text("one\ntwo\n")
    official.upload("cluster", str(source), "/home/demo/a", "f.txt", blocking=True)
    assert [row["name"] for row in official.list_files("cluster", "/home/demo/a")] == ["b", "f.txt"]
    assert official.stat("cluster", "/home/demo/a/f.txt")["size"] == 8
    assert official.view("cluster", "/home/demo/a/f.txt") == "one\ntwo\n"
    assert official.head("cluster", "/home/demo/a/f.txt", num_lines=1)["content"] == "one\n"
    assert official.tail("cluster", "/home/demo/a/f.txt", num_lines=1)["content"] == "two\n"
    assert official.file_type("cluster", "/home/demo/a/f.txt") == "ASCII text"
    assert official.checksum("cluster", "/home/demo/a/f.txt")["algorithm"] == "SHA256"
    official.chmod("cluster", "/home/demo/a/f.txt", "600")
    official.chown("cluster", "/home/demo/a/f.txt", "demo", "staff")
    official.symlink("cluster", "/home/demo/a/f.txt", "/home/demo/link")
    official.compress("cluster", "/home/demo/a", "/home/demo/a.tgz")
    target = tmp_path / "target.txt"
    official.download("cluster", "/home/demo/link", str(target), blocking=True)
    assert target.read_text() == "one\ntwo\n"
    with pytest.raises(firecrest.UnexpectedStatusException):
        official.stat("cluster", "/home/demo/nope")


def test_jobs(official: firecrest.v2.Firecrest, home: Path) -> None:
    job = official.submit("cluster", "/home/demo", "#!/bin/bash\necho hi\n")["jobId"]
    deadline = time.monotonic() + 10
    while official.job_info("cluster", job)[0]["status"]["state"] != "COMPLETED":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (home / f"slurm-{job}.out").read_text() == "hi\n"
    assert official.job_metadata("cluster", job)[0]["script"].startswith("#!/bin/bash")
    long = official.submit("cluster", "/home/demo", "#!/bin/bash\nsleep 60\n")["jobId"]
    official.cancel_job("cluster", long)


@pytest.fixture
def impatient(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let client and jobs look more often than they would."""
    emulator.knobs.put("poll_interval", 0.1)
    module = "firecrest.v2._sync.Client.sleep_generator"
    monkeypatch.setattr(module, lambda: itertools.repeat(0.05))


@pytest.mark.usefixtures("impatient")
def test_transfer_jobs(official: firecrest.v2.Firecrest, emulator: Emulator, home: Path) -> None:
    (home / "d").mkdir()
    (home / "d" / "f").write_text("content")
    official.cp("cluster", "/home/demo/d", "/home/demo/copy")
    official.mv("cluster", "/home/demo/copy/f", "/home/demo/moved")
    assert (home / "moved").read_text() == "content"
    official.rm("cluster", "/home/demo/copy")
    assert not (home / "copy").exists()
    for name in ("ops/compress", "ops/extract", "ops/rm"):  # then it falls back to jobs
        emulator.faults.add("status", name, status=408)
    official.compress("cluster", "/home/demo/d", "/home/demo/d.tgz")
    (home / "out").mkdir()
    official.extract("cluster", "/home/demo/d.tgz", "/home/demo/out")
    assert (home / "out" / "d" / "f").read_text() == "content"
    with pytest.raises(TransferJobFailedException):
        official.mv("cluster", "/home/demo/nope", "/home/demo/x")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # its way of using httpx
@pytest.mark.usefixtures("impatient")
def test_staged_transfers(
    official: firecrest.v2.Firecrest, emulator: Emulator, home: Path, tmp_path: Path
) -> None:
    emulator.knobs.put("max_part_size", 5 * 1024 * 1024)
    data = bytes(range(256)) * 30000  # two parts
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    official.upload("cluster", str(source), "/home/demo", "big", blocking=True)
    assert (home / "big").read_bytes() == data
    emulator.knobs.put("max_part_size", 64 * 1024 * 1024)  # halves would be too small for S3
    official.download("cluster", "/home/demo/big", str(target), blocking=True)
    assert target.read_bytes() == data
    emulator.knobs.put("max_part_size", 5 * 1024 * 1024)
    waiting = official.upload("cluster", str(source), "/home/demo", "second", blocking=False)
    waiting.upload_file_to_stage()
    waiting.wait_for_transfer_job()
    assert (home / "second").read_bytes() == data


def test_asynchronous_client(emulator: Emulator) -> None:
    async def names() -> list[str]:
        auth = firecrest.ClientCredentialsAuth(
            emulator.client_id, emulator.client_secret, emulator.token_url
        )
        client = firecrest.v2.AsyncFirecrest(emulator.url, auth)
        try:
            return [system["name"] for system in await client.systems()]
        finally:
            await client.close_session()

    assert asyncio.run(names()) == ["cluster"]
