"""What goes wrong while a large file is read: the right errno, one version, nothing left behind."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ..fs.drivers import Driver
from ..fs.sites import Site
from ..harness import Server, wait_for
from .conftest import KINDS, LargeSites
from .test_reading import MIB, blob, orders

#: A cache so small that windows are, too.
SMALL_CACHE = "cache_size=8M"


@pytest.fixture
def small(large_sites: LargeSites, kind: str) -> Site:
    """A mount with a small cache, of the same server."""
    return large_sites.site(*KINDS[kind], SMALL_CACHE)


@pytest.fixture
def bounded(small: Site, fs: Driver) -> Driver:
    """The small mount, in the test's directory."""
    driver = small.driver.at(fs.base)
    driver.refresh(fs.base.rpartition("/")[0])
    return driver


def refuse_links(server: Server, *, after: int = 0, count: int = 1) -> None:
    """Let the object store refuse links as it does once they have expired."""
    body = "<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
    rule = {"kind": "status", "match": "store/get", "status": 403, "body": body}
    server.faults([{**rule, "after": after, "count": count}])


def test_a_link_that_expires_is_renewed(bounded: Driver, there: Path, server: Server) -> None:
    data = blob(24 * MIB)
    (there / "f").write_bytes(data)
    fd = bounded.open("f")
    assert bounded.pread(fd, 1000, 0) == data[:1000]
    refuse_links(server)
    assert bounded.pread(fd, 1000, 20 * MIB) == data[20 * MIB : 20 * MIB + 1000]
    bounded.close(fd)
    assert 1 <= orders(server) <= 2


def test_a_link_is_used_again(bounded: Driver, there: Path, server: Server) -> None:
    """Although the copy was evicted meanwhile."""
    for name in "fg":
        (there / name).write_bytes(blob(9 * MIB))
    for name in "fgf":
        assert bounded.read_file(name) == blob(9 * MIB)
    assert orders(server) == 2


def test_connections_that_break_are_made_again(fs: Driver, there: Path, server: Server) -> None:
    data = blob(20 * MIB)
    (there / "f").write_bytes(data)
    server.faults([{"kind": "cut_body", "match": "store/get", "bytes": 3 * MIB, "after": 1,
                    "count": 4}])  # fmt: skip
    assert fs.read_file("f") == data
    assert orders(server) == 1


def test_a_file_that_changed_is_not_mixed(bounded: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"\xaa" * (30 * MIB))
    fd = bounded.open("f")
    assert bounded.pread(fd, 1000, 0) == b"\xaa" * 1000
    (there / "f").write_bytes(b"\xbb" * (31 * MIB))
    # What was staged is of the old version, as long as it can be had.
    assert bounded.pread(fd, 1000, 15 * MIB) == b"\xaa" * 1000
    refuse_links(server)
    with pytest.raises(OSError) as refusal:
        bounded.pread(fd, 1000, 25 * MIB)
    assert refusal.value.errno == errno.ESTALE
    server.faults([])
    bounded.close(fd)
    assert bounded.read_file("f") == b"\xbb" * (31 * MIB)


def test_a_file_that_changes_while_it_is_staged(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"\xaa" * MIB)
    fs.stat("f")
    server.set(queue_seconds=1.0)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fs.read_file("f")))
    reader.start()
    assert wait_for(lambda: orders(server) == 1)
    time.sleep(0.2)
    (there / "f").write_bytes(b"\xbb" * (MIB + 5))
    server.set(queue_seconds=0.05)
    reader.join()
    (data,) = found
    assert data in (b"\xaa" * MIB, b"\xbb" * MIB, b"\xbb" * (MIB + 5))
    assert (
        fs.read_file("f")[:5] == b"\xbb" * 5 or fs.refresh() or fs.read_file("f")[:5] == b"\xbb" * 5
    )


def test_a_staging_that_fails(fs: Driver, there: Path, server: Server, kind: str) -> None:
    (there / "f").write_bytes(blob(MIB))
    server.faults([fails(kind)])
    with pytest.raises(OSError) as refusal:
        fs.read_file("f")
    assert refusal.value.errno == errno.EIO
    assert any("/f: " in line for line in fs.errors())
    server.faults([])
    assert fs.read_file("f") == blob(MIB)
    assert wait_for(lambda: not logs(there))


def fails(kind: str) -> dict[str, Any]:
    """Return the fault that makes a staging fail."""
    if kind.startswith("v2"):
        return {"kind": "status", "match": "job/part", "status": 500, "body": "no such luck",
                "count": -1}  # fmt: skip
    task = {"status": "118", "description": "", "data": {"error": "no such luck"}}
    return {"kind": "status", "match": "tasks/get", "status": 200, "body": {"task": task},
            "count": -1}  # fmt: skip


def logs(there: Path) -> list[str]:
    """Return what jobs have left on the cluster."""
    top = there.parents[2]
    return [str(path) for path in top.rglob(".f7t_file_handling*")]


def test_a_server_that_forgets(fs: Driver, there: Path, server: Server, kind: str) -> None:
    (there / "f").write_bytes(blob(MIB))
    if kind.startswith("v1"):
        body = {"error": "Task x does not exist"}
        server.faults([{"kind": "status", "match": "tasks/get", "status": 404, "body": body}])
        assert fs.read_file("f") == blob(MIB)
        assert orders(server) == 2
        return
    rule = {
        "kind": "status",
        "match": "jobs/get",
        "status": 404,
        "body": {"errorType": "error", "message": "Job not found."},
    }
    server.faults([{**rule, "count": 3}])
    assert fs.read_file("f") == blob(MIB)
    assert orders(server) == 1


def test_a_file_that_is_larger_than_the_cache(bounded: Driver, small: Site, there: Path) -> None:
    data = blob(40 * MIB)
    (there / "f").write_bytes(data)
    fd = bounded.open("f")
    most = 0
    for at in range(0, len(data), MIB):
        assert bounded.pread(fd, MIB, at) == data[at : at + MIB]
        most = max(most, used(small))
    assert most <= 16 * MIB
    assert bounded.pread(fd, 1000, 5) == data[5:1005]
    bounded.close(fd)
    assert bounded.read_file("f") == data


def test_what_has_no_room_here_is_refused_and_nothing_lost(
    bounded: Driver, small: Site, there: Path
) -> None:
    """All of a file must be here to be written into; what is refused is as it was, on both ends."""
    data = blob(40 * MIB)
    (there / "f").write_bytes(data)
    fd = bounded.open("f", os.O_RDWR)
    with pytest.raises(OSError, match=".") as refused:
        bounded.pwrite(fd, b"here", 5)
    assert refused.value.errno == errno.ENOSPC
    bounded.close(fd)
    fd = bounded.open("new", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match=".") as refused:
        for at in range(0, len(data), MIB):
            bounded.pwrite(fd, data[at : at + MIB], at)
    assert refused.value.errno == errno.ENOSPC
    kept = bounded.stat("new").st_size
    assert 0 < kept < 8 * MIB + 1
    bounded.close(fd)
    # What was taken lands, whole; then there is room again.
    bounded.land()
    assert (there / "new").read_bytes() == data[:kept]
    assert (there / "f").read_bytes() == data
    assert bounded.read_file("f") == data
    bounded.write_file("g", data[: 6 * MIB])
    bounded.land()
    assert (there / "g").read_bytes() == data[: 6 * MIB]
    assert any("cache_size" in line for line in bounded.errors())


def used(site: Site) -> int:
    """Return the bytes that a mount's clean copies take on this machine's disk."""
    assert site.mounted is not None
    places = (site.mounted.home / "cache").rglob("files/*")
    return sum(os.stat(path).st_blocks * 512 for path in places)


def test_a_mount_that_dies_leaves_nothing_in_the_end(
    large_sites: LargeSites, kind: str, fs: Driver, there: Path, server: Server
) -> None:
    site = large_sites.site(*KINDS[kind], "write_back=0.5")
    assert site.mounted is not None
    driver = site.driver.at(fs.base)
    driver.refresh(fs.base.rpartition("/")[0])
    (there / "a b").write_bytes(blob(MIB))
    driver.stat("a b")
    # Slow enough to be killed in the middle.
    slow = {"kind": "stall", "seconds": 5.0, "count": -1}
    server.faults([{**slow, "match": "store/get"}, {**slow, "match": "tasks/get"}])
    fd = driver.open("a b")
    reader = threading.Thread(target=lambda: read_in_vain(driver, fd), daemon=True)
    reader.start()
    assert wait_for(lambda: links(there) != [] and orders(server) == 1)
    time.sleep(0.5)
    site.mounted.kill()
    reader.join(20)
    driver.close_all()
    server.faults([])
    site.mounted.ensure()
    assert wait_for(lambda: links(there) == [])
    assert driver.read_file("a b") == blob(MIB)
    assert wait_for(lambda: links(there) == [] and logs(there) == [])


def read_in_vain(driver: Driver, fd: int) -> None:
    with pytest.raises(OSError, match="."):
        driver.pread(fd, 10, 0)


def links(there: Path) -> list[Path]:
    """Return the links of ours on the cluster."""
    return [path for path in there.parents[2].rglob(".fcfs-*")]
