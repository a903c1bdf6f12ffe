"""Times given to files that the cluster has: by a job there, their content isn't sent again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver

TIME = 1_234_567_890_123_456_789


def uploads(server: Server) -> int:
    """Count the requests that carried content: on v1 the scripts of jobs are uploaded as well."""
    asked = server.requests()
    scripts = asked.count("compute/jobs/path")
    return asked.count("ops/upload") + asked.count("utilities/upload") - scripts


def submitted(server: Server) -> int:
    """Count the jobs."""
    return sum(each in ("jobs/submit", "compute/jobs/path") for each in server.requests())


def test_times_of_a_stored_file(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    before = os.stat(there / "f")
    fs.listdir()
    server.requests(reset=True)
    fs.utime("f", TIME, TIME)
    assert fs.stat("f").st_mtime_ns == TIME
    assert server.requests() == []
    assert fs.read_file("f") == b"content"
    assert fs.stat("f").st_mtime_ns == TIME
    fs.land()
    after = os.stat(there / "f")
    assert (after.st_mtime_ns, after.st_ino) == (TIME, before.st_ino)
    assert fs.stat("f").st_mtime_ns == TIME
    assert uploads(server) == 0
    # It is the version that is here: reading and writing on go by it.
    fs.append("f", b"!")
    fs.land()
    assert (there / "f").read_bytes() == b"content!"
    assert os.listdir(there) == ["f"]


def test_many_times_are_given_by_one_job(fs: Driver, there: Path, server: Server) -> None:
    (there / "d").mkdir()
    for number in range(30):
        (there / "d" / f"f {number}").touch()
    names = fs.listdir("d")
    server.requests(reset=True)
    for number, name in enumerate(names):
        fs.utime(f"d/{name}", TIME + number, TIME + number)
    fs.land()
    for number, name in enumerate(names):
        assert os.stat(there / "d" / name).st_mtime_ns == TIME + number
    assert submitted(server) == 1
    # However often it is asked for: what it says is removed, and a listing is the proof.
    about_it = ("jobs", "acct", "tasks")
    others = [each for each in server.requests() if not any(word in each for word in about_it)]
    assert len(others) <= 6, others


@pytest.mark.parametrize("when", [-1, -86_400 * 10**9 + 5, 0])
def test_times_long_ago(fs: Driver, there: Path, when: int) -> None:
    (there / "f").write_bytes(b"content")
    fs.utime("f", when, when)
    fs.land()
    assert os.stat(there / "f").st_mtime_ns == when


def test_a_time_that_the_file_has_costs_nothing(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    os.utime(there / "f", ns=(TIME, TIME))
    fs.listdir()
    server.requests(reset=True)
    fs.utime("f", TIME, TIME)
    fs.land()
    assert server.requests() == []


def test_a_mode_and_a_time(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"content")
    fs.chmod("f", 0o600)
    fs.utime("f", TIME, TIME)
    fs.rename("f", "g")
    fs.land()
    after = os.stat(there / "g")
    assert (after.st_mode & 0o777, after.st_mtime_ns) == (0o600, TIME)
    assert uploads(server) <= 1  # v2 renames by a tar


def test_a_file_that_is_only_opened_for_it(fs: Driver, there: Path, server: Server) -> None:
    """As touch(1) does."""
    (there / "f").write_bytes(b"content")
    fd = fs.open("f", os.O_WRONLY)
    fs.utime("f", TIME, TIME)
    fs.close(fd)
    fs.land()
    assert os.stat(there / "f").st_mtime_ns == TIME
    assert uploads(server) == 0


# -- while the job waits in the scheduler's queue --------------------------------------------------


@pytest.fixture
def queued(fs: Driver, there: Path, server: Server) -> Driver:
    """The driver; the job that shall give `f` a time waits for some seconds."""
    (there / "f").write_bytes(b"content")
    fs.listdir()
    server.set(queue_seconds=3.0)
    fs.utime("f", TIME, TIME)
    assert wait_for(lambda: submitted(server), 45)
    return fs


def has_run(there: Path) -> bool:
    return os.stat(there / "f").st_mtime_ns == TIME


def test_what_is_written_meanwhile_does_not_wait(queued: Driver, there: Path) -> None:
    queued.write_file("f", b"another content")
    queued.land()
    assert (there / "f").read_bytes() == b"another content"
    assert not has_run(there)
    # The job is wanted no more, and nothing of it stays.
    assert [name for name in os.listdir(there.parent) if name.startswith(".fcfs-")] == []
    time.sleep(4)
    # Nor does the job give its time to another version.
    assert os.stat(there / "f").st_mtime > time.time() - 600
    assert os.listdir(there) == ["f"]


def test_what_is_stored_after_it_ran_is_no_conflict(
    queued: Driver, there: Path, server: Server
) -> None:
    fd = queued.open("f", os.O_RDWR)
    queued.pwrite(fd, b"CONTENT", 0)
    assert wait_for(lambda: has_run(there), 45)
    queued.close(fd)
    queued.land()
    assert os.listdir(there) == ["f"]
    assert (there / "f").read_bytes() == b"CONTENT"


def test_what_is_removed_after_it_ran_is_gone(queued: Driver, there: Path) -> None:
    fd = queued.open("f", os.O_RDWR)  # it keeps us from hearing of the job's end
    assert wait_for(lambda: has_run(there), 45)
    queued.close(fd)
    queued.unlink("f")
    queued.land()
    assert os.listdir(there) == queued.listdir() == []


def test_the_last_of_several_times_counts(queued: Driver, there: Path) -> None:
    queued.utime("f", TIME + 10**12, TIME + 10**12)
    queued.land()
    time.sleep(4)
    assert os.stat(there / "f").st_mtime_ns == TIME + 10**12


def test_somebody_elses_change_keeps_its_time(queued: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"by somebody else")
    queued.sync()
    assert os.stat(there / "f").st_mtime > time.time() - 600
    queued.refresh()
    assert queued.read_file("f") == b"by somebody else"
    assert queued.stat("f").st_mtime > time.time() - 600


def test_nobody_but_sync_waits_for_it(queued: Driver, there: Path) -> None:
    queued.fsync_file("f")
    queued.write_file("g", b"x")
    queued.fsync_file("g")
    assert queued.read_file("f") == b"content"
    assert not has_run(there)
    queued.land()
    assert has_run(there)
