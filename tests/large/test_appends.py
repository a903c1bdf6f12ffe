"""Appending to large files: what was appended goes alone, once, and nothing is staged."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from ..fs.drivers import Driver
from ..harness import Server, wait_for
from .conftest import DIRECT
from .test_reading import MIB, blob, orders
from .test_writing import same, uploads

TEXT = b"".join(b"line %08d of a log\n" % number for number in range(40_000))


def submissions(server: Server) -> int:
    """Return how many jobs were submitted since the last reset."""
    return sum(each in SUBMIT for each in server.requests())


SUBMIT = ("jobs/submit", "compute/jobs/upload", "compute/jobs")


def staged(server: Server) -> int:
    """Return how many stagings, either way, were ordered since the last reset."""
    return orders(server) + uploads(server)


def left(there: Path) -> list[str]:
    """Return what there is of ours beside the test's directory, and in it."""
    return [
        str(path)
        for top in (there.parent, there)
        for path in top.iterdir()
        if ".fcfs-" in path.name
    ]


@pytest.mark.parametrize("size", [DIRECT + 1, 3 * MIB])
def test_what_is_appended_goes_alone(fs: Driver, there: Path, server: Server, size: int) -> None:
    data = blob(size)
    (there / "f").write_bytes(data)
    (there / "f").chmod(0o640)
    inode = (there / "f").stat().st_ino
    fs.listdir()
    fs.append("f", b"more\n")
    assert fs.stat("f").st_size == size + 5
    fs.land()
    assert staged(server) == 0
    assert same(there / "f", data + b"more\n")
    assert ((there / "f").stat().st_ino, (there / "f").stat().st_mode & 0o777) == (inode, 0o640)
    assert os.listdir(there) == ["f"]
    assert left(there) == []
    # And what is here is not staged, but the rest of it.
    assert fs.read_file("f") == data + b"more\n"
    assert orders(server) <= 1


def test_again_and_again(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(TEXT)
    lines = [b"mine %d\n" % number for number in range(5)]
    for line in lines:
        fs.append("f", line)
    fs.land()
    assert same(there / "f", TEXT + b"".join(lines))
    for line in lines:
        fs.append("f", line)
        fs.land()
    assert same(there / "f", TEXT + b"".join(lines) * 2)
    assert staged(server) == 0
    assert left(there) == []


def test_a_handle_that_stays_open(fs: Driver, there: Path, server: Server) -> None:
    """As of a program that logs: what it has written goes whenever somebody asks for that."""
    (there / "f").write_bytes(TEXT)
    fd = fs.open("f", os.O_WRONLY | os.O_APPEND)
    for number in range(3):
        fs.write(fd, b"mine %d\n" % number)
        fs.land()
        assert same(there / "f", TEXT + b"".join(b"mine %d\n" % each for each in range(number + 1)))
    fs.write(fd, b"the last\n")
    fs.close(fd)
    fs.land()
    assert same(there / "f", TEXT + b"mine 0\nmine 1\nmine 2\nthe last\n")
    assert staged(server) == 0


def test_it_is_read_before_it_has_landed(fs: Driver, there: Path, server: Server) -> None:
    """All of it, while the job that appends to it may run at any moment."""
    (there / "f").write_bytes(TEXT)
    server.set(queue_seconds=1.0)
    fs.append("f", b"more\n")
    assert fs.read_file("f") == TEXT + b"more\n"
    fs.land()
    assert same(there / "f", TEXT + b"more\n")
    assert fs.read_file("f") == TEXT + b"more\n"
    assert uploads(server) == 0


def test_it_is_all_here(fs: Driver, there: Path, server: Server) -> None:
    data = blob(2 * MIB)
    (there / "f").write_bytes(data)
    assert fs.read_file("f") == data
    server.requests(reset=True)
    fs.append("f", b"more")
    assert fs.read_file("f") == data + b"more"
    fs.land()
    assert same(there / "f", data + b"more")
    assert staged(server) == 0
    assert fs.read_file("f") == data + b"more"
    assert orders(server) == 0


def test_it_has_grown_on_the_cluster_since_it_was_listed(
    fs: Driver, there: Path, server: Server
) -> None:
    (there / "f").write_bytes(TEXT)
    fs.listdir()
    with (there / "f").open("ab") as file:
        file.write(b"by a job\n")
    fs.append("f", b"mine\n")
    fs.land()
    assert same(there / "f", TEXT + b"by a job\nmine\n")
    assert staged(server) == 0


def test_more_than_one_request_carries(fs: Driver, there: Path, server: Server) -> None:
    data, more = blob(MIB), blob(2 * DIRECT, 2)
    (there / "f").write_bytes(data)
    fs.append("f", more)
    fs.land()
    assert same(there / "f", data + more)
    assert (orders(server), uploads(server)) == (1, 1)


def test_other_changes_besides(fs: Driver, there: Path, server: Server) -> None:
    data = blob(MIB)
    for name in "abcdef":
        (there / name).write_bytes(data)
    server.set(queue_seconds=2.0)
    for name in "abcdef":
        fs.append(name, b"more")
    fd = fs.open("a", os.O_RDWR)
    fs.pwrite(fd, b"here", 10)
    fs.close(fd)
    fs.truncate("b", 0)
    fs.truncate("c", len(data) + 2)
    fs.rename("d", "g")
    fs.chmod("e", 0o600)
    fs.unlink("f")
    # What is removed while it is appended to takes that with it.
    server.set(queue_seconds=0.0)
    fs.land()
    assert same(there / "a", data[:10] + b"here" + data[14:] + b"more")
    assert same(there / "b", b"")
    assert same(there / "c", data + b"mo")
    assert same(there / "g", data + b"more")
    assert same(there / "e", data + b"more")
    assert (there / "e").stat().st_mode & 0o777 == 0o600
    assert sorted(os.listdir(there)) == ["a", "b", "c", "e", "g"]
    assert wait_for(lambda: left(there) == [])


def test_reading_and_appending_by_one_handle(fs: Driver, there: Path) -> None:
    data = blob(MIB)
    (there / "f").write_bytes(data)
    fd = fs.open("f", os.O_RDWR | os.O_APPEND)
    fs.write(fd, b"more")
    assert fs.pread(fd, 20, len(data) - 10) == data[-10:] + b"more"
    fs.write(fd, b" and more")
    fs.close(fd)
    fs.land()
    assert same(there / "f", data + b"more and more")


def test_it_changed_meanwhile(fs: Driver, there: Path, server: Server) -> None:
    """Nobody's bytes are lost: theirs stay, ours are kept with a line that tells where."""
    server.set(queue_seconds=1.0)
    (there / "f").write_bytes(TEXT)
    fs.append("f", b"mine\n")
    with (there / "f").open("ab") as file:
        file.write(b"theirs\n")
    fs.land()
    assert same(there / "f", TEXT + b"theirs\n")
    told = [line for line in fs.errors() if "/f:" in line]
    assert "is kept as" in told[-1]
    kept = Path(told[-1].rpartition("is kept as ")[2])
    assert kept.read_bytes() == b"mine\n"
    # Nobody has given it up: it stays.
    assert kept.parent.name == "lost+found"
    fs.refresh()
    assert fs.stat("f").st_size == len(TEXT) + 7
    fs.append("f", b"again\n")
    fs.land()
    assert same(there / "f", TEXT + b"theirs\nagain\n")


def test_it_is_gone_meanwhile(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(TEXT)
    fs.append("f", b"mine\n")
    (there / "f").unlink()
    fs.land()
    told = [line for line in fs.errors() if "/f:" in line]
    assert Path(told[-1].rpartition("is kept as ")[2]).read_bytes() == b"mine\n"
    assert os.listdir(there) == []


@pytest.mark.parametrize("seed", range(4))
def test_whatever_is_done_to_it(fs: Driver, there: Path, server: Server, seed: int) -> None:
    """Appending among other changes and looks, in any order; jobs that begin sooner or later."""
    chance = random.Random(seed)
    data = bytearray(blob(MIB, seed))
    (there / "f").write_bytes(data)
    for number in range(40):
        server.set(queue_seconds=chance.choice([0.0, 0.0, 0.3]))
        piece = b"%d " % number * chance.randint(1, 500)
        match chance.choice("aaaaaarrRwtzls"):
            case "a":
                fs.append("f", piece)
                data += piece
            case "r":
                fd = fs.open("f")
                at = chance.randrange(len(data) + 1)
                assert fs.pread(fd, 5000, at) == data[at : at + 5000], number
                fs.close(fd)
            case "R":
                assert fs.read_file("f") == data, number
            case "w":
                fd = fs.open("f", os.O_RDWR)
                at = chance.randrange(len(data) + 1)
                fs.pwrite(fd, piece, at)
                fs.close(fd)
                data[at : at + len(piece)] = piece
            case "t" if chance.random() < 0.3:
                del data[chance.randrange(len(data) // 2, len(data)) :]
                fs.truncate("f", len(data))
            case "l":
                fs.land()
                assert same(there / "f", data), number
            case "s":
                time.sleep(0.3)
        assert fs.stat("f").st_size == len(data), number
    fs.land()
    assert same(there / "f", data)
    assert fs.read_file("f") == data
    assert fs.errors() == []
    assert left(there) == []


FAULTS = [
    {"kind": "lost_answer", "match": "jobs/submit"},
    {"kind": "lost_answer", "match": "compute/jobs*"},
    {"kind": "status", "match": "jobs/submit", "status": 503, "count": 2},
    {"kind": "lost_answer", "match": "*upload", "count": 1},
    {"kind": "torn", "match": "*upload", "bytes": 2, "status": 0},
    {"kind": "lost_answer", "match": "*mkdir"},
    {"kind": "status", "match": "*stat", "status": 503, "after": 2, "count": 2},
    {"kind": "status", "match": "jobs/*", "status": 503, "after": 1, "count": 3},
    {"kind": "lost_answer", "match": "*rm*", "count": 2},
]


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_it_lands_once_all_the_same(fs: Driver, there: Path, server: Server, number: int) -> None:
    data = blob(MIB)
    (there / "f").write_bytes(data)
    fs.stat("f")
    server.faults([FAULTS[number]])
    fs.append("f", b"once\n")
    fs.land()
    assert same(there / "f", data + b"once\n")
    assert staged(server) == 0
    server.faults([])
    assert fs.sync() == {}
    assert left(there) == []


def test_where_no_job_is_taken_all_of_it_goes(fs: Driver, there: Path, server: Server) -> None:
    data = blob(MIB)
    (there / "f").write_bytes(data)
    rules = [
        {"kind": "status", "match": match, "method": "POST", "status": 400, "count": 1}
        for match in ("jobs/submit", "compute/jobs*")
    ]
    server.faults(rules)
    fs.append("f", b"more")
    fs.land()
    assert same(there / "f", data + b"more")
    assert (orders(server), uploads(server)) == (1, 1)
    assert left(there) == []
