"""API v1 answers as a real 1.16.6 did: every recorded step is sent and compared.

A step that can't agree is listed in `DEVIATIONS` with the reason; a listed step that agrees fails
too. `python -m tests.emulator.test_v1_recordings` prints the table of all areas.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.emulator import Emulator, FileSystem, SystemSpec
from firecrestfs.emulator.jobs import State

from .conftest import wait_for
from .recordings import ROOT, Area, Verdict, replay_area

AREAS = (
    *("status", "errors", "ls", "stat", "names", "read", "download", "upload"),
    *("mkdir", "rename", "rm", "symlink", "attrs", "tar"),
    *("tasks", "jobs", "xfer_internal", "xfer_download", "xfer_upload"),
)

_TASK = "its task, when it has ended"


def nth(name: str, number: int) -> str:
    """Return the *number*th step of a name, as the replay numbers them."""
    return name + " (again)" * (number - 1)


#: (area, name of the step) → why our answer differs.
DEVIATIONS: dict[tuple[str, str], str] = {
    ("jobs", nth(_TASK, number)): reason
    for numbers, reason in (
        ((15, 16, 31), "the scheduler's own words, from a stand-in; ours are Slurm's"),
        ((26,), "the stand-in took no notice of the times"),
        ((27,), "the first job of the recorded site was left out as not of this recording"),
        ((28,), "a job of another area was waiting there"),
    )
    for number in numbers
}

#: What S3 answers where a stand-in was recorded, from the remarks there.
INSTEAD: dict[str, dict[str, Any]] = {
    "A: GET with Range bytes=0-0": {
        "status": 206,
        "headers": {"content-range": "bytes 0-0/18", "content-length": "1"},
        "body_text": "s",
    },
    "A: GET with Range bytes=-5": {
        "status": 206,
        "headers": {"content-range": "bytes 13-17/18", "content-length": "5"},
        "body_text": "file\n",
    },
}

#: Steps whose answer depends on a race that both servers run: they may agree or not.
RACES: dict[tuple[str, str], str] = {
    ("tar", "compress into itself"): "tar may or may not see that its archive appears beside",
}

USER = "recorded_user_0001"  # as long as the recorded one

pytestmark = [
    pytest.mark.skipif(not ROOT.is_dir(), reason="no recordings beside the project"),
    pytest.mark.timeout(120),
]

_HOMES, _SCRATCH = FileSystem("/home", "users", True), FileSystem("/scratch", "scratch")


def make_emulator(root: Path) -> Emulator:
    """Make a site like the recorded one."""
    return Emulator(
        root,
        api="v1",
        systems=(SystemSpec("cluster"), SystemSpec("down", file_systems=(_HOMES,), down=True)),
        users=("owner", USER),
        file_systems=(_HOMES, _SCRATCH),
        settings={"queue_seconds": 0.2, "poll_interval": 0.3, "open_gateway": True},
    )


def make_values(emulator: Emulator) -> dict[str, str]:
    """Return what the placeholders stand for."""
    tokens, user = emulator.tokens, emulator.cluster.accounts[USER]
    return {
        "URL": emulator.url,
        "HOMES": "/home",
        "HOME": f"/home/{USER}",
        "SCRATCHES": "/scratch",
        "SCRATCH": f"/scratch/{USER}",
        "USER": USER,
        "UID": str(user.uid),
        "GROUP": user.group.name,
        "GID": str(user.group.gid),
        "SYSTEM": "cluster",
        "SYSTEM_UPPER": "CLUSTER",
        "DOWN_SYSTEM": "down",
        "TOKEN": tokens.issue(USER, 3000),
        "TOKEN_EXPIRED": tokens.issue(USER, -10),
        "TOKEN_BADSIG": tokens.issue(USER, 300, key=b"another key of thirty-two bytes!"),
        "TOKEN_OTHER": tokens.issue("nobody", 300),
    }


def differences(area: Area, root: Path) -> dict[str, list[str]]:
    """Replay an area; return the problems by step."""
    with make_emulator(root) as emulator:
        values = make_values(emulator)
        home = emulator.cluster.local(values["HOME"])
        before = functools.partial(_before, emulator)
        out = replay_area(area, emulator.url, home, values, INSTEAD, before)
        assert not emulator.alarms
    return out


def _before(emulator: Emulator, name: str, values: dict[str, str]) -> None:
    """Wait, and do, what the recorder did between the steps."""

    def states() -> list[State]:
        return [job.state for job in emulator.cluster.scheduler.jobs() if job.ended is None]

    if name.startswith(("accounting", "its output", "active jobs of that id, when it has")):
        wait_for(lambda: not states(), 20)
    elif name == nth("active jobs of that id", 2):
        wait_for(lambda: State.RUNNING in states())
    elif name.startswith("F: the task, when the object has been removed"):
        emulator.store.delete(f"{USER}/{values['F_TASK']}/upload.bin")


@pytest.mark.parametrize("name", AREAS)
def test_area(name: str, tmp_path: Path) -> None:
    found = differences(Area.load("v1", name), tmp_path / "root")
    Verdict(name, found, DEVIATIONS, RACES).check()


def main() -> None:
    """Print how many steps of each area agree."""
    import sys
    import tempfile

    for name in sys.argv[1:] or AREAS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            found = differences(Area.load("v1", name), Path(root))
        Verdict(name, found, DEVIATIONS, RACES).print()


if __name__ == "__main__":
    main()
