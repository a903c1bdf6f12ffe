"""The small parts of the mount: routing, litter, guarded names, handles."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from firecrestfs.errors import os_error
from firecrestfs.vfs import guard
from firecrestfs.vfs.base import Filesystem, OpenFile
from firecrestfs.vfs.flights import Flights
from firecrestfs.vfs.handles import BytesHandle, MemoryHandle
from firecrestfs.vfs.litter import Litter
from firecrestfs.vfs.namespace import Mounted, Namespace, RootFilesystem

from .tools import code_of, make_attr, together

# -- the interface -------------------------------------------------------------------------------


def test_what_is_not_overridden_refuses() -> None:
    filesystem, handle = Filesystem(), OpenFile()
    assert code_of(filesystem.getattr, "/x") == errno.ENOENT
    for name, args in {
        "mkdir": ("/x", 0),
        "unlink": ("/x",),
        "rename": ("/x", "/y"),
        "chmod": ("/x", 0),
        "symlink": ("t", "/x"),
    }.items():
        assert code_of(getattr(filesystem, name), *args) == errno.EPERM
    assert code_of(filesystem.create, "/x", 0, 0) == errno.EROFS
    assert code_of(handle.read, 1, 0) == errno.EBADF
    assert code_of(handle.write, b"", 0) == errno.EBADF


# -- namespace -----------------------------------------------------------------------------------


class Place(Filesystem):
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.fixture
def namespace() -> Namespace:
    connects: list[str] = []

    def mounted(name: str) -> Mounted:
        def connect() -> tuple[Filesystem, Filesystem]:
            connects.append(name)
            return Place(f"{name} files"), Place(f"{name} jobs")

        return Mounted(connect)

    systems = {name: mounted(name) for name in ("daint", "eiger")}
    made = Namespace(
        RootFilesystem(list(systems), 1, 1), Place("control"), systems, Flights(workers=2)
    )
    made.connects = connects  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize(
    ("path", "place", "sub"),
    [
        ("/daint", "daint files", "/"),
        ("/daint/users/me", "daint files", "/users/me"),
        ("/eiger/x", "eiger files", "/x"),
        ("/daint/.jobs", "daint jobs", "/.jobs"),
        ("/daint/.jobs/run.sh", "daint jobs", "/.jobs/run.sh"),
        ("/daint/a/b/.jobs/run.sh", "daint jobs", "/a/b/.jobs/run.sh"),
        ("/daint/.jobs2", "daint files", "/.jobs2"),
        ("/daint/a/x.jobs", "daint files", "/a/x.jobs"),
        ("/.firecrestfs", "control", "/"),
        ("/.firecrestfs/queue", "control", "/queue"),
    ],
)
def test_paths_find_their_file_system(
    namespace: Namespace, path: str, place: str, sub: str
) -> None:
    found, rest = namespace.route(path)
    assert isinstance(found, Place)
    assert (found.name, rest) == (place, sub)


@pytest.mark.parametrize("path", ["/", "/unknown", "/unknown/x", "/daintx", "/.jobs"])
def test_all_else_is_the_root_s(namespace: Namespace, path: str) -> None:
    found, rest = namespace.route(path)
    assert isinstance(found, RootFilesystem)
    assert rest == path
    if path != "/":
        assert code_of(found.getattr, rest) == errno.ENOENT


def test_a_system_is_connected_when_it_is_looked_into_once(namespace: Namespace) -> None:
    namespace.route("/")
    assert namespace.connected() == {}
    together(8, lambda number: namespace.route("/daint/x"))
    assert namespace.connects == ["daint"]  # type: ignore[attr-defined]
    assert list(namespace.connected()) == ["daint"]


def test_a_system_that_could_not_be_connected_is_tried_again() -> None:
    answers: list[Any] = [os_error(errno.EHOSTUNREACH), (Place("files"), Place("jobs"))]

    def connect() -> tuple[Filesystem, Filesystem]:
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer  # type: ignore[no-any-return]

    made = Namespace(
        RootFilesystem(["a"], 1, 1), Place("control"), {"a": Mounted(connect)}, Flights(workers=1)
    )
    assert code_of(made.route, "/a") == errno.EHOSTUNREACH
    assert made.route("/a")[1] == "/"


def test_the_root_lists_systems_with_inodes_of_their_own(namespace: Namespace) -> None:
    root = namespace.route("/")[0]
    found = {entry.name: entry.attr.inode for entry in root.readdir("/")}
    assert sorted(found) == ["daint", "eiger"]
    assert len({*found.values(), root.getattr("/").inode}) == 3


# -- litter and guarded names --------------------------------------------------------------------


def test_litter_stays_here_and_comes_back() -> None:
    litter = Litter()
    handle = litter.create("/d/.DS_Store", make_attr(mode=0o600), os.O_RDWR)
    handle.write(b"desktop", 0)
    assert "/d/.DS_Store" in litter
    assert litter.attr("/d/.DS_Store").size == 7
    assert [each.name for each in litter.entries("/d")] == [".DS_Store"]
    assert litter.entries("/") == []
    assert litter.open("/d/.DS_Store", os.O_RDONLY).read(99, 0) == b"desktop"
    litter.rename("/d/.DS_Store", "/d/._x")
    assert litter.remove("/d/._x")
    assert not litter.remove("/d/._x")


def test_litter_keeps_what_it_is_given() -> None:
    litter = Litter()
    litter.create("/d/._x", make_attr(mode=0o600), os.O_RDWR).write(b"abc", 0)
    litter.chmod("/d/._x", 0o644)
    litter.utime("/d/._x", None, 5)
    found = litter.attr("/d/._x")
    assert (found.mode, found.mtime_ns, found.size) == (0o644, 5, 3)
    litter.move_below("/d", "/e")
    assert litter.content("/e/._x") == b"abc"
    assert "/d/._x" not in litter


def test_litter_goes_with_its_directory() -> None:
    litter = Litter()
    for path in ("/d/._a", "/d/e/._b", "/dx/._c"):
        litter.create(path, make_attr(), os.O_RDWR)
    litter.remove_below("/d")
    assert [path for path in ("/d/._a", "/d/e/._b", "/dx/._c") if path in litter] == ["/dx/._c"]


@pytest.mark.parametrize(
    ("name", "trash", "litter", "probe", "housekeeping"),
    [
        (".Trash", True, False, True, False),
        (".Trash-1000", True, False, True, False),
        (".Trashes-of-mine", False, False, False, False),
        (".DS_Store", False, True, True, False),
        ("._photo.jpg", False, True, True, False),
        ("._", False, True, True, False),
        ("._data.bin.x7Yz0Q", False, False, False, False),
        ("._notes.txt.swp", False, False, False, False),
        ("._notes.txt.swpx", False, False, False, False),
        (".hidden", False, False, True, False),
        (".directory", False, False, True, False),
        (".git", False, False, False, False),
        (".bashrc", False, False, False, False),
        ("run.sh", False, False, False, False),
        (".fcfs-0123.tar", False, False, False, True),
        (".f7t_file_handling_job_1.log", False, False, False, True),
    ],
)
def test_guarded_names(
    name: str, trash: bool, litter: bool, probe: bool, housekeeping: bool
) -> None:
    assert guard.is_trash(name) is trash
    assert guard.is_litter(name) is litter
    assert guard.is_probe(name) is probe
    assert guard.is_housekeeping(name) is housekeeping


@pytest.mark.parametrize(("path", "why"), [("/it's", '"\'"'), ("/\udcff", "not UTF-8")])
def test_names_that_no_request_can_carry(path: str, why: str) -> None:
    with pytest.raises(OSError, match=why) as info:
        guard.refuse_unsendable(path, "\0'")
    assert (info.value.errno, info.value.filename) == (errno.EINVAL, path)
    guard.refuse_unsendable('/say "hi"/two\nlines/$(x)/ü', "\0'")


@pytest.mark.parametrize("name", [".Trash-1000", ".fcfs-x"])
def test_names_that_the_mount_keeps(name: str) -> None:
    assert code_of(guard.refuse_housekeeping, name, f"/{name}") == errno.EPERM
    guard.refuse_housekeeping("x.fcfs-x", "/x.fcfs-x")


# -- handles -------------------------------------------------------------------------------------


def test_a_snapshot_is_read_only() -> None:
    handle = BytesHandle(b"hello")
    assert handle.read(3, 1) == b"ell"
    assert handle.read(3, 9) == b""
    assert code_of(handle.write, b"x", 0) == errno.EBADF


def test_a_file_in_memory() -> None:
    content = bytearray()
    told: list[str] = []
    writer = MemoryHandle(
        content, os.O_RDWR, 10, lambda: told.append("flush"), lambda: told.append("release")
    )
    reader = MemoryHandle(content, os.O_RDONLY, 10)
    assert writer.write(b"x", 3) == 1
    assert reader.read(9, 0) == b"\0\0\0x"
    writer.truncate(1)
    writer.truncate(2)
    assert bytes(content) == b"\0\0"
    assert code_of(writer.write, b"xx", 9) == errno.EFBIG
    assert code_of(writer.truncate, 11) == errno.EFBIG
    assert code_of(reader.write, b"x", 0) == errno.EBADF
    assert code_of(reader.truncate, 0) == errno.EBADF
    for handle in (reader, writer):
        handle.flush()
        handle.release()
    assert told == ["flush", "release"]


def test_appends_in_memory_are_whole() -> None:
    content = bytearray()
    handles = [MemoryHandle(content, os.O_WRONLY | os.O_APPEND, 1 << 20) for _ in range(6)]
    together(6, lambda number: [handles[number].write(b"%03d\n" % number, 0) for _ in range(200)])
    assert len(content) == 6 * 200 * 4
    assert set(bytes(content).splitlines()) == {b"%03d" % number for number in range(6)}
