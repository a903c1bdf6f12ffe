"""Large files that fit one request compressed: they go up without the object store."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from ..fs.drivers import Driver
from ..harness import Server, wait_for
from .conftest import DIRECT
from .test_reading import MIB, blob
from .test_writing import LONG_AGO, same, transfers_of, uploads

_USER, _NAMED, _GROUP, _MASK, _OTHER = 1, 2, 4, 16, 32
_ANYONE = 0xFFFFFFFF


def lines(size: int, seed: int = 1) -> bytes:
    """Return text, everywhere different, of which a twentieth is left when it is compressed."""
    line = b"%010d of a log that tells much the same again and again, as logs do\n"
    count = size // 70 + 2
    return b"".join(line % (seed * 10**6 + number) for number in range(count))[:size]


def asked(server: Server, name: str) -> int:
    """Return how often *name* was asked since the last reset."""
    return sum(each.endswith(f"/{name}") for each in server.requests())


@pytest.mark.parametrize("size", [DIRECT + 1, 3 * DIRECT, 300_000])
def test_what_fits_compressed_is_not_staged(
    fs: Driver, there: Path, server: Server, kind: str, size: int
) -> None:
    fs.write_file("f", lines(size))
    fs.land()
    # The archive goes up once; on v2 another tar renames.
    assert asked(server, "upload") == asked(server, "extract") == (1 if kind[:2] == "v1" else 2)
    assert uploads(server) == 0
    assert len(server.requests()) <= 16
    assert same(there / "f", lines(size))
    assert os.listdir(there) == ["f"]
    after = (there / "f").stat()
    assert (after.st_mode & 0o777, after.st_nlink) == (0o644, 1)
    assert fs.getxattr("f", "user.firecrest.state") == b"cached"
    assert transfers_of(fs) == []
    assert f"{there.name}/f goes by one request, compressed: its {size}" in fs.control("log")


def test_what_does_not_fit_is_staged_at_once(fs: Driver, there: Path, server: Server) -> None:
    """A sample tells so, and where it is misled, compressing does: both before any request."""
    misleading = bytearray(lines(2 * MIB))
    misleading[:DIRECT] = blob(DIRECT)
    for name, data in (("f", blob(MIB)), ("g", bytes(misleading))):
        server.requests(reset=True)
        fs.write_file(name, data)
        fs.land()
        assert uploads(server) == 1
        assert same(there / name, data)
    assert "f goes by the object store, under another name first: its 1048576" in fs.control("log")
    assert "compressed it is over the" in fs.control("log")
    assert sorted(os.listdir(there)) == ["f", "g"]


def test_what_takes_long_to_unpack_is_staged(fs: Driver, there: Path, server: Server) -> None:
    """However well it is compressed; on the mount's side in little memory."""
    fs.write_file("f", b"begin")
    fs.truncate("f", (128 << 20) + 1)
    fs.write_file("g", b"begin")
    fs.truncate("g", 16 << 20)
    fs.land()
    assert uploads(server) == 1
    assert (there / "f").stat().st_size == (128 << 20) + 1
    assert same(there / "g", b"begin" + bytes((16 << 20) - 5))


def test_over_a_file_that_is_there(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old" * 100)
    (there / "f").chmod(0o640)
    fs.refresh()
    fs.write_file("f", lines(4 * DIRECT))
    fs.land()
    assert uploads(server) == 0
    assert same(there / "f", lines(4 * DIRECT))
    assert (there / "f").stat().st_mode & 0o777 == 0o640
    fs.append("f", b"more")
    fs.land()
    assert same(there / "f", lines(4 * DIRECT) + b"more")
    assert os.listdir(there) == ["f"]


def test_modes_and_times(fs: Driver, there: Path, server: Server) -> None:
    fd = fs.open("f", os.O_WRONLY | os.O_CREAT, 0o600)
    fs.pwrite(fd, lines(4 * DIRECT), 0)
    fs.close(fd)
    fs.utime("f", LONG_AGO, LONG_AGO)
    fs.write_file("g", lines(4 * DIRECT))
    fs.chmod("g", 0o751)
    fs.land()
    assert (there / "f").stat().st_mode & 0o777 == 0o600
    assert (there / "f").stat().st_mtime_ns == LONG_AGO
    assert (there / "g").stat().st_mode & 0o777 == 0o751
    assert uploads(server) == 0
    # The time came with the file, not by a job.
    assert [each for each in server.requests() if each.startswith("jobs") or "path" in each] == []


def test_more_names_keep_their_file(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old" * 100)
    os.link(there / "f", there / "g")
    fs.refresh()
    fs.write_file("f", lines(4 * DIRECT))
    fs.land()
    assert uploads(server) == 1
    assert (there / "f").samefile(there / "g")
    assert same(there / "g", lines(4 * DIRECT))


def test_where_an_acl_is_passed_on_nothing_is_taken_from_it(
    fs: Driver, there: Path, server: Server
) -> None:
    entries = (_USER, 7, _ANYONE), (_NAMED, 7, 4242), (_GROUP, 7, _ANYONE), (_MASK, 7, _ANYONE)
    acl = struct.pack("<I", 2)
    acl += b"".join(struct.pack("<HHI", *each) for each in (*entries, (_OTHER, 5, _ANYONE)))
    try:
        os.setxattr(there, "system.posix_acl_access", acl)
        os.setxattr(there, "system.posix_acl_default", acl)
    except OSError as exc:
        assert exc.errno == errno.EOPNOTSUPP
        return
    fs.refresh(fs.base.rpartition("/")[0])
    fs.refresh()
    fs.listdir()
    fs.write_file("f", lines(4 * DIRECT))
    fs.land()
    assert uploads(server) == 1
    assert same(there / "f", lines(4 * DIRECT))


@pytest.mark.parametrize("name", ["a b", "é,$x", "-rf", "back\\slash"])
def test_odd_names(fs: Driver, there: Path, server: Server, kind: str, name: str) -> None:
    if kind.startswith("v1"):
        name = name.replace("\\", "+")  # which v1 refuses in any path
    (there / f"in {name}").mkdir()
    fs.refresh()
    for path in (name, f"in {name}/{name}"):
        fs.write_file(path, lines(4 * DIRECT))
    fs.land()
    assert uploads(server) == 0
    for path in (name, f"in {name}/{name}"):
        assert same(there / path, lines(4 * DIRECT))
    assert os.listdir(there / f"in {name}") == [name]


# -- what goes wrong -------------------------------------------------------------------------------

LOST: list[dict[str, Any]] = [
    {"kind": "lost_answer", "match": "*/extract"},
    {"kind": "late_status", "match": "*/extract", "status": 504},
    {"kind": "lost_answer", "match": "*/rm"},
    {"kind": "lost_answer", "match": "*/upload"},
    {"kind": "status", "match": "*/upload", "status": 503},
    {"kind": "lost_answer", "match": "*/rename"},
    {"kind": "lost_answer", "match": "*/extract", "after": 1},
]


@pytest.mark.parametrize("number", range(len(LOST)))
def test_a_lost_answer_is_settled_by_a_look(
    fs: Driver, there: Path, server: Server, number: int
) -> None:
    (there / "f").write_bytes(b"old")
    fs.refresh()
    fs.stat("f")
    server.faults([LOST[number]])
    fs.write_file("f", lines(4 * DIRECT))
    fs.land()
    assert uploads(server) == 0
    assert same(there / "f", lines(4 * DIRECT))
    assert os.listdir(there) == ["f"]


def test_what_is_unpacked_in_part_is_staged(fs: Driver, there: Path, server: Server) -> None:
    """The archive is cut on its way, without a word."""
    (there / "f").write_bytes(b"old")
    fs.refresh()
    fs.stat("f")
    server.faults([{"kind": "torn", "match": "*/upload", "bytes": 5000, "status": 204}])
    fs.write_file("f", lines(8 * DIRECT))
    fs.land()
    assert uploads(server) == 1
    assert same(there / "f", lines(8 * DIRECT))
    assert os.listdir(there) == ["f"]
    assert "the cluster didn't unpack it" in fs.control("log")


def test_what_is_not_unpacked_in_time_is_staged(fs: Driver, there: Path, server: Server) -> None:
    server.set(command_seconds=0.0, queue_seconds=0.5)
    fs.write_file("f", lines(4 * DIRECT))
    assert wait_for(lambda: uploads(server) == 1, 20)
    server.set(command_seconds=5.0)
    fs.land()
    assert same(there / "f", lines(4 * DIRECT))
    assert os.listdir(there) == ["f"]


def test_a_target_that_changes_meanwhile(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old")
    fs.read_file("f")
    server.faults([{"kind": "stall", "match": "*/extract", "seconds": 2.0}])
    fs.write_file("f", lines(4 * DIRECT))
    assert wait_for(lambda: asked(server, "upload") == 1)
    (there / "f").write_bytes(b"somebody else's")
    fs.sync()
    assert (there / "f").read_bytes() == b"somebody else's"
    (ours,) = [name for name in os.listdir(there) if name.startswith("f.conflict-")]
    assert same(there / ours, lines(4 * DIRECT))
    assert len(os.listdir(there)) == 2
    assert uploads(server) == 0


@pytest.mark.parametrize("change", ["unlink", "rename", "rewrite"])
def test_what_changes_while_it_is_sent(
    fs: Driver, there: Path, server: Server, change: str
) -> None:
    server.faults([{"kind": "stall", "match": "*/extract", "seconds": 2.0}])
    fs.write_file("f", lines(4 * DIRECT))
    assert wait_for(lambda: asked(server, "upload") == 1)
    expected = {"f": lines(4 * DIRECT)}
    if change == "unlink":
        fs.unlink("f")
        expected = {}
    elif change == "rename":
        fs.rename("f", "g")
        expected = {"g": lines(4 * DIRECT)}
    else:
        fs.write_file("f", lines(5 * DIRECT, 2))
        expected = {"f": lines(5 * DIRECT, 2)}
    fs.land()
    assert os.listdir(there) == list(expected)
    assert all(same(there / name, data) for name, data in expected.items())


def test_no_room(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"old")
    fs.refresh()
    fs.stat("f")
    server.set(quota=3 * DIRECT)
    fs.write_file("f", lines(8 * DIRECT))
    assert list(fs.sync()) == [f"{fs.base}/f"]
    assert (there / "f").read_bytes() == b"old"
    assert os.listdir(there) == ["f"]
    server.set(quota=-1)
    fs.land()
    assert same(there / "f", lines(8 * DIRECT))
