"""Storing files over the direct limit: in parts, landed under another name, then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest

from ..fs.drivers import Driver
from ..harness import Server
from .conftest import DIRECT, PART
from .test_reading import MIB, blob, orders


def uploads(server: Server) -> int:
    """Return how many staged uploads were ordered since the last reset."""
    names = ("transfer/upload", "storage/xfer-external/upload")
    return sum(endpoint in names for endpoint in server.requests())


def same(path: Path, data: bytes) -> bool:
    """Tell whether the file holds *data*, without showing megabytes where it doesn't."""
    return hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize(
    "size", [DIRECT + 1, PART - 1, PART, PART + 1, 2 * PART + 5], ids=lambda size: str(size)
)
def test_a_new_large_file(fs: Driver, there: Path, server: Server, size: int) -> None:
    data = blob(size)
    fs.write_file("f", data)
    fs.land()
    assert same(there / "f", data)
    assert uploads(server) == 1
    assert fs.stat("f").st_size == size
    assert (there / "f").stat().st_mode & 0o777 == 0o644
    assert fs.getxattr("f", "user.firecrest.state") == b"cached"
    server.requests(reset=True)
    assert fs.read_file("f") == data
    assert server.requests() == []
    assert transfers_of(fs) == []


def transfers_of(fs: Driver) -> list[str]:
    """Return the files here of which the journal holds a transfer still."""
    database = Path(fs.status()["state_dir"]) / "journal.sqlite"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        paths = [json.loads(path) for (path,) in connection.execute("SELECT path FROM uploads")]
    return [path for path in paths if fs.base.endswith(os.path.dirname(path))]


def test_at_the_limit_one_request_does(fs: Driver, there: Path, server: Server) -> None:
    # On v1 the form that is sent counts, too.
    for size in (0, DIRECT // 2):
        fs.write_file(f"f{size}", blob(size))
    fs.land()
    assert uploads(server) == 0
    assert same(there / f"f{DIRECT // 2}", blob(DIRECT // 2))


def test_over_a_file_that_is_there(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old" * 100)
    (there / "f").chmod(0o600)
    data = blob(MIB)
    fs.write_file("f", data)
    fs.land()
    assert same(there / "f", data)
    assert (there / "f").stat().st_mode & 0o777 == 0o600
    assert os.listdir(there) == ["f"]


def test_a_file_with_two_names_keeps_them(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old" * 100)
    os.link(there / "f", there / "g")
    data = blob(MIB)
    fs.write_file("f", data)
    fs.land()
    assert same(there / "g", data)
    assert (there / "f").stat().st_ino == (there / "g").stat().st_ino


def test_a_strict_mode(fs: Driver, there: Path) -> None:
    fs.write_file("f", blob(MIB), 0o600)
    fs.land()
    assert (there / "f").stat().st_mode & 0o777 == 0o600
    assert same(there / "f", blob(MIB))


def test_a_time_of_its_own(fs: Driver, there: Path, server: Server) -> None:
    """As `cp -p` and `rsync -a` give it."""
    fs.write_file("f", blob(MIB))
    fs.utime("f", 10**18 + 7, 10**18 + 7)
    fs.land()
    assert same(there / "f", blob(MIB))
    assert (there / "f").stat().st_mtime_ns == 10**18 + 7
    assert uploads(server) == 1


def test_a_sparse_tail(fs: Driver, there: Path) -> None:
    fs.write_file("f", b"begin")
    fs.truncate("f", 3 * MIB)
    fs.land()
    assert same(there / "f", b"begin" + bytes(3 * MIB - 5))


@pytest.mark.parametrize("name", ["a b", "a&b", "é,$x"])
def test_odd_names(fs: Driver, there: Path, kind: str, name: str) -> None:
    if kind.startswith("v1"):
        name = name.replace("&", "+")  # which v1 refuses in any path
    data = blob(MIB)
    fs.write_file(name, data)
    (there / f"in {name}").mkdir()
    fs.refresh()
    fs.write_file(f"in {name}/{name}", data)
    fs.land()
    assert same(there / name, data)
    assert same(there / f"in {name}" / name, data)
    assert os.listdir(there / f"in {name}") == [name]


def test_a_large_file_is_changed_a_little(fs: Driver, there: Path) -> None:
    data = blob(12 * MIB)
    (there / "f").write_bytes(data)
    fd = fs.open("f", os.O_RDWR)
    fs.pwrite(fd, b"here", 11 * MIB)
    fs.close(fd)
    fs.append("f", b"end")
    fs.land()
    assert same(there / "f", data[: 11 * MIB] + b"here" + data[11 * MIB + 4 :] + b"end")


def test_small_files_do_not_wait_for_large_ones(fs: Driver, there: Path, server: Server) -> None:
    server.set(poll_interval=600.0, queue_seconds=600.0)
    for number in range(5):
        fs.write_file(f"large{number}", blob(MIB))
    for number in range(5):
        fs.write_file(f"small{number}", b"small")
    (there / "d").mkdir()
    from ..harness import wait_for

    assert wait_for(lambda: all((there / f"small{number}").exists() for number in range(5)))
    for number in range(5):
        fs.unlink(f"large{number}")


#: A time of long ago, with nanoseconds.
LONG_AGO = 1_234_567_890_123_456_789


def test_a_time_that_was_given_lands(fs: Driver, there: Path, server: Server) -> None:
    """As `cp -p` gives it, before the close; it is that of a new file and of one replaced."""
    (there / "g").write_bytes(b"old" * 100)
    os.link(there / "g", there / "h")
    for name in ("f", "g"):
        fd = fs.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        fs.pwrite(fd, blob(MIB), 0)
        os.utime(fd, ns=(LONG_AGO, LONG_AGO))
        fs.close(fd)
    fs.land()
    for name in ("f", "g", "h"):
        assert same(there / name, blob(MIB))
        assert (there / name).stat().st_mtime_ns == LONG_AGO
    fs.refresh()
    for name in ("f", "g", "h"):
        assert int(fs.stat(name).st_mtime) == LONG_AGO // 10**9
    assert (there / "f").stat().st_mode & 0o777 == 0o640
    assert (there / "g").stat().st_ino == (there / "h").stat().st_ino
    assert sorted(os.listdir(there)) == ["f", "g", "h"]


def test_rsync_sends_a_large_file_once(
    fs: Driver, there: Path, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a b").write_bytes(blob(2 * MIB))
    os.utime(tmp_path / "a b", ns=(LONG_AGO, LONG_AGO))
    command = ["rsync", "-a", f"{tmp_path}/", fs.path("")]
    subprocess.run(command, check=True, timeout=60)
    fs.land()
    assert same(there / "a b", blob(2 * MIB))
    assert (there / "a b").stat().st_mtime_ns // 10**9 == LONG_AGO // 10**9
    fs.refresh()
    server.requests(reset=True)
    done = subprocess.run([*command, "-i"], check=True, timeout=60, capture_output=True)
    fs.land()
    assert [line for line in done.stdout.splitlines() if line.startswith(b">f")] == []
    assert uploads(server) == orders(server) == 0
