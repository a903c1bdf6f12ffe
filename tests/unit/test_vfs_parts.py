"""The small parts of the mount: routing, control files, scripts, litter, handles, guarded names."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Job, Kind
from firecrestfs.vfs import guard
from firecrestfs.vfs.base import Filesystem, OpenFile
from firecrestfs.vfs.control import ControlFilesystem, ErrorLog
from firecrestfs.vfs.flights import Flights
from firecrestfs.vfs.handles import BytesHandle, MemoryHandle
from firecrestfs.vfs.jobs import JobsFilesystem, queue_table
from firecrestfs.vfs.litter import Litter
from firecrestfs.vfs.namespace import Mounted, Namespace, RootFilesystem

from .tools import make_attr, together


def code_of(call: Any, *args: Any) -> int | None:
    with pytest.raises(OSError) as info:
        call(*args)
    return info.value.errno


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


# -- control files -------------------------------------------------------------------------------


@pytest.fixture
def control() -> tuple[ControlFilesystem, list[str]]:
    done: list[str] = []

    def run(line: str) -> str:
        if line == "bad":
            raise os_error(errno.EINVAL, None, "unknown")
        done.append(line)
        return f"did {line}"

    return ControlFilesystem({"queue": lambda: "a\nb\n"}, {"ctl": run}, 7, 8), done


def test_control_files_are_for_the_user_alone(
    control: tuple[ControlFilesystem, list[str]],
) -> None:
    files = control[0]
    assert {each.name: each.attr.mode for each in files.readdir("/")} == {
        "queue": 0o400,
        "ctl": 0o600,
    }
    assert (files.getattr("/").mode, files.getattr("/").uid) == (0o700, 7)
    assert code_of(files.getattr, "/none") == errno.ENOENT
    assert code_of(files.open, "/none", os.O_RDONLY) == errno.ENOENT
    assert code_of(files.open, "/queue", os.O_RDWR) == errno.EACCES
    assert code_of(files.unlink, "/queue") == errno.EPERM


def test_a_control_file_is_as_it_was_at_its_open(
    control: tuple[ControlFilesystem, list[str]],
) -> None:
    handle = control[0].open("/queue", os.O_RDONLY)
    assert handle.direct_io
    assert handle.read(2, 0) + handle.read(99, 2) == b"a\nb\n"


def test_a_command_answers_on_its_own_handle(
    control: tuple[ControlFilesystem, list[str]],
) -> None:
    files, done = control
    files.truncate("/ctl", 0)
    handle, other = files.open("/ctl", os.O_RDWR), files.open("/ctl", os.O_RDWR)
    assert handle.write(b"sync /a b/\xff\n", 0) == 12
    assert done == ["sync /a b/\udcff"]
    assert handle.read(99, 0) == b"did sync /a b/\xff"
    assert other.read(99, 0) == b""
    assert code_of(handle.write, b"bad\n", 0) == errno.EINVAL
    assert handle.write(b"\n", 0) == 1
    assert len(done) == 1


def test_each_line_is_a_command(control: tuple[ControlFilesystem, list[str]]) -> None:
    files, done = control
    files.open("/ctl", os.O_WRONLY).write(b"sync /a\nsync /b\n", 0)
    assert done == ["sync /a", "sync /b"]


def test_the_latest_errors_are_kept_a_line_each() -> None:
    log = ErrorLog(size=3)
    for number in range(5):
        log.report(f"/{number}", "trouble")
    assert [line.split(" ", 2)[2] for line in log.lines()] == [
        f"/{number}: trouble" for number in (2, 3, 4)
    ]


def test_a_name_with_a_line_break_makes_no_second_line() -> None:
    log = ErrorLog()
    log.report("/a\n2030-01-01 00:00:00 /b: forged", "two\nlines")
    assert "\n" not in log.lines()[0]


# -- jobs ----------------------------------------------------------------------------------------


class Directories(Filesystem):
    """All directories exist but /missing."""

    def getattr(self, path: str) -> Attr:
        if path == "/missing":
            raise os_error(errno.ENOENT, path)
        return make_attr(kind=Kind.DIRECTORY)


@pytest.fixture
def jobs() -> JobsFilesystem:
    nobody: Any = None
    return JobsFilesystem(nobody, "daint", Flights(workers=1), Directories(), dict, "/home", 7, 8)


@pytest.mark.parametrize("directory", ["", "/a", "/a/b", "/a/.jobs2", "/a.jobs/b", "/.jobs-old/x"])
def test_every_directory_has_its_jobs(jobs: JobsFilesystem, directory: str) -> None:
    attr = jobs.getattr(f"{directory}/.jobs")
    assert (attr.kind, attr.mode) == (Kind.DIRECTORY, 0o700)
    assert [each.name for each in jobs.readdir(f"{directory}/.jobs")] == ["queue"]
    assert jobs.getattr(f"{directory}/.jobs/queue").kind is Kind.FILE


def test_what_is_not_in_jobs(jobs: JobsFilesystem) -> None:
    assert code_of(jobs.getattr, "/missing/.jobs") == errno.ENOENT
    assert code_of(jobs.getattr, "/.jobs/none") == errno.ENOENT
    assert code_of(jobs.getattr, "/.jobs/a/b") == errno.ENOENT
    assert code_of(jobs.open, "/.jobs", os.O_RDONLY) == errno.EISDIR
    assert code_of(jobs.open, "/.jobs/queue", os.O_WRONLY) == errno.EACCES
    assert code_of(jobs.mkdir, "/.jobs/d", 0o755) == errno.EPERM
    assert code_of(jobs.unlink, "/.jobs/queue") == errno.EPERM


@pytest.mark.parametrize("name", ["queue", "x.jobid", "x.error"])
def test_names_that_tell_what_became_of_a_script_are_taken(jobs: JobsFilesystem, name: str) -> None:
    assert code_of(jobs.create, f"/.jobs/{name}", os.O_WRONLY, 0o644) == errno.EACCES
    jobs.create("/.jobs/.tmp", os.O_WRONLY, 0o644)
    assert code_of(jobs.rename, "/.jobs/.tmp", f"/.jobs/{name}") == errno.EACCES


def test_a_script_holds_no_more_than_a_script(jobs: JobsFilesystem) -> None:
    handle = jobs.create("/.jobs/.tmp", os.O_WRONLY, 0o644)
    assert code_of(handle.write, b"x", 1 << 20) == errno.EFBIG
    assert code_of(handle.truncate, 1 << 50) == errno.EFBIG
    assert code_of(jobs.truncate, "/.jobs/.tmp", 1 << 50) == errno.EFBIG


def test_a_script_under_a_temporary_name_is_not_submitted(jobs: JobsFilesystem) -> None:
    for name in (".run.sh.swp", "run.sh~", "4913", "#run.sh#", ".goutputstream-AB12", "x.part"):
        handle = jobs.create(f"/.jobs/{name}", os.O_WRONLY, 0o644)
        handle.write(b"#!/bin/sh\n", 0)
        handle.flush()
        handle.release()
    names = [each.name for each in jobs.readdir("/.jobs")]
    assert not [name for name in names if name.endswith((".jobid", ".error"))]


def test_what_is_no_script_is_refused_at_its_close(jobs: JobsFilesystem) -> None:
    handle = jobs.create("/.jobs/notes.txt", os.O_WRONLY, 0o644)
    handle.write(b"remember the milk", 0)
    assert code_of(handle.flush) == errno.EINVAL
    error = jobs.open("/.jobs/notes.txt.error", os.O_RDONLY).read(999, 0)
    assert b"#!" in error


def test_the_queue_is_a_table() -> None:
    text = queue_table(
        [
            Job("4211", "run.sh", "RUNNING", "me", "normal", "nid001", 1, elapsed=12),
            Job("4212", "long name", "PENDING", "me", "debug", reason="Priority", node_count=128),
            Job("4213", "x", "COMPLETED", "me", elapsed=90061, reason="None", node_count=2),
        ]
    )
    head, *rows = text.splitlines()
    assert head.split() == [
        "JOBID", "PARTITION", "NAME", "USER", "STATE", "TIME", "NODES", "NODELIST(REASON)",
    ]  # fmt: skip
    assert len(rows) == 3
    for row in rows:
        assert row[head.index("USER") :].startswith("me ")
        assert row == row.rstrip()
    assert rows[0].split()[-3:] == ["00:00:12", "1", "nid001"]
    assert rows[1].split()[-3:] == ["00:00:00", "128", "(Priority)"]
    assert rows[2].split()[-2:] == ["1-01:01:01", "2"]


def test_an_empty_queue_has_its_head() -> None:
    assert queue_table([]).startswith("JOBID")
    assert queue_table([]).count("\n") == 1


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


@pytest.mark.parametrize(("path", "why"), [("/it's", "single quote"), ("/\udcff", "not UTF-8")])
def test_names_that_no_request_can_carry(path: str, why: str) -> None:
    with pytest.raises(OSError, match=why) as info:
        guard.refuse_unsendable(path)
    assert (info.value.errno, info.value.filename) == (errno.EINVAL, path)
    guard.refuse_unsendable('/say "hi"/two\nlines/$(x)/ü')


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
