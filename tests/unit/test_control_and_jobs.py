"""The files that talk to the mount itself, and the directories that take job scripts."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Job, Kind
from firecrestfs.vfs.base import Filesystem
from firecrestfs.vfs.control import ControlFilesystem, ErrorLog
from firecrestfs.vfs.flights import Flights
from firecrestfs.vfs.jobs import JobsFilesystem, queue_table

from .tools import code_of, make_attr

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
