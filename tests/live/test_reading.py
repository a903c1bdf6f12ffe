"""The typed client on a real server: systems, listings, attributes, content, time."""

from __future__ import annotations

import errno
import hashlib
import os
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from firecrestfs.api import Inexact, IsADirectory, NotADirectory, NotFound, SystemUnknown, TooLarge
from firecrestfs.model import Kind, Source

from .place import SECOND, Place, member, refused

#: 2024-01-15 12:00 and 2024-07-01 10:00 UTC
WINTER, SUMMER = 1705320000, 1719828000
ODD = [
    "two  spaces",
    " lead",
    "trail ",
    "a -> b",
    'quo"te',
    "back\\slash",
    "back\\nslash",
    "a\\033b",
    "end\\",
    "new\nline",
    "tab\t",
    "cr\r",
    "esc\x1b[31m",
    "bell\a",
    "café",
    "日本語",
    "😀",
    "nel\x85x",
    "sep\u2028x",
    "it's",
    "$HOME",
    "`id`",
    "*",
    "-rf",
    "a&b<c>",
    "#1",
    "percent%41",
    "plus+and=",
    "semi;colon",
    "x" * 255,
]


def test_the_system(place: Place) -> None:
    found = {system.name: system for system in place.client.systems()}[place.system]
    assert found.problem == ""
    roots = [root.path.rstrip("/") for root in found.roots]
    assert any(place.path.startswith(f"{root}/") for root in roots), roots
    assert found.limits.upload >= found.limits.download >= found.limits.view > 0 or (
        found.limits.view == found.limits.download
    )
    assert found.scheduler


def test_userinfo(place: Place) -> None:
    found = place.client.userinfo(place.system)
    assert found.name
    assert found.groups[found.gid]
    own = place.stat("")
    assert (own.kind, own.uid) == (Kind.DIRECTORY, found.uid)


def test_an_unknown_system_is_no_missing_file(place: Place) -> None:
    exc = refused(place.client.stat, "no-such-system", place.path)
    assert isinstance(exc, SystemUnknown)
    assert not isinstance(exc, FileNotFoundError)


# -- listings -------------------------------------------------------------------------------------


def test_list_of_an_empty_directory(place: Place) -> None:
    assert place.client.list(place.system, place.path) == []


def test_list(place: Place) -> None:
    place.put("file", b"12345")
    place.client.chmod(place.system, place / "file", 0o640)
    place.mkdir("dir")
    place.put(".hidden", b"x")
    place.client.symlink(place.system, place / "file", place / "link")
    entries = {entry.name: entry.attr for entry in place.client.list(place.system, place.path)}
    assert set(entries) == {"file", "dir", ".hidden", "link"}
    file = entries["file"]
    assert (file.kind, file.mode, file.size, file.source) == (Kind.FILE, 0o640, 5, Source.LS)
    assert file.uid == place.client.userinfo(place.system).uid
    assert entries["dir"].kind is Kind.DIRECTORY
    assert (entries["link"].kind, entries["link"].target) == (Kind.SYMLINK, place / "file")
    assert place.client.lstat_entry(place.system, place / "link").attr.target == place / "file"


def test_list_of_what_is_no_directory(place: Place) -> None:
    place.put("file", b"x")
    place.mkdir("dir")
    place.put("dir/inside", b"x")
    place.client.symlink(place.system, place / "dir", place / "link")
    place.client.symlink(place.system, place / "nowhere", place / "dangling")
    for name in ("file", "file/", "link", "dangling", "file/x"):
        exc = refused(place.client.list, place.system, place / name)
        assert isinstance(exc, NotADirectory), name
    (inside,) = place.client.list(place.system, place / "link/")
    assert inside.name == "inside"
    for name in ("nope", "nope/deeper", "dangling/"):
        assert isinstance(refused(place.client.list, place.system, place / name), NotFound)


def test_list_of_a_closed_directory(place: Place) -> None:
    place.mkdir("closed")
    place.put("closed/x", b"x")
    place.client.chmod(place.system, place / "closed", 0)
    for act in (place.client.list, lambda s, p: place.client.stat(s, f"{p}/x")):
        assert refused(act, place.system, place / "closed").errno == errno.EACCES
    place.client.chmod(place.system, place / "closed", 0o700)
    assert place.names("closed") == ["x"]


def test_list_outside_of_what_the_system_offers(place: Place) -> None:
    if place.features.version == "2":
        for path in ("/", "/etc", "/proc/self"):
            assert refused(place.client.list, place.system, path).errno == errno.EACCES


def test_odd_names(place: Place) -> None:
    place.plant(*(member(name, name.encode()) for name in ODD))
    assert place.names() == sorted(ODD)


@pytest.mark.parametrize("name", ODD)
def test_an_odd_name(place: Place, name: str) -> None:
    place.plant(member(name, b"content"))
    assert place.names() == [name]
    if any(part in name for part in place.features.forbidden):
        assert refused(place.client.stat, place.system, place / name).errno == errno.EINVAL
        return
    assert place.stat(name).size == 7
    assert place.get(name) == b"content"
    assert place.client.lstat_entry(place.system, place / name).attr.size == 7
    if set(name) & set('"\r\n') and place.features.version == "2":
        assert refused(place.put, name, b"longer").errno == errno.EINVAL
    else:
        place.put(name, b"longer content")
        assert place.get(name) == b"longer content"
    place.client.chmod(place.system, place / name, 0o600)
    place.client.checksum(place.system, place / name)
    place.client.remove(place.system, place / name, Kind.FILE)
    assert place.names() == []


def test_a_name_that_is_not_utf8(place: Place) -> None:
    info, data = member("bad\udcff.bin", b"x")
    place.plant((info, data), member("good", b"x"))
    names = place.names()
    assert [os.fsencode(name) for name in names] == [b"bad\xff.bin", b"good"]
    assert refused(place.stat, names[0]).errno == errno.EINVAL


def test_a_tree(place: Place) -> None:
    directories = ['q"d', "new\ndir", "café", "back\\nslash", "sp ace:"]
    place.plant(
        *(member(name, type=tarfile.DIRTYPE, mode=0o755) for name in directories),
        *(member(f"{name}/leaf", b"x") for name in directories),
    )
    found = place.client.list(place.system, place.path, recursive=True)
    wanted = {f"{name}{leaf}" for name in directories for leaf in ("", "/leaf")}
    assert {entry.name for entry in found} == wanted


def test_a_large_listing(place: Place) -> None:
    names = [f"some-file-of-many-{number:05}" for number in range(3000)]
    place.plant(*(member(name) for name in names))
    assert place.names() == names


# -- attributes -----------------------------------------------------------------------------------


def test_stat(place: Place) -> None:
    place.plant(
        member("f", b"123", mtime=SUMMER),
        member("g", type=tarfile.LNKTYPE, linkname="f"),
        member("dir", type=tarfile.DIRTYPE, mode=0o755, mtime=WINTER),
        member("link", type=tarfile.SYMTYPE, linkname="f"),
        member("fifo", type=tarfile.FIFOTYPE),
    )
    place.client.chmod(place.system, place / "f", 0o4640)
    found = place.stat("f")
    assert (found.kind, found.mode, found.size, found.nlink) == (Kind.FILE, 0o4640, 3, 2)
    assert (found.mtime_ns, found.source) == (SUMMER * SECOND, Source.STAT)
    assert place.stat("g").ino == found.ino != 0
    assert (place.stat("dir").kind, place.stat("dir").mtime_ns) == (Kind.DIRECTORY, WINTER * SECOND)
    assert place.stat("link").kind is Kind.SYMLINK
    assert place.stat("link", follow=True).ino == found.ino
    assert place.stat("fifo").kind is Kind.FIFO


def test_stat_of_what_is_not_there(place: Place) -> None:
    place.put("file", b"x")
    place.client.symlink(place.system, place / "nowhere", place / "dangling")
    place.client.symlink(place.system, place / "loop", place / "loop")
    assert isinstance(refused(place.stat, "nope"), NotFound)
    assert isinstance(refused(place.stat, "nope/deeper"), NotFound)
    assert isinstance(refused(place.stat, "dangling", follow=True), NotFound)
    assert refused(place.stat, "loop", follow=True).errno == errno.ELOOP
    assert refused(place.stat, "file/x").errno == errno.ENOTDIR
    assert refused(place.stat, "y" * 256).errno == errno.ENAMETOOLONG


def test_readlink(place: Place) -> None:
    texts = ["../up", "nowhere", "a b -> c", "/etc/passwd", "é", "x/"]
    place.plant(
        *(member(f"l{n}", type=tarfile.SYMTYPE, linkname=text) for n, text in enumerate(texts))
    )
    found = [place.client.readlink(place.system, place / f"l{n}") for n in range(len(texts))]
    assert found == texts
    place.put("file", b"x")
    assert refused(place.client.readlink, place.system, place / "file").errno == errno.EINVAL
    assert refused(place.client.readlink, place.system, place.path).errno == errno.EINVAL


# -- time -----------------------------------------------------------------------------------------


def test_listing_times_through_the_learnt_zone(place: Place) -> None:
    times = {"winter": WINTER, "summer": SUMMER, "fresh": int(time.time())}
    place.plant(*(member(name, b"x", mtime=at) for name, at in times.items()))
    place.client.list(place.system, place.path)
    assert place.client.learn_zone(place.system, place.path)
    listed = {entry.name: entry.attr for entry in place.client.list(place.system, place.path)}
    assert {name: attr.mtime_ns // SECOND for name, attr in listed.items()} == times
    for name, at in times.items():
        assert place.stat(name).mtime_ns == at * SECOND


# -- content --------------------------------------------------------------------------------------


def test_sizes(place: Place) -> None:
    limit = place.limits.download
    for size in (1, 2, 3, 1024, 65537, limit - 1, limit):
        data = os.urandom(size)
        place.put("file", data)
        assert place.get("file") == data, size
        digest = hashlib.sha256(data).hexdigest()
        assert place.client.checksum(place.system, place / "file") == digest
    data = os.urandom(limit + 1)
    if limit + 1 <= place.limits.upload:
        place.put("file", data)
        exc = refused(place.client.download, place.system, place / "file", expect=limit + 1)
        assert isinstance(exc, TooLarge)
        if place.features.version == "2":
            assert isinstance(refused(place.get, "file"), TooLarge)


def test_every_byte(place: Place) -> None:
    data = bytes(range(256)) * 5 + b"\r\n--boundary\r\n\xff\xfe"
    place.put("file", data)
    assert place.get("file") == data


def test_download_of_what_is_no_file(place: Place) -> None:
    place.mkdir("dir")
    assert isinstance(refused(place.get, "dir"), IsADirectory)
    assert isinstance(refused(place.get, "nope"), NotFound)
    place.put("secret", b"x")
    place.client.chmod(place.system, place / "secret", 0)
    assert refused(place.get, "secret").errno == errno.EACCES


def test_download_of_an_empty_file(place: Place) -> None:
    place.plant(member("empty"))
    assert place.get("empty") == b""


def test_a_file_that_became_shorter(place: Place) -> None:
    place.put("file", b"123")
    exc = refused(place.client.download, place.system, place / "file", expect=10)
    assert (exc.errno, exc.transient) == (errno.ESTALE, True)


def test_view_of_text(place: Place) -> None:
    data = "".join(f"{n} zwölf Boxkämpfer €😀\n" for n in range(20_000)).encode()
    place.put("text", data)
    exact = 0
    ranges = [(0, 1), (0, 4096), (4096, 4096), (100_003, 777), (len(data) - 10, 10)]
    for offset, size in [*ranges, (len(data) - 10, 4096), (len(data) + 5, 10)]:
        try:
            found = place.client.view(place.system, place / "text", offset, size)
        except Inexact:
            continue
        exact += 1
        assert found == data[offset : offset + size], (offset, size)
    assert exact >= 3


def test_view_of_bytes_is_exact_or_refused(place: Place) -> None:
    data = os.urandom(10_000)
    place.put("bytes", data)
    for offset, size in ((0, 10_000), (1000, 100), (8192, 1024)):
        try:
            found = place.client.view(place.system, place / "bytes", offset, size)
        except Inexact:
            assert not place.features.exact_ranges
        else:
            assert found == data[offset : offset + size]


def test_head_and_tail(place: Place) -> None:
    lines = [f"line {number}\n" for number in range(1000)]
    place.put("text", "".join(lines).encode())
    path = place / "text"
    assert place.client.head(place.system, path, lines=3) == "".join(lines[:3])
    assert place.client.tail(place.system, path, lines=3) == "".join(lines[-3:])
    assert place.client.head(place.system, path, size=6) == "line 0"
    assert place.client.tail(place.system, path, size=9) == "line 999\n"


def test_file_type(place: Place) -> None:
    place.put("script", b"#!/bin/sh\necho\n")
    assert "script" in place.client.file_type(place.system, place / "script")


def test_many_at_once(place: Place) -> None:
    for number in range(4):
        place.put(f"f{number}", bytes([number]) * 1000)
    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda n: place.get(f"f{n % 4}"), range(36)))
    assert all(data == bytes([n % 4]) * 1000 for n, data in enumerate(found))
