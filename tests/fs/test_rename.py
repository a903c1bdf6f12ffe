"""Renaming: new files here, stored ones on the cluster; a failure never costs the target."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver

#: A user of the cluster who isn't us.
STRANGER = 54321


def test_a_new_file(fs: Driver, there: Path, server: Server) -> None:
    fs.write_file("a", b"content")
    server.requests(reset=True)
    fs.rename("a", "b")
    assert server.requests() == []
    assert fs.listdir() == ["b"]
    assert fs.read_file("b") == b"content"
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"content"


def test_a_stored_file(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    before = os.stat(there / "a")
    inode = fs.stat("a").st_ino
    fs.rename("a", "b")
    assert fs.stat("b").st_ino == inode
    fs.land()
    assert os.listdir(there) == ["b"]
    after = os.stat(there / "b")
    assert (after.st_ino, after.st_nlink) == (before.st_ino, 1)
    assert after.st_mtime_ns == before.st_mtime_ns
    assert fs.listdir() == ["b"]
    assert not fs.exists("a")
    assert fs.stat("b").st_ino == inode
    assert fs.read_file("b") == b"content"


def test_a_stored_file_over_another(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"the source")
    (there / "b").write_bytes(b"the target, longer")
    assert fs.read_file("b") == b"the target, longer"
    inode = os.stat(there / "a").st_ino
    fs.rename("a", "b")
    assert fs.read_file("b") == b"the source"
    fs.land()
    assert os.listdir(there) == ["b"]
    assert os.stat(there / "b").st_ino == inode
    assert (there / "b").read_bytes() == b"the source"
    assert fs.read_file("b") == b"the source"
    assert fs.listdir() == ["b"]


def test_into_another_directory(fs: Driver, there: Path) -> None:
    (there / "x" / "y").mkdir(parents=True)
    (there / "z").mkdir()
    (there / "x" / "y" / "a").write_bytes(b"content")
    fs.rename("x/y/a", "z/b")
    fs.land()
    assert (there / "z" / "b").read_bytes() == b"content"
    assert os.listdir(there / "x" / "y") == []
    assert fs.listdir("x/y") == []
    assert fs.read_file("z/b") == b"content"


def test_a_stored_file_that_was_read_or_changed_here(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    (there / "c").write_bytes(b"content")
    assert fs.read_file("a") == b"content"
    fs.append("c", b" and more")
    fs.rename("a", "b")
    fs.rename("c", "d")
    assert fs.read_file("b") == b"content"
    assert fs.read_file("d") == b"content and more"
    fs.land()
    assert (there / "b").read_bytes() == b"content"
    assert (there / "d").read_bytes() == b"content and more"
    assert sorted(os.listdir(there)) == ["b", "d"]


def test_a_save_by_way_of_a_temporary_file_is_one_upload(
    fs: Driver, there: Path, server: Server
) -> None:
    (there / "f").write_bytes(b"old content")
    (there / "f").chmod(0o640)
    fs.listdir()
    server.requests(reset=True)
    fs.write_file(".f.tmp", b"new content, longer")
    fs.rename(".f.tmp", "f")
    assert fs.read_file("f") == b"new content, longer"
    fs.land()
    assert (there / "f").read_bytes() == b"new content, longer"
    assert os.listdir(there) == ["f"]
    assert server.requests().count("ops/upload") == 1
    assert not {"ops/extract", "ops/rm"} & set(server.requests())


def test_a_save_by_way_of_a_backup(fs: Driver, there: Path) -> None:
    # vim: f -> f~, a new f, unlink f~.
    (there / "f").write_bytes(b"old")
    fs.rename("f", "f~")
    fs.write_file("f", b"new content")
    fs.unlink("f~")
    fs.land()
    assert os.listdir(there) == ["f"]
    assert (there / "f").read_bytes() == b"new content"
    assert fs.read_file("f") == b"new content"


def test_a_new_file_over_a_new_file(fs: Driver, there: Path) -> None:
    fs.write_file("a", b"winner")
    fs.write_file("b", b"loser")
    fs.rename("a", "b")
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"winner"


def test_a_stored_file_over_a_new_file(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"winner")
    fs.write_file("b", b"loser")
    fs.rename("a", "b")
    assert fs.read_file("b") == b"winner"
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"winner"


def test_a_stored_file_over_a_changed_one(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"winner")
    (there / "b").write_bytes(b"target")
    fs.append("b", b" changed")
    fs.rename("a", "b")
    assert fs.read_file("b") == b"winner"
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"winner"


def test_while_open(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    fd = fs.open("a", os.O_RDWR)
    fs.pwrite(fd, b"C", 0)
    fs.rename("a", "b")
    assert fs.pread(fd, 100, 0) == b"Content"
    fs.pwrite(fd, b"!", 7)
    fs.close(fd)
    assert fs.read_file("b") == b"Content!"
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"Content!"


def test_a_new_file_while_open(fs: Driver, there: Path) -> None:
    fd = fs.open("a", os.O_RDWR | os.O_CREAT)
    fs.write(fd, b"one")
    fs.rename("a", "b")
    fs.write(fd, b" two")
    fs.close(fd)
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"one two"


def test_over_an_open_file(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"new version")
    (there / "b").write_bytes(b"old version")
    fd = fs.open("b")
    assert fs.pread(fd, 3, 0) == b"old"
    fs.rename("a", "b")
    assert fs.pread(fd, 100, 0) == b"old version"
    assert fs.read_file("b") == b"new version"
    fs.close(fd)
    assert fs.read_file("b") == b"new version"
    fs.land()
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"new version"


def test_a_save_over_a_file_that_someone_reads(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old version")
    fd = fs.open("f")
    fs.write_file("f.tmp", b"new version, longer")
    fs.rename("f.tmp", "f")
    assert fs.pread(fd, 100, 0) == b"old version"
    fs.close(fd)
    assert fs.read_file("f") == b"new version, longer"
    fs.land()
    assert os.listdir(there) == ["f"]
    assert (there / "f").read_bytes() == b"new version, longer"


def test_an_edit_after_a_rename_is_no_conflict(fs: Driver, there: Path, server: Server) -> None:
    # Removing the old name changes the ctime of the file, seconds after we looked.
    (there / "a").write_bytes(b"content")
    server.faults([{"kind": "stall", "match": "ops/rm", "method": "DELETE", "seconds": 1.1}] * 2)
    fs.rename("a", "b")
    fs.land()
    fs.append("b", b" and more")
    fs.land()
    assert (there / "b").read_bytes() == b"content and more"
    assert os.listdir(there) == ["b"]


@pytest.mark.parametrize("stored", [False, True])
def test_a_new_file_under_the_old_name_is_another_file(
    fs: Driver, there: Path, stored: bool
) -> None:
    # By these numbers `tail -F` knows a log that was replaced, and `cp` and `diff` one file.
    fs.write_file("log", b"first")
    if stored:
        fs.land()
    number = fs.stat("log").st_ino
    fs.rename("log", "log.1")
    fs.write_file("log", b"second")
    for _ in range(2):
        assert fs.stat("log.1").st_ino == number != fs.stat("log").st_ino
        fs.land()
    fs.refresh()
    assert fs.stat("log.1").st_ino == number != fs.stat("log").st_ino


def test_what_is_in_a_directory_that_is_being_renamed(
    fs: Driver, there: Path, server: Server
) -> None:
    (there / "old").mkdir()
    for number in range(4):
        (there / "old" / f"f{number}").write_bytes(b"%d" % number)
    fs.listdir("old")
    server.set(queue_seconds=1.0)
    server.faults([{"kind": "stall", "match": "*rename", "seconds": 1.0}])
    fs.rename("old", "new")
    thread = threading.Thread(target=fs.sync, daemon=True)
    thread.start()
    assert wait_for(lambda: fs.pending().get("new", {}).get("state") == "storing")
    fs.unlink("new/f0")
    fs.rename("new/f1", "f1")
    fs.append("new/f2", b" and more")
    thread.join(60)
    assert not thread.is_alive()
    fs.land()
    assert sorted(os.listdir(there)) == ["f1", "new"] == sorted(fs.listdir())
    assert sorted(os.listdir(there / "new")) == ["f2", "f3"] == sorted(fs.listdir("new"))
    assert (there / "new" / "f2").read_bytes() == b"2 and more"
    assert (there / "f1").read_bytes() == b"1"


def test_symlinks(fs: Driver, there: Path) -> None:
    (there / "a").symlink_to("target")
    fs.rename("a", "b")
    assert fs.readlink("b") == "target"
    fs.land()
    assert os.readlink(there / "b") == "target"
    assert os.listdir(there) == ["b"]
    assert fs.readlink("b") == "target"


def test_hard_links_of_one_file(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    os.link(there / "a", there / "b")
    fs.rename("a", "b")
    fs.land()
    # POSIX: nothing happens.
    assert sorted(os.listdir(there)) == ["a", "b"]
    assert fs.read_file("a") == fs.read_file("b") == b"content"


def test_onto_itself(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    fs.rename("a", "a")
    assert fs.read_file("a") == b"content"


def test_kinds(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"x")
    (there / "d").mkdir()
    (there / "full").mkdir()
    (there / "full" / "g").write_bytes(b"x")
    with pytest.raises(IsADirectoryError):
        fs.rename("f", "d")
    with pytest.raises(NotADirectoryError):
        fs.rename("d", "f")
    with pytest.raises(FileNotFoundError):
        fs.rename("none", "f")
    with pytest.raises(FileNotFoundError):
        fs.rename("f", "none/f")
    with pytest.raises(OSError) as refusal:
        fs.rename("d", "full")
    assert refusal.value.errno == errno.ENOTEMPTY
    fs.land()
    assert sorted(os.listdir(there)) == ["d", "f", "full"]
    assert (there / "full" / "g").exists()


def test_to_another_file_system_is_left_to_mv(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"x")
    # A script that is moved among the jobs would be lost to where it was: mv shall not copy it.
    for target, code in (("/other/home/demo/f", errno.EXDEV), ("/cluster/.jobs/f", errno.EPERM)):
        with pytest.raises(OSError) as refusal:
            fs.rename("f", target)
        assert refusal.value.errno == code
    assert (there / "f").read_bytes() == b"x"


def foreign(path: Path, content: bytes) -> None:
    """Make *path* a file of somebody else, which the kernel then won't let us link."""
    if os.geteuid() != 0 or Path("/proc/sys/fs/protected_hardlinks").read_text().strip() != "1":
        pytest.skip("needs root, and a kernel that protects hard links")
    path.write_bytes(content)
    path.chmod(0o644)
    os.chown(path, STRANGER, STRANGER)


@pytest.mark.parametrize("over", [False, True])
def test_where_linking_is_refused_a_job_renames(fs: Driver, there: Path, over: bool) -> None:
    foreign(there / "a", b"the source")
    if over:
        (there / "b").write_bytes(b"the target")
    fs.rename("a", "b")
    fs.land()
    # A batch job can do what a link in a tar can't.
    assert os.listdir(there) == ["b"]
    assert (there / "b").read_bytes() == b"the source"
    assert fs.read_file("b") == b"the source"


@pytest.mark.parametrize("after", range(7))
@pytest.mark.parametrize("fault", ["status", "late_status", "lost_answer"])
def test_wherever_a_rename_fails_nothing_is_lost(
    fs: Driver, there: Path, server: Server, fault: str, after: int
) -> None:
    (there / "a").write_bytes(b"the source")
    (there / "b").write_bytes(b"the target")
    fs.listdir()
    rule = {"kind": fault, "status": 500, "body": "no", "after": after}
    methods = ["POST", "PUT", "DELETE"] if after < 4 else ["GET"]
    server.faults([rule | {"method": each, "after": after % 4} for each in methods])
    fs.rename("a", "b")
    fs.sync()
    content = (there / "b").read_bytes()
    assert content in (b"the source", b"the target")
    if content == b"the target":
        assert (there / "a").read_bytes() == b"the source"
    server.faults([])
    fs.land("/")
    fs.refresh()
    # Carried out after all, or taken back as a whole, with a line.
    if fs.listdir() == ["b"]:
        assert fs.read_file("b") == (there / "b").read_bytes() == b"the source"
    else:
        assert any("not renamed" in line for line in fs.errors())
        assert (fs.read_file("a"), fs.read_file("b")) == (b"the source", b"the target")
    assert sorted(os.listdir(there)) == sorted(fs.listdir())


@pytest.mark.parametrize("step", ["ops/stat", "ops/upload", "ops/extract", "ops/rm"])
@pytest.mark.parametrize("then", ["another over it", "renamed on", "removed", "saved"])
def test_what_changes_while_a_file_is_renamed_over_another(
    fs: Driver, there: Path, server: Server, step: str, then: str
) -> None:
    for name in ("a", "b", "c"):
        (there / name).write_bytes(name.encode() * 10)
    fs.listdir()
    # Of the calls for the entry itself, not of those that look at its surroundings.
    server.faults(
        [{"kind": "stall", "match": step, "after": int(step == "ops/stat"), "seconds": 0.5}]
    )
    fs.rename("a", "c")
    thread = threading.Thread(target=fs.sync)
    thread.start()
    # What is replaced has a row of the same path.
    assert wait_for(lambda: any(row["state"] == "storing" for row in fs.status()["pending"]))
    if then == "another over it":
        fs.rename("b", "c")
        expected = {"c": b"b" * 10}
    elif then == "renamed on":
        fs.rename("c", "d")
        expected = {"b": b"b" * 10, "d": b"a" * 10}
    elif then == "removed":
        fs.unlink("c")
        expected = {"b": b"b" * 10}
    else:
        fs.write_file("new", b"new")
        fs.rename("new", "c")
        expected = {"b": b"b" * 10, "c": b"new"}
    # At once, that is while the first is on its way still.
    fs.land()
    thread.join()
    assert {name: (there / name).read_bytes() for name in os.listdir(there)} == expected
    assert {name: fs.read_file(name) for name in fs.listdir()} == expected
    assert fs.errors() == []


@pytest.mark.parametrize("step", ["ops/stat", "ops/upload", "ops/extract", "ops/rm"])
@pytest.mark.parametrize("then", ["another over it", "renamed away", "removed"])
def test_what_comes_to_a_name_that_a_file_is_being_renamed_to(
    fs: Driver, there: Path, server: Server, step: str, then: str
) -> None:
    """Nothing has the name on the cluster yet, but something is about to."""
    for name in ("a", "b"):
        (there / name).write_bytes(name.encode() * 10)
    fs.listdir()
    after = int(step == "ops/stat")
    server.faults([{"kind": "stall", "match": step, "after": after, "seconds": 0.5}])
    fs.rename("a", "c")
    thread = threading.Thread(target=fs.sync)
    thread.start()
    assert wait_for(lambda: any(row["state"] == "storing" for row in fs.status()["pending"]))
    if then == "renamed away":
        fs.rename("c", "d")
    elif then == "removed":
        fs.unlink("c")
    fs.rename("b", "c")
    fs.land()
    thread.join()
    expected = {"c": b"b" * 10} | ({"d": b"a" * 10} if then == "renamed away" else {})
    assert {name: (there / name).read_bytes() for name in os.listdir(there)} == expected
    assert {name: fs.read_file(name) for name in fs.listdir()} == expected
    assert fs.errors() == []


def test_who_writes_what_vanished_when_it_was_renamed_is_told(fs: Driver, there: Path) -> None:
    """Nothing would store it: the name is given up, since nothing had been written by then."""
    (there / "f").write_bytes(b"old")
    fs.refresh()
    reader, writer = fs.open("f"), fs.open("f", os.O_RDWR)
    assert fs.pread(reader, 10, 0) == b"old"
    fs.rename("f", "g")
    (there / "f").unlink()
    fs.land()
    with pytest.raises(OSError) as info:
        fs.pwrite(writer, b"new", 0)
    assert info.value.errno == errno.ESTALE
    assert fs.pread(reader, 10, 0) == b"old"
    for fd in (reader, writer):
        fs.close(fd)
    assert os.listdir(there) == []
    assert any("no more on the cluster" in line for line in fs.errors())
