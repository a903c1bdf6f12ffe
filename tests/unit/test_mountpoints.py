"""Mountpoints: what mountinfo says, which directories are fit, the words for those that aren't."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from firecrestfs import daemon, mountpoints
from firecrestfs.cli import main
from firecrestfs.kept import Origin, StateDirectory, write_json
from firecrestfs.mountpoints import FUSE_TYPE, MountRecord, mount_of, require_fit

Mountinfo = Callable[..., None]


@pytest.fixture
def mountinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mountinfo:
    """Let the machine have these mounts: pairs of the path as the kernel writes it, and a type."""
    fake = tmp_path / "mountinfo"

    def set_mounts(*mounts: tuple[str, str]) -> None:
        lines = [
            f"{number} 1 0:{number} / {path} rw,nosuid shared:{number} - {kind} source "
            f"rw,user_id={os.getuid()},group_id=0\n"
            for number, (path, kind) in enumerate(mounts, 30)
        ]
        fake.write_bytes("".join(lines).encode("utf-8", "surrogateescape"))

    def path_of(*parts: Any) -> Path:
        return fake if parts == ("/proc/self/mountinfo",) else Path(*parts)

    monkeypatch.setattr(mountpoints, "Path", path_of)
    set_mounts()
    return set_mounts


# -- mountinfo -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("/mnt", "/mnt"),
        (r"/a\040b", "/a b"),
        (r"/tab\011new\012line", "/tab\tnew\nline"),
        (r"/back\134slash", "/back\\slash"),
        (r"/back\134040", "/back\\040"),
        (r"/back\134n", "/back\\n"),
        (r"/\0401", "/ 1"),
        ("/ünï", "/ünï"),
        ("/ünï" + r"\040x", "/ünï x"),
        ("/\udcff\udc80", "/\udcff\udc80"),
        ("/\udcff" + r"\040", "/\udcff "),
        ("/carriage\rreturn", "/carriage\rreturn"),
        ("/vertical\x0btab\x0c", "/vertical\x0btab\x0c"),
        ("/line\u2028separator\x85", "/line\u2028separator\x85"),
    ],
)
def test_names_in_mountinfo(mountinfo: Mountinfo, written: str, path: str) -> None:
    mountinfo(("/", "ext4"), (written, FUSE_TYPE))
    assert mountpoints.mounted_types() == {"/": "ext4", path: FUSE_TYPE}


def test_the_real_mountinfo_is_understood() -> None:
    assert "/" in mountpoints.mounted_types()


def test_the_topmost_of_stacked_mounts_counts(mountinfo: Mountinfo) -> None:
    mountinfo(("/mnt", FUSE_TYPE), ("/mnt", "tmpfs"))
    assert mountpoints.ours() == []


# -- which mount ---------------------------------------------------------------------------------


def test_the_mount_of_a_path_is_the_innermost(mountinfo: Mountinfo) -> None:
    mountinfo(("/a", FUSE_TYPE), ("/a/b", FUSE_TYPE), ("/c", "ext4"))
    assert mount_of("/a/b/x") == "/a/b"
    assert mount_of("/a/bc") == "/a"
    assert mount_of("/a/../a/b/") == "/a/b"
    with pytest.raises(OSError, match="not in a mount of firecrestfs"):
        mount_of("/c/x")


def test_a_path_through_a_symlink_is_in_the_mount(mountinfo: Mountinfo, tmp_path: Path) -> None:
    """Where /home is a link to /var/home; homes on the network are often behind links, too."""
    (tmp_path / "var/home/hpc").mkdir(parents=True)
    (tmp_path / "home").symlink_to("var/home")
    mountinfo((str(tmp_path / "var/home/hpc"), FUSE_TYPE))
    assert mount_of(str(tmp_path / "home/hpc/daint")) == str(tmp_path / "var/home/hpc")


def test_a_mountpoint_through_a_symlink_is_found_mounted(
    mountinfo: Mountinfo, tmp_path: Path
) -> None:
    (tmp_path / "var/home/hpc").mkdir(parents=True)
    (tmp_path / "home").symlink_to("var/home")
    mountinfo((str(tmp_path / "var/home/hpc"), "ext4"))
    with pytest.raises(OSError, match="already mounted"):
        require_fit(str(tmp_path / "home/hpc"))


def test_the_only_mount_needs_no_name(mountinfo: Mountinfo) -> None:
    with pytest.raises(OSError, match="nothing is mounted"):
        mountpoints.the_mount()
    mountinfo(("/a", FUSE_TYPE))
    assert mountpoints.the_mount() == "/a"
    mountinfo(("/b", FUSE_TYPE), ("/a", FUSE_TYPE))
    with pytest.raises(OSError, match="which mount.*/a, /b"):
        mountpoints.the_mount()


# -- fit -----------------------------------------------------------------------------------------


def refused(path: Path) -> OSError:
    with pytest.raises(OSError) as info:
        require_fit(str(path))
    assert info.value.filename == str(path)
    return info.value


def test_an_empty_directory_is_fit(mountinfo: Mountinfo, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    require_fit(str(tmp_path / "d"))


def test_what_is_not_fit_says_what_to_do(mountinfo: Mountinfo, tmp_path: Path) -> None:
    missing, file, full = tmp_path / "missing", tmp_path / "file", tmp_path / "full"
    file.touch()
    (full / "x").mkdir(parents=True)
    assert (refused(missing).errno, "mkdir -p" in str(refused(missing))) == (errno.ENOENT, True)
    assert refused(file).errno == errno.ENOTDIR
    assert (refused(full).errno, "empty" in str(refused(full))) == (errno.ENOTEMPTY, True)


@pytest.mark.parametrize(
    ("kind", "remedy"), [(FUSE_TYPE, "umount it first"), ("ext4", "choose another")]
)
def test_what_is_mounted_already(
    mountinfo: Mountinfo, tmp_path: Path, kind: str, remedy: str
) -> None:
    (tmp_path / "d").mkdir()
    mountinfo((str(tmp_path / "d"), kind))
    exc = refused(tmp_path / "d")
    assert exc.errno == errno.EBUSY
    assert remedy in str(exc)


# -- records -------------------------------------------------------------------------------------


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> MountRecord:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return MountRecord("/mnt/\udcff", os.getpid(), "https://x", "/state", "/log")


def test_a_record_of_a_living_process(record: MountRecord) -> None:
    assert mountpoints.read_record(record.mountpoint) is None
    mountpoints.write_record(record)
    assert mountpoints.read_record(record.mountpoint) == record
    mountpoints.remove_record(record.mountpoint)
    mountpoints.remove_record(record.mountpoint)
    assert mountpoints.read_record(record.mountpoint) is None


def test_a_record_of_a_dead_process_or_a_torn_one_is_none(record: MountRecord) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    mountpoints.write_record(MountRecord(record.mountpoint, child.pid, "u", "s", "l"))
    assert mountpoints.read_record(record.mountpoint) is None, "a zombie isn't alive"
    child.wait()
    assert mountpoints.read_record(record.mountpoint) is None
    next(mountpoints.state_home().glob("mounts/*.json")).write_text("{")
    assert mountpoints.read_record(record.mountpoint) is None


def test_a_record_of_another_process_of_that_id_is_none(record: MountRecord) -> None:
    """After a power loss the id may be that of the desktop, which umount would end."""
    mountpoints.write_record(record)
    [file] = mountpoints.state_home().glob("mounts/*.json")
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"started": "another boot 12345"}))
    assert mountpoints.read_record(record.mountpoint) is None
    del written["started"]
    file.write_text(json.dumps(written))
    assert mountpoints.read_record(record.mountpoint) == record, "of a mount of an older version"


# -- the end of another mount --------------------------------------------------------------------


@pytest.fixture
def two_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StateDirectory:
    """Two servers were mounted at one place, one after the other; return what the second left."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for number, name in enumerate(("a", "b")):
        directory = mountpoints.state_home() / "servers" / name
        directory.mkdir(parents=True)
        StateDirectory(directory).belongs_to(Origin(f"https://{name}", "/mnt/hpc", 1))
        os.utime(directory / "mounted.json", (1e9 + number, 1e9 + number))
        write_json(directory / "last-exit.json", {"mountpoint": "/mnt/hpc", "failed": {}})
    return StateDirectory(directory)


def test_umount_tells_of_the_latest_mount(two_servers: StateDirectory) -> None:
    report = {"mountpoint": "/mnt/hpc", "failed": {"/daint/f": "no room"}}
    write_json(two_servers.path / "last-exit.json", report)
    done = CliRunner().invoke(main, ["umount", "/mnt/hpc"])
    assert done.exit_code == 1
    assert "/daint/f: no room" in done.output


def test_umount_of_a_mount_that_was_killed_is_no_success(two_servers: StateDirectory) -> None:
    (two_servers.path / "last-exit.json").unlink()
    done = CliRunner().invoke(main, ["umount", "/mnt/hpc"])
    assert done.exit_code == 1
    assert "killed" in done.output


# -- the process's own files ---------------------------------------------------------------------


def test_one_process_has_the_state_directory(tmp_path: Path) -> None:
    lock = daemon._take_lock(tmp_path, "/mnt/one")
    with pytest.raises(OSError, match=rf"process {os.getpid()} at /mnt/one") as info:
        daemon._take_lock(tmp_path, "/mnt/two")
    assert info.value.errno == errno.EBUSY
    assert "--state-dir" in str(info.value.strerror)
    os.close(lock)
    os.close(daemon._take_lock(tmp_path, "/mnt/two"))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.example.org/hpc/v2", "api.example.org"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000"),
        ("https://a,allow_other/x", "aallow_other"),
        ("", "firecrest"),
    ],
)
def test_the_name_in_df_is_the_server(url: str, name: str) -> None:
    assert daemon._fsname(url) == name


def test_a_name_in_df_holds_no_secret() -> None:
    assert "s3cret" not in daemon._fsname("https://me:s3cret@example.org/")


def test_a_failed_start_shows_the_latest_lines_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert daemon._new_lines(log, 0) == ""
    log.write_text("old\n")
    start = log.stat().st_size
    log.write_text("old\n" + "".join(f"new {number}\n" for number in range(9)))
    shown = daemon._new_lines(log, start)
    assert "old" not in shown
    assert "new 8" in shown
    assert str(log) in shown


def test_mounts_of_other_users_are_not_ours(mountinfo: Mountinfo, tmp_path: Path) -> None:
    mountinfo(("/a", FUSE_TYPE))
    fake = tmp_path / "mountinfo"
    fake.write_text(fake.read_text().replace(f"user_id={os.getuid()},", "user_id=4711,"))
    assert mountpoints.ours() == []
    assert mountpoints.mounted_types() == {"/a": FUSE_TYPE}
