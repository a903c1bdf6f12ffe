"""Reading files over the direct limit: staged once, then by ranges, where the reader is first."""

from __future__ import annotations

import hashlib
import mmap
import os
import random
import threading
from pathlib import Path

import pytest

from ..fs.drivers import Driver
from ..harness import Server
from .conftest import DIRECT

MIB = 1 << 20


def blob(size: int, seed: int = 1) -> bytes:
    """Return bytes that are no text, and everywhere different."""
    return random.Random(seed).randbytes(size)


def orders(server: Server) -> int:
    """Return how many stagings were ordered since the last reset."""
    names = ("transfer/download", "storage/xfer-external/download")
    return sum(endpoint in names for endpoint in server.requests())


@pytest.mark.parametrize("size", [DIRECT, 3 * MIB, 30 * MIB + 1])
def test_a_large_file_is_read(fs: Driver, there: Path, server: Server, size: int) -> None:
    data = blob(size)
    (there / "f").write_bytes(data)
    assert hashlib.sha256(fs.read_file("f")).digest() == hashlib.sha256(data).digest()
    assert orders(server) == 1
    # What is here is not fetched again.
    server.requests(reset=True)
    assert fs.read_file("f") == data
    assert orders(server) == 0
    assert fs.getxattr("f", "user.firecrest.state") == b"cached"


def test_what_fits_one_request_is_not_staged(fs: Driver, there: Path, server: Server) -> None:
    data = blob(DIRECT // 4 * 3 - 3)
    (there / "f").write_bytes(data)
    assert fs.read_file("f") == data
    assert orders(server) == 0


def test_here_and_there(fs: Driver, there: Path, server: Server) -> None:
    data = blob(24 * MIB, 2)
    (there / "f").write_bytes(data)
    fd = fs.open("f")
    random.seed(3)
    for _ in range(20):
        at = random.randrange(len(data))
        size = random.randrange(1, 300_000)
        assert fs.pread(fd, size, at) == data[at : at + size]
    assert fs.pread(fd, 100, len(data) - 10) == data[-10:]
    assert fs.pread(fd, 100, len(data)) == b""
    fs.close(fd)
    assert orders(server) == 1


def test_a_mapping(fs: Driver, there: Path, site: object) -> None:
    data = blob(10 * MIB, 4)
    (there / "f").write_bytes(data)
    fd = fs.open("f")
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as mapped:
        for at in (9 * MIB, 17, 5 * MIB + 3, 0):
            assert mapped[at : at + 5000] == data[at : at + 5000]
    fs.close(fd)


def test_many_readers_cause_one_staging(fs: Driver, there: Path, server: Server) -> None:
    data = blob(9 * MIB, 5)
    (there / "f").write_bytes(data)
    server.set(queue_seconds=0.5)
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(fs.read_file("f"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each == data for each in found] == [True] * 6
    assert orders(server) == 1


@pytest.mark.parametrize("name", ["a b", "a,b", "$HOME", "a{1,2}", "é ü"])
def test_names_that_scripts_cannot_carry(
    fs: Driver, there: Path, server: Server, name: str
) -> None:
    data = blob(2 * MIB, 6)
    (there / name).write_bytes(data)
    (there / "in a").mkdir()
    (there / "in a" / name).write_bytes(data[::-1])
    assert fs.read_file(name) == data
    assert fs.read_file(f"in a/{name}") == data[::-1]
    assert os.listdir(there / "in a") == [name]
    links = [path for path in there.parent.iterdir() if path.name.startswith(".fcfs-")]
    assert links == []


def test_a_file_that_is_written_into_is_fetched_first(fs: Driver, there: Path) -> None:
    data = blob(2 * MIB, 7)
    (there / "f").write_bytes(data)
    fd = fs.open("f", os.O_RDWR)
    fs.pwrite(fd, b"here", MIB)
    assert fs.pread(fd, 10, MIB - 3) == data[MIB - 3 : MIB] + b"here" + data[MIB + 4 : MIB + 7]
    fs.ftruncate(fd, 100)
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == data[:100]


def test_emptying_fetches_nothing(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(blob(2 * MIB))
    fs.write_file("f", b"new")
    assert orders(server) == 0
    fs.land()
    assert (there / "f").read_bytes() == b"new"
