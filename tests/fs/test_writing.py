"""Writing: local and random, stored as a whole after the close."""

from __future__ import annotations

import errno
import os
import random
import threading
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver


def test_a_new_file(fs: Driver, there: Path) -> None:
    fs.write_file("f", b"hello\n")
    assert fs.read_file("f") == b"hello\n"
    assert fs.stat("f").st_size == 6
    assert fs.listdir() == ["f"]
    fs.land()
    assert (there / "f").read_bytes() == b"hello\n"
    assert fs.read_file("f") == b"hello\n"
    assert fs.listdir() == ["f"]


def test_a_closed_file_is_stored_by_itself(fs: Driver, there: Path) -> None:
    fs.write_file("f", b"hello\n")
    assert "f" in fs.pending()
    assert wait_for(lambda: (there / "f").exists())
    assert wait_for(lambda: not fs.pending())
    assert (there / "f").read_bytes() == b"hello\n"


@pytest.mark.parametrize("existing", [b"", b"0123456789" * 3000], ids=["new", "stored"])
def test_random_writes(fs: Driver, there: Path, existing: bytes) -> None:
    if existing:
        (there / "f").write_bytes(existing)
    rng = random.Random(len(existing))
    model = bytearray(existing)
    fd = fs.open("f", os.O_RDWR | os.O_CREAT)
    for _ in range(40):
        offset, data = rng.randrange(60_000), rng.randbytes(rng.randrange(1, 4000))
        model.extend(bytes(max(0, offset - len(model))))
        model[offset : offset + len(data)] = data
        assert fs.pwrite(fd, data, offset) == len(data)
        at = rng.randrange(len(model))
        assert fs.pread(fd, 500, at) == model[at : at + 500]
    assert fs.fstat(fd).st_size == len(model)
    fs.close(fd)
    assert fs.read_file("f") == model
    fs.land()
    assert (there / "f").read_bytes() == model
    assert fs.read_file("f") == model


def test_another_handle_sees_what_was_written_before_the_close(fs: Driver) -> None:
    writer = fs.open("f", os.O_WRONLY | os.O_CREAT)
    fs.write(writer, b"first")
    reader = fs.open("f")
    assert fs.pread(reader, 100, 0) == b"first"
    fs.write(writer, b" second")
    assert fs.pread(reader, 100, 0) == b"first second"
    assert fs.stat("f").st_size == 12
    fs.close(writer)
    fs.close(reader)


@pytest.mark.parametrize("stored", [False, True])
def test_appends_of_two_handles_never_overwrite_each_other(
    fs: Driver, there: Path, stored: bool
) -> None:
    fs.write_file("log", b"start\n")
    if stored:
        fs.land()
    first = fs.open("log", os.O_WRONLY | os.O_APPEND)
    second = fs.open("log", os.O_WRONLY | os.O_APPEND)
    for number in range(5):
        fs.write(first, b"first %d\n" % number)
        fs.write(second, b"second %d\n" % number)
    fs.close(first)
    fs.close(second)
    expected = b"start\n" + b"".join(b"first %d\nsecond %d\n" % (n, n) for n in range(5))
    assert fs.read_file("log") == expected
    fs.land()
    assert (there / "log").read_bytes() == expected


def test_appending_to_a_file_of_the_cluster(fs: Driver, there: Path) -> None:
    (there / "log").write_bytes(b"one\n")
    fs.append("log", b"two\n")
    fs.append("log", b"three\n")
    fs.land()
    assert (there / "log").read_bytes() == b"one\ntwo\nthree\n"


@pytest.mark.parametrize("by", ["path", "handle"])
@pytest.mark.parametrize("size", [0, 3, 10, 5000])
def test_truncate(fs: Driver, there: Path, size: int, by: str) -> None:
    content = b"0123456789"
    (there / "f").write_bytes(content)
    expected = content[:size].ljust(size, b"\0")
    if by == "path":
        fs.truncate("f", size)
    else:
        fd = fs.open("f", os.O_RDWR)
        fs.ftruncate(fd, size)
        assert fs.pread(fd, 10_000, 0) == expected
        fs.close(fd)
    assert fs.stat("f").st_size == size
    assert fs.read_file("f") == expected
    fs.land()
    assert (there / "f").read_bytes() == expected


def test_truncate_by_path_while_a_handle_is_open(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"0123456789")
    fd = fs.open("f", os.O_RDWR)
    fs.pwrite(fd, b"abc", 0)
    fs.truncate("f", 5)
    assert fs.pread(fd, 100, 0) == b"abc34"
    fs.pwrite(fd, b"Z", 7)
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == b"abc34\0\0Z"


def test_truncating_to_nothing_fetches_nothing(fs: Driver, there: Path, server: Server) -> None:
    (there / "f").write_bytes(b"x" * 10_000)
    (there / "g").write_bytes(b"x" * 10_000)
    fs.write_file("f", b"anew")
    fs.truncate("g", 0)
    fs.land()
    assert "ops/download" not in server.requests()
    assert (there / "f").read_bytes() == b"anew"
    assert (there / "g").read_bytes() == b""


@pytest.mark.parametrize("stored", [False, True])
def test_who_only_reads_may_cut_it_as_well(fs: Driver, there: Path, stored: bool) -> None:
    """What POSIX leaves open, Linux does."""
    fs.write_file("f", b"content")
    if stored:
        fs.land()
    fd = fs.open("f", os.O_RDONLY | os.O_TRUNC)
    assert fs.pread(fd, 10, 0) == b""
    with pytest.raises(OSError) as caught:
        fs.pwrite(fd, b"x", 0)
    assert caught.value.errno == errno.EBADF
    fs.close(fd)
    assert fs.stat("f").st_size == 0
    fs.land()
    assert (there / "f").read_bytes() == b""


def test_a_file_that_somebody_removed_is_made_anew(fs: Driver, there: Path) -> None:
    """The kernel believes in names for a second, and asked to open what was no more."""
    for stored in (b"theirs", None):
        if stored is None:
            fs.write_file("f", b"ours")
            fs.land()
        else:
            (there / "f").write_bytes(stored)
            fs.refresh()
        assert fs.stat("f").st_size > 0
        (there / "f").unlink()
        fs.refresh()
        fs.write_file("f", b"made anew")
        fs.land()
        assert (there / "f").read_bytes() == b"made anew"
        (there / "f").unlink()
        fs.refresh()
        with pytest.raises(FileNotFoundError):
            fs.open("f")


def test_o_excl(fs: Driver, there: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    (there / "old").write_bytes(b"old")
    fs.close(fs.open("new", flags))
    for name in ("old", "new"):
        with pytest.raises(FileExistsError):
            fs.open(name, flags)
    fs.land()
    with pytest.raises(FileExistsError):
        fs.open("new", flags)
    assert (there / "old").read_bytes() == b"old"


def test_descriptors_do_what_they_were_opened_for(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"content")
    reading, writing = fs.open("f"), fs.open("f", os.O_WRONLY)
    with pytest.raises(OSError) as refusal:
        fs.pwrite(reading, b"x", 0)
    assert refusal.value.errno == errno.EBADF
    with pytest.raises(OSError) as refusal:
        fs.pread(writing, 1, 0)
    assert refusal.value.errno == errno.EBADF
    fs.close(reading)
    fs.close(writing)
    fs.land()
    assert (there / "f").read_bytes() == b"content"


def test_empty_files(fs: Driver, there: Path, server: Server) -> None:
    (there / "was full").write_bytes(b"x")
    fs.write_file("empty", b"")
    fs.write_file("was full", b"")
    fs.land()
    assert (there / "empty").read_bytes() == b""
    assert (there / "was full").read_bytes() == b""
    # An upload of nothing would keep the cluster busy until its limit.
    assert "ops/upload" in server.requests()
    fs.refresh()
    assert fs.read_file("empty") == b""


def test_opening_for_writing_without_writing_stores_nothing(
    fs: Driver, there: Path, server: Server
) -> None:
    (there / "f").write_bytes(b"content")
    before = os.stat(there / "f")
    fs.close(fs.open("f", os.O_RDWR))
    fs.land()
    assert os.stat(there / "f").st_mtime_ns == before.st_mtime_ns
    assert "ops/upload" not in server.requests()


def test_an_overwrite_keeps_the_file_of_the_cluster(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    (there / "f").chmod(0o640)
    os.link(there / "f", there / "same")
    before = os.stat(there / "f")
    fs.write_file("f", b"new content")
    fs.land()
    after = os.stat(there / "f")
    assert (after.st_ino, after.st_mode, after.st_nlink) == (before.st_ino, before.st_mode, 2)
    assert (there / "same").read_bytes() == b"new content"


def test_sync_stores_open_files_as_they_are(fs: Driver, there: Path) -> None:
    fd = fs.open("f", os.O_WRONLY | os.O_CREAT)
    fs.write(fd, b"so far")
    fs.land()
    assert (there / "f").read_bytes() == b"so far"
    fs.write(fd, b", and on")
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == b"so far, and on"


def test_sync_of_a_directory_leaves_others_alone(fs: Driver, there: Path) -> None:
    fs.mkdir("a")
    fs.mkdir("b")
    fd = fs.open("b/open", os.O_WRONLY | os.O_CREAT)
    fs.write(fd, b"x")
    fs.write_file("a/f", b"x")
    fs.land("a")
    assert (there / "a" / "f").exists()
    assert not (there / "b" / "open").exists()
    fs.close(fd)


def test_an_open_file_is_not_stored_by_itself(fs: Driver, there: Path) -> None:
    fs.write_file("f", b"one")
    fd = fs.open("f", os.O_WRONLY | os.O_APPEND)
    fs.write(fd, b" two")
    # Longer than the settle delay: half a line must not land.
    assert not wait_for((there / "f").exists, 1.6)
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == b"one two"


def test_a_write_during_the_store_lands_too(fs: Driver, there: Path, server: Server) -> None:
    server.faults([{"kind": "stall", "match": "ops/upload", "seconds": 0.7}])
    fs.write_file("f", b"first")
    thread = threading.Thread(target=fs.sync)
    thread.start()
    assert wait_for(lambda: fs.pending().get("f", {}).get("state") == "storing")
    fs.write_file("f", b"second, longer")
    assert fs.read_file("f") == b"second, longer"
    thread.join()
    fs.land()
    assert (there / "f").read_bytes() == b"second, longer"
    assert fs.read_file("f") == b"second, longer"
    assert list(os.listdir(there)) == ["f"]


def _while_storing(fs: Driver, server: Server, name: str) -> threading.Thread:
    """Write the file *name* and return while the cluster is being told of it."""
    server.faults([{"kind": "stall", "match": "ops/upload", "seconds": 0.7}])
    fs.write_file(name, b"first")
    thread = threading.Thread(target=fs.sync)
    thread.start()
    assert wait_for(lambda: fs.pending().get(name, {}).get("state") == "storing")
    return thread


def test_a_file_removed_during_its_store_leaves_its_name_free(
    fs: Driver, there: Path, server: Server
) -> None:
    thread = _while_storing(fs, server, "f")
    fs.unlink("f")
    thread.join()
    fs.land()
    assert os.listdir(there) == []
    fs.write_file("f", b"second, longer")
    fs.land()
    assert (there / "f").read_bytes() == b"second, longer"


def test_a_save_during_the_store_of_what_it_replaces(
    fs: Driver, there: Path, server: Server
) -> None:
    thread = _while_storing(fs, server, "f")
    fs.write_file("temporary", b"second, longer")
    fs.rename("temporary", "f")
    thread.join()
    fs.land()
    assert (there / "f").read_bytes() == b"second, longer"
    assert os.listdir(there) == ["f"]


def test_the_largest_file_that_can_be_stored(fs: Driver, there: Path) -> None:
    content = random.Random(7).randbytes(5 << 20)
    fs.write_file("f", content)
    fs.land()
    assert (there / "f").read_bytes() == content


def test_a_file_that_grows_over_the_limit_is_staged(fs: Driver, there: Path) -> None:
    fs.write_file("f", b"kept")
    fs.land()
    fd = fs.open("f", os.O_WRONLY)
    fs.pwrite(fd, b"x", 5 << 20)
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == b"kept" + bytes((5 << 20) - 4) + b"x"


def test_fsync_of_a_new_file(fs: Driver) -> None:
    fd = fs.open("f", os.O_WRONLY | os.O_CREAT)
    fs.write(fd, b"durable")
    fs.fsync(fd)
    fs.close(fd)
    assert fs.read_file("f") == b"durable"


def test_many_files_in_many_directories(fs: Driver, there: Path) -> None:
    expected = {}
    for number in range(5):
        fs.mkdir(f"d{number}")
        for inner in range(6):
            content = b"%d/%d" % (number, inner) * inner
            fs.write_file(f"d{number}/f{inner}", content)
            expected[f"d{number}/f{inner}"] = content
    fs.land()
    for name, content in expected.items():
        assert (there / name).read_bytes() == content, name


def test_files_of_a_removed_name_come_back_new(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    fs.unlink("f")
    fs.write_file("f", b"new")
    assert fs.read_file("f") == b"new"
    fs.land()
    assert (there / "f").read_bytes() == b"new"
    fs.unlink("f")
    assert not fs.exists("f")
    fs.land()
    assert os.listdir(there) == []
