"""The files that talk to the mount itself."""

from __future__ import annotations

import errno
import os

import pytest

from firecrestfs.errors import os_error
from firecrestfs.vfs.control import ControlFilesystem, ErrorLog

from .tools import code_of

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
