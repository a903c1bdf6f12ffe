"""Symlinks never lead out of their system; hard links are one file, here and on the cluster."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from ..harness import Server, local_scratch
from .drivers import Driver


@pytest.mark.parametrize("text", ["f", "./f", "sub/../f", "nowhere", "sub/gone", "ä b'c\"d"])
def test_a_link_made_here_keeps_its_text(fs: Driver, there: Path, text: str) -> None:
    (there / "f").write_bytes(b"content")
    (there / "sub").mkdir()
    fs.symlink(text, "link")
    assert fs.readlink("link") == text
    fs.land()
    assert os.readlink(there / "link") == text
    assert fs.readlink("link") == text
    assert stat.S_ISLNK(fs.lstat("link").st_mode)
    assert fs.lstat("link").st_size == len(text.encode())
    assert fs.exists("link")
    if text.endswith("f"):
        assert fs.read_file("link") == b"content"
    else:
        with pytest.raises(FileNotFoundError):
            fs.stat("link")


def test_links_of_the_cluster(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"content")
    (there / "sub").mkdir()
    (there / "sub" / "up").symlink_to("../f")
    (there / "dir").symlink_to("sub")
    (there / "dangling").symlink_to("nothing")
    (there / "loop").symlink_to("loop")
    assert fs.readlink("sub/up") == "../f"
    assert fs.read_file("sub/up") == b"content"
    assert fs.read_file("dir/up") == b"content"
    assert fs.listdir("dir") == ["up"]
    assert fs.readlink("dangling") == "nothing"
    with pytest.raises(FileNotFoundError):
        fs.read_file("dangling")
    with pytest.raises(OSError) as refusal:
        fs.read_file("loop")
    assert refusal.value.errno == errno.ELOOP


def test_an_absolute_link_stays_in_the_mount(fs: Driver, there: Path, server: Server) -> None:
    home = server.info["systems"][0]["home"]
    (there / "f").write_bytes(b"content")
    (there / "absolute").symlink_to(f"{home}/{there.name}/f")
    (there / "scratch").symlink_to("/scratch/demo")
    shown = fs.readlink("absolute")
    assert not shown.startswith("/")
    assert fs.lstat("absolute").st_size == len(shown)
    assert fs.read_file("absolute") == b"content"
    (local_scratch(server) / there.name).write_bytes(b"there")
    fs.refresh("/cluster/scratch")
    assert fs.read_file(f"scratch/{there.name}") == b"there"
    (local_scratch(server) / there.name).unlink()


@pytest.mark.parametrize("text", ["/etc/hostname", "../../../../../etc/hostname", "/../../etc/x"])
def test_a_link_never_leads_out_of_its_system(fs: Driver, there: Path, text: str) -> None:
    (there / "link").symlink_to(text)
    assert not fs.readlink("link").startswith("/")
    with pytest.raises(FileNotFoundError):
        fs.stat("link")
    with pytest.raises(FileNotFoundError):
        fs.read_file("link")


def test_a_climbing_link_to_another_system_stays(fs: Driver, there: Path) -> None:
    (there / "link").symlink_to("../../../../other/home")
    with pytest.raises(FileNotFoundError):
        fs.listdir("link")


def test_an_absolute_link_made_here_is_returned_as_it_was_given(fs: Driver, there: Path) -> None:
    fs.symlink("/scratch/demo/x", "link")
    fs.land()
    assert os.readlink(there / "link") == "/scratch/demo/x"
    assert fs.readlink("link") == "/scratch/demo/x"


def test_making_what_exists(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"x")
    (there / "d").mkdir()
    for name in ("f", "d"):
        with pytest.raises(FileExistsError):
            fs.symlink("x", name)
        with pytest.raises(FileExistsError):
            fs.link("f", name)
    assert os.listdir(there / "d") == []


def test_removing_a_link_leaves_its_target(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d" / "f").write_bytes(b"x")
    (there / "link").symlink_to("d")
    with pytest.raises(NotADirectoryError):
        fs.rmdir("link")
    fs.unlink("link")
    fs.land()
    assert sorted(os.listdir(there)) == ["d"]
    assert (there / "d" / "f").exists()


def test_attributes_of_a_link_never_reach_its_target(fs: Driver, there: Path) -> None:
    """The kernel passes on what is asked for the link itself; the cluster would follow it."""
    (there / "target").write_bytes(b"x")
    (there / "target").chmod(0o640)
    os.utime(there / "target", (1e9, 1e9))
    (there / "link").symlink_to("target")
    with pytest.raises(OSError) as refusal:
        fs.lchmod("link", 0o600)
    assert refusal.value.errno == errno.EOPNOTSUPP
    fs.utime("link", 2 * 10**18, 2 * 10**18)
    assert fs.sync() == {}
    found = (there / "target").stat()
    assert (found.st_mode & 0o777, found.st_mtime) == (0o640, 1e9)
    assert (there / "link").is_symlink()


def test_writing_through_a_link(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"old")
    (there / "link").symlink_to("f")
    fs.write_file("link", b"new")
    fs.land()
    assert (there / "f").read_bytes() == b"new"
    assert (there / "link").is_symlink()


def test_hard_links(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    (there / "d").mkdir()
    fs.link("a", "d/b")
    assert fs.read_file("d/b") == b"content"
    assert fs.lstat("d/b").st_nlink == fs.lstat("a").st_nlink == 2
    assert fs.lstat("d/b").st_ino == fs.lstat("a").st_ino
    fs.land()
    assert os.stat(there / "a").st_ino == os.stat(there / "d" / "b").st_ino
    assert fs.lstat("d/b").st_nlink == 2
    assert fs.lstat("d/b").st_ino == fs.lstat("a").st_ino
    fs.unlink("a")
    assert fs.read_file("d/b") == b"content"
    fs.land()
    assert not (there / "a").exists()
    assert (there / "d" / "b").read_bytes() == b"content"


def test_a_hard_link_to_a_file_that_was_not_stored_yet(fs: Driver, there: Path) -> None:
    fs.write_file("a", b"content")
    fs.link("a", "b")
    assert fs.listdir() == ["a", "b"]
    assert fs.lstat("a").st_nlink == 2
    fs.land()
    assert (there / "b").read_bytes() == b"content"
    assert os.stat(there / "a").st_ino == os.stat(there / "b").st_ino


def test_a_write_through_one_hard_link_is_seen_through_the_other(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    fs.link("a", "b")
    fs.append("a", b" and more")
    assert fs.read_file("b") == b"content and more"
    fs.append("b", b", and this")
    assert fs.lstat("a").st_size == fs.lstat("b").st_size == 26
    fs.land()
    assert (there / "a").read_bytes() == (there / "b").read_bytes() == b"content and more, and this"
    assert os.stat(there / "a").st_ino == os.stat(there / "b").st_ino
    fs.append("b", b".")
    fs.land()
    fs.refresh()
    assert fs.read_file("a") == b"content and more, and this."


@pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
@pytest.mark.parametrize("gone", ["a", "b"])
def test_a_name_of_two_that_goes_leaves_the_other(
    fs: Driver, there: Path, stored: bool, gone: str
) -> None:
    """Programs make files appear whole so: git its objects, others their locks."""
    left = {"a": "b", "b": "a"}[gone]
    fs.write_file("a", b"content", 0o444)
    if stored:
        fs.land()
    fs.link("a", "b")
    fs.unlink(gone)
    assert fs.listdir() == [left]
    assert fs.lstat(left).st_nlink == 1
    assert fs.read_file(left) == b"content"
    fs.land()
    assert os.listdir(there) == [left]
    assert (there / left).read_bytes() == b"content"
    assert (there / left).stat().st_mode & 0o777 == 0o444
    assert fs.listdir() == [left]
    assert fs.errors() == []


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_name_of_two_goes_elsewhere(fs: Driver, there: Path, name: str) -> None:
    fs.write_file("a", b"content")
    fs.link("a", "b")
    fs.rename(name, "c")
    other = {"a": "b", "b": "a"}[name]
    assert fs.listdir() == sorted([other, "c"])
    assert fs.read_file("c") == fs.read_file(other) == b"content"
    fs.land()
    assert os.stat(there / "c").st_ino == os.stat(there / other).st_ino
    assert sorted(os.listdir(there)) == sorted([other, "c"])


def test_two_names_of_one_file_are_not_renamed_over_each_other(fs: Driver, there: Path) -> None:
    fs.write_file("a", b"content")
    fs.link("a", "b")
    fs.rename("a", "b")
    assert fs.listdir() == ["a", "b"]
    fs.land()
    assert os.stat(there / "a").st_ino == os.stat(there / "b").st_ino


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
def test_a_name_of_two_is_renamed_over(fs: Driver, there: Path, name: str, stored: bool) -> None:
    fs.write_file("a", b"content")
    if stored:
        fs.land()
    fs.link("a", "b")
    fs.write_file("c", b"other")
    fs.rename("c", name)
    other = {"a": "b", "b": "a"}[name]
    assert fs.read_file(name) == b"other"
    assert fs.read_file(other) == b"content"
    fs.land()
    assert (there / name).read_bytes() == b"other"
    assert (there / other).read_bytes() == b"content"
    assert sorted(os.listdir(there)) == ["a", "b"]


@pytest.mark.parametrize("stored", [False, True], ids=["new", "stored"])
def test_a_name_of_two_goes_over_another_file(fs: Driver, there: Path, stored: bool) -> None:
    fs.write_file("c", b"other")
    if stored:
        fs.land()
    fs.write_file("a", b"content")
    fs.link("a", "b")
    fs.rename("b", "c")
    assert sorted(fs.listdir()) == ["a", "c"]
    fs.land()
    assert (there / "c").read_bytes() == b"content"
    assert os.stat(there / "a").st_ino == os.stat(there / "c").st_ino
    assert sorted(os.listdir(there)) == ["a", "c"]


@pytest.mark.parametrize("gone", ["a", "b"])
def test_an_open_name_of_two_goes(fs: Driver, there: Path, gone: str) -> None:
    left = {"a": "b", "b": "a"}[gone]
    fs.write_file("a", b"content")
    fs.link("a", "b")
    fd = fs.open(gone, os.O_RDWR)
    fs.unlink(gone)
    assert fs.listdir() == [left]
    assert fs.pread(fd, 100, 0) == b"content"
    fs.pwrite(fd, b"CON", 0)
    fs.close(fd)
    assert fs.read_file(left) == b"CONtent"
    fs.land()
    assert os.listdir(there) == [left]
    assert (there / left).read_bytes() == b"CONtent"


def test_the_name_of_a_hard_link_is_taken_meanwhile(fs: Driver, there: Path) -> None:
    fs.write_file("a", b"content")
    fs.link("a", "b")
    (there / "b").write_bytes(b"theirs")
    fs.land()
    assert (there / "b").read_bytes() == b"theirs"
    (kept,) = set(os.listdir(there)) - {"a", "b"}
    assert kept.startswith("b.conflict-")
    assert os.stat(there / "a").st_ino == os.stat(there / kept).st_ino
    assert any("taken on the cluster" in line for line in fs.errors())


def test_a_hard_link_into_a_new_directory_that_is_renamed(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.write_file("d/a", b"content")
    fs.link("d/a", "d/b")
    fs.rename("d", "e")
    assert fs.read_file("e/b") == b"content"
    fs.land()
    assert os.stat(there / "e" / "a").st_ino == os.stat(there / "e" / "b").st_ino


def test_removing_a_directory_with_hard_links(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.write_file("d/a", b"content")
    fs.link("d/a", "d/b")
    with pytest.raises(OSError) as refusal:
        fs.rmdir("d")
    assert refusal.value.errno == errno.ENOTEMPTY
    for name in ("d/a", "d/b"):
        fs.unlink(name)
    fs.rmdir("d")
    fs.land()
    assert os.listdir(there) == []


def test_attributes_belong_to_all_names_of_a_file(fs: Driver, there: Path) -> None:
    fs.write_file("a", b"content")
    fs.link("a", "b")
    fs.chmod("b", 0o600)
    fs.utime("b", 10**18, 10**18)
    assert fs.lstat("a").st_mode & 0o777 == 0o600
    assert fs.lstat("a").st_mtime_ns == 10**18
    fs.land()
    found = (there / "a").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns, found.st_nlink) == (0o600, 10**18, 2)


@pytest.mark.parametrize("gone", ["unlinked", "renamed"])
def test_a_hard_link_under_a_name_that_became_free(fs: Driver, there: Path, gone: str) -> None:
    (there / "a").write_bytes(b"content")
    (there / "b").write_bytes(b"other")
    if gone == "unlinked":
        fs.unlink("b")
    else:
        fs.rename("b", "c")
    fs.link("a", "b")
    fs.land()
    assert (there / "b").read_bytes() == fs.read_file("b") == b"content"
    assert os.stat(there / "b").st_ino == os.stat(there / "a").st_ino
    assert (there / "c").exists() == (gone == "renamed")


@pytest.mark.parametrize("way", ["one", "tree"])
def test_removing_the_other_name_of_what_was_written(fs: Driver, there: Path, way: str) -> None:
    fs.mkdir("d")
    fs.write_file("d/a", b"content")
    fs.link("d/a", "d/b")
    assert fs.read_file("d/b") == b"content"
    fs.append("d/a", b" and more")
    fs.land()
    fs.unlink("d/b")
    if way == "one":
        fs.land()
        assert os.listdir(there / "d") == ["a"]
        assert (there / "d" / "a").read_bytes() == b"content and more"
    fs.unlink("d/a")
    fs.rmdir("d")
    fs.land()
    assert os.listdir(there) == []


def test_the_other_name_of_what_somebody_else_wrote_is_kept(fs: Driver, there: Path) -> None:
    (there / "a").write_bytes(b"content")
    fs.link("a", "b")
    assert fs.read_file("b") == b"content"
    fs.append("a", b" and more")
    fs.land()
    (there / "b").write_bytes(b"somebody else's, and newer")
    fs.unlink("b")
    fs.land()
    assert (there / "b").read_bytes() == b"somebody else's, and newer"


def test_directories_have_no_hard_links(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    with pytest.raises(OSError) as refusal:
        fs.link("d", "e")
    assert refusal.value.errno == errno.EPERM
    with pytest.raises(OSError) as refusal:
        fs.link("d", "/other/home/demo/e")
    assert refusal.value.errno in (errno.EXDEV, errno.EPERM)
