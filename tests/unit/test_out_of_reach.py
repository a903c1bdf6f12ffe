"""The wired mount while its server is out of reach, and after this machine slept."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from typing import Any

import pytest

from firecrestfs import daemon
from firecrestfs.emulator import Emulator
from firecrestfs.mount import Mount
from firecrestfs.vfs import view

from .tools import Remote, code_of, wait_until
from .wired import Files

DOWN: Any = {"kind": "status", "match": "*", "status": 503, "body": "<html>", "count": -1}


@pytest.fixture
def old(files: Files) -> Files:
    """The mount; whatever it knows is too old to be believed."""
    for each in files.mount.files().values():
        each._tree._metadata.ttl = each._tree._metadata.negative_ttl = 0.0
    return files


def answer(files: Files, line: str) -> dict[str, Any]:
    files_of = files.mount.namespace.route("/.firecrestfs/ctl")
    handle = files_of[0].open("/ctl", os.O_RDWR)
    handle.write(f"{line}\n".encode(), 0)
    found: dict[str, Any] = json.loads(handle.read(1 << 20, 0))
    return found


def status(files: Files) -> dict[str, Any]:
    control = files.mount.namespace.route("/.firecrestfs/status.json")[0]
    found: dict[str, Any] = json.loads(control.open("/status.json", os.O_RDONLY).read(1 << 20, 0))
    return found


def names(files: Files) -> list[str]:
    return sorted(str(each[0]) for each in files.ops.readdir(files.path(""), 0))


def test_what_is_known_stands_and_what_is_not_is_unknown(
    old: Files, there: Remote, emulator: Emulator
) -> None:
    (there.local / "f").write_text("one")
    (there.local / "d").mkdir()
    before = names(old)
    emulator.faults.replace([DOWN])
    assert names(old) == before
    assert old.stat("f")["st_size"] == 3
    assert code_of(old.stat, "other") == errno.ENOENT
    assert code_of(old.stat, "d/other") == errno.EHOSTUNREACH
    found = status(old)["unreachable"]
    assert "503" in found["reason"]
    assert status(old)["credentials"] is None


def test_a_followed_file_can_be_read_on(
    old: Files, there: Remote, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_FOLLOW_S", 0.0)
    (there.local / "f").write_text("one")
    info = old.open("f", os.O_RDONLY)
    assert old.ops.read(old.path("f"), 9, 0, info) == b"one"
    emulator.faults.replace([DOWN])
    assert old.stat("f")["st_size"] == 3
    assert old.ops.read(old.path("f"), 9, 0, info) == b"one"
    old.close("f", info)


def test_a_refusal_by_the_server_is_no_absence_of_it(
    old: Files, there: Remote, emulator: Emulator
) -> None:
    """What it says now counts, however unwelcome."""
    (there.local / "f").write_text("one")
    names(old)
    body = {
        "errorType": "error",
        "message": "ls: Permission denied",
        "causedBy": None,
        "data": None,
    }
    emulator.faults.add("status", "ops/*", status=403, body=body, count=-1)
    assert code_of(old.stat, "f") == errno.EACCES
    assert status(old)["unreachable"] is None


def test_a_tree_that_can_not_be_asked_for_is_no_tree_that_is_refused(
    old: Files, there: Remote, emulator: Emulator
) -> None:
    for name in "abcdef":
        (there.local / name).mkdir()
    names(old)
    emulator.faults.replace([DOWN])
    for name in "abcdef":
        assert code_of(lambda at=name: list(old.ops.readdir(old.path(at), 0))) == errno.EHOSTUNREACH
    emulator.faults.replace([])
    wait_until(lambda: answers(old, "a"), 10)


def answers(files: Files, name: str) -> bool:
    try:
        files.ops.readdir(files.path(name), 0)
    except OSError:
        return False
    return True


def test_what_waits_brings_the_server_back_by_itself(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    """Nobody looks at the mount: only the pending store makes it look."""
    names_before = names(files)
    emulator.faults.replace([DOWN])
    files.create("f", b"content")
    wait_until(lambda: status(files)["unreachable"] is not None)
    assert names(files) == sorted([*names_before, "f"])
    emulator.faults.replace([])

    def stored() -> bool:
        files.mount.look_after()
        return (there.local / "f").exists()

    wait_until(stored, 20)
    wait_until(lambda: not files.mount.pending())
    assert status(files)["unreachable"] is None


# -- asleep ----------------------------------------------------------------------------------------


class _Ticks:
    """A FUSE thread and a stop signal for as many ticks as there are readings of the clocks."""

    def __init__(self, readings: list[float]) -> None:
        self.readings = readings
        self.first = self

    def is_alive(self) -> bool:
        return True

    def wait(self, seconds: float) -> bool:
        return not self.readings

    def asleep(self) -> float:
        return self.readings.pop(0)


@pytest.mark.parametrize(
    ("readings", "times"), [([0, 1, 2], 0), ([0, 29], 0), ([0, 31, 31, 100], 2), ([50, 50], 0)]
)
def test_a_long_sleep_makes_everything_new(
    files: Files, monkeypatch: pytest.MonkeyPatch, readings: list[float], times: int
) -> None:
    woken = []
    monkeypatch.setattr(Mount, "woke_up", lambda mount: woken.append(mount))
    ticks: Any = _Ticks(list(readings))
    monkeypatch.setattr(daemon, "_time_asleep", ticks.asleep)
    daemon._watch(files.mount, ticks, ticks)
    assert len(woken) == times


def test_what_was_known_before_the_sleep_is_asked_anew(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    (there.local / "f").write_text("one")
    files.refresh()
    assert files.stat("f")["st_size"] == 3
    (there.local / "f").write_text("three")
    assert files.stat("f")["st_size"] == 3
    files.mount.woke_up()
    assert files.stat("f")["st_size"] == 5


def test_a_look_that_was_under_way_when_the_machine_slept_goes_on(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    (there.local / "f").write_text("one")
    files.refresh()
    emulator.requests.clear()
    emulator.faults.replace([{"kind": "stall", "match": "ops/ls", "seconds": 3.0}])
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(files.stat("f")["st_size"]))
    thread.start()
    wait_until(lambda: any("ls" in each.endpoint for each in emulator.requests.snapshot()))
    files.mount.woke_up()
    thread.join(10)
    assert found == [3]


# -- who we are ------------------------------------------------------------------------------------


def test_login_takes_a_new_secret(files: Files, there: Remote, emulator: Emulator) -> None:
    good = emulator.client_secret
    names(files)
    assert "rejects" in answer(files, 'login {"client_secret": "wrong"}')["error"]
    refused = status(files)["credentials"]
    assert refused["since"] <= time.time()
    files.create("f", b"content")
    assert [row["state"] for row in files.mount.pending()] == ["waiting"]
    assert answer(files, f"login {json.dumps({'client_secret': good})}")["error"] == ""
    wait_until(lambda: (there.local / "f").exists(), 10)
    assert status(files)["credentials"] is None


def test_login_as_somebody_else_is_refused(files: Files) -> None:
    assert "another mount" in answer(files, 'login {"client_id": "somebody"}')["error"]
