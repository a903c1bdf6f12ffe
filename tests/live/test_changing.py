"""The typed client on a real server: everything that changes files."""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile

import pytest

from firecrestfs.api import Exists, IsADirectory, NotADirectory, NotFound, TooLarge
from firecrestfs.model import Kind

from .place import SECOND, Place, member, refused

SUMMER_NS = 1719828000 * SECOND


# -- uploads --------------------------------------------------------------------------------------


def test_upload_up_to_the_limit(place: Place) -> None:
    limit = place.limits.upload
    for size in (limit - 1, limit):
        data = os.urandom(size)
        path = place.put("file", data)
        assert place.stat("file").size == size
        assert place.client.checksum(place.system, path) == hashlib.sha256(data).hexdigest()
    exc = refused(place.put, "over", bytes(limit + 1))
    assert isinstance(exc, TooLarge)
    assert not place.exists("over")


def test_the_server_refuses_what_is_over_its_limit(place: Place) -> None:
    limit = place.limits.upload
    if place.features.version == "2":
        server = place.client._client.server()
        data = bytes(limit + 1)
        exc = refused(server.upload, place.system, place.path, "over", data, limit=limit + 1)
        assert isinstance(exc, TooLarge)
        assert not place.exists("over")


def test_upload_writes_in_place(place: Place) -> None:
    place.plant(
        member("file", b"old and longer", mode=0o640),
        member("hard", type=tarfile.LNKTYPE, linkname="file"),
        member("soft", type=tarfile.SYMTYPE, linkname="file"),
    )
    before = place.stat("file")
    place.put("soft", b"new")
    after = place.stat("file")
    assert (after.ino, after.mode, after.size) == (before.ino, before.mode, 3)
    assert place.get("hard") == b"new"
    assert place.stat("soft").kind is Kind.SYMLINK


def test_upload_to_where_no_file_can_be(place: Place) -> None:
    place.mkdir("dir")
    place.mkdir("closed")
    place.put("file", b"x")
    place.client.chmod(place.system, place / "closed", 0o500)
    assert isinstance(refused(place.put, "nope/x", b"x"), NotFound)
    assert isinstance(refused(place.put, "dir", b"x"), IsADirectory)
    assert isinstance(refused(place.put, "file/x", b"x"), NotADirectory)
    found = refused(place.put, "closed/x", b"x")
    if found.transient:
        # The command had ended before the server had sent it the data: it says that alone.
        found = refused(place.put, "closed/x", b"x")
    assert found.errno == errno.EACCES
    place.client.chmod(place.system, place / "closed", 0o700)
    assert place.names("closed") == place.names("dir") == []


def test_empty_files(place: Place) -> None:
    if place.features.empty_upload:
        place.put("new", b"")
        assert place.stat("new").size == 0
    else:
        assert refused(place.put, "new", b"").errno == errno.EINVAL
        assert not place.exists("new")
    place.put("old", b"content")
    place.client.chmod(place.system, place / "old", 0o600)
    before = place.stat("old")
    place.client.empty(place.system, place / "old")
    after = place.stat("old")
    assert (after.size, after.ino, after.mode) == (0, before.ino, 0o600)
    assert place.get("old") == b""


# -- directories and removals ---------------------------------------------------------------------


def test_mkdir(place: Place) -> None:
    path = place / "dir"
    place.client.mkdir(place.system, path)
    assert place.stat("dir").kind is Kind.DIRECTORY
    assert isinstance(refused(place.client.mkdir, place.system, path), Exists)
    place.client.mkdir(place.system, path, parents=True)
    place.put("file", b"x")
    assert isinstance(refused(place.client.mkdir, place.system, place / "file"), Exists)
    assert isinstance(refused(place.client.mkdir, place.system, place / "nope/deep"), NotFound)
    place.client.mkdir(place.system, place / "nope/deep", parents=True)
    assert place.stat("nope/deep").kind is Kind.DIRECTORY
    exc = refused(place.client.mkdir, place.system, place / "file/x")
    assert isinstance(exc, NotADirectory)


def test_remove(place: Place) -> None:
    place.put("file", b"x")
    place.mkdir("dir")
    place.put("dir/kept", b"x")
    place.client.symlink(place.system, place / "dir", place / "link")

    def remove(name: str, kind: Kind) -> None:
        place.client.remove(place.system, place / name, kind)

    assert isinstance(refused(remove, "file", Kind.DIRECTORY), NotADirectory)
    assert isinstance(refused(remove, "dir", Kind.FILE), IsADirectory)
    assert refused(remove, "dir", Kind.DIRECTORY).errno == errno.ENOTEMPTY
    assert isinstance(refused(remove, "link", Kind.DIRECTORY), NotADirectory)
    assert refused(remove, "link", Kind.FILE).errno == errno.ESTALE
    assert isinstance(refused(remove, "nope", Kind.FILE), NotFound)
    remove("link/", Kind.SYMLINK)
    assert place.names() == ["dir", "file"]
    assert place.names("dir") == ["kept"]
    remove("dir/kept", Kind.FILE)
    remove("dir", Kind.DIRECTORY)
    remove("file", Kind.FILE)
    assert place.names() == []


def test_remove_from_a_closed_directory(place: Place) -> None:
    place.mkdir("closed")
    place.put("closed/file", b"x")
    place.client.chmod(place.system, place / "closed", 0o500)
    exc = refused(place.client.remove, place.system, place / "closed/file", Kind.FILE)
    assert exc.errno == errno.EACCES
    place.client.chmod(place.system, place / "closed", 0o700)
    assert place.get("closed/file") == b"x"


def test_the_roots_stay(place: Place) -> None:
    for root in place.client.system(place.system).roots:
        for act in (place.client.remove_tree, lambda s, p: place.client.remove(s, p, Kind.FILE)):
            assert refused(act, place.system, root.path).errno == errno.EBUSY


def test_remove_tree(place: Place) -> None:
    place.plant(
        *(member(f"tree/d{n}/f{m}", b"x") for n in range(5) for m in range(20)),
        member("kept/file", b"x"),
        member("tree/link", type=tarfile.SYMTYPE, linkname="../kept"),
    )
    place.client.remove_tree(place.system, place / "tree")
    assert place.names() == ["kept"]
    assert place.names("kept") == ["file"]
    place.client.symlink(place.system, place / "kept", place / "link")
    exc = refused(place.client.remove_tree, place.system, place / "link")
    assert isinstance(exc, NotADirectory)


# -- links, modes, owners -------------------------------------------------------------------------


def test_symlink(place: Place) -> None:
    place.mkdir("dir")
    place.put("file", b"x")

    def symlink(target: str, link: str) -> None:
        place.client.symlink(place.system, target, place / link)

    for name, target in (("a", place / "file"), ("b c", place / "no where"), ("d", place / "dir")):
        symlink(target, name)
        assert place.client.readlink(place.system, place / name) == target
    for link in ("a", "file", "dir", "d"):
        assert isinstance(refused(symlink, place / "file", link), Exists), link
    assert place.names("dir") == []
    assert isinstance(refused(symlink, place / "file", "nope/link"), NotFound)
    if place.features.any_link:
        symlink("../relative", "r")
        assert place.client.readlink(place.system, place / "r") == "../relative"
    else:
        assert refused(symlink, "../relative", "r").errno == errno.EINVAL


def test_chmod(place: Place) -> None:
    place.put("file", b"x")
    place.mkdir("dir")
    place.client.symlink(place.system, place / "file", place / "link")
    for name, mode in (("file", 0o600), ("file", 0o4755), ("file", 0o755), ("file", 0)):
        place.client.chmod(place.system, place / name, mode)
        assert place.stat(name).mode == mode
    for mode in (0o2750, 0o750, 0o1777, 0o700):
        place.client.chmod(place.system, place / "dir", mode)
        assert place.stat("dir").mode == mode
    place.client.chmod(place.system, place / "link", 0o644)
    assert place.stat("file").mode == 0o644
    assert isinstance(refused(place.client.chmod, place.system, place / "nope", 0o600), NotFound)


def test_chown(place: Place) -> None:
    user = place.client.userinfo(place.system)
    place.put("file", b"x")
    place.client.chown(place.system, place / "file", user.uid, user.gid)
    place.client.chown(place.system, place / "file", user.uid, None)
    place.client.chown(place.system, place / "file", None, user.gid)
    found = place.stat("file")
    assert (found.uid, found.gid) == (user.uid, user.gid)
    exc = refused(place.client.chown, place.system, place / "file", 0, None)
    assert exc.errno in (errno.EPERM, errno.EACCES)
    assert place.stat("file").uid == user.uid


# -- archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["none", "gzip", "bzip2", "xz"])
def test_archives(place: Place, compression: str) -> None:
    place.plant(
        member("tree/f", b"content", mode=0o640, mtime=1719828000),
        member("tree/empty"),
        member("tree/it's", b"x"),
        member("tree/link", type=tarfile.SYMTYPE, linkname="nowhere"),
        member("tree/hard", type=tarfile.LNKTYPE, linkname="tree/f"),
    )
    place.mkdir("out")
    features, archive = place.features, place / f"archive.{compression}"
    if compression not in features.packings & features.compressions:
        return
    place.client.compress(place.system, place / "tree", archive, compression=compression)
    place.client.extract(place.system, archive, place / "out", compression=compression)
    assert place.names("out/tree") == ["empty", "f", "hard", "it's", "link"]
    found = place.stat("out/tree/f")
    mode = 0o640 & ~place.umask()
    assert (found.mode, found.size, found.mtime_ns, found.nlink) == (mode, 7, SUMMER_NS, 2)
    assert place.stat("out/tree/empty").size == 0
    assert place.client.readlink(place.system, place / "out/tree/link") == "nowhere"
    assert place.get("out/tree/f") == b"content"


def test_archives_of_parts(place: Place) -> None:
    if not place.features.patterns:
        return
    place.plant(*(member(f"tree/{name}", b"x") for name in ("a.txt", "b.dat", "c.txt")))
    archive = place / "archive.tgz"
    place.client.compress(place.system, place / "tree", archive, pattern="./tree/a.txt")
    place.mkdir("out")
    place.client.extract(place.system, archive, place / "out")
    assert place.names("out/tree") == ["a.txt"]


def test_archives_that_are_none(place: Place) -> None:
    place.put("no.tgz", b"this is no archive")
    place.mkdir("out")
    refused(place.client.extract, place.system, place / "no.tgz", place / "out")
    assert place.names("out") == []
    exc = refused(place.client.extract, place.system, place / "nope.tgz", place / "out")
    assert isinstance(exc, NotFound)
    exc = refused(place.client.compress, place.system, place / "nope", place / "x.tgz")
    assert isinstance(exc, NotFound)


def test_an_archive_makes_a_hard_link(place: Place) -> None:
    place.put("file", b"content")
    place.put("target", b"old")
    before = place.stat("file")
    place.plant(member("target", type=tarfile.LNKTYPE, linkname="file"))
    after = place.stat("target")
    assert (after.ino, after.nlink) == (before.ino, 2)


# -- renaming -------------------------------------------------------------------------------------


def test_rename(place: Place) -> None:
    place.put("a", b"content")
    place.put("b", b"old")
    place.mkdir("dir")
    place.put("dir/x", b"x")

    def rename(old: str, new: str) -> object:
        return place.client.rename(place.system, place / old, place / new)

    if not place.features.rename:
        assert refused(rename, "a", "b").errno == errno.EOPNOTSUPP
        assert place.get("b") == b"old"
        return
    ino = place.stat("a").ino
    rename("a", "b")
    assert place.names() == ["b", "dir"]
    assert (place.stat("b").ino, place.get("b")) == (ino, b"content")
    rename("dir", "moved")
    assert place.names("moved") == ["x"]
    place.mkdir("empty")
    rename("moved", "empty")
    assert place.names("empty") == ["x"]
    place.mkdir("full")
    place.put("full/y", b"y")
    assert refused(rename, "empty", "full").errno == errno.ENOTEMPTY
    assert isinstance(refused(rename, "b", "full"), IsADirectory)
    assert isinstance(refused(rename, "full", "b"), NotADirectory)
    assert isinstance(refused(rename, "nope", "c"), NotFound)
    assert place.names() == ["b", "empty", "full"]
