"""A second mount over the state of one that died: what was closed lands, nothing is deleted."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.mount import build

from ..harness import wait_for
from .tools import SECOND, Remote
from .wired import BINDING, OMIT, Files, make_config

Start = Callable[..., Files]


@pytest.fixture
def start(restart: Start) -> Start:
    """Start a mount over the test's state; the one before is dead then, with nothing stored."""
    return restart


@pytest.fixture
def dying(start: Start) -> Files:
    """A mount that won't live to store anything."""
    files = start(write_back=1000.0)
    files.stat("")
    return files


def left(directory: Path) -> list[str]:
    """Return the contents of all files below a directory of the state."""
    return sorted(each.read_text() for each in directory.rglob("*") if each.is_file())


def recovered(start: Start) -> Files:
    """Return the next mount, once it has stored what it took up."""
    files = start()
    files.mount.recover()
    assert files.sync() == {}
    return files


# -- what was closed -----------------------------------------------------------------------------


def test_a_closed_file_lands(dying: Files, start: Start, there: Remote, tmp_path: Path) -> None:
    dying.create("f", b"precious", 0o600)
    dying.create("empty")
    assert there.names() == []
    files = recovered(start)
    assert (there.local / "f").read_bytes() == b"precious"
    assert (there.local / "f").stat().st_mode & 0o777 == 0o600
    assert there.names() == ["empty", "f"]
    assert files.mount.journal.records() == []
    assert files.mount.errors.lines() == []
    assert left(tmp_path / "state" / "files") == []
    start().mount.recover()
    assert there.names() == ["empty", "f"]


def test_an_edit_lands_over_what_it_was_made_from(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "f").write_text("one")
    (there.local / "f").chmod(0o640)
    dying.refresh()
    info = dying.open("f", os.O_RDWR | os.O_TRUNC)
    dying.ops.write(dying.path("f"), b"two", 0, info)
    dying.close("f", info)
    recovered(start)
    assert there.names() == ["f"]
    assert (there.local / "f").read_text() == "two"
    assert (there.local / "f").stat().st_mode & 0o777 == 0o640


def test_a_mode_lands_although_the_file_was_being_written(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "f").write_text("one")
    (there.local / "f").chmod(0o640)
    dying.refresh()
    dying.close("f", dying.open("f", os.O_RDONLY))
    dying.ops.chmod(dying.path("f"), 0o755)
    info = dying.open("f", os.O_WRONLY)
    dying.ops.write(dying.path("f"), b"half", 0, info)
    files = recovered(start)
    assert (there.local / "f").read_text() == "one"
    assert (there.local / "f").stat().st_mode & 0o777 == 0o755
    assert files.stat("f")["st_mode"] & 0o777 == 0o755


def test_a_system_that_could_not_be_asked_is_asked_again(
    dying: Files, start: Start, there: Remote, emulator: Emulator
) -> None:
    dying.create("f", b"precious")
    files = start()
    emulator.faults.add("status", "*userinfo*", status=500, body="{}", count=-1)
    files.mount.recover()
    files.mount.recover()
    assert files.mount.pending()[0]["error"]
    assert len(files.mount.errors.lines()) == 1
    emulator.faults.clear()
    files.mount.look_after()  # not at once: it was asked a moment ago
    assert not files.mount.recovering
    files.mount.recover_again = 0.0
    files.mount.look_after()
    assert wait_for(lambda: not files.mount.recovering and there.names() == ["f"])
    assert files.mount.left == {}


@pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
def test_a_hard_link_is_made(start: Start, dying: Files, there: Remote, stored: bool) -> None:
    dying.create("a", b"precious", 0o600)
    if stored:
        assert dying.sync() == {}
    dying.ops.link(dying.path("b"), dying.path("a"))
    files = start(write_back=1000.0)
    files.mount.recover()
    assert files.stat("b")["st_nlink"] == 2
    files = recovered(start)
    assert there.names() == ["a", "b"]
    assert (there.local / "a").stat().st_ino == (there.local / "b").stat().st_ino
    assert (there.local / "b").read_bytes() == b"precious"
    assert files.mount.journal.records() == []
    assert files.mount.errors.lines() == []


def test_inodes_stay_what_they_were(start: Start, dying: Files, there: Remote) -> None:
    """Else `git status` reads every file again that was renamed."""
    (there.local / "d").mkdir()
    (there.local / "d" / "f").write_text("x")
    (there.local / "old").write_text("x")
    dying.refresh()
    dying.create("temporary", b"new")
    inodes = [dying.stat(name)["st_ino"] for name in ("temporary", "old", "d/f")]
    for old, new in (("temporary", "t"), ("old", "o"), ("d", "e")):
        dying.ops.rename(dying.path(old), dying.path(new))
    names = ("t", "o", "e/f")
    assert [dying.stat(name)["st_ino"] for name in names[:2]] == inodes[:2]
    assert dying.sync() == {}
    assert [dying.stat(name)["st_ino"] for name in names] == inodes
    files = start()
    files.mount.recover()
    assert [files.stat(name)["st_ino"] for name in names] == inodes


@pytest.mark.parametrize("gone", ["a", "b"])
def test_the_name_of_two_that_is_left_lands(
    start: Start, dying: Files, there: Remote, gone: str
) -> None:
    dying.create("a", b"precious")
    dying.ops.link(dying.path("b"), dying.path("a"))
    dying.ops.unlink(dying.path(gone))
    recovered(start)
    assert there.names() == [{"a": "b", "b": "a"}[gone]]
    assert (there.local / there.names()[0]).read_bytes() == b"precious"


def test_a_hard_link_to_what_was_never_whole(start: Start, dying: Files, there: Remote) -> None:
    """The bytes are in lost+found: neither name is made, and both are spoken of."""
    info = dying.created("a")
    dying.ops.write(dying.path("a"), b"half", 0, info)
    dying.ops.link(dying.path("b"), dying.path("a"))
    files = recovered(start)
    assert there.names() == []
    assert any("/a: " in line and "kept as" in line for line in files.mount.errors.lines())
    assert any("/b: " in line and "not linked" in line for line in files.mount.errors.lines())


def test_what_waits_is_seen_as_it_was(start: Start, dying: Files, there: Remote) -> None:
    """Before it has landed, the next mount shows it as the one before did."""
    dying.create("f", b"precious", 0o600)
    dying.ops.utimens(dying.path("f"), (OMIT, 1_000_000_000 * SECOND))
    before = dying.stat("f")
    files = start(write_back=1000.0)
    assert [each["path"] for each in files.mount.pending()] == [files.path("f")]
    files.mount.recover()
    after = files.stat("f")
    shown = ("st_size", "st_mode", "st_mtime", "st_uid")
    assert {key: after[key] for key in shown} == {key: before[key] for key in shown}
    info = files.open("f", os.O_RDONLY)
    assert files.ops.read(files.path("f"), 99, 0, info) == b"precious"
    files.close("f", info)
    assert [each["path"] for each in files.mount.pending()] == [files.path("f")]
    assert there.names() == []


def edit(files: Files, name: str, data: bytes) -> None:
    info = files.open(name, os.O_RDWR | os.O_TRUNC)
    files.ops.write(files.path(name), data, 0, info)
    files.close(name, info)


@pytest.mark.parametrize("how", ["stored", "renamed", "chmod"])
def test_an_edit_of_ones_own_file_belongs_to_oneself(
    start: Start, dying: Files, there: Remote, how: str
) -> None:
    """The file as the cluster told of it last has the cluster's user ids, not this machine's."""
    dying.create("f", b"one", 0o600)
    assert dying.sync() == {}
    name = "f"
    if how == "renamed":
        name = "g"
        dying.ops.rename(dying.path("f"), dying.path("g"))
    elif how == "chmod":
        dying.ops.chmod(dying.path("f"), 0o400)
        dying.ops.chmod(dying.path("f"), 0o600)
    edit(dying, name, b"two")
    before = dying.stat(name)
    files = start(write_back=1000.0)
    files.mount.recover()
    assert files.stat(name)["st_uid"] == before["st_uid"] == os.getuid()
    assert files.stat(name)["st_mode"] == before["st_mode"]
    info = files.open(name, os.O_RDWR)
    assert files.ops.read(files.path(name), 99, 0, info) == b"two"
    files.close(name, info)


def test_a_file_that_was_put_over_a_link_is_a_file(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "link").symlink_to("nowhere")
    dying.refresh()
    dying.create("f", b"content")
    dying.ops.rename(dying.path("f"), dying.path("link"))
    files = start(write_back=1000.0)
    files.mount.recover()
    assert stat.S_ISREG(files.stat("link")["st_mode"])
    info = files.open("link", os.O_RDONLY)
    assert files.ops.read(files.path("link"), 99, 0, info) == b"content"
    files.close("link", info)
    assert files.sync() == {}
    assert not (there.local / "link").is_symlink()
    assert (there.local / "link").read_bytes() == b"content"


@pytest.mark.parametrize("mode", [0o666, 0o600, 0o755])
def test_a_mode_that_was_asked_for_outlives_the_mount(
    start: Start, dying: Files, there: Remote, mode: int
) -> None:
    dying.create("f", b"x")
    dying.ops.chmod(dying.path("f"), mode)
    recovered(start)
    assert (there.local / "f").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("second", [1_000_000_000, 15_000_000_000])
def test_a_time_that_was_asked_for_outlives_the_mount(
    start: Start, dying: Files, there: Remote, second: int
) -> None:
    dying.create("f", b"x")
    dying.ops.utimens(dying.path("f"), (OMIT, second * SECOND + 7))
    recovered(start)
    assert (there.local / "f").stat().st_mtime_ns == second * SECOND + 7


def test_a_time_for_a_stored_file_outlives_the_mount(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "f").write_text("content")
    dying.refresh()
    dying.ops.utimens(dying.path("f"), (OMIT, 10**9 * SECOND + 7))
    files = start(write_back=1000.0)
    files.mount.recover()
    assert files.stat("f")["st_mtime"] == 10**9 * SECOND + 7
    files = recovered(start)
    assert (there.local / "f").stat().st_mtime_ns == 10**9 * SECOND + 7
    assert (there.local / "f").read_text() == "content"
    assert files.mount.journal.records() == []


@pytest.mark.parametrize("name", ["ü \n", 'say "hi"', "n" * 255])
def test_names_outlive_the_mount(start: Start, dying: Files, there: Remote, name: str) -> None:
    dying.create(name, b"x")
    recovered(start)
    assert there.names() == [name]


def test_a_renamed_file_lands_under_its_last_name(
    start: Start, dying: Files, there: Remote
) -> None:
    dying.create("f", b"x")
    dying.ops.rename(dying.path("f"), dying.path("g"))
    recovered(start)
    assert there.names() == ["g"]


def test_what_was_removed_does_not_come_back(start: Start, dying: Files, there: Remote) -> None:
    dying.create("f", b"x")
    dying.ops.unlink(dying.path("f"))
    recovered(start)
    assert there.names() == []


def test_many_files_land_in_few_requests(
    start: Start, dying: Files, there: Remote, emulator: Emulator
) -> None:
    for number in range(20):
        dying.create(f"f{number}", b"%d" % number)
    emulator.requests.clear()
    recovered(start)
    assert len(there.names()) == 20
    assert emulator.requests.count("ops/upload") <= 3


def test_a_conflicting_change_on_the_cluster_keeps_both(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "f").write_text("one")
    dying.refresh()
    info = dying.open("f", os.O_RDWR)
    dying.ops.write(dying.path("f"), b"mine", 0, info)
    dying.close("f", info)
    (there.local / "f").write_text("theirs")
    files = recovered(start)
    assert (there.local / "f").read_text() == "theirs"
    [copy] = [name for name in there.names() if name != "f"]
    assert copy.startswith("f.conflict-")
    assert (there.local / copy).read_text() == "mine"
    assert any(copy in line for line in files.mount.errors.lines())
    assert files.mount.journal.records() == []


def test_a_name_that_was_taken_meanwhile_keeps_both(
    start: Start, dying: Files, there: Remote
) -> None:
    dying.create("f", b"mine")
    (there.local / "f").write_text("theirs")
    recovered(start)
    assert (there.local / "f").read_text() == "theirs"
    assert sorted(each.read_text() for each in there.local.iterdir()) == ["mine", "theirs"]


def test_a_store_that_was_running_at_the_death_makes_no_copies(
    start: Start, dying: Files, there: Remote
) -> None:
    """It landed, but nobody lived to write that down."""
    dying.create("f", b"mine")
    (there.local / "f").write_bytes(b"mine")
    recovered(start)
    assert there.names() == ["f"]


def test_a_server_that_is_away_loses_nothing(
    start: Start, dying: Files, there: Remote, emulator: Emulator
) -> None:
    dying.create("f", b"precious")
    emulator.faults.add("status", "status/userinfo", status=500, count=-1)
    files = start()
    files.mount.recover()
    assert [each["path"] for each in files.mount.pending()] == [files.path("f")]
    emulator.faults.clear()
    recovered(start)
    assert (there.local / "f").read_bytes() == b"precious"


# -- names ---------------------------------------------------------------------------------------


def test_changes_of_names_land_after_a_death(start: Start, dying: Files, there: Remote) -> None:
    for name in ("moved", "gone", "mode", "over"):
        (there.local / name).write_text(name)
    (there.local / "d/in").mkdir(parents=True)
    (there.local / "d/in/f").write_text("x")
    dying.refresh()
    dying.ops.rename(dying.path("moved"), dying.path("over"))
    dying.ops.unlink(dying.path("gone"))
    dying.ops.chmod(dying.path("mode"), 0o600)
    dying.ops.mkdir(dying.path("new"), 0o700)
    dying.ops.symlink(dying.path("new/link"), "../mode")
    dying.ops.rename(dying.path("d"), dying.path("new/d"))
    dying.ops.unlink(dying.path("new/d/in/f"))
    dying.create("new/d/in/g", b"late")
    files = start(write_back=1000.0)
    files.mount.recover()
    assert files.stat("over")["st_size"] == 5
    assert files.stat("new/d/in/g")["st_size"] == 4
    assert files.ops.readlink(files.path("new/link")) == "../mode"
    for name in ("gone", "moved", "d", "new/d/in/f"):
        with pytest.raises(OSError) as info:
            files.stat(name)
        assert info.value.errno == errno.ENOENT
    assert there.names() == ["d", "gone", "mode", "moved", "over"]
    files = recovered(start)
    assert there.names() == ["mode", "new", "over"]
    assert (there.local / "over").read_text() == "moved"
    assert (there.local / "mode").stat().st_mode & 0o777 == 0o600
    assert (there.local / "new").stat().st_mode & 0o777 == 0o700
    assert os.readlink(there.local / "new/link") == "../mode"
    assert os.listdir(there.local / "new/d/in") == ["g"]
    assert files.mount.journal.records() == []
    assert files.mount.errors.lines() == []


def test_two_that_swapped_names_swap_after_a_death(
    start: Start, dying: Files, there: Remote
) -> None:
    for name in "ab":
        (there.local / name).write_text(name)
    dying.refresh()
    for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
        dying.ops.rename(dying.path(old), dying.path(new))
    recovered(start)
    assert [(there.local / name).read_text() for name in "ab"] == ["b", "a"]
    assert there.names() == ["a", "b"]


def test_what_was_undone_before_the_death_stays_undone(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "f").write_text("x")
    dying.refresh()
    dying.ops.rename(dying.path("f"), dying.path("g"))
    dying.ops.rename(dying.path("g"), dying.path("f"))
    dying.ops.mkdir(dying.path("d"), 0o755)
    dying.ops.rmdir(dying.path("d"))
    assert dying.mount.journal.records() == []


def test_what_a_new_directory_inherits_outlives_the_mount(
    start: Start, dying: Files, there: Remote
) -> None:
    there.local.chmod(0o2775)
    dying.refresh()
    for number in range(4):
        dying.ops.mkdir(dying.path(f"d{number}"), 0o755)
    recovered(start)
    modes = {name: (there.local / name).stat().st_mode & 0o7777 for name in there.names()}
    assert modes == {f"d{number}": 0o2755 for number in range(4)}


def test_a_removal_takes_nothing_that_came_after_the_death(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "d").mkdir()
    (there.local / "d/f").write_text("x")
    (there.local / "g").write_text("x")
    dying.refresh()
    dying.ops.unlink(dying.path("d/f"))
    dying.ops.rmdir(dying.path("d"))
    dying.ops.unlink(dying.path("g"))
    (there.local / "d/theirs").write_text("x")
    (there.local / "g").write_text("theirs")
    files = recovered(start)
    assert os.listdir(there.local / "d") == ["theirs"]
    assert (there.local / "g").read_text() == "theirs"
    assert files.mount.journal.records() == []


# -- what was not --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["f", "ü \n", "n" * 255])
def test_what_was_being_written_is_set_aside(
    start: Start, dying: Files, there: Remote, tmp_path: Path, name: str
) -> None:
    """Half a file under its real name would look like a whole one, and so would an empty one."""
    info = dying.created(name)
    dying.ops.write(dying.path(name), b"half ", 0, info)
    files = recovered(start)
    assert files.stat("")["st_nlink"] >= 1, "the system can be used"
    assert there.names() == []
    assert left(tmp_path / "state" / "lost+found") == ["half "]
    assert left(tmp_path / "state" / "files") == []
    assert any("lost+found" in line for line in files.mount.errors.lines())
    assert files.mount.journal.records() == []
    assert files.mount.pending() == []


@pytest.mark.parametrize("closed", [b"", b"closed"])
def test_what_was_closed_before_lands_although_more_was_being_written(
    start: Start, dying: Files, there: Remote, tmp_path: Path, closed: bytes
) -> None:
    dying.create("f", closed)
    info = dying.open("f", os.O_WRONLY)
    dying.ops.write(dying.path("f"), b"half ", 0, info)
    files = recovered(start)
    assert (there.local / "f").read_bytes() == closed
    kept = left(tmp_path / "state" / "lost+found")
    assert kept == [(b"half " + closed[5:]).decode()]
    assert left(tmp_path / "state" / "files") == []
    assert any("lost+found" in line for line in files.mount.errors.lines())
    assert files.mount.journal.records() == []


@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed"])
def test_a_new_file_without_content_counts_once_it_is_closed(
    start: Start, dying: Files, there: Remote, tmp_path: Path, closed: bool
) -> None:
    info = dying.created("f")
    if closed:
        dying.ops.flush(dying.path("f"), info)
    files = recovered(start)
    assert there.names() == (["f"] if closed else [])
    assert not (tmp_path / "state" / "lost+found").exists()
    assert left(tmp_path / "state" / "files") == []
    assert files.mount.errors.lines() == []
    assert files.mount.journal.records() == []


@pytest.mark.parametrize("how", ["O_TRUNC", "ftruncate", "truncate", "made anew"])
def test_emptying_what_is_never_closed_changes_nothing(
    start: Start, dying: Files, there: Remote, how: str
) -> None:
    """libfuse 2 sends ftruncate(2) as a truncate by path."""
    (there.local / "f").write_text("the old content")
    dying.refresh()
    if how == "made anew":
        dying.ops.unlink(dying.path("f"))
        dying.created("f")
    else:
        info = dying.open("f", os.O_RDWR | (os.O_TRUNC if how == "O_TRUNC" else 0))
        if how != "O_TRUNC":
            dying.ops.truncate(dying.path("f"), 0, *([info] if how == "ftruncate" else []))
    files = recovered(start)
    assert (there.local / "f").read_text() == "the old content"
    assert files.stat("f")["st_size"] == 15


def test_what_was_cut_by_path_is_whole_once_the_open_handle_is_closed(
    start: Start, dying: Files, there: Remote
) -> None:
    (there.local / "f").write_text("the old content")
    dying.refresh()
    info = dying.open("f", os.O_RDWR)
    dying.ops.truncate(dying.path("f"), 7)
    dying.ops.flush(dying.path("f"), info)
    recovered(start)
    assert (there.local / "f").read_text() == "the old"


def test_half_an_edit_is_set_aside_and_changes_nothing(
    start: Start, dying: Files, there: Remote, tmp_path: Path
) -> None:
    (there.local / "f").write_text("the old content")
    dying.refresh()
    info = dying.open("f", os.O_RDWR | os.O_TRUNC)
    dying.ops.write(dying.path("f"), b"half ", 0, info)
    files = recovered(start)
    assert (there.local / "f").read_text() == "the old content"
    assert files.stat("f")["st_size"] == 15
    assert left(tmp_path / "state" / "lost+found") == ["half "]


@pytest.mark.parametrize("how", ["flush", "reopened"])
def test_a_close_counts_until_the_next_change(
    start: Start, dying: Files, there: Remote, tmp_path: Path, how: str
) -> None:
    """One descriptor was closed: what it wrote is whole. Then it is opened, but not written."""
    dying.create("f", b"whole")
    info = dying.open("f", os.O_RDWR)
    if how == "flush":
        dying.ops.write(dying.path("f"), b"WHOLE", 0, info)
        dying.ops.flush(dying.path("f"), info)
    recovered(start)
    assert (there.local / "f").read_text() == ("WHOLE" if how == "flush" else "whole")
    assert not (tmp_path / "state" / "lost+found").exists()


def test_bytes_without_a_record_are_set_aside(start: Start, tmp_path: Path) -> None:
    stray = tmp_path / "state" / "files" / ("0123456789abcdef" * 2)
    stray.parent.mkdir(parents=True)
    stray.write_text("whose?")
    files = start()
    assert left(tmp_path / "state" / "lost+found") == ["whose?"]
    assert not stray.exists()
    assert any("lost+found" in line for line in files.mount.errors.lines())
    assert left(tmp_path / "state" / "lost+found") == ["whose?"]


def test_strays_of_two_deaths_are_both_kept(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "state" / "files"
    directory.mkdir(parents=True)
    for text in ("first", "second"):
        (directory / uuid.uuid4().hex).write_text(text)
        start()
    assert left(tmp_path / "state" / "lost+found") == ["first", "second"]


def test_a_record_whose_bytes_are_gone_is_told_and_forgotten(
    start: Start, dying: Files, there: Remote, tmp_path: Path
) -> None:
    dying.create("f", b"x")
    dying.create("g", b"y")
    record = next(each for each in dying.mount.journal.records() if each.path.endswith("f"))
    (tmp_path / "state" / "files" / record.ident).unlink()
    files = recovered(start)
    assert there.names() == ["g"]
    assert any("gone" in line for line in files.mount.errors.lines())
    assert files.mount.journal.records() == []


def test_a_change_of_a_system_that_is_no_longer_offered_waits(
    start: Start, dying: Files, there: Remote
) -> None:
    dying.create("f", b"x")
    record = dying.mount.journal.records()[0]
    moved = replace(record, system="retired")
    dying.mount.journal.record(moved)
    files = start()
    files.mount.recover()
    assert [each["path"] for each in files.mount.pending()] == [f"/retired{record.path}"]
    assert files.mount.journal.records() == [moved]


# -- a store after the first ---------------------------------------------------------------------


def test_what_has_landed_once_is_based_on_what_landed(start: Start, there: Remote) -> None:
    """An edit after a store is no conflict with that store, in this mount and in the next."""
    files = start()
    files.stat("")
    files.create("f", b"one")
    assert files.sync() == {}
    files = start(write_back=1000.0)
    info = files.open("f", os.O_WRONLY | os.O_TRUNC)
    files.ops.write(files.path("f"), b"three", 0, info)
    files.close("f", info)
    recovered(start)
    assert there.names() == ["f"]
    assert (there.local / "f").read_text() == "three"


def test_an_edit_shows_the_time_at_which_it_was_made(
    start: Start, dying: Files, there: Remote
) -> None:
    """Not that of what it was made from: programs that build would take it for older."""
    (there.local / "f").write_text("one")
    os.utime(there.local / "f", ns=(1_000_000_000 * SECOND,) * 2)
    dying.refresh()
    info = dying.open("f", os.O_RDWR | os.O_TRUNC)
    dying.ops.write(dying.path("f"), b"two", 0, info)
    dying.close("f", info)
    written = dying.stat("f")["st_mtime"]
    files = start(write_back=1000.0)
    files.mount.recover()
    before = files.stat("f")["st_mtime"]
    assert abs(before - written) < SECOND
    assert files.sync() == {}
    assert files.stat("f")["st_mtime"] == before


def test_what_had_stepped_aside_is_found(start: Start, dying: Files, there: Remote) -> None:
    """Two were swapping names; no listing tells of the hidden one that the cluster has by now."""
    (there.local / "f").write_text("one")
    dying.refresh()
    dying.ops.rename(dying.path("f"), dying.path("g"))
    record = dying.mount.journal.records()[0]
    (there.local / "f").rename(there.local / ".fcfs-aside")
    dying.mount.journal.record(replace(record, origin=there / ".fcfs-aside"))
    files = start(write_back=1000.0)
    files.mount.recover()
    assert files.stat("g")["st_size"] == 3
    assert [name for name, *_ in files.ops.readdir(files.path(""), None)] == [".", "..", "g"]
    with pytest.raises(OSError):
        files.stat(".fcfs-aside")
    assert files.sync() == {}
    assert there.names() == ["g"]


def test_a_mount_takes_nothing_up_of_one_that_has_stored_all(start: Start, there: Remote) -> None:
    files = start()
    files.stat("")
    files.create("f", b"one")
    assert files.sync() == {}
    files = start()
    files.mount.recover()
    assert files.mount.pending() == []
    assert files.mount.namespace.connected() == {}


def test_a_state_directory_inside_the_mount_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    with pytest.raises(OSError) as info:
        build(make_config(emulator, tmp_path), BINDING, str(tmp_path))
    assert info.value.errno == errno.EINVAL
    assert not (tmp_path / "state").exists()


def test_what_is_set_aside_stays_when_more_of_that_file_is(
    dying: Files, start: Start, tmp_path: Path
) -> None:
    """A file that can't be stored for long is written again, and the mount dies again."""
    dying.create("f", b"closed")
    for data in (b"first", b"second"):
        info = dying.open("f", os.O_RDWR | os.O_TRUNC)
        dying.ops.write(dying.path("f"), data, 0, info)
        dying = start(write_back=1000.0)
        dying.mount.recover()
    assert left(tmp_path / "state" / "lost+found") == ["first", "second"]


def test_an_unmount_right_after_the_mount_stores_what_was_left(
    dying: Files, start: Start, there: Remote
) -> None:
    dying.create("f", b"precious")
    files = start()
    files.mount.begin_recovery()
    assert files.sync() == {}
    assert files.mount.pending() == []
    assert (there.local / "f").read_bytes() == b"precious"


def test_an_unmount_tries_what_could_not_be_taken_up(
    dying: Files, start: Start, there: Remote, emulator: Emulator
) -> None:
    dying.create("f", b"precious")
    files = start()
    emulator.faults.add("status", "*userinfo*", status=500, body="{}", count=-1)
    files.mount.recover()
    emulator.faults.clear()
    assert files.sync() == {}
    assert files.mount.pending() == []
    assert (there.local / "f").read_bytes() == b"precious"


def test_what_can_not_be_taken_up_is_told_with_what_waits(
    dying: Files, start: Start, tmp_path: Path
) -> None:
    """Where what was written later has to be set aside first, and can't be."""
    dying.create("f", b"precious")
    info = dying.open("f", os.O_RDWR)
    dying.ops.write(dying.path("f"), b"more", 0, info)
    lost = tmp_path / "state" / "lost+found"
    lost.symlink_to("a disk that is not here")
    files = start()
    files.mount.recover()
    [row] = files.mount.pending()
    assert (row["path"], row["state"]) == (files.path("f"), "failed")
    assert list(files.sync()) == [files.path("f")]
    lost.unlink()
    files = recovered(start)
    assert files.mount.pending() == []
