"""Large files that are written into their targets: other people, deaths, and what comes next."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.mount import build

from .conftest import SETTINGS
from .large import THEIRS, Start, ask, blob, edit, jobs, ours, sizes, sync
from .tools import Remote, wait_until
from .wired import BINDING, Files, make_config


def copying(start: Start, emulator: Emulator, there: Remote) -> Files:
    """Return a mount that waits for a job, in the queue, that copies a file into another."""
    (there.local / "f").write_bytes(b"old")
    (there.local / "same").hardlink_to(there.local / "f")
    emulator.faults.add("stall", "jobs/submit", seconds=1.0)
    files = start()
    files.stat("f")
    edit(files, "f", blob())
    wait_until(lambda: len(blob()) in sizes(ours(there)), 20)
    emulator.knobs.put("queue_seconds", 600.0)
    wait_until(lambda: ask(emulator, "jobs/submit") == 1, 20)
    time.sleep(0.3)
    return files


def test_somebody_writes_while_the_job_that_copies_waits(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    files = copying(start, emulator, there)
    (there.local / "f").write_bytes(THEIRS)
    emulator.knobs.put("queue_seconds", 0.0)
    sync(files)
    assert (there.local / "same").read_bytes() == THEIRS
    [copy] = [name for name in there.names() if name not in ("f", "same")]
    assert (there.local / copy).read_bytes() == blob()
    assert ours(there) == []


def test_a_mount_ends_while_the_job_that_copies_waits(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    copying(start, emulator, there)
    files = start(write_back=1000.0)
    emulator.knobs.put("queue_seconds", 0.0)
    wait_until(lambda: (there.local / "f").read_bytes() == blob(), 20)
    wait_until(lambda: jobs(emulator) == [], 20)
    sync(files)
    assert there.names() == ["f", "same"]
    assert (there.local / "same").read_bytes() == blob()
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("there_now", [b"", blob()[:1000], blob(), THEIRS])
def test_a_job_that_copies_was_cut_short(
    start: Start, emulator: Emulator, there: Remote, there_now: bytes
) -> None:
    """What is a beginning of ours is ours; anything else is somebody's."""
    copying(start, emulator, there)
    files = start(write_back=1000.0)
    [job] = jobs(emulator)
    files.mount.client.cancel("cluster", job)
    [source] = [path for path in there.local.iterdir() if path.name.startswith(".fcfs-")]
    source.rename(f"{source}.into")
    (there.local / "f").write_bytes(there_now)
    emulator.knobs.put("queue_seconds", 0.0)
    sync(files)
    copies = [name for name in there.names() if name not in ("f", "same")]
    if there_now == THEIRS:
        assert (there.local / "same").read_bytes() == THEIRS
        assert [(there.local / name).read_bytes() for name in copies] == [blob()]
    else:
        assert copies == []
        assert (there.local / "same").read_bytes() == blob()
        assert files.mount.errors.lines() == []
    assert ours(there) == []


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("there_now", [b"", blob()[:1000], THEIRS])
def test_rewritten_after_a_job_that_copies_was_cut_short(
    start: Start, emulator: Emulator, there: Remote, there_now: bytes, size: int
) -> None:
    """The beginning of a version that is outdated by then is ours all the same."""
    copying(start, emulator, there)
    files = start(write_back=1000.0)
    [job] = jobs(emulator)
    files.mount.client.cancel("cluster", job)
    [source] = [path for path in there.local.iterdir() if path.name.startswith(".fcfs-")]
    source.rename(f"{source}.into")
    (there.local / "f").write_bytes(there_now)
    emulator.knobs.put("queue_seconds", 0.0)
    edit(files, "f", blob(size, 2), flags=os.O_TRUNC)
    sync(files)
    copies = [name for name in there.names() if name not in ("f", "same")]
    if there_now == THEIRS:
        assert (there.local / "same").read_bytes() == THEIRS
        assert [(there.local / name).read_bytes() for name in copies] == [blob(size, 2)]
    else:
        assert copies == []
        assert (there.local / "same").read_bytes() == blob(size, 2)
        assert files.mount.errors.lines() == []
    assert ours(there) == []


# -- API v1, which writes into a file that must keep its inode -----------------------------------


@pytest.fixture(scope="module")
def on_v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("v1"), settings=SETTINGS, api="v1") as emulator:
        yield emulator


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_rewritten_before_the_first_version_is_copied_into_it(
    on_v1: Emulator, tmp_path: Path, size: int, dies: bool
) -> None:
    """Nothing stops what was sent first: what was written last has to come last."""
    system = on_v1.systems[0]
    there = Remote(f"{system['home']}/{tmp_path.name}", Path(system["local_home"]) / tmp_path.name)
    there.local.mkdir()
    (there.local / "f").write_bytes(b"old")
    (there.local / "same").hardlink_to(there.local / "f")
    on_v1.knobs.put("poll_interval", 2.0)
    on_v1.requests.clear()

    def mounted() -> Files:
        config = make_config(on_v1, tmp_path, write_back=0.01, api_version="1")
        mount = build(config, BINDING, "/mnt/hpc")
        mount.recover()
        files = Files(mount, there)
        files.stat("f")
        return files

    files = mounted()
    edit(files, "f", blob())
    wait_until(lambda: ask(on_v1, "store/form") == 1, 20)
    time.sleep(0.2)
    if dies:
        files.mount.stop()
        files.mount.journal.close()
        files = mounted()
    edit(files, "f", blob(size, 2), flags=os.O_TRUNC)
    sync(files)
    time.sleep(4.5)  # whatever was sent has been copied by then
    files.mount.stop()
    files.mount.journal.close()
    assert (there.local / "f").read_bytes() == blob(size, 2)
    assert there.names() == ["f", "same"]
    assert ours(there) == []
