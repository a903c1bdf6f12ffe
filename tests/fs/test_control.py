"""The files of `.firecrestfs`."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from ..harness import Server
from .drivers import Driver


def test_it_answers_by_name_and_is_never_listed(fs: Driver) -> None:
    assert ".firecrestfs" not in fs.listdir("/")
    assert {"status.json", "queue", "errors", "log", "stats.json", "refresh", "ctl"} <= set(
        fs.listdir("/.firecrestfs")
    )
    with pytest.raises(FileNotFoundError):
        fs.read_file("/.firecrestfs/nonsense")


def test_status(fs: Driver, server: Server) -> None:
    status = fs.status()
    assert status["url"] == server.info["url"]
    assert status["systems"] == ["cluster", "other"]
    assert "cluster" in status["connected"]
    assert status["draining"] is False
    assert status["pid"] > 0


def test_the_queue(fs: Driver, there: Path, server: Server) -> None:
    fd = fs.open("f", os.O_WRONLY | os.O_CREAT)
    fs.write(fd, b"x")
    fs.close(fd)
    lines = [line for line in fs.control("queue").splitlines() if there.name in line]
    assert len(lines) == 1
    assert lines[0].startswith("waiting") and lines[0].endswith("/f")
    server.set(disk_full=True)
    fs.sync()
    lines = [line for line in fs.control("queue").splitlines() if there.name in line]
    assert lines[0].startswith("failed") and "No space left" in lines[0]
    server.set(disk_full=False)
    fs.land()
    assert there.name not in fs.control("queue")


def test_statistics_count_requests(fs: Driver, there: Path) -> None:
    before = json.loads(fs.control("stats.json"))["requests"]
    (there / "f").write_bytes(b"x")
    fs.read_file("f")
    after = json.loads(fs.control("stats.json"))["requests"]
    assert sum(_counts(after)) > sum(_counts(before))


def _counts(value: object) -> list[int]:
    if isinstance(value, dict):
        return [count for each in value.values() for count in _counts(each)]
    return [value] if isinstance(value, int) else []


def test_unknown_commands_are_refused(fs: Driver) -> None:
    fd = fs.open("/.firecrestfs/ctl", os.O_RDWR)
    with pytest.raises(OSError) as refusal:
        fs.write(fd, b"explode now\n")
    assert refusal.value.errno == errno.EINVAL
    fs.close(fd)


def test_files_that_only_tell_can_not_be_written(fs: Driver) -> None:
    for name in ("status.json", "queue", "errors"):
        with pytest.raises(OSError) as refusal:
            fs.open(f"/.firecrestfs/{name}", os.O_WRONLY)
        assert refusal.value.errno == errno.EACCES


def test_reading_control_files_costs_nothing(fs: Driver, server: Server) -> None:
    server.requests(reset=True)
    for name in ("status.json", "queue", "errors", "stats.json", "log"):
        fs.control(name)
    assert server.requests() == []


def test_refusals_are_told_in_errors(fs: Driver, there: Path) -> None:
    if not fs.mounted_by_kernel:
        pytest.skip("the adapter writes them")
    (there / "f").write_bytes(b"x")
    (there / "f").chmod(0)
    with pytest.raises(PermissionError):
        fs.read_file("f")
    (line,) = fs.errors()
    assert "/f" in line and "----------" in line and "demo" in line


@pytest.fixture
def by_links(fs: Driver) -> str:
    """A path from the mount's root that leads through HOME and a link to the test's directory."""
    _, system, _, _, name = fs.base.split("/")
    fs.symlink(f"../{name}/real", "link")
    fs.mkdir("real")
    fs.land()
    fs.lstat("link")
    return f"/{system}/HOME/{name}/link"


def test_sync_of_a_path_through_links(
    fs: Driver, there: Path, server: Server, by_links: str
) -> None:
    fs.write_file("real/f", b"x")
    assert fs.sync(by_links) == {}
    assert (there / "real" / "f").read_bytes() == b"x"
    server.set(disk_full=True)
    fs.write_file("real/g", b"x")
    assert "No space left" in fs.sync(by_links)[f"{fs.base}/real/g"]
    server.set(disk_full=False)
    fs.land()


def test_refresh_of_a_path_through_links(fs: Driver, there: Path, by_links: str) -> None:
    (there / "real" / "f").write_bytes(b"x")
    fs.refresh()
    assert fs.stat("real/f").st_size == 1
    (there / "real" / "f").write_bytes(b"longer")
    assert fs.stat("real/f").st_size == 1
    fs.lstat("link")
    fs.refresh(by_links)
    assert fs.stat("real/f").st_size == 6


def test_sync_of_a_loop_of_links_comes_to_an_end(fs: Driver) -> None:
    fs.symlink("loop", "loop")
    fs.lstat("loop")
    assert fs.sync("loop/x") == {}
