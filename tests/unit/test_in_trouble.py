"""What users meet in trouble: waits that end, what is told of what waits, and credentials."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.kept import copy_out
from firecrestfs.mount import build
from firecrestfs.vfs import stores

from .large import Start
from .test_out_of_reach import DOWN, answer
from .tools import Remote, code_of, in_thread, wait_until
from .wired import BINDING, Files, make_config

Mounting = Callable[..., Files]


@pytest.fixture
def mounting(emulator: Emulator, there: Remote, tmp_path: Path) -> Iterator[Mounting]:
    """Mount with these settings."""
    made: list[Files] = []

    def mounting(**changes: Any) -> Files:
        files = Files(build(make_config(emulator, tmp_path, **changes), BINDING, "/mnt/hpc"), there)
        made.append(files)
        files.stat("")
        return files

    yield mounting
    for each in made:
        each.mount.stop()
        each.mount.journal.close()


# -- waits that can be interrupted -----------------------------------------------------------------


@pytest.mark.parametrize("setting", [{"fsync": "remote"}, {"write_through": True}], ids=str)
def test_who_waits_for_the_cluster_can_be_interrupted(
    mounting: Mounting, emulator: Emulator, setting: dict[str, Any]
) -> None:
    files = mounting(**setting)
    info = files.created("f")
    files.ops.write(files.path("f"), b"x", 0, info)
    emulator.faults.replace([DOWN])
    files.ops.check_interrupted = lambda: 1
    end = files.ops.fsync if "fsync" in setting else files.ops.flush
    args = (files.path("f"), 0, info) if "fsync" in setting else (files.path("f"), info)
    thread, outcome = in_thread(lambda: code_of(end, *args))
    thread.join(30)
    assert not thread.is_alive()
    assert outcome[0] in (errno.EINTR, errno.EHOSTUNREACH)
    files.ops.check_interrupted = lambda: 0
    # It was noted all the same.
    assert [each.where for each in files.mount.journal.records()] == [files.there / "f"]


# -- what is told ----------------------------------------------------------------------------------


def test_what_is_being_written_is_told_with_what_waits(start: Start) -> None:
    """It was closed once, and is promised: whoever unmounts now must hear that it isn't stored."""
    files = start(write_back=1000.0)
    files.create("f", b"closed")
    info = files.open("f", os.O_RDWR)
    [row] = files.mount.pending()
    assert row["path"] == files.path("f")
    assert "open for writing" in row["error"]
    files.close("f", info)
    assert len(files.mount.pending()) == 1
    assert files.sync() == {}
    info = files.open("f", os.O_RDWR)
    assert files.mount.pending() == []
    files.close("f", info)


def test_a_system_that_is_down_holds_up_no_other(tmp_path: Path) -> None:
    with Emulator(tmp_path / "centre", systems=("a", "b")) as emulator:
        mount = build(make_config(emulator, tmp_path, write_back=1000.0), BINDING, "/mnt/hpc")
        for system in emulator.systems:
            path = f"/{system['name']}{system['home']}/on-{system['name']}"
            info = SimpleNamespace(fh=0, flags=os.O_RDWR | os.O_CREAT, direct_io=0, keep_cache=0)
            mount.operations.create(path, 0o644, info)
            mount.operations.flush(path, info)
            mount.operations.release(path, info)
        first, second = emulator.systems
        body = {"errorType": "error", "message": "x"}
        emulator.faults.add("status", "*", path="*on-a", status=504, body=body, count=-1)
        failed = mount.drain(5.0)
        assert list(failed) == [f"/a{first['home']}/on-a"]
        assert (Path(second["local_home"]) / "on-b").exists()
        mount.stop()
        mount.journal.close()


def test_half_a_copy_is_none(tmp_path: Path) -> None:
    """Of a file that can't be read to its end nothing stays that could be taken for it."""
    assert code_of(copy_out, Path("/proc/self/mem"), tmp_path / "copy") == errno.EIO
    assert list(tmp_path.iterdir()) == []


# -- credentials -----------------------------------------------------------------------------------


def test_credentials_that_are_given_no_more_are_used_no_more(
    mounting: Mounting, emulator: Emulator
) -> None:
    files = mounting()
    secret = {
        "client_id": emulator.client_id,
        "client_secret": emulator.client_secret,
        "token_url": emulator.token_url,
    }
    assert answer(files, "login " + json.dumps({"token": "expired", **secret}))["error"]
    assert answer(files, "login " + json.dumps(secret))["error"] == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [({"client_id": "another"}, "another mount"), ({"token": "no token"}, "no access token")],
)
def test_credentials_that_can_not_be_taken_are_told_why(
    mounting: Mounting, given: dict[str, str], words: str
) -> None:
    """The kernel passes on an errno alone."""
    assert words in answer(mounting(), "login " + json.dumps(given))["error"]


def test_an_unmount_does_not_wait_for_what_was_given_up(tmp_path: Path) -> None:
    """On v1 it lands with the next round of the staging area, and is removed then or later."""
    knobs = {"max_ops_file_size": 64 * 1024, "poll_interval": 60.0, "queue_seconds": 0.0}
    with Emulator(tmp_path / "centre", api="v1", settings=knobs) as emulator:
        mount = build(make_config(emulator, tmp_path), BINDING, "/mnt/hpc")
        system = emulator.systems[0]
        path = f"/{system['name']}{system['home']}/f"
        info = SimpleNamespace(fh=0, flags=os.O_RDWR | os.O_CREAT, direct_io=0, keep_cache=0)
        mount.operations.create(path, 0o644, info)
        mount.operations.write(path, os.urandom(300_000), 0, info)
        mount.operations.flush(path, info)
        mount.operations.release(path, info)
        wait_until(lambda: [row.stage for _, row in mount.under_way()] == ["landing"], 20)
        mount.operations.unlink(path)
        wait_until(lambda: not mount.pending(), 20)
        stop = threading.Event()
        thread, outcome = in_thread(lambda: mount.drain(600.0, stop.is_set))
        thread.join(1)
        assert thread.is_alive(), "with time it waits"
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        thread, outcome = in_thread(lambda: mount.drain(0.5))
        thread.join(30)
        assert "yet to land" in str(outcome)
        mount.stop()
        mount.journal.close()


def test_what_can_not_be_stopped_is_not_given_up(
    files: Files, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would land, although its user was told that it doesn't."""
    monkeypatch.setattr(stores, "_IDLE_S", 0.1)
    emulator.faults.add("stall", "ops/upload", seconds=2.0)
    files.create("f", b"x")
    wait_until(lambda: [row["state"] for row in files.mount.pending()] == ["storing"])
    assert "being stored" in answer(files, f"discard {files.path('f')}")["error"]
    assert files.sync() == {}
    assert (files.there.local / "f").read_bytes() == b"x"


def test_retry_does_not_wait_for_the_settle_delay(start: Start, emulator: Emulator) -> None:
    files = start(write_back=1000.0)
    files.create("f", b"x")
    body = {"errorType": "error", "message": "cp: cannot create 'f': Permission denied"}
    emulator.faults.add("status", "ops/upload", status=500, body=body, count=-1)
    assert list(files.sync()) == [files.path("f")]
    emulator.faults.clear()
    assert answer(files, f"retry {files.path('f')}") == {"tried": [files.path("f")], "failed": {}}
    assert (files.there.local / "f").read_bytes() == b"x"


@pytest.mark.parametrize("change", ["rename", "unlink", "mkdir"])
def test_what_is_taken_back_is_told_as_failed(
    start: Start, emulator: Emulator, there: Remote, change: str
) -> None:
    """It isn't on the cluster: a script that goes on after `sync` would not find it."""
    files = start(write_back=1000.0)
    (there.local / "f").write_text("x")
    files.refresh()
    files.stat("f")
    changes: dict[str, Callable[[], object]] = {
        "rename": lambda: files.ops.rename(files.path("f"), files.path("g")),
        "unlink": lambda: files.ops.unlink(files.path("f")),
        "mkdir": lambda: files.ops.mkdir(files.path("g"), 0o755),
    }
    changes[change]()
    body = {"errorType": "error", "message": "x: cannot do: Permission denied"}
    for endpoint in (
        "ops/rm",
        "ops/mkdir",
        "ops/extract",
        "ops/compress",
        "transfer/*",
        "ops/upload",
    ):
        emulator.faults.add("status", endpoint, status=500, body=body, count=-1)
    marks = files.mount.marks()
    failed = answer(files, f"sync {files.path('')}")["failed"]
    path = files.path("f" if change == "unlink" else "g")
    assert "Permission denied" in failed[path]
    assert files.mount.refused(marks) == {path: failed[path]}
    emulator.faults.clear()
    assert answer(files, f"sync {files.path('')}")["failed"] == {}
