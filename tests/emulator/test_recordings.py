"""The emulator answers as real servers did: every recorded step is sent and compared.

A step that can't agree is listed in `DEVIATIONS` with the reason; a listed step that agrees fails
too. `python -m tests.emulator.test_recordings` prints the table of all areas.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.emulator import Emulator, FileSystem, SystemSpec

from .recordings import ROOT, Area, Verdict, replay_area, substitute

AREAS = (
    *("status", "errors", "ls", "stat", "names", "read", "download", "upload"),
    *("mkdir", "rm", "symlink", "attrs", "tar", "jobs"),
    *("transfer_ops", "transfer_upload", "transfer_download"),
)

#: (area, name of the step) → why our answer differs.
DEVIATIONS: dict[tuple[str, str], str] = {
    ("jobs", "metadata of job 0"): "the scheduler answered for a job of the recording itself",
    ("jobs", "the job, when it has ended" + " (again)" * 4): (
        "recorded before accounting knew the signal; the lists that follow have it, as we do"
    ),
    ("transfer_upload", "A: the job while it waits for the object"): (
        "recorded in its first second, before accounting knew of it; later it has our codes"
    ),
}

_WHOLE = {"status": 200, "headers": {"content-length": "18"}, "body_text": "small staged file\n"}


def _excerpt(text: str, where: str) -> dict[str, Any]:
    return {"status": 206, "headers": {"content-range": f"bytes {where}"}, "body_text": text}


def _refusal(status: int, code: str) -> dict[str, Any]:
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code>{{REST}}'
    return {"status": status, "headers": {"content-type": "application/xml"}, "body_text": text}


#: Steps in which the recorded object store was an emulation that differs from S3 → S3's answer.
INSTEAD = {
    "A: complete again": _refusal(404, "NoSuchUpload"),
    "W: complete with a wrong ETag": _refusal(400, "InvalidPart"),
    "A: GET with Range bytes=0-0": _excerpt("s", "0-0/18"),
    "A: GET with Range bytes=-5": _excerpt("file\n", "13-17/18"),
    "A: GET with Range bytes=5-2": _WHOLE,
    "A: GET with Range bytes=0-1,4-5": _WHOLE,
    "A: GET without the query": _refusal(403, "AccessDenied"),
    "B: GET with Range bytes=-10": _excerpt("6789:;<=>?", "20971510-20971519/20971520"),
}

#: What the steps of some areas would else wait for.
SETTINGS: dict[str, dict[str, object]] = {
    "upload": {"command_seconds": 0.5},
    "jobs": {"command_seconds": 0.5},
    "transfer_ops": {"queue_seconds": 0},
    # One job at a time: two of them write through a link to the same file.
    "transfer_upload": {"slots": 1, "poll_interval": 0.2},
}

#: Lines that a recorded path would have changed, by area: paths without quotes fall into words.
ALARMS = {"transfer_download": ["test {HOME}/rec/xfer/with space.txt"]}

#: Steps whose answer depends on a race that both servers run: they may agree or not.
RACES: dict[tuple[str, str], str] = {
    ("tar", "compress into itself"): "tar may or may not see that its archive appears beside",
}

# The recorded sizes of links into the home directory fix the length of its path: 22.
USERS = ("recorded_user_01", "otheruser")

pytestmark = [
    pytest.mark.skipif(not ROOT.is_dir(), reason="no recordings beside the project"),
    pytest.mark.timeout(120),
]


def make_emulator(root: Path) -> Emulator:
    """Make a site like the recorded one."""
    return Emulator(
        root,
        systems=(
            SystemSpec("cluster", max_part_size=8388608),
            SystemSpec("accounted", "s3", "cluster", needs_account=True),
            SystemSpec("streaming", transfer="streamer"),
        ),
        users=USERS,
        file_systems=(FileSystem("/home", "users", True), FileSystem("/scratch", "scratch")),
        settings={"queue_seconds": 0.2},
    )


def make_values(emulator: Emulator) -> dict[str, str]:
    """Return what the placeholders stand for."""
    tokens, cluster = emulator.tokens, emulator.cluster
    user, other = (cluster.accounts[name] for name in USERS)
    return {
        "URL": emulator.url,
        "HOMES": "/home",
        "HOME": f"/home/{user.name}",
        "SCRATCHES": "/scratch",
        "SCRATCH": f"/scratch/{user.name}",
        "USER": user.name,
        "UID": str(user.uid),
        "GROUP": user.group.name,
        "GID": str(user.group.gid),
        "GROUP2": user.groups[1].name,
        "GID2": str(user.groups[1].gid),
        "OTHERUSER": other.name,
        "OTHERUID": str(other.uid),
        "NOKEYUSER": "nokey",
        "SYSTEM": "cluster",
        "SYSTEM_UPPER": "CLUSTER",
        "ACCOUNT_SYSTEM": "accounted",
        "STREAMER_SYSTEM": "streaming",
        "TOKEN": tokens.issue(user.name, 3000),
        "TOKEN_EXPIRED": tokens.issue(user.name, -10),
        "TOKEN_SOON": tokens.issue(user.name, 20),
        "TOKEN_BADSIG": tokens.issue(user.name, 300, key=b"another key of thirty-two bytes!"),
        "TOKEN_BADKID": tokens.issue(user.name, 300, kid="unknown"),
        "TOKEN_OTHER": tokens.issue(other.name, 300),
        "TOKEN_NOKEY": tokens.issue("nokey", 300),
    }


def differences(area: Area, root: Path) -> dict[str, list[str]]:
    """Replay an area; return the problems by step, the names numbered where they repeat."""
    with make_emulator(root) as emulator:
        values = make_values(emulator)
        for name, value in SETTINGS.get(area.name, {}).items():
            emulator.knobs.put(name, value)
        home = emulator.cluster.local(values["HOME"])
        out = replay_area(area, emulator.url, home, values, INSTEAD)
        assert emulator.alarms == substitute(ALARMS.get(area.name, []), values)
    return out


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A root whose closed directories don't keep pytest from removing it."""
    yield tmp_path / "root"


@pytest.mark.parametrize("name", AREAS)
def test_area(name: str, root: Path) -> None:
    Verdict(name, differences(Area.load("v2", name), root), DEVIATIONS, RACES).check()


def main() -> None:
    """Print how many steps of each area agree."""
    import tempfile

    for name in AREAS:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
            found = differences(Area.load("v2", name), Path(root))
        Verdict(name, found, DEVIATIONS, RACES).print()


if __name__ == "__main__":
    main()
