"""What a state directory keeps, looked at without a mount; copies that overwrite nothing."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from firecrestfs.cache.asides import Asides
from firecrestfs.cache.database import Database
from firecrestfs.cache.journal import Journal, Record
from firecrestfs.cli import main
from firecrestfs.kept import Origin, StateDirectory, copy_out, state_directories, take_lock
from firecrestfs.model import Kind
from firecrestfs.vfs.lostfound import LostFound

from .tools import code_of

DAY = 86400.0


@pytest.fixture
def state(tmp_path: Path) -> StateDirectory:
    """A state directory with two changed files, the second without its bytes."""
    path = tmp_path / "state"
    (path / "files").mkdir(parents=True)
    journal = Journal(Database(path / "journal.sqlite"))
    for number, name in enumerate(["/home/me/f", "/home/me/g"]):
        journal.record(Record(f"ident{number}", "daint", name, "", size=0))
    journal.close()
    (path / "files/ident0").write_bytes(b"content")
    os.utime(path / "files/ident0", (1e9, 1e9))
    return StateDirectory(path)


def test_rows(state: StateDirectory) -> None:
    with state.locked():
        first, second = state.rows()
    assert (first.path, first.kind, first.closed) == ("/daint/home/me/f", "file", True)
    assert first.since is not None
    assert abs(first.since - time.time()) < DAY
    assert first.local is not None
    assert first.local.read_bytes() == b"content"
    assert (second.path, second.local) == ("/daint/home/me/g", None)


def test_looking_at_an_empty_directory_makes_nothing_in_it(tmp_path: Path) -> None:
    assert StateDirectory(tmp_path).rows() == []
    assert StateDirectory(tmp_path).lost() == []
    assert StateDirectory(tmp_path).remove_expired() == []
    assert StateDirectory(tmp_path).origin() == Origin("", "", 0)
    assert list(tmp_path.iterdir()) == []


def test_the_reasons_of_the_last_exit_are_told(state: StateDirectory) -> None:
    (state.path / "last-exit.json").write_text('{"failed": {"/daint/home/me/f": "no room"}}')
    assert [row.error for row in state.rows()] == ["no room", ""]
    for damaged in ("", "[]", "{"):
        (state.path / "last-exit.json").write_text(damaged)
        assert [row.error for row in state.rows()] == ["", ""]


def test_discarding_keeps_the_bytes(state: StateDirectory) -> None:
    first, second = state.rows()
    [(_, where)] = state.discard(first)
    assert where is not None
    assert where.read_bytes() == b"content"
    assert state.lost() == [where]
    assert list(state.discard(second)) == [(second, None)]
    assert state.rows() == []
    assert list((state.path / "files").iterdir()) == []


def test_discarded_twice_under_one_name(state: StateDirectory) -> None:
    [first, _] = state.rows()
    [(_, where)] = state.discard(first)
    (state.path / "files/ident1").write_bytes(b"other")
    [second] = state.rows()
    again = Asides(state.path).keep(state.path / "files/ident1", "f", discarded=True)
    assert where != again
    assert second.local is not None


def test_only_what_was_discarded_long_ago_goes(state: StateDirectory) -> None:
    first, _ = state.rows()
    [(_, where)] = state.discard(first)
    kept = state.path / "lost+found/f-set-aside"
    kept.write_bytes(b"x")
    assert where is not None
    assert state.remove_expired(time.time() + 6.9 * DAY) == []
    assert state.remove_expired(time.time() + 8.1 * DAY) == []
    assert state.remove_expired(time.time() + 9.2 * DAY) == [where.parent]
    assert not where.exists()
    assert state.lost() == [kept]


@pytest.mark.parametrize("days", [400.0, 20_000.0])
def test_a_clock_that_is_wrong_for_a_mount_costs_nothing(
    state: StateDirectory, days: float
) -> None:
    first, _ = state.rows()
    [(_, where)] = state.discard(first)
    assert where is not None
    for each in (days, days + 0.5, 0.1, days, 0.2):
        assert state.remove_expired(time.time() + each * DAY) == []
    assert where.exists()
    # Noted by the clock that was ahead, it isn't that old by one that is right.
    assert state.remove_expired(time.time() + days * DAY) == []
    assert state.remove_expired(time.time() + 8.5 * DAY) == []
    assert where.exists()
    (state.path / "expiring.json").write_text("{")
    assert state.remove_expired(time.time() + 9.0 * DAY) == []
    assert state.remove_expired(time.time() + 10.1 * DAY) == [where.parent]


def test_who_holds_the_directory_is_told(state: StateDirectory) -> None:
    fd = take_lock(state.path, "process 7 at /mnt/hpc")
    with pytest.raises(OSError, match="process 7 at /mnt/hpc") as info, state.locked():
        pass
    assert info.value.errno == errno.EBUSY
    os.close(fd)
    with state.locked():
        pass


def test_state_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_directories() == []
    (tmp_path / "firecrestfs/servers/b").mkdir(parents=True)
    (tmp_path / "firecrestfs/servers/a").mkdir(parents=True)
    assert [each.path.name for each in state_directories()] == ["a", "b"]
    assert [each.path for each in state_directories(str(tmp_path / "x"))] == [tmp_path / "x"]


# -- copies ----------------------------------------------------------------------------------------


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "a/b/t"
    source.write_bytes(b"new")
    source.chmod(0o640)
    os.utime(source, (1e9, 1e9))
    assert copy_out(source, target) == target
    assert (target.stat().st_mtime, target.stat().st_mode & 0o777) == (1e9, 0o640)
    target.write_bytes(b"mine")
    assert copy_out(source, target) == target.with_name("t.1")
    assert target.read_bytes() == b"mine"


def test_a_copy_goes_through_no_link(tmp_path: Path) -> None:
    source, target, other = tmp_path / "s", tmp_path / "t", tmp_path / "other"
    source.write_bytes(b"new")
    target.symlink_to(other)
    assert copy_out(source, target) == tmp_path / "t.1"
    assert not other.exists()
    link = tmp_path / "link"
    link.symlink_to("nowhere")
    assert os.readlink(copy_out(link, tmp_path / "copy")) == "nowhere"


# -- in the mount ----------------------------------------------------------------------------------


def test_lost_and_found_can_only_be_read(state: StateDirectory) -> None:
    first, _ = state.rows()
    [(_, where)] = state.discard(first)
    assert where is not None
    files = LostFound(state.path / "lost+found")
    [day] = files.readdir("/")
    assert (day.attr.kind, day.attr.mode) == (Kind.DIRECTORY, 0o500)
    path = f"/{day.name}/{where.name}"
    assert files.getattr(path).size == 7
    handle = files.open(path, os.O_RDONLY)
    assert handle.read(4, 3) == b"tent"
    handle.release()
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
        assert code_of(files.open, path, flags) == errno.EROFS
    for change in (files.unlink, files.rmdir):
        assert code_of(change, path) == errno.EPERM
    assert code_of(files.create, "/new", os.O_WRONLY, 0o644) == errno.EROFS
    assert code_of(files.getattr, "/none") == errno.ENOENT


def test_lost_and_found_is_there_before_anything_is_lost(tmp_path: Path) -> None:
    files = LostFound(tmp_path / "lost+found")
    assert files.getattr("/").kind is Kind.DIRECTORY
    assert list(files.readdir("/")) == []


def test_of_what_was_appended_only_that_is_copied(state: StateDirectory, tmp_path: Path) -> None:
    journal = Journal(Database(state.path / "journal.sqlite"))
    journal.record(Record("ident0", "daint", "/home/me/f", "/home/me/f", size=7, tail=3))
    journal.close()
    [row, _] = state.rows()
    assert row.local is not None
    copied = copy_out(row.local, tmp_path / "out/f", row.start)
    assert (copied.name, copied.read_bytes()) == ("f.appended", b"tent")
    [(_, where)] = state.discard(row)
    assert where is not None
    assert where.name.startswith("f.appended-")
    assert where.read_bytes() == b"tent"


@pytest.fixture
def reopened(state: StateDirectory) -> StateDirectory:
    """The first file was closed, and was being written again when the mount died."""
    journal = Journal(Database(state.path / "journal.sqlite"))
    journal.record(
        Record("ident0", "daint", "/f", "", size=6, closed=False, promised="ident0.closed")
    )
    journal.close()
    (state.path / "files/ident0.closed").write_bytes(b"closed")
    return state


def test_the_closed_version_is_what_waits(reopened: StateDirectory, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(main, ["export", "--to", str(out), "--state-dir", str(reopened.path)])
    assert done.exit_code == 0, done.output
    assert (out / "daint/f").read_bytes() == b"closed"
    assert (out / "daint/f.unclosed").read_bytes() == b"content"


def test_both_versions_are_kept_of_what_is_given_up(reopened: StateDirectory) -> None:
    [row] = [row for row in reopened.rows() if row.path == "/daint/f"]
    [(_, where)] = reopened.discard(row)
    assert where is not None
    assert where.read_bytes() == b"closed"
    assert sorted(each.read_bytes() for each in reopened.lost()) == [b"closed", b"content"]
    assert list((reopened.path / "files").iterdir()) == []
