"""Modes, times, owners, extended attributes; making and removing directories."""

from __future__ import annotations

import errno
import os
import stat
import time
from pathlib import Path

import pytest

from ..harness import Server
from .drivers import Driver, mode_of

STRANGER = 54321
PROJECT = 2044  # a group of ours on the cluster


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o644, 0o444, 0o700, 0o000, 0o400])
@pytest.mark.parametrize("content", [b"", b"content"], ids=["empty", "full"])
def test_the_mode_of_a_new_file(fs: Driver, there: Path, mode: int, content: bytes) -> None:
    fs.write_file("f", content, mode)
    assert mode_of(fs.stat("f")) == mode
    fs.land()
    assert mode_of(os.stat(there / "f")) == mode
    assert (there / "f").read_bytes() == content
    fs.refresh()
    assert mode_of(fs.stat("f")) == mode


def test_a_secret_is_never_readable_for_others(fs: Driver, there: Path, server: Server) -> None:
    server.faults([{"kind": "stall", "match": "ops/chmod", "seconds": 0.3}])
    fs.write_file("key", b"secret", 0o600)
    fs.land()
    assert "ops/chmod" not in server.requests()
    assert mode_of(os.stat(there / "key")) == 0o600


@pytest.mark.parametrize("theirs", ["022", "027", "077"])
def test_modes_in_a_tree_and_the_umask_of_the_cluster(
    fs: Driver, there: Path, server: Server, theirs: str
) -> None:
    server.set(umask=theirs)
    fs.listdir()
    server.requests(reset=True)
    fs.mkdir("t")
    for number in range(20):
        fs.write_file(f"t/f{number}", b"%d" % number)
    fs.mkdir("t/private", 0o700)
    fs.mkdir("t/shared")
    fs.chmod("t/shared", 0o775)
    fs.write_file("t/tool", b"#!/bin/sh\n")
    fs.chmod("t/tool", 0o755)
    fs.land()
    kept = 0o777 & ~int(theirs, 8)
    wanted = {"t": 0o755 & kept, "t/f7": 0o644 & kept, "t/private": 0o700 & kept}
    wanted |= {"t/shared": 0o775, "t/tool": 0o755}
    assert {name: mode_of(os.stat(there / name)) for name in wanted} == wanted
    assert {name: mode_of(fs.stat(name)) for name in wanted} == wanted
    # What a umask takes is the cluster's to decide; only what was asked for costs a request.
    assert sum("chmod" in endpoint for endpoint in server.requests()) <= 2


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o444, 0o4755, 0o000])
def test_chmod_of_a_stored_file(fs: Driver, there: Path, mode: int) -> None:
    (there / "f").write_bytes(b"content")
    fs.chmod("f", mode)
    assert mode_of(fs.stat("f")) == mode
    fs.land()
    assert mode_of(os.stat(there / "f")) == mode
    assert mode_of(fs.stat("f")) == mode


def test_chmod_of_what_somebody_else_replaces_meanwhile(fs: Driver, there: Path) -> None:
    """It follows the name, as chmod(1) there would a moment later; but not without a word."""
    fs.write_file("f", b"ours")
    fs.land()
    fs.chmod("f", 0o600)
    (there / "theirs").write_bytes(b"theirs")
    (there / "theirs").replace(there / "f")
    fs.land()
    assert any("another file" in line for line in fs.errors())
    fs.refresh()
    assert fs.read_file("f") == b"theirs"
    assert mode_of(fs.stat("f")) == mode_of(os.stat(there / "f"))


def test_chmod_before_the_store(fs: Driver, there: Path) -> None:
    fs.write_file("script", b"#!/bin/sh\n")
    fs.chmod("script", 0o755)
    assert mode_of(fs.stat("script")) == 0o755
    fs.land()
    assert mode_of(os.stat(there / "script")) == 0o755


def test_chmod_of_a_changed_file(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    fs.write_file("f", b"new content")
    fs.chmod("f", 0o640)
    fs.land()
    assert mode_of(os.stat(there / "f")) == 0o640
    assert (there / "f").read_bytes() == b"new content"


def test_chmod_of_an_open_file(fs: Driver, there: Path) -> None:
    fd = fs.open("f", os.O_WRONLY | os.O_CREAT)
    fs.write(fd, b"one")
    fs.chmod("f", 0o400)
    fs.write(fd, b" two")
    fs.close(fd)
    fs.land()
    assert mode_of(os.stat(there / "f")) == 0o400
    assert (there / "f").read_bytes() == b"one two"


def test_chmod_of_a_directory(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.chmod("d", 0o750)
    assert mode_of(fs.stat("d")) == 0o750
    fs.land()
    assert mode_of(os.stat(there / "d")) == 0o750
    assert mode_of(fs.stat("d")) == 0o750


TIME = 1_234_567_890_123_456_789


def test_times_of_a_new_file_land(fs: Driver, there: Path) -> None:
    # cp -p, tar x, rsync.
    fs.write_file("f", b"content")
    fs.utime("f", TIME, TIME)
    assert fs.stat("f").st_mtime_ns == TIME
    fs.land()
    assert os.stat(there / "f").st_mtime_ns == TIME
    assert fs.stat("f").st_mtime_ns == TIME


def test_times_before_the_epoch(fs: Driver, there: Path) -> None:
    for when in (-1_000_000_000, -1, -86_400 * 10**9 + 5):
        fs.write_file("f", b"content")
        fs.utime("f", when, when)
        fs.land()
        assert os.stat(there / "f").st_mtime_ns == when
        fs.unlink("f")


def test_times_of_a_changed_file(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    fs.write_file("f", b"new content")
    fs.utime("f", TIME, TIME)
    fs.land()
    assert (there / "f").read_bytes() == b"new content"
    assert fs.stat("f").st_mtime_ns == TIME
    assert os.stat(there / "f").st_mtime_ns == TIME


def test_a_write_after_utime_counts_as_a_change(fs: Driver) -> None:
    fs.write_file("f", b"content")
    fs.utime("f", TIME, TIME)
    fs.append("f", b"!")
    assert fs.stat("f").st_mtime > time.time() - 60


def test_the_time_that_was_shown_stays_after_the_store(fs: Driver) -> None:
    # An editor that sees another time after its save warns of a change.
    fs.write_file("f", b"content")
    before = fs.stat("f")
    fs.land()
    after = fs.stat("f")
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    fs.refresh()
    again = fs.stat("f")
    assert (again.st_mtime_ns, again.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_times_of_a_directory_are_accepted(fs: Driver) -> None:
    fs.mkdir("d")
    fs.utime("d", TIME, TIME)
    assert fs.stat("d").st_mtime_ns == TIME


def test_owners(fs: Driver, there: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to give files away")
    for name, uid, gid in [
        ("mine", -1, -1),
        ("theirs", STRANGER, STRANGER),
        ("project", -1, PROJECT),
    ]:
        (there / name).write_bytes(b"x")
        os.chown(there / name, uid, gid)
    assert (fs.stat("mine").st_uid, fs.stat("mine").st_gid) == (os.getuid(), os.getgid())
    assert (fs.stat("theirs").st_uid, fs.stat("theirs").st_gid) == (65534, 65534)
    assert (fs.stat("project").st_uid, fs.stat("project").st_gid) == (os.getuid(), os.getgid())
    assert fs.getxattr("mine", "user.firecrest.owner") == b"demo"
    assert fs.getxattr("mine", "user.firecrest.group") == b"staff"
    assert fs.getxattr("project", "user.firecrest.group") == b"proj1"
    assert fs.getxattr("theirs", "user.firecrest.owner") == str(STRANGER).encode()
    for change in (lambda: fs.chmod("theirs", 0o600), lambda: fs.utime("theirs", TIME, TIME)):
        with pytest.raises(PermissionError):
            change()


def test_chown(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"x")
    fs.chown("f", os.getuid(), os.getgid())
    fs.chown("f", -1, -1)
    with pytest.raises(OSError) as refusal:
        fs.chown("f", os.getuid() + 1, -1)
    assert refusal.value.errno == errno.EPERM


def test_inodes_are_stable_and_distinct(fs: Driver, there: Path) -> None:
    for name in ("a", "b", "c"):
        (there / name).write_bytes(b"x")
    first = {name: fs.stat(name).st_ino for name in ("a", "b", "c")}
    assert len(set(first.values())) == 3
    fs.refresh()
    assert {name: fs.stat(name).st_ino for name in ("a", "b", "c")} == first
    fs.write_file("d", b"new")
    before = fs.stat("d").st_ino
    fs.land()
    fs.refresh()
    assert fs.stat("d").st_ino == before


# -- directories -----------------------------------------------------------------------------------


def test_making_and_removing_directories(fs: Driver, there: Path) -> None:
    fs.mkdir("d", 0o755)
    fs.mkdir("d/private", 0o700)
    assert mode_of(fs.stat("d/private")) == 0o700
    fs.land()
    assert mode_of(os.stat(there / "d")) == 0o755
    assert mode_of(os.stat(there / "d" / "private")) == 0o700
    assert stat.S_ISDIR(fs.stat("d/private").st_mode)
    assert fs.listdir("d") == ["private"]
    with pytest.raises(FileExistsError):
        fs.mkdir("d")
    with pytest.raises(FileNotFoundError):
        fs.mkdir("none/d")
    with pytest.raises(OSError) as refusal:
        fs.rmdir("d")
    assert refusal.value.errno == errno.ENOTEMPTY
    fs.rmdir("d/private")
    fs.rmdir("d")
    assert not fs.exists("d")
    fs.land()
    assert os.listdir(there) == []
    assert not fs.exists("d")


def test_a_directory_with_files_that_only_exist_here_is_not_empty(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.write_file("d/f", b"x")
    with pytest.raises(OSError) as refusal:
        fs.rmdir("d")
    assert refusal.value.errno == errno.ENOTEMPTY
    fs.unlink("d/f")
    fs.rmdir("d")
    fs.land()
    assert os.listdir(there) == []


def test_a_directory_that_someone_filled_meanwhile_is_not_removed(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.land()
    assert fs.listdir("d") == []
    (there / "d" / "theirs").write_bytes(b"x")
    # Nobody here has seen it; the cluster is looked at once more before anything is removed.
    fs.rmdir("d")
    fs.land()
    assert (there / "d" / "theirs").exists()
    assert fs.listdir("d") == ["theirs"]
    assert any("not removed" in line for line in fs.errors())


def test_a_hidden_file_keeps_its_directory(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / ".hidden").write_bytes(b"x")
    with pytest.raises(OSError) as refusal:
        fs.rmdir("d")
    assert refusal.value.errno == errno.ENOTEMPTY
    assert (there / "d" / ".hidden").exists()


def test_the_clusters_own_directories_stay(fs: Driver, there: Path) -> None:
    for path in ("/cluster/home", "/cluster", "/cluster/.jobs", "/cluster/scratch"):
        with pytest.raises(OSError) as refusal:
            fs.rmdir(path)
        assert refusal.value.errno in (errno.EBUSY, errno.EPERM, errno.EACCES, errno.ENOTEMPTY)
    assert there.is_dir()


# -- what FirecREST doesn't have -------------------------------------------------------------------


@pytest.mark.parametrize("special", [stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_special_files_are_refused(fs: Driver, there: Path, special: int) -> None:
    with pytest.raises(OSError) as refusal:
        fs.mknod("special", special | 0o600)
    assert refusal.value.errno == errno.EPERM
    assert os.listdir(there) == []


def test_mknod_of_a_regular_file(fs: Driver, there: Path) -> None:
    fs.mknod("f", stat.S_IFREG | 0o640)
    assert mode_of(fs.stat("f")) == 0o640
    fs.land()
    assert (there / "f").read_bytes() == b""
    assert mode_of(os.stat(there / "f")) == 0o640


def test_extended_attributes(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"x")
    fs.listdir()
    server.requests(reset=True)
    assert fs.listxattr("f") == []
    for name in ("user.mine", "security.capability", "system.posix_acl_access"):
        with pytest.raises(OSError) as refusal:
            fs.getxattr("f", name)
        assert refusal.value.errno in (errno.ENODATA, errno.ENOTSUP), name
    with pytest.raises(OSError) as refusal:
        fs.setxattr("f", "user.mine", b"x")
    assert refusal.value.errno == errno.ENOTSUP
    assert fs.getxattr("f", "user.firecrest.path").decode() == f"/home/demo/{there.name}/f"
    assert fs.getxattr("f", "user.firecrest.owner") == b"demo"
    assert fs.getxattr("f", "user.firecrest.state") == b"remote"
    with pytest.raises(OSError) as refusal:
        fs.getxattr("f", "user.firecrest.nonsense")
    assert refusal.value.errno == errno.ENODATA
    assert server.requests() == []


def test_the_state_of_a_file(fs: Driver) -> None:
    fs.write_file("f", b"x")
    assert fs.getxattr("f", "user.firecrest.state") == b"dirty"
    fs.land()
    assert fs.getxattr("f", "user.firecrest.state") == b"cached"
