"""Large text files that fit one request compressed: they are read without the object store."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fs.drivers import Driver
from ..harness import Server, local_home, wait_for
from .conftest import DIRECT, LargeSites
from .test_compressed import asked, lines
from .test_reading import MIB, blob, orders
from .test_reading_faults import logs
from .test_writing_faults import own_site

SIZE = 5 * DIRECT


@pytest.fixture(autouse=True)
def quiet(fs: Driver, there: Path) -> Iterator[None]:
    """Let nothing go on that the next test would see: the logs of a job are removed at last."""
    yield
    assert wait_for(lambda: not logs(there))


def ours(server: Server) -> list[str]:
    """Return what of ours lies in the home directory."""
    return [name for name in os.listdir(local_home(server)) if name.startswith(".fcfs-")]


@pytest.mark.parametrize("name", ["f", "a b", "é,$x"])
def test_text_is_not_staged(fs: Driver, there: Path, server: Server, name: str) -> None:
    (there / name).write_bytes(lines(SIZE))
    fs.refresh()
    fs.listdir()
    server.requests(reset=True)
    assert fs.read_file(name) == lines(SIZE)
    assert orders(server) == 0
    # Some pieces as text, the archive made, looked at, fetched and removed, the file looked at.
    assert asked(server, "compress") == 1
    assert len(server.requests()) <= 16
    assert ours(server) == []
    assert os.listdir(there) == [name]
    server.requests(reset=True)
    assert fs.read_file(name) == lines(SIZE)
    assert server.requests() == []
    assert f"{name} comes by one request, compressed" in fs.control("log")


def test_it_is_changed_a_little(fs: Driver, there: Path, server: Server) -> None:
    """What has to be here in whole before it is written into comes so as well."""
    (there / "f").write_bytes(lines(SIZE))
    fs.refresh()
    fd = fs.open("f", os.O_RDWR)
    fs.pwrite(fd, b"here", SIZE // 2)
    fs.close(fd)
    fs.land()
    assert orders(server) == 0
    data = lines(SIZE)
    assert (there / "f").read_bytes() == data[: SIZE // 2] + b"here" + data[SIZE // 2 + 4 :]


@pytest.mark.parametrize("what", ["binary", "dense", "large"])
def test_what_is_not_worth_a_try(fs: Driver, there: Path, server: Server, what: str) -> None:
    data = {
        "binary": blob(SIZE),
        "dense": base64.b64encode(blob(SIZE)),
        "large": lines(MIB),
    }[what]
    (there / "f").write_bytes(data)
    fs.refresh()
    assert fs.read_file("f") == data
    assert asked(server, "compress") == 0
    assert orders(server) == 1


def test_a_wrong_guess_is_made_once(fs: Driver, there: Path, server: Server) -> None:
    data = lines(3 * DIRECT) + base64.b64encode(blob(2 * DIRECT))
    (there / "f").write_bytes(data)
    fs.refresh()
    assert fs.read_file("f") == data
    assert asked(server, "compress") == orders(server) == 1
    assert ours(server) == []


@pytest.mark.parametrize("fault", ["408", "500", "lost", "late", "download"])
def test_what_goes_wrong_is_staged(fs: Driver, there: Path, server: Server, fault: str) -> None:
    (there / "f").write_bytes(lines(SIZE))
    fs.refresh()
    rule = {
        "408": {"kind": "status", "status": 408},
        "500": {"kind": "status", "status": 500},
        "lost": {"kind": "lost_answer"},
        "late": {"kind": "late_status", "status": 504},
        "download": {"kind": "status", "status": 500, "match": "[ou]*s/download", "count": 5},
    }[fault]
    server.faults([{"match": "*/compress", **rule}])
    assert fs.read_file("f") == lines(SIZE)
    assert orders(server) == 1
    fs.sync()
    assert wait_for(lambda: ours(server) == [])


def test_a_mount_that_dies_meanwhile_leaves_nothing(
    large_sites: LargeSites, kind: str, fs: Driver, there: Path, server: Server
) -> None:
    site, driver = own_site(large_sites, kind, fs)
    assert site.mounted is not None
    (there / "f").write_bytes(lines(SIZE))
    driver.refresh()
    server.faults([{"kind": "stall", "match": "[ou]*s/download", "seconds": 20.0}])

    def read() -> None:
        with contextlib.suppress(OSError):
            driver.read_file("f")

    reader = threading.Thread(target=read)
    reader.start()
    assert wait_for(lambda: ours(server) != [])
    site.mounted.kill()
    reader.join()
    driver.close_all()
    server.faults([])
    site.mounted.ensure()
    assert driver.read_file("f") == lines(SIZE)
    driver.land()
    assert wait_for(lambda: ours(server) == [])


def test_it_changes_meanwhile(fs: Driver, there: Path, server: Server) -> None:
    """A reader gets one version, or an error that says so; who opens it then, the new one."""
    (there / "f").write_bytes(lines(SIZE))
    # A write within the same second would change nothing that can be seen.
    os.utime(there / "f", (1, 1))
    fs.refresh()
    server.faults([{"kind": "stall", "match": "*/compress", "seconds": 1.0}])

    def change() -> None:
        wait_for(lambda: asked(server, "view") >= 1)
        time.sleep(0.5)
        (there / "f").write_bytes(lines(SIZE, 2))

    other = threading.Thread(target=change)
    other.start()
    try:
        found = fs.read_file("f")
    except OSError as exc:
        assert exc.errno == errno.ESTALE
        found = lines(SIZE)
    finally:
        other.join()
    assert found in (lines(SIZE), lines(SIZE, 2))
    fs.refresh()
    assert fs.read_file("f") == lines(SIZE, 2)
