"""The emulator answers as real servers did: every recorded step is sent and compared.

A step that can't agree is listed in `DEVIATIONS` with the reason; a listed step that agrees fails
too. `python -m tests.emulator.test_recordings` prints the table of all areas.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator, FileSystem, SystemSpec

from .recordings import ROOT, Area, Verdict, replay_area

AREAS = (
    *("status", "errors", "ls", "stat", "names", "read", "download", "upload"),
    *("mkdir", "rm", "symlink", "attrs", "tar", "jobs"),
)

#: (area, name of the step) → why our answer differs.
DEVIATIONS: dict[tuple[str, str], str] = {
    ("jobs", "metadata of job 0"): "the scheduler answered for a job of the recording itself",
    ("jobs", "the job, when it has ended" + " (again)" * 4): (
        "recorded before accounting knew the signal; the lists that follow have it, as we do"
    ),
}

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
            SystemSpec("accounted", needs_account=True, max_part_size=1073741824),
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
        if area.name in ("upload", "jobs"):  # some of their steps run into the limit
            emulator.knobs.put("command_seconds", 0.5)
        out = replay_area(area, emulator.url, emulator.cluster.local(values["HOME"]), values)
        assert not emulator.alarms
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
