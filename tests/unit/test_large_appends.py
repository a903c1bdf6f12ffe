"""Appends of which nobody heard the end, and what others do to the file meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator

from .large import MORE, OLD, THEIRS, Start, append, ask, edit, ours, sync
from .tools import Remote, wait_until


def appending_ended(start: Start, emulator: Emulator, there: Remote) -> Path:
    """Let a mount end whose job, that appends to `log`, waits; return the job's folder."""
    (there.local / "log").write_bytes(OLD)
    emulator.knobs.put("queue_seconds", 600.0)
    files = start()
    append(files, "log")
    wait_until(lambda: ask(emulator, "jobs/submit") == 1, 20)
    time.sleep(0.3)
    start(write_back=1000.0)
    [folder] = [path for path in there.local.parent.iterdir() if "fcfs-append" in path.name]
    return folder


def test_renamed_after_its_append_has_landed_unheard_of(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    appending_ended(start, emulator, there)
    emulator.knobs.put("queue_seconds", 0.0)
    wait_until(lambda: (there.local / "log").read_bytes() == OLD + MORE, 20)
    files = start(write_back=1000.0)
    files.ops.rename(files.path("log"), files.path("log.1"))
    sync(files)
    assert files.mount.errors.lines() == []
    assert there.names() == ["log.1"]
    assert (there.local / "log.1").read_bytes() == OLD + MORE
    assert ours(there) == []


def test_others_append_before_a_job_that_was_killed(
    start: Start, emulator: Emulator, there: Remote, tmp_path: Path
) -> None:
    folder = appending_ended(start, emulator, there)
    (folder / "piece").rename(folder / "begun")
    with (there.local / "log").open("ab") as file:
        file.write(THEIRS)
    emulator.knobs.put("queue_seconds", 0.0)
    files = start()
    sync(files)
    assert (there.local / "log").read_bytes() in (OLD + THEIRS, OLD + THEIRS + MORE)
    if MORE not in (there.local / "log").read_bytes():
        kept = [each for each in (tmp_path / "state/lost+found").rglob("*") if each.is_file()]
        assert [each.read_bytes() for each in kept] == [MORE]


@pytest.mark.parametrize("how", ["rewritten", "unlinked"])
def test_others_append_behind_what_has_landed_unheard_of(
    start: Start, emulator: Emulator, there: Remote, how: str
) -> None:
    appending_ended(start, emulator, there)
    emulator.knobs.put("queue_seconds", 0.0)
    wait_until(lambda: (there.local / "log").read_bytes() == OLD + MORE, 20)
    files = start(write_back=1000.0)
    files.stat("log")
    with (there.local / "log").open("ab") as file:
        file.write(THEIRS)
    if how == "rewritten":
        edit(files, "log", b"LINE")
    else:
        files.ops.unlink(files.path("log"))
    sync(files)
    assert (there.local / "log").read_bytes().endswith(THEIRS)
