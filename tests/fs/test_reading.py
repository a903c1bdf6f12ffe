"""Looking and reading: the mount shows what the cluster has."""

from __future__ import annotations

import errno
import os
import random
import stat
from pathlib import Path

import pytest

from ..harness import Server
from .drivers import Driver

#: The largest file that one request can bring at the default limit of 5 MiB.
DIRECT = 3932157


def make_tree(there: Path) -> None:
    (there / "sub").mkdir()
    (there / "sub" / "inner").write_bytes(b"x" * 1000)
    (there / "empty").write_bytes(b"")
    (there / "text").write_text("line\n" * 100)
    (there / "script").write_text("#!/bin/sh\n")
    (there / "script").chmod(0o755)
    (there / "private").write_bytes(b"k" * 77)
    (there / "private").chmod(0o600)
    (there / "locked").mkdir(0o700)
    (there / "link").symlink_to("text")
    os.utime(there / "text", (1_600_000_000, 1_600_000_000))
    os.utime(there / "script", (1_700_000_123, 1_700_000_123))


def test_names_and_attributes_are_those_of_the_cluster(fs: Driver, there: Path) -> None:
    make_tree(there)

    assert sorted(fs.listdir()) == sorted(os.listdir(there))
    assert fs.listdir("sub") == ["inner"]
    for name in [*os.listdir(there), "sub/inner"]:
        shown, real = fs.lstat(name), os.lstat(there / name)
        assert shown.st_mode == real.st_mode, name
        assert shown.st_uid == os.getuid(), name
        if not stat.S_ISDIR(real.st_mode):
            assert shown.st_size == real.st_size, name
            assert shown.st_mtime_ns // 10**9 == real.st_mtime_ns // 10**9, name


def test_times_in_summer_and_in_winter(fs: Driver, there: Path) -> None:
    # Listings tell local times without a zone.
    for name, when in [("summer", 1_751_328_000), ("winter", 1_736_942_400)]:
        (there / name).write_bytes(b"")
        os.utime(there / name, (when, when))
    assert fs.lstat("summer").st_mtime_ns == 1_751_328_000 * 10**9
    assert fs.lstat("winter").st_mtime_ns == 1_736_942_400 * 10**9


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"one byte less than a page"[:1],
        bytes(range(256)) * 17,
        "ä€😀\r\n\0".encode() * 999,
        b"\xff\xfe" * 65_537,
    ],
    ids=["empty", "byte", "binary", "text", "large"],
)
def test_content_is_read_unchanged(fs: Driver, there: Path, content: bytes) -> None:
    (there / "f").write_bytes(content)
    assert fs.read_file("f") == content
    assert fs.read_file("f") == content


def test_the_largest_file_of_one_request(fs: Driver, there: Path) -> None:
    content = random.Random(1).randbytes(DIRECT)
    (there / "f").write_bytes(content)
    assert fs.read_file("f") == content


def test_ranges(fs: Driver, there: Path) -> None:
    content = random.Random(2).randbytes(300_000)
    (there / "f").write_bytes(content)
    fd = fs.open("f")
    rng = random.Random(3)
    for _ in range(50):
        offset, size = rng.randrange(310_000), rng.randrange(5_000)
        assert fs.pread(fd, size, offset) == content[offset : offset + size]
    assert fs.pread(fd, 10, 300_000) == b""
    fs.close(fd)


def test_a_file_over_the_limit_is_staged(fs: Driver, there: Path) -> None:
    content = random.Random(4).randbytes(DIRECT + 1)
    (there / "big").write_bytes(content)
    assert fs.read_file("big") == content


def test_several_readers_cause_one_download(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"x" * 100_000)
    first, second = fs.open("f"), fs.open("f")
    assert fs.pread(first, 10, 0) == fs.pread(second, 10, 50_000) == b"x" * 10
    fs.close(first)
    fs.close(second)
    assert server.requests().count("ops/download") == 1


def test_a_handle_reads_one_version(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"A" * 200_000)
    fd = fs.open("f")
    assert fs.pread(fd, 10, 0) == b"A" * 10
    (there / "f").write_bytes(b"B" * 250_000)
    fs.refresh()
    assert fs.stat("f").st_size == 250_000
    try:
        rest = fs.pread(fd, 100_000, 100_000)
    except OSError as exc:
        assert exc.errno == errno.ESTALE
    else:
        assert rest == b"A" * 100_000
    fs.close(fd)
    assert fs.read_file("f") == b"B" * 250_000


def test_a_changed_file_is_fetched_again(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    assert fs.read_file("f") == b"old"
    (there / "f").write_bytes(b"new, longer")
    fs.refresh()
    assert fs.read_file("f") == b"new, longer"


def test_what_is_listed_older_than_it_is(fs: Driver, there: Path) -> None:
    # The listing that is believed tells another size than the file has by now.
    (there / "f").write_bytes(b"x" * 10)
    assert fs.stat("f").st_size == 10
    (there / "f").write_bytes(b"y" * 5000)
    assert fs.read_file("f") == b"y" * 5000
    assert fs.stat("f").st_size == 5000


def test_what_is_not_there(fs: Driver) -> None:
    for path in ("none", "none/below"):
        with pytest.raises(FileNotFoundError):
            fs.stat(path)
        with pytest.raises(FileNotFoundError):
            fs.read_file(path)


def test_kinds_are_not_confused(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "f").write_bytes(b"x")
    with pytest.raises(NotADirectoryError):
        fs.listdir("f")
    with pytest.raises(NotADirectoryError):
        fs.stat("f/below")
    with pytest.raises(IsADirectoryError):
        fs.open("d", os.O_WRONLY)
    with pytest.raises(NotADirectoryError):
        fs.rmdir("f")
    with pytest.raises(OSError) as refusal:
        fs.unlink("d")
    assert refusal.value.errno in (errno.EISDIR, errno.EPERM)
    assert (there / "d").is_dir() and (there / "f").exists()


def test_fifos_are_shown_and_refused(fs: Driver, there: Path) -> None:
    os.mkfifo(there / "pipe")
    assert stat.S_ISFIFO(fs.lstat("pipe").st_mode)


def test_the_root_and_the_directories_above_the_file_systems(fs: Driver, there: Path) -> None:
    assert sorted(fs.listdir("/")) == ["cluster", "other"]
    names = fs.listdir("/cluster")
    assert {"home", "scratch", "HOME", "SCRATCH", ".jobs"} <= set(names)
    assert stat.S_ISDIR(fs.stat("/cluster/home").st_mode)
    with pytest.raises(FileNotFoundError):
        fs.stat("/cluster/etc")
    with pytest.raises(FileNotFoundError):
        fs.stat("/elsewhere")
    for path in ("/new", "/cluster/new", "/.firecrestfs/new"):
        with pytest.raises(OSError) as refusal:
            fs.mkdir(path)
        assert refusal.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS), path
        with pytest.raises(OSError) as refusal:
            fs.write_file(path, b"x")
        assert refusal.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS), path


def test_home_and_scratch_lead_to_the_users_directories(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"at home")
    assert not fs.readlink("/cluster/HOME").startswith("/")
    assert fs.read_file(f"/cluster/HOME/{there.name}/f") == b"at home"
    assert fs.stat("/cluster/SCRATCH").st_ino == fs.stat("/cluster/scratch/demo").st_ino


def test_statvfs_has_room(fs: Driver, there: Path, server: Server) -> None:
    found = fs.statvfs("")
    assert found.f_bavail * found.f_frsize > 1 << 40
    assert found.f_blocks >= found.f_bavail
    assert found.f_namemax == 255
    assert found.f_favail > 1_000_000
    assert server.requests() == []
