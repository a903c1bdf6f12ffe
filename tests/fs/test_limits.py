"""Full disks, quotas, and answers that are too large: the bytes are kept and the user is told."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from ..harness import Server, wait_for
from .drivers import Driver


@pytest.mark.parametrize(
    ("knobs", "code", "words"),
    [
        ({"disk_full": True}, errno.ENOSPC, "No space left"),
        ({"quota": 1}, errno.EDQUOT, "quota"),
    ],
    ids=["disk", "quota"],
)
@pytest.mark.parametrize("existing", [False, True])
def test_a_store_that_finds_no_room_is_parked(
    fs: Driver,
    there: Path,
    server: Server,
    knobs: dict[str, Any],
    code: int,
    words: str,
    existing: bool,
) -> None:
    if existing:
        (there / "f").write_bytes(b"before")
        fs.read_file("f")
    server.set(**knobs)
    fd = fs.open("f", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    fs.write(fd, b"precious bytes")
    failed = fs.sync()
    ((path, reason),) = failed.items()
    assert path.endswith("/f")
    assert words.lower() in reason.lower()
    assert fs.pending()["f"]["state"] == "failed"
    assert words.lower() in fs.pending()["f"]["error"].lower()
    assert any("/f: " in line and "not stored" in line for line in fs.errors())
    # The bytes are here.
    fs.refresh()
    assert fs.read_file("f") == b"precious bytes"
    assert fs.stat("f").st_size == 14
    assert fs.getxattr("f", "user.firecrest.state") == b"failed"
    assert words.lower() in fs.getxattr("f", "user.firecrest.error").decode().lower()
    # fsync tells who writes.
    with pytest.raises(OSError) as refusal:
        fs.fsync(fd)
    assert refusal.value.errno == code
    fs.close(fd)
    server.set(disk_full=False, quota=-1)
    fs.land()
    assert (there / "f").read_bytes() == b"precious bytes"
    assert fs.pending() == {}
    assert os.listdir(there) == ["f"]


def test_opening_for_writing_where_there_is_no_room_fails_at_once(
    fs: Driver, there: Path, server: Server
) -> None:
    server.set(disk_full=True)
    fs.write_file("f", b"precious bytes")
    assert fs.sync() != {}
    with pytest.raises(OSError) as refusal:
        fs.open("g", os.O_WRONLY | os.O_CREAT)
    assert refusal.value.errno == errno.ENOSPC
    server.set(disk_full=False)
    fs.land()
    fs.write_file("g", b"room again")
    fs.land()
    assert (there / "g").read_bytes() == b"room again"


def test_making_names_on_a_full_disk(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"x")
    server.set(disk_full=True)
    fs.link("f", "hard")
    fs.mkdir("d")
    fs.symlink("f", "link")
    fs.rename("f", "g")
    # They wait for room, visibly, and go when there is some.
    assert all("full" in reason for reason in fs.sync().values())
    assert sorted(fs.listdir()) == ["d", "g", "hard", "link"]
    assert os.listdir(there) == ["f"]
    server.set(disk_full=False)
    fs.land("/")
    assert sorted(os.listdir(there)) == sorted(fs.listdir()) == ["d", "g", "hard", "link"]
    assert os.stat(there / "hard").st_ino == os.stat(there / "g").st_ino


def test_deleting_makes_room(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"x" * 1000)
    server.set(disk_full=True)
    fs.unlink("f")
    fs.land()
    assert os.listdir(there) == []


def test_a_parked_file_can_be_given_up(fs: Driver, there: Path, server: Server) -> None:
    server.set(disk_full=True)
    fs.write_file("f", b"not so precious")
    assert fs.sync() != {}
    fs.unlink("f")
    assert fs.sync() == {}
    assert fs.pending() == {}
    server.set(disk_full=False)
    assert not wait_for((there / "f").exists, 0.3)


def test_a_directory_over_the_limit_of_a_listing(fs: Driver, there: Path, server: Server) -> None:
    (there / "huge").mkdir()
    for number in range(1200):
        (there / "huge" / f"{number:04}-{'n' * 60}").write_bytes(b"x")
    server.set(max_ops_file_size=100_000)
    with pytest.raises(OSError) as refusal:
        fs.listdir("huge")
    assert refusal.value.errno not in (errno.ENOENT, errno.EIO, errno.EINVAL)
    # By name they are there all the same.
    assert fs.stat(f"huge/0001-{'n' * 60}").st_size == 1
    assert fs.read_file(f"huge/1199-{'n' * 60}") == b"x"
    assert not fs.exists("huge/none")
    server.set(max_ops_file_size=5 << 20)
    fs.refresh()
    assert len(fs.listdir("huge")) == 1200


def test_a_command_that_takes_too_long(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    body = {"errorType": "error", "message": "Command execution timed out"}
    server.faults([{"kind": "status", "match": "ops/ls", "status": 408, "body": body, "count": -1}])
    # The listing is hopeless; the file by its name isn't.
    fs.refresh()
    with pytest.raises(OSError) as refusal:
        fs.listdir()
    assert refusal.value.errno != errno.ENOENT
    assert fs.read_file("f") == b"content"
    server.faults([])
    fs.refresh()
    assert fs.listdir() == ["f"]
