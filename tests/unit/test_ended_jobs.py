"""Jobs of ours that the cluster's scheduler ends, for reasons that are none of ours."""

from __future__ import annotations

import errno
import time

import pytest

from firecrestfs.api import transferjobs
from firecrestfs.emulator import Emulator
from firecrestfs.emulator.jobs import State
from firecrestfs.errors import JobCutShortError
from firecrestfs.transfer import remote_job, writeback

from .bench import Bench
from .large import MORE, OLD, Start, append, ask, blob, jobs, ours, sync
from .test_large_copies import copying
from .tools import Remote, wait_until
from .wired import Files

NOON = 1_700_000_000 * 10**9
#: Ends that tell nothing of what the job was for; None: it isn't known any more.
ENDS = [State.CANCELLED, State.NODE_FAIL, State.PREEMPTED, State.BOOT_FAIL, None]


@pytest.fixture(autouse=True)
def quickly_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_job, "_UNKNOWN_S", 0.5)
    monkeypatch.setattr(writeback, "_FIRST_RETRY_S", 0.1)


def strike(emulator: Emulator, state: State | None) -> None:
    """End the job that waits, and let the next one begin at once."""
    [job] = jobs(emulator)
    emulator.knobs.put("queue_seconds", 0.0)
    emulator.clusters["cluster"].scheduler.strike(job, state)


def waiting(files: Files, emulator: Emulator) -> Files:
    """Return *files* once a job of theirs waits that has been written down."""
    wait_until(lambda: ask(emulator, "jobs/submit") == 1, 20)
    time.sleep(0.3)
    return files


def by_itself(files: Files) -> None:
    """Return when all has landed, which nobody has asked for."""
    wait_until(lambda: files.mount.pending() == [], 30)
    sync(files)


@pytest.mark.parametrize("state", ENDS)
def test_a_job_that_copies(
    start: Start, emulator: Emulator, there: Remote, state: State | None
) -> None:
    files = copying(start, emulator, there)
    strike(emulator, state)
    by_itself(files)
    assert (there.local / "same").read_bytes() == blob()
    assert there.names() == ["f", "same"]
    assert files.mount.errors.lines() == []
    assert ours(there) == []


@pytest.mark.parametrize("state", ENDS)
@pytest.mark.parametrize("done", [None, 0, 5, len(MORE)])
def test_a_job_that_appends(
    start: Start, emulator: Emulator, there: Remote, state: State | None, done: int | None
) -> None:
    """Before it has begun, or with some of it done."""
    (there.local / "log").write_bytes(OLD)
    emulator.knobs.put("queue_seconds", 600.0)
    files = start()
    append(files, "log")
    waiting(files, emulator)
    [folder] = [path for path in there.local.parent.iterdir() if "fcfs-append" in path.name]
    if done is not None:
        (folder / "piece").rename(folder / "begun")
        with (there.local / "log").open("ab") as file:
            file.write(MORE[:done])
    strike(emulator, state)
    by_itself(files)
    assert (there.local / "log").read_bytes() == OLD + MORE
    assert files.mount.errors.lines() == []
    assert ours(there) == []
    # Not as a whole: that would have to be fetched first.
    ways = ("transfer/download", "transfer/upload", "transfer/compress", "transfer/extract")
    assert [ask(emulator, way) for way in ways] == [0, 0, 0, 0]


@pytest.mark.parametrize("state", ENDS)
def test_a_job_that_gives_times(
    start: Start, emulator: Emulator, there: Remote, state: State | None
) -> None:
    (there.local / "f").write_bytes(b"content")
    emulator.knobs.put("queue_seconds", 600.0)
    files = start()
    files.ops.utimens(files.path("f"), (NOON, NOON))
    waiting(files, emulator)
    strike(emulator, state)
    by_itself(files)
    assert (there.local / "f").stat().st_mtime_ns == NOON
    assert files.mount.errors.lines() == []
    assert ours(there) == []


@pytest.mark.parametrize("state", ENDS)
def test_a_job_that_renames_a_directory(
    start: Start,
    emulator: Emulator,
    there: Remote,
    state: State | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transferjobs, "UNKNOWN_S", 0.5)
    (there.local / "old").mkdir()
    (there.local / "old/f").write_bytes(b"content")
    emulator.knobs.put("queue_seconds", 600.0)
    files = start()
    files.ops.rename(files.path("old"), files.path("new"))
    wait_until(lambda: len(jobs(emulator)) == 1, 20)
    strike(emulator, state)
    by_itself(files)
    assert there.names() == ["new"]
    assert (there.local / "new/f").read_bytes() == b"content"
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("state", [State.TIMEOUT, State.OUT_OF_MEMORY])
def test_ends_that_would_come_again(
    start: Start, emulator: Emulator, there: Remote, state: State
) -> None:
    files = copying(start, emulator, there)
    strike(emulator, state)
    wait_until(lambda: files.mount.errors.lines() != [], 30)
    assert state.value in files.mount.errors.lines()[-1]
    assert ask(emulator, "jobs/submit") == 1
    assert files.mount.drain(60.0) == {}
    assert (there.local / "same").read_bytes() == blob()


def test_one_that_was_appended_to_is_unlinked_then(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    """What a job that was ended has left goes without waiting for it."""
    (there.local / "log").write_bytes(OLD)
    emulator.knobs.put("queue_seconds", 600.0)
    files = start(write_back=0.01)
    append(files, "log")
    waiting(files, emulator)
    files = start(write_back=1000.0)
    strike(emulator, State.NODE_FAIL)
    files.ops.unlink(files.path("log"))
    sync(files)
    assert there.names() == []
    assert ours(there) == []


def test_one_that_is_ended_again_and_again_is_parked(bench: Bench) -> None:
    bench.cluster.answers["a1"] = JobCutShortError("the scheduler has ended job 7 (NODE_FAIL)")
    bench.queue.add("a1")
    for number in range(1, 200):
        bench.advance(100.0)
        bench.stored(min(number, 10))
        bench.settled()
        if bench.parked:
            break
    assert bench.cluster.times == 10
    [(_, reason)] = bench.parked
    assert reason.errno == errno.EIO
    assert "10 times" in str(reason.strerror)
    assert "ask the centre" in str(reason.strerror)
    # Whoever asks for it gets as many again.
    del bench.cluster.answers["a1"]
    assert bench.queue.flush(["a1"], 10.0) == {}
