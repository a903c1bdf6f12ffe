"""What goes wrong while a large file is stored: nothing lost, nothing half, nothing left behind."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from ..fs.drivers import Driver
from ..fs.sites import Site
from ..harness import EmulatorProcess, Server, wait_for
from .conftest import KINDS, PART, LargeSites
from .test_reading import MIB, blob
from .test_reading_faults import links, logs
from .test_writing import LONG_AGO, same, uploads

#: Where the bytes go in.
SEND = "store/[fp]*"


FAULTS = [
    {"kind": "status", "match": SEND, "method": "P*", "status": 500, "count": 2},
    {"kind": "torn", "match": SEND, "method": "P*", "bytes": 70_000, "status": 0, "count": 1},
    {"kind": "lost_answer", "match": SEND, "method": "P*", "count": 1},
    {"kind": "status", "match": SEND, "method": "P*", "status": 403, "count": 1},
]
FAULTS_V2 = [
    {"kind": "lost_answer", "match": "store/complete", "count": 1},
    {"kind": "status", "match": "store/complete", "status": 500, "count": 1},
    {"kind": "lost_answer", "match": "ops/extract", "count": 1},
    {"kind": "status", "match": "jobs/get", "status": 503, "count": 1},
    {"kind": "status", "match": "job/get", "status": 500, "count": 1},
]
FAULTS_V1 = [
    {"kind": "lost_answer", "match": "*rename", "count": 1},
    {"kind": "status", "match": "tasks/get", "status": 503, "count": 1, "after": 2},
]


@pytest.mark.parametrize("number", range(len(FAULTS + FAULTS_V2)))
def test_it_lands_all_the_same(
    fs: Driver, there: Path, server: Server, kind: str, number: int
) -> None:
    faults = FAULTS + (FAULTS_V2 if kind.startswith("v2") else FAULTS_V1)
    if number >= len(faults):
        return
    data = blob(PART + MIB)
    (there / "f").write_bytes(b"old")
    fs.stat("f")
    server.faults([faults[number]])
    fs.write_file("f", data)
    fs.land()
    assert same(there / "f", data)
    assert os.listdir(there) == ["f"]
    assert wait_for(lambda: not logs(there) and not links(there))


def begun(server: Server) -> bool:
    """Tell whether an upload has been ordered."""
    return uploads(server) >= 1


def own_site(large_sites: LargeSites, kind: str, fs: Driver) -> tuple[Site, Driver]:
    """Return a mount that may be killed, in the test's directory."""
    site = large_sites.site(*KINDS[kind], "write_back=0.2")
    site.watching(60)
    driver = site.driver.at(fs.base)
    driver.refresh(fs.base.rpartition("/")[0])
    return site, driver


@pytest.mark.parametrize("step", ["parts", "landing"])
def test_a_mount_that_dies_goes_on(
    large_sites: LargeSites, kind: str, fs: Driver, there: Path, server: Server, step: str
) -> None:
    site, driver = own_site(large_sites, kind, fs)
    assert site.mounted is not None
    data = blob(4 * PART)
    if step == "parts":
        after = 0 if kind.startswith("v1") else 2
        rule = {"kind": "stall", "match": SEND, "method": "P*", "seconds": 10.0}
        server.faults([{**rule, "after": after, "count": -1}])
    else:
        server.set(poll_interval=2.0)
    driver.write_file("f", data)
    assert wait_for(lambda: begun(server))
    if step == "landing":
        done = "store/complete" if kind.startswith("v2") else "store/form"
        assert wait_for(lambda: done in server.requests())
    time.sleep(1.0)
    site.mounted.kill()
    driver.close_all()
    server.faults([])
    server.set(poll_interval=0.3)
    site.mounted.ensure()
    assert driver.exists("f")
    driver.land()
    assert same(there / "f", data)
    # The transfer that was begun has been gone on with.
    assert uploads(server) == 1
    assert os.listdir(there) == ["f"]
    assert wait_for(lambda: not logs(there))


def test_a_mount_that_dies_before_the_time_is_given(
    large_sites: LargeSites, kind: str, fs: Driver, there: Path, server: Server
) -> None:
    site, driver = own_site(large_sites, kind, fs)
    assert site.mounted is not None
    server.set(queue_seconds=2.0)
    fd = driver.open("f", os.O_WRONLY | os.O_CREAT)
    driver.pwrite(fd, blob(MIB), 0)
    os.utime(fd, ns=(LONG_AGO, LONG_AGO))
    driver.close(fd)
    assert wait_for(lambda: (there / "f").exists())
    site.mounted.kill()
    driver.close_all()
    server.set(queue_seconds=0.05)
    site.mounted.ensure()
    driver.land()
    assert same(there / "f", blob(MIB))
    assert (there / "f").stat().st_mtime_ns == LONG_AGO
    assert uploads(server) == 1
    assert wait_for(lambda: os.listdir(there) == ["f"])  # what was left is swept beside it
    assert wait_for(lambda: not logs(there) and not links(there))


@pytest.mark.parametrize("knobs", [{"disk_full": True}, {"quota": 8 * MIB}], ids=["disk", "quota"])
def test_a_cluster_that_has_no_room(
    fs: Driver, there: Path, server: Server, knobs: dict[str, Any]
) -> None:
    data = blob(9 * MIB)
    (there / "f").write_bytes(b"old")
    fs.stat("f")
    server.set(**knobs)
    fs.write_file("f", data)
    failed = fs.sync()
    assert list(failed) == [f"{fs.base}/f"]
    assert (there / "f").read_bytes() == b"old"
    assert os.listdir(there) == ["f"]
    assert fs.read_file("f") == data
    server.set(disk_full=False, quota=-1)
    fs.land()
    assert same(there / "f", data)
    assert wait_for(lambda: not logs(there))


def stall(server: Server) -> None:
    """Let what is sent take its time."""
    server.faults([{"kind": "stall", "match": SEND, "method": "P*", "seconds": 1.0, "count": -1}])


def test_unlinked_while_it_is_sent(fs: Driver, there: Path, server: Server) -> None:
    stall(server)
    fs.write_file("f", blob(2 * MIB))
    assert wait_for(lambda: begun(server))
    time.sleep(0.3)
    fs.unlink("f")
    assert not fs.exists("f")
    server.faults([])
    fs.land()
    assert os.listdir(there) == []
    assert fs.status()["transfers"] == []
    assert wait_for(lambda: not logs(there))


def test_renamed_while_it_is_sent(fs: Driver, there: Path, server: Server) -> None:
    data = blob(2 * MIB)
    stall(server)
    fs.write_file("f", data)
    assert wait_for(lambda: begun(server))
    fs.rename("f", "g")
    server.faults([])
    fs.land()
    assert os.listdir(there) == ["g"]
    assert same(there / "g", data)


def test_rewritten_while_it_is_sent(fs: Driver, there: Path, server: Server) -> None:
    stall(server)
    fs.write_file("f", blob(2 * MIB))
    assert wait_for(lambda: begun(server))
    fs.write_file("f", blob(3 * MIB, 2))
    server.faults([])
    fs.land()
    assert same(there / "f", blob(3 * MIB, 2))
    assert os.listdir(there) == ["f"]


def test_a_target_that_changes_meanwhile(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old")
    fs.read_file("f")
    stall(server)
    data = blob(2 * MIB)
    fs.write_file("f", data)
    assert wait_for(lambda: begun(server))
    time.sleep(0.2)
    (there / "f").write_bytes(b"somebody else's")
    fs.sync()
    assert (there / "f").read_bytes() == b"somebody else's"
    (ours,) = [name for name in os.listdir(there) if name.startswith("f.conflict-")]
    assert same(there / ours, data)
    assert len(os.listdir(there)) == 2


def test_a_checksum_is_compared(
    large_sites: LargeSites, kind: str, fs: Driver, there: Path, server: Server
) -> None:
    site = large_sites.site(*KINDS[kind], "verify")
    driver = site.driver.at(fs.base)
    driver.refresh(fs.base.rpartition("/")[0])
    driver.write_file("f", blob(2 * MIB))
    driver.land()
    assert sum("checksum" in each for each in server.requests()) == 1
    assert same(there / "f", blob(2 * MIB))


def test_nothing_but_ours_is_removed(fs: Driver, there: Path, server: Server, kind: str) -> None:
    """Neither by reads nor by stores, whatever becomes of them: what was there stays as it was."""
    names = ["plain", "a b", "é,$x", "down-1.bin", "tmp", "down-1.bin.1"]
    for number, name in enumerate(names):
        (there / name).write_bytes(blob(2 * MIB, number))
    (there / "in a").mkdir()
    (there / "in a" / "f").write_bytes(blob(MIB))
    fs.refresh()
    for number, name in enumerate(names):
        assert fs.read_file(name) == blob(2 * MIB, number)
    assert isinstance(server, EmulatorProcess)
    # Stagings and stores that fail, are given up, or begin anew.
    refusals = {"kind": "status", "match": "store/*", "status": 403, "count": 3}
    server.faults([{**refusals, "status": 500}])
    fs.refresh()
    assert fs.read_file("in a/f") == blob(MIB)
    for count in range(3):
        server.faults([{**refusals, "match": SEND, "count": 1}])
        fs.write_file("new", blob(MIB + count))
        assert wait_for(lambda: begun(server))
        fs.write_file("new", blob(MIB + 7 * count + 1))
    fs.unlink("new")
    fs.write_file("down-1.bin.2", blob(MIB, 9))
    server.faults([])
    fs.land()
    assert sorted(os.listdir(there)) == sorted([*names, "in a", "down-1.bin.2"])
    for number, name in enumerate(names):
        assert same(there / name, blob(2 * MIB, number))
    assert same(there / "in a" / "f", blob(MIB))
    if kind.startswith("v2"):
        queries = [
            parse_qs(each["query"])["path"][0]
            for each in server._call("requests")
            if each["endpoint"] == "ops/rm"
        ]
        ours = (".fcfs-", ".f7t_file_handling_job_")
        parts = [path.removesuffix("/file").rpartition("/")[2] for path in queries]
        assert [name for name in parts if not name.startswith(ours) and name != "new"] == []
        assert parts
