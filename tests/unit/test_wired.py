"""The wired mount without a kernel: what only shows where its parts meet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.mount import build
from firecrestfs.vfs import flights

from .conftest import SETTINGS
from .tools import SECOND, Remote, in_thread
from .wired import BINDING, OMIT, Files, make_config


def test_times_can_be_set_again_and_again(files: Files, there: Remote) -> None:
    (there.local / "f").write_text("x")
    for second in (1_000_000_000, 1_100_000_000, 1_200_000_000):
        files.ops.utimens(files.path("f"), (OMIT, second * SECOND))
        assert files.stat("f")["st_mtime"] == second * SECOND


def test_a_rename_changes_no_time(files: Files, there: Remote) -> None:
    (there.local / "f").write_text("x")
    files.ops.utimens(files.path("f"), (OMIT, 1_000_000_000 * SECOND))
    files.ops.rename(files.path("f"), files.path("g"))
    assert files.stat("g")["st_mtime"] == 1_000_000_000 * SECOND


def test_litter_that_gets_a_real_name_is_stored(files: Files, there: Remote) -> None:
    """Some programs write `._NAME` first and rename it when it is whole."""
    files.create("._report", b"content")
    files.ops.rename(files.path("._report"), files.path("report"))
    assert files.sync() == {}
    assert (there.local / "report").read_bytes() == b"content"


def test_a_file_that_changes_while_open_stays_visible(files: Files, there: Remote) -> None:
    """While someone writes it, the writer's version is shown; then what the cluster has."""
    (there.local / "f").write_text("one")
    info = files.open("f", os.O_WRONLY)
    (there.local / "f").write_text("three")
    files.refresh()
    assert files.stat("f")["st_size"] == 3
    files.close("f", info)
    assert files.stat("f")["st_size"] == 5
    info = files.open("f", os.O_RDONLY)
    assert files.ops.read(files.path("f"), 9, 0, info) == b"three"
    files.close("f", info)


def test_an_edit_of_a_file_that_changed_while_open_keeps_both(files: Files, there: Remote) -> None:
    (there.local / "f").write_text("one")
    info = files.open("f", os.O_RDWR)
    (there.local / "f").write_text("theirs")
    files.refresh()
    files.stat("f")
    assert files.ops.write(files.path("f"), b"MINE", 0, info) == 4
    files.close("f", info)
    assert files.sync() == {}
    assert (there.local / "f").read_text() == "theirs"
    assert sorted(each.read_text() for each in there.local.iterdir()) == ["MINE", "theirs"]


def test_a_file_that_changed_before_it_was_written_here_is_read_on(
    files: Files, there: Remote
) -> None:
    """A reader keeps the version it opened; who opens anew gets the new one."""
    (there.local / "f").write_text("one")
    old = files.open("f", os.O_RDONLY)
    (there.local / "f").write_text("theirs")
    files.refresh()
    assert files.stat("f")["st_size"] == 6
    new = files.open("f", os.O_RDONLY)
    assert files.ops.read(files.path("f"), 9, 0, old) == b"one"
    assert files.ops.read(files.path("f"), 9, 0, new) == b"theirs"
    files.close("f", old)
    files.close("f", new)


def test_a_command_over_its_time_limit_is_an_error_in_time(
    files: Files, there: Remote, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one change of a name that waits for the cluster.
    (there.local / "f").symlink_to("x")
    files.stat("f")
    emulator.faults.add("status", "ops/*", status=408, count=-1)
    thread, outcome = in_thread(lambda: files.ops.link(files.path("new"), files.path("f")))
    thread.join(8)
    emulator.faults.clear()
    try:
        assert outcome, "still waiting"
        assert isinstance(outcome[0], OSError)
    finally:
        # See test_flights: the thread would go round for ever.
        monkeypatch.setattr(flights, "FutureTimeout", KeyError, raising=False)
        thread.join(2)


def test_a_private_file_stays_private_through_every_kind_of_save(
    files: Files, there: Remote
) -> None:
    (there.local / "secret").write_text("x")
    (there.local / "secret").chmod(0o600)
    info = files.open("secret", os.O_WRONLY | os.O_TRUNC)
    files.close("secret", info)
    assert files.sync() == {}
    assert (there.local / "secret").stat().st_mode & 0o777 == 0o600
    info = files.open("secret", os.O_WRONLY)
    files.ops.write(files.path("secret"), b"again", 0, info)
    files.ops.utimens(files.path("secret"), (OMIT, 1_000_000_000 * SECOND))
    files.close("secret", info)
    assert files.sync() == {}
    assert (there.local / "secret").read_bytes() == b"again"
    assert (there.local / "secret").stat().st_mode & 0o777 == 0o600


def test_what_was_stored_while_the_network_failed_makes_no_copies(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    emulator.faults.add("lost_answer", "ops/upload", count=1)
    files.create("f", b"content")
    files.sync()
    assert there.names() == ["f"]


def test_times_in_a_home_that_was_empty(tmp_path: Path) -> None:
    """Listings tell local times of a zone; with nothing in it the home didn't tell which."""
    with Emulator(tmp_path / "clusters", settings=SETTINGS | {"zone": "Asia/Tokyo"}) as emulator:
        system = emulator.systems[0]
        home = Path(system["local_home"])
        there = Remote(system["home"], home)
        for each in home.iterdir():
            each.unlink() if each.is_file() else shutil.rmtree(each)
        mount = build(make_config(emulator, tmp_path), BINDING, "/mnt/hpc")
        try:
            files = Files(mount, there)
            assert files.ops.readdir(files.path(""), 0)[2:] == []
            (home / "f").write_bytes(b"x")
            os.utime(home / "f", (1_700_000_000, 1_700_000_000))
            files.refresh()
            assert files.stat("f")["st_mtime"] == 1_700_000_000 * SECOND
        finally:
            mount.stop()
            mount.journal.close()
