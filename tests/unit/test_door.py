"""FuseOperations: nothing leaves an operation but its result or an `OSError` with a real errno."""

from __future__ import annotations

import errno
import inspect
import logging
import os
import stat
import time
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from firecrestfs import door, fuseops
from firecrestfs.cache.metadata import boottime
from firecrestfs.fuseops import FuseOperations
from firecrestfs.model import DirEntry, Kind
from firecrestfs.vfs.base import Filesystem, OpenFile

from .tools import SECOND, make_attr

NOW, OMIT = 1073741823, 1073741822


def info(**fields: Any) -> SimpleNamespace:
    """Return what the bindings pass as fuse_file_info."""
    defaults = {"fh": 0, "flags": os.O_RDWR, "direct_io": 0, "keep_cache": 0}
    return SimpleNamespace(**defaults | fields)


class Failing(Filesystem, OpenFile):
    """A file system and an open file of which everything goes wrong."""

    def __init__(self, trouble: BaseException) -> None:
        self.trouble = trouble

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in ("trouble", "direct_io", "keep_cache"):
            return super().__getattribute__(name)

        def fail(*args: Any) -> None:
            raise self.trouble

        return fail


class Recording(Filesystem):
    """A file system that remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        self.calls.append((path, atime_ns, mtime_ns))

    def getattr(self, path: str) -> Any:
        return make_attr(1025, mode=0o4750, nlink=2, inode=77)

    def readdir(self, path: str) -> list[DirEntry]:
        return [DirEntry("x", make_attr(kind=Kind.SYMLINK, inode=5))]

    def access(self, path: str, mask: int) -> None:
        self.calls.append((path, mask))

    def chmod(self, path: str, mode: int) -> None:
        self.calls.append((path, mode))

    def rename(self, old: str, new: str) -> None:
        self.calls.append((old, new))


def operations(filesystem: Any, *others: Any) -> FuseOperations:
    """Return operations on *filesystem*; paths below `/other` belong to the first of *others*."""

    def route(path: str) -> tuple[Any, str]:
        return (others[0] if others and path.startswith("/other") else filesystem), path

    reports: list[tuple[str, str]] = []
    made = FuseOperations(
        SimpleNamespace(route=route), lambda path, text: reports.append((path, text))
    )  # type: ignore[arg-type]
    made.reports = reports  # type: ignore[attr-defined]
    return made


#: Every operation that reaches a file system or a handle, with arguments; `fh` 1 is a bad handle.
CALLS: dict[str, tuple[Any, ...]] = {
    "getattr": ("/x",),
    "access": ("/x", os.R_OK),
    "opendir": ("/x",),
    "readdir": ("/x", 0),
    "readlink": ("/x",),
    "getxattr": ("/x", "user.firecrest.state"),
    "open": ("/x", info()),
    "create": ("/x", 0o644, info()),
    "read": ("/x", 10, 0, info(fh=1)),
    "write": ("/x", b"data", 0, info(fh=1)),
    "truncate": ("/x", 0),
    "flush": ("/x", info(fh=1)),
    "fsync": ("/x", 0, info(fh=1)),
    "release": ("/x", info(fh=1)),
    "mknod": ("/x", stat.S_IFREG | 0o644, 0),
    "mkdir": ("/x", 0o755),
    "unlink": ("/x",),
    "rmdir": ("/x",),
    "rename": ("/x", "/y"),
    "symlink": ("/x", "text"),
    "link": ("/x", "/y"),
    "chmod": ("/x", 0o644),
    "chown": ("/x", 0, 0),
    "utimens": ("/x", (0, 0)),
}
#: Those that answer by themselves, with arguments.
ALONE: dict[str, tuple[Any, ...]] = {
    "statfs": ("/x",),
    "listxattr": ("/x",),
    "setxattr": ("/x", "user.a", b"v", 0),
    "removexattr": ("/x", "user.a"),
    "fsyncdir": ("/x", 0, 0),
    "releasedir": ("/x", 0),
}
TROUBLES = [
    (requests.ConnectionError("refused"), errno.EIO),
    (KeyError("x"), errno.EIO),
    (OSError(), errno.EIO),
    (OSError(errno.ENOENT, "gone"), errno.ENOENT),
    (OSError("text only"), errno.EIO),
    (OSError("two", "texts"), errno.EIO),
    (OSError(-5, "negative"), errno.EIO),
    (OSError(0, "none"), errno.EIO),
    (OSError(errno.EDQUOT, "quota"), errno.EDQUOT),
    (RecursionError(), errno.EIO),
]


def public_operations() -> set[str]:
    return {
        name
        for name, member in vars(FuseOperations).items()
        if inspect.isfunction(member)
        and not name.startswith("_")
        and name not in ("refused", "place", "path_of", "init_with_config")
    }


def test_every_operation_is_tested_here() -> None:
    assert public_operations() == set(CALLS) | set(ALONE)


@pytest.mark.parametrize("name", sorted(CALLS | ALONE))
def test_every_operation_has_the_door(name: str) -> None:
    assert hasattr(vars(FuseOperations)[name], "__wrapped__"), "not decorated"


@pytest.mark.parametrize("name", sorted(CALLS))
@pytest.mark.parametrize(("trouble", "code"), TROUBLES)
def test_whatever_goes_wrong_leaves_with_an_errno(
    name: str, trouble: Exception, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    failing = Failing(trouble)
    made = operations(failing)
    assert made._opened.add("/x", failing) == 1
    with pytest.raises(OSError) as caught:
        getattr(made, name)(*CALLS[name])
    if name == "open" and code == errno.ENOENT:
        # It lets the kernel, which believed in the name, look it up.
        code = errno.ESTALE
    assert caught.value.errno == code
    assert type(caught.value.errno) is int


@pytest.mark.parametrize("name", sorted(ALONE))
def test_what_needs_no_file_system_asks_none(name: str) -> None:
    made = operations(Failing(KeyError("asked")))
    expected = {"setxattr": errno.ENOTSUP, "removexattr": errno.ENOTSUP}.get(name)
    if expected is None:
        getattr(made, name)(*ALONE[name])
        return
    with pytest.raises(OSError) as caught:
        getattr(made, name)(*ALONE[name])
    assert caught.value.errno == expected


def test_no_operation_says_enosys(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel would never ask again, for the whole mount."""
    caplog.set_level(logging.CRITICAL)
    for name, args in CALLS.items():
        failing = Failing(OSError(errno.ENOSYS, "unknown"))
        made = operations(failing)
        assert made._opened.add("/x", failing) == 1
        with pytest.raises(OSError) as caught:
            getattr(made, name)(*args)
        assert caught.value.errno != errno.ENOSYS, name


def test_a_bad_handle_is_ebadf() -> None:
    made = operations(Recording())
    for name in ("read", "write", "flush", "fsync"):
        with pytest.raises(OSError) as caught:
            getattr(made, name)(*CALLS[name])
        assert caught.value.errno == errno.EBADF
    assert made.release("/x", info(fh=1)) == 0


def test_reasons_are_told_to_people_and_everyday_misses_are_not() -> None:
    reports = []
    for trouble in (
        OSError(errno.EACCES, "not permitted: -rw------- jdoe"),
        OSError(errno.EACCES, os.strerror(errno.EACCES)),
        OSError(errno.ENOENT, "no such system"),
    ):
        made = operations(Failing(trouble))
        with pytest.raises(OSError):
            made.getattr("/x")
        reports += made.reports  # type: ignore[attr-defined]
    assert reports == [("/x", "not permitted: -rw------- jdoe")]


def test_directories_are_lists_made_inside_the_door() -> None:
    found = operations(Recording()).readdir("/", 0)
    assert isinstance(found, list)
    assert [name for name, _, _ in found] == [".", "..", "x"]
    assert found[2][1] == {"st_mode": stat.S_IFLNK, "st_ino": 5}


def test_an_attribute_is_a_full_stat_in_whole_nanoseconds() -> None:
    found = operations(Recording()).getattr("/x")
    assert found["st_mode"] == stat.S_IFREG | 0o4750
    assert (found["st_size"], found["st_blocks"], found["st_nlink"]) == (1025, 3, 2)
    assert found["st_ino"] == 77
    assert found["st_mtime"] == 1_700_000_000 * SECOND
    assert all(type(value) is int for value in found.values())
    assert found["st_atime"] == found["st_ctime"] == found["st_mtime"]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((3 * SECOND + 7, 5 * SECOND + 9), (3 * SECOND + 7, 5 * SECOND + 9)),
        ((OMIT, 5 * SECOND), (None, 5 * SECOND)),
        ((3 * SECOND, OMIT), (3 * SECOND, None)),
        ((0, 0), (0, 0)),
        ((-SECOND, 2**40 * SECOND), (-SECOND, 2**40 * SECOND)),
    ],
)
def test_times(times: tuple[int, int], expected: tuple[int | None, int | None]) -> None:
    filesystem = Recording()
    operations(filesystem).utimens("/x", times)
    assert filesystem.calls == [("/x", *expected)]


@pytest.mark.parametrize("times", [(NOW, NOW), None, (NOW, OMIT)])
def test_times_that_are_now(times: tuple[int, int] | None) -> None:
    filesystem = Recording()
    before = time.time_ns()
    operations(filesystem).utimens("/x", times)
    _, atime, mtime = filesystem.calls[0]
    assert before <= atime <= time.time_ns()
    assert mtime == (None if times == (NOW, OMIT) else atime)


def test_two_file_systems_are_exdev() -> None:
    made = operations(Recording(), Recording())
    for call in (made.rename, made.link):
        with pytest.raises(OSError) as caught:
            call("/x", "/other/x")
        assert caught.value.errno == errno.EXDEV


@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK])
def test_special_files_are_refused(kind: int) -> None:
    with pytest.raises(OSError) as caught:
        made = operations(Failing(KeyError()))
        made.mknod("/x", kind | 0o644, 0)
    assert caught.value.errno == errno.EPERM
    assert [(path, "pipes" in text) for path, text in made.reports] == [("/x", True)]  # type: ignore[attr-defined]


def test_no_path_is_told_as_a_reason() -> None:
    made = operations(Failing(KeyError()))
    with pytest.raises(OSError):
        made.truncate("/x", -1)
    assert made.reports == []  # type: ignore[attr-defined]


def test_only_permission_bits_go_down() -> None:
    filesystem = Recording()
    operations(filesystem).chmod("/x", stat.S_IFREG | 0o4755)
    assert filesystem.calls == [("/x", 0o4755)]


def test_a_mount_that_ends_takes_no_more_writers() -> None:
    made = operations(Failing(KeyError("reached")))
    made.draining = True
    for name in ("open", "create", "mknod"):
        with pytest.raises(OSError) as caught:
            getattr(made, name)(*CALLS[name])
        assert caught.value.errno == errno.EROFS, name


def test_open_sets_what_the_kernel_asks_for() -> None:
    class Handle(OpenFile):
        direct_io = True

        def release(self) -> None:
            released.append(1)

    class One(Filesystem):
        def open(self, path: str, flags: int) -> OpenFile:
            return Handle()

    released: list[int] = []
    made = operations(One())
    first, second = info(flags=os.O_RDONLY), info(flags=os.O_RDONLY)
    made.open("/x", first)
    made.open("/x", second)
    assert first.fh != second.fh
    assert (first.direct_io, first.keep_cache) == (1, 0)
    made.release("/x", first)
    made.release("/x", first)
    assert released == [1]


def test_an_operation_gives_up_so_long_after_its_first_wait() -> None:
    ends: list[float] = []

    class Operations(door.Guarded):
        @door.door
        def operation(self) -> None:
            ends.extend(door.end_of_patience(60) for _ in range(2))

    made = Operations(lambda path, text: None)
    before = boottime()
    made.operation()
    time.sleep(0.001)
    made.operation()
    assert before + 60 <= ends[0] == ends[1] < ends[2] == ends[3]
    assert door.end_of_patience(60) > ends[3]


def test_a_thread_asks_the_library_whether_it_was_interrupted() -> None:
    answers = []

    class Asking(Filesystem):
        def getattr(self, path: str) -> Any:
            answers.append(door.interrupted())
            return make_attr()

    made = operations(Asking())
    made.check_interrupted = lambda: 1
    made.getattr("/x")
    made.check_interrupted = lambda: 0
    made.getattr("/x")
    assert answers == [True, False]
    assert not door.interrupted()


# -- bindings ------------------------------------------------------------------------------------


def binding(name: str) -> Any:
    library = SimpleNamespace(_name="libfuse", fuse_interrupted=lambda: 0)
    return SimpleNamespace(__name__=name, _libfuse=library)


def test_fusepy_calls_the_object_mfusepy_its_methods() -> None:
    namespace: Any = SimpleNamespace(route=lambda path: (Recording(), path))
    old = fuseops.make_operations(binding("fuse"), namespace, lambda path, text: None)
    assert old("getattr", "/x")["st_size"] == 1025  # type: ignore[operator]
    assert old("statfs", "/")["f_bsize"] > 0  # type: ignore[operator]
    assert not callable(fuseops.make_operations(binding("mfusepy"), namespace, lambda p, t: None))


def test_operations_a_binding_looks_for_are_there_or_not_at_all() -> None:
    for each in (FuseOperations, fuseops._CallableOperations):
        assert each.use_ns is True
        assert not hasattr(each, "ioctl")
        assert not hasattr(each, "lock")
