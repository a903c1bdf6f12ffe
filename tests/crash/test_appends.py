"""Appending to large files: wherever the mount dies, what was closed is appended once."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import SETTINGS, EmulatorProcess, client_of, local_home, wait_for
from .power import Power
from .site import Nursery, Site
from .test_kills_everywhere import nothing_waits

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(600)]

#: One request carries less than the file has.
LARGE_SETTINGS = {**SETTINGS, "max_ops_file_size": 64 * 1024, "queue_seconds": 0.0}
OLD = b"".join(b"line %06d of a log\n" % number for number in range(10_000))
MORE = b"appended\n"


@pytest.fixture(scope="session", params=["v2", "v1"])
def nursery(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, umask: None
) -> Iterator[Nursery]:
    """A process that forks mounts of an emulator of its own."""
    home = tmp_path_factory.mktemp("appends")
    server = EmulatorProcess(
        home / "clusters", systems=("cluster",), settings=LARGE_SETTINGS, api=request.param
    )
    with server:
        nursery = Nursery(server, home / "nursery")
        yield nursery
        nursery.close()


@pytest.fixture
def site(nursery: Nursery, tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    site = Site(nursery, tmp_path / "site", tmp_path.name)
    request.addfinalizer(site.end)
    nursery.server.set(queue_seconds=0.0)
    (site.there / "log").write_bytes(OLD)
    return site


def append(site: Site, data: bytes = MORE) -> bool:
    """Append as `>>` does; return whether close(2) returned before the mount died."""
    try:
        os.listdir(site.top)
        with (site.top / "log").open("ab", buffering=0) as file:
            file.write(data)
    except OSError:
        # It may be dying still.
        assert wait_for(lambda: not site.lives, 5)
        return False
    return True


def content(site: Site) -> bytes:
    return (site.there / "log").read_bytes()


def staged(site: Site) -> int:
    """Return how many requests were about staging."""
    asked = site.nursery.server.requests()
    return sum(each.startswith(("transfer/", "storage/xfer")) for each in asked)


def left(site: Site) -> list[str]:
    """Return what is left of ours on the cluster."""
    tops = (local_home(site.nursery.server), site.there)
    return [path.name for top in tops for path in top.iterdir() if path.name.startswith(".fcfs-")]


def submitted(site: Site) -> int:
    asked = site.nursery.server.requests()
    return sum(
        each in ("jobs/submit", "compute/jobs/path", "compute/jobs/upload") for each in asked
    )


def take_up(site: Site) -> None:
    """Let the next mount carry out what the last one left."""
    site.kill()
    site.mount()
    assert site.drain() == {}


STEPS = ["change.unsent", "change.sent", "change.answered", "write.noted", "close.begun"]
STEPS += [
    "close.noted",
    "release.begun",
    "store.begun",
    "store.proven",
    "store.landed",
    "store.forgotten",
]


@pytest.mark.parametrize("step", STEPS)
def test_it_is_appended_once(site: Site, step: str) -> None:
    """The mount dies at the Nth such step; then the same with the next N."""
    site.nursery.server.requests(reset=True)
    for number in range(1, 20):
        (site.there / "log").write_bytes(OLD)
        assert site.mount(f"{step}:{number}")
        closed = append(site)
        # What was only noted is carried out a moment later.
        wait_for(lambda: not site.lives or nothing_waits(site), 15)
        died = not site.lives
        take_up(site)
        found = content(site)
        assert found == OLD + MORE or (not closed and found == OLD), f"{number}, {len(found)}"
        assert wait_for(lambda: left(site) == [] or site.drain() != {}, 5), left(site)
        site.unmount()
        assert left(site) == []
        if not died:
            assert number > 1
            assert staged(site) == 0
            return
    pytest.fail("there was no end to it")


def test_a_second_death(site: Site) -> None:
    """What was taken up is not taken up twice."""
    for first in ("change.sent:4", "change.answered:4", "store.proven:1"):
        for second in (
            "recover.begun",
            "recover.taken",
            "recover.done",
            "store.begun",
            "change.sent",
        ):
            (site.there / "log").write_bytes(OLD)
            site.mount(first)
            assert append(site)
            wait_for(lambda: not site.lives, 15)
            site.kill()
            if site.mount(f"{second}:1"):
                with contextlib.suppress(OSError):
                    site.driver.sync()
            take_up(site)
            assert content(site) == OLD + MORE
            site.unmount()
            assert left(site) == []


def test_kills_at_random_moments(site: Site) -> None:
    """Line after line is appended: all that were closed are there, in order, each once."""
    chance = random.Random(5)
    known, closed = OLD, 0
    for number in range(8):
        site.nursery.server.set(queue_seconds=chance.choice([0.0, 0.0, 0.3]))
        site.mount()
        os.listdir(site.top)
        end = threading.Timer(chance.uniform(0.02, 1.5), os.kill, (site.pid, signal.SIGKILL))
        end.start()
        lines = (b"%d of %d\n" % (each, number) for each in itertools.count())
        line = next(lines)
        while append(site, line):
            known, closed, line = known + line, closed + 1, next(lines)
            time.sleep(chance.choice([0.0, 0.05, 0.3]))
        end.join()
        take_up(site)
        found = content(site)
        assert found in (known, known + line), f"{number}: {found[-100:]!r}, {known[-100:]!r}"
        known = found
        site.kill()
    assert closed > 8
    site.mount()
    os.listdir(site.top)
    site.unmount()
    assert left(site) == []


@pytest.mark.parametrize("late", [False, True], ids=["at once", "after the next mount"])
def test_its_job_runs_late(site: Site, late: bool) -> None:
    server = site.nursery.server
    server.set(queue_seconds=600.0)
    site.mount()
    server.requests(reset=True)
    assert append(site)
    assert wait_for(lambda: submitted(site) == 1, 15)
    time.sleep(0.5)
    site.kill()
    if not late:
        server.set(queue_seconds=0.0)
        assert wait_for(lambda: content(site) != OLD, 15)
    site.mount()
    os.listdir(site.top)
    assert (site.top / "log").stat().st_size == len(OLD + MORE)
    server.set(queue_seconds=0.0)
    assert site.drain() == {}
    assert content(site) == OLD + MORE
    # It was waited for, no second one was sent.
    assert submitted(site) == 1
    assert staged(site) == 0
    site.unmount()
    assert left(site) == []


@pytest.mark.parametrize("theirs", [b"", b"put behind it by another client\n"])
def test_its_job_was_cut_short(site: Site, theirs: bytes) -> None:
    """Another one goes on where it stopped; what somebody has put there by then isn't ours."""
    server = site.nursery.server
    server.set(queue_seconds=600.0)
    site.mount()
    server.requests(reset=True)
    assert append(site)
    assert wait_for(lambda: submitted(site) == 1, 15)
    time.sleep(0.5)
    site.kill()
    [folder] = [path for path in local_home(server).iterdir() if "fcfs-append" in path.name]
    (folder / "piece").rename(folder / "begun")
    with (site.there / "log").open("ab") as file:
        file.write(MORE[:4] + theirs)
    client = client_of(server)
    [job] = [job for job in client.jobs("cluster") if not job.ended]
    client.cancel("cluster", job.job_id)
    server.set(queue_seconds=0.0)
    take_up(site)
    if theirs:
        assert content(site) == OLD + MORE[:4] + theirs
        kept = [path for path in (site.state_dir / "lost+found").rglob("*") if path.is_file()]
        assert [path.read_bytes() for path in kept] == [MORE]
        assert "is kept as" in "\n".join(site.errors())
    else:
        assert content(site) == OLD + MORE
    site.unmount()
    assert left(site) == []


def test_it_is_discarded_while_its_job_waits(site: Site) -> None:
    server = site.nursery.server
    server.set(queue_seconds=600.0)
    site.mount()
    server.requests(reset=True)
    assert append(site)
    assert wait_for(lambda: submitted(site) == 1, 15)
    fd = site.driver.open("/.firecrestfs/ctl", os.O_RDWR)
    site.driver.write(fd, f"discard {site.driver.base}/log\n".encode())
    site.driver.close(fd)
    assert wait_for(lambda: nothing_waits(site), 15)
    server.set(queue_seconds=0.0)
    assert site.drain() == {}
    assert all(job.ended for job in client_of(server).jobs("cluster"))
    assert content(site) == OLD
    kept = [path for path in (site.state_dir / "lost+found").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in kept] == [MORE]
    assert (site.top / "log").stat().st_size == len(OLD)
    site.unmount()
    assert left(site) == []


def die_while_it_is_written(site: Site, mode: str, data: bytes) -> None:
    """Append, and kill the mount while the file, open again in *mode*, is being written."""
    site.nursery.server.set(queue_seconds=600.0)
    site.mount()
    assert append(site)
    with (site.top / "log").open(mode, buffering=0) as file:
        file.write(data)
        site.kill()
        with contextlib.suppress(OSError):
            file.close()
    site.nursery.server.set(queue_seconds=0.0)
    take_up(site)


def test_it_was_being_appended_to_again(site: Site) -> None:
    """What was closed is appended; what came after is set aside."""
    die_while_it_is_written(site, "ab", b"not closed\n")
    assert content(site) == OLD + MORE
    assert site.set_aside() == [b"not closed\n"]
    assert "was being written" in "\n".join(site.errors())


def test_it_was_being_rewritten(site: Site) -> None:
    """What was appended is promised, whatever is done to the file after."""
    die_while_it_is_written(site, "wb", b"something else\n")
    assert content(site) == OLD + MORE
    assert site.set_aside() == [b"something else\n"]


def test_it_was_rewritten_at_its_beginning_and_closed(site: Site) -> None:
    """Nothing of it is appended alone any more, although its closed version could be."""
    site.nursery.server.set(queue_seconds=600.0)
    site.mount()
    assert append(site)
    with (site.top / "log").open("r+b", buffering=0) as file:
        file.write(b"LINE")
    site.kill()
    site.nursery.server.set(queue_seconds=0.0)
    take_up(site)
    assert content(site) == b"LINE" + OLD[4:] + MORE


def test_it_has_changed_by_the_next_mount(site: Site) -> None:
    site.mount(fault="store.begun:1")
    append(site)
    wait_for(lambda: not site.lives, 15)
    (site.there / "log").write_bytes(OLD + b"theirs\n")
    take_up(site)
    assert content(site) == OLD + b"theirs\n"
    kept = [path for path in (site.state_dir / "lost+found").rglob("*") if path.is_file()]
    assert [path.read_bytes() for path in kept] == [MORE]
    assert "is kept as" in "\n".join(site.errors())


@pytest.mark.parametrize("fsync", [True, False])
def test_the_power_fails(site: Site, fsync: bool) -> None:
    site.nursery.server.set(queue_seconds=600.0)
    power = Power(site)
    site.mount()
    os.listdir(site.top)
    with (site.top / "log").open("ab", buffering=0) as file:
        file.write(MORE)
        if fsync:
            os.fsync(file.fileno())
    power.fail(random.Random(1))
    site.nursery.server.set(queue_seconds=0.0)
    take_up(site)
    found = content(site)
    assert found == OLD + MORE or (not fsync and found == OLD)
    site.unmount()
    assert left(site) == []
