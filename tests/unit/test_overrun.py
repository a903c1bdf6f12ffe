"""Large files whose sending outlasts the job of the server that is to fetch them."""

from __future__ import annotations

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.emulator.jobs import State
from firecrestfs.transfer import sending

from .large import Start, ask, blob, jobs, ours, sync
from .tools import Remote, wait_until
from .wired import Files

STALL = {"kind": "stall", "match": "store/part", "seconds": 1.0, "count": -1}


def told(files: Files) -> str:
    """Return why what waits has not been stored."""
    return " ".join(str(row["error"]) for row in files.mount.pending())


def overrun(emulator: Emulator, number: int) -> None:
    """Let the job of upload *number* reach its time limit before all is sent."""
    wait_until(lambda: ask(emulator, "transfer/upload") == number and jobs(emulator), 30)
    [job] = jobs(emulator)
    emulator.clusters["cluster"].scheduler.strike(job, State.TIMEOUT)


def test_it_is_sent_once_more_and_not_for_ever(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    emulator.knobs.put("poll_interval", 60.0)
    emulator.faults.replace([STALL])
    files = start()
    files.create("f", blob())
    overrun(emulator, 1)
    wait_until(lambda: "time limit" in told(files), 30)
    overrun(emulator, 2)
    wait_until(lambda: files.mount.errors.lines() != [], 30)
    [line] = files.mount.errors.lines()
    assert "15 minutes" in line
    assert "only the centre can" in line
    assert "retry" in line
    assert ask(emulator, "transfer/upload") == 2
    # When it is quicker, or the centre has changed that, it lands.
    emulator.faults.clear()
    emulator.knobs.put("poll_interval", 0.2)
    sync(files)
    assert (there.local / "f").read_bytes() == blob()
    assert ours(there) == []


def test_a_line_that_was_slow_once(start: Start, emulator: Emulator, there: Remote) -> None:
    emulator.knobs.put("poll_interval", 60.0)
    emulator.faults.replace([STALL])
    files = start()
    files.create("f", blob())
    overrun(emulator, 1)
    emulator.faults.clear()
    emulator.knobs.put("poll_interval", 0.2)
    wait_until(lambda: files.mount.pending() == [], 30)
    assert (there.local / "f").read_bytes() == blob()
    assert files.mount.errors.lines() == []


def test_no_more_parts_are_sent_to_a_job_that_has_ended(
    start: Start, emulator: Emulator, there: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_ALIVE_S", 0.0)
    emulator.knobs.put("poll_interval", 60.0)
    emulator.knobs.put("max_part_size", 3_000)
    emulator.faults.replace([STALL])
    files = start()
    files.create("f", blob())
    wait_until(lambda: ask(emulator, "store/part") > 0, 30)
    overrun(emulator, 1)
    wait_until(lambda: "time limit" in told(files), 30)
    assert 0 < ask(emulator, "store/part") < 100
    assert ask(emulator, "store/complete") == 0
