"""The parts of `.jobs`: what scripts say, the table of jobs, what is owed, and what must refuse."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api.decode import job_of
from firecrestfs.api.faults import JobNotFound
from firecrestfs.cache.database import Database
from firecrestfs.cache.submissions import KEPT_S, Stage, Submission, SubmissionLog
from firecrestfs.errors import FirecrestException, os_error
from firecrestfs.model import Attr, Job, Kind
from firecrestfs.vfs.base import Filesystem
from firecrestfs.vfs.flights import Flights
from firecrestfs.vfs.jobs import JobsFilesystem, JobsParts, queue_table
from firecrestfs.vfs.jobs import defaults as settings
from firecrestfs.vfs.jobs.cluster import Cluster
from firecrestfs.vfs.jobs.directives import directives, job_name, outputs
from firecrestfs.vfs.jobs.scripts import is_temporary
from firecrestfs.vfs.jobs.submissions import Submissions
from firecrestfs.vfs.jobs.table import JobTable

from .tools import code_of, make_attr, wait_until

SCRIPT = b"#!/bin/sh\ntrue\n"


class Server:
    """What the client tells of a scheduler, in memory; `answer` is what a submission gets."""

    def __init__(self) -> None:
        self.known: dict[str, Job] = {}
        self.sent: list[str] = []
        self.looks = 0
        self.answer: Callable[[str], str] = self.take

    def take(self, marker: str) -> str:
        job_id = str(len(self.known) + 1)
        self.known[job_id] = Job(job_id, marker, "PENDING", working_directory="/home/me")
        return job_id

    def submit(self, system: str, *, marker: str, **_: Any) -> str:
        self.sent.append(marker)
        return self.answer(marker)

    def find_submission(self, system: str, marker: str, **_: Any) -> str | None:
        self.looks += 1
        return next((each.job_id for each in self.known.values() if each.name == marker), None)

    def forget_submission(self, system: str, directory: str, marker: str) -> None:
        """Nothing is left behind."""

    def known_metadata(self, system: str, job_id: str) -> None:
        """Nothing is known without asking."""

    def jobs(self, system: str) -> list[Job]:
        self.looks += 1
        return list(self.known.values())

    def job_tasks(self, system: str, job_id: str) -> list[Job]:
        found = [job for job in self.known.values() if job.job_id == job_id]
        if not found:
            raise JobNotFound(errno.ENOENT, "no such job")
        return found


def lost(text: str = "connection lost") -> FirecrestException:
    return FirecrestException(errno.ECONNRESET, text, transient=True, ambiguous=True)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[SubmissionLog]:
    database = Database(tmp_path / "journal.sqlite")
    yield SubmissionLog(database)
    database.close()


class Pending:
    """What is pending on the cluster's side: a reason for each path."""

    def __init__(self) -> None:
        self.rows: dict[str, OSError | None] = {}
        self.asked: list[str] = []

    def flush(
        self, path: str, seconds: float, stop: Callable[[], bool]
    ) -> dict[str, OSError | None]:
        self.asked.append(path)
        time.sleep(0.01)
        return dict(self.rows)


@pytest.fixture
def pending() -> Pending:
    return Pending()


@pytest.fixture
def submissions(server: Server, log: SubmissionLog, pending: Pending) -> Iterator[Submissions]:
    made = make_submissions(server, log, pending)
    yield made
    made.stop()


def make_submissions(server: Any, log: SubmissionLog, pending: Pending) -> Submissions:
    table, _ = make_table(server)
    return Submissions(Cluster(server, "daint"), log, pending.flush, lambda *_: None, table, 0.5)


def make_submission(**changes: Any) -> Submission:
    plain = Submission(
        "a1", "daint", "/home/me", "run.sh", "/home/me", SCRIPT, job_name="a1", created=time.time()
    )
    return replace(plain, **changes)


def never() -> bool:
    return False


# -- scripts ---------------------------------------------------------------------------------------


def test_directives() -> None:
    script = (
        b"#!/bin/bash\n#SBATCH -J one --output=a.txt\n\n# -p no\n#SBATCH --account proj1 # why\n"
        b"#SBATCH -p debug -A=proj2\n#SBATCH --array=1-3\ntrue\n#SBATCH --partition=late\n"
    )
    assert directives(script) == {
        "job-name": "one",
        "output": "a.txt",
        "account": "proj2",
        "partition": "debug",
        "array": "1-3",
    }
    assert directives(b"#!/bin/sh\n#PBS -N two -q long -J 1-3\n")["array"] == "1-3"
    assert directives(b"#!/bin/sh\n#SBATCH -o 'unfinished\n") == {"output": "'unfinished"}
    assert directives(b"\xff\xfe") == {}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("/w/slurm-42.out", "/w/slurm-42.out")),
        ({"output": "%x-%5j.o", "error": "/tmp/%u.e"}, ("/w/run-00042.o", "/tmp/me.e")),
        ({"output": "100%%"}, ("/w/100%", "/w/100%")),
        ({"output": "%N.out"}, ("", "")),
        ({"array": "0-3"}, ("", "")),
    ],
)
def test_where_slurm_writes(options: dict[str, str], expected: tuple[str, str]) -> None:
    assert outputs(options, job_id="42", name="run", workdir="/w/", user="me") == expected


@pytest.mark.parametrize(
    "name",
    [".run.sh.swp", "run.sh~", "4913", "#run.sh#", ".goutputstream-AB12", "x.part", ".x.sh.Ab3dEf"]
    + ["sedAbCdEf", "CuAbCdEf", "x.crdownload", "run.sh.tmp", ".nfs0001"],
)
def test_names_on_the_way_to_others(name: str) -> None:
    assert is_temporary(name)


@pytest.mark.parametrize("name", ["run.sh", "job", "run.2024", "submit.slurm", "sediment.sh", "1"])
def test_names_of_scripts(name: str) -> None:
    assert not is_temporary(name)


def test_names_of_jobs() -> None:
    assert [job_name(name) for name in ("run.sh", "my job", "1st", "ü")] == [
        "run.sh",
        "my_job",
        "j1st",
        "j_",
    ]


def test_defaults() -> None:
    assert settings.parse(settings.TEMPLATE) == settings.Defaults()
    text = 'account = "p1"\nwait_for = "none"\n[environment]\nN = 3\nX = "y z"\n'
    found = settings.parse(text)
    assert (found.account, found.wait_for, found.environment) == (
        "p1",
        "none",
        {"N": "3", "X": "y z"},
    )
    wrong = ("account = 3", "x = 1", 'wait_for = "never"', "a = [", "environment = 3")
    for text in (*wrong, 'working_directory = "here"', "[environment]\nA = [1]"):
        assert code_of(settings.parse, text) == errno.EINVAL


# -- the log ---------------------------------------------------------------------------------------


def test_submissions_are_remembered(log: SubmissionLog, tmp_path: Path) -> None:
    odd = make_submission(name="\udcff.sh", script=b"#!/bin/sh\n\xff\n", env={"A": "b"})
    old = make_submission(ident="old", created=time.time() - KEPT_S - 9)
    log.put(odd)
    log.put(replace(odd, job_id="7", stage=Stage.SUBMITTED))
    log.put(old)
    log.put(replace(old, ident="gone", stage=Stage.REFUSED))
    log.put(make_submission(ident="other", system="eiger"))
    again = SubmissionLog(Database(tmp_path / "journal.sqlite"))
    found = again.submissions("daint")
    assert found == [old, replace(odd, job_id="7", stage=Stage.SUBMITTED)]
    assert sorted(again.waiting_systems()) == ["daint", "eiger"]
    assert again.defaults("daint") is None
    again.put_defaults("daint", "x")
    again.put_away("daint", "7")
    assert (log.defaults("daint"), log.away("daint"), log.away("eiger")) == ("x", {"7"}, set())


# -- submitting ------------------------------------------------------------------------------------


def test_a_close_that_takes_too_long_is_owed(
    submissions: Submissions, server: Server, pending: Pending
) -> None:
    pending.rows = {"/home/me/input": None}
    submissions.begin(make_submission())
    found = submissions.wait("a1", 0.3, never)
    assert (found.stage, found.accepted, server.sent) == (Stage.WAITING, True, [])
    assert "/daint/home/me/input" in submissions.status("a1")
    pending.rows = {}
    wait_until(lambda: submissions.of_job("1") is not None)
    assert server.sent == ["a1"]
    assert submissions.status("a1") == ""


def test_what_is_owed_is_tried_until_the_server_is_there(
    submissions: Submissions, server: Server, pending: Pending
) -> None:
    def down(marker: str) -> str:
        server.answer = server.take
        raise FirecrestException(errno.EHOSTDOWN, "down", transient=True)

    server.answer = down
    pending.rows = {"/x": None}
    submissions.begin(make_submission())
    submissions.wait("a1", 0.1, never)
    pending.rows = {}
    wait_until(lambda: submissions.of_job("1") is not None)
    assert server.sent == ["a1", "a1"]


def test_who_still_waits_is_told_that_the_server_is_down(
    submissions: Submissions, server: Server
) -> None:
    def down(marker: str) -> str:
        raise FirecrestException(errno.EHOSTDOWN, "down", transient=True)

    server.answer = down
    submissions.begin(make_submission())
    found = submissions.wait("a1", 5, never)
    assert (found.stage, found.code, found.error) == (Stage.REFUSED, errno.EHOSTDOWN, "down")


@pytest.mark.parametrize("made", [True, False])
def test_a_lost_answer(submissions: Submissions, server: Server, made: bool) -> None:
    def lose(marker: str) -> str:
        server.answer = server.take
        if made:
            server.take(marker)
        raise lost()

    server.answer = lose
    submissions.begin(make_submission())
    found = submissions.wait("a1", 10, never)
    assert (found.stage, found.job_id) == (Stage.SUBMITTED, "1")
    assert len(server.known) == 1
    # Where there is no job, the request is sent again, but not before there can't be one any more.
    assert len(server.sent) == (1 if made else 2)
    assert server.looks >= (1 if made else 2)


def test_answers_that_are_always_lost(submissions: Submissions, server: Server) -> None:
    def lose(marker: str) -> str:
        raise lost()

    server.answer = lose
    submissions.begin(make_submission())
    found = submissions.wait("a1", 20, never)
    assert (found.stage, found.error, len(server.sent)) == (Stage.REFUSED, "connection lost", 3)


def test_the_last_of_many_lost_answers_was_about_a_job(
    submissions: Submissions, server: Server
) -> None:
    def lose(marker: str) -> str:
        if len(server.sent) == 3:
            server.take(marker)
        raise lost()

    server.answer = lose
    submissions.begin(make_submission())
    assert submissions.wait("a1", 20, never).job_id == "1"


def test_an_interrupted_close_takes_back_what_was_not_sent(
    submissions: Submissions, server: Server, pending: Pending
) -> None:
    pending.rows = {"/x": None}
    submissions.begin(make_submission())
    assert code_of(submissions.wait, "a1", 5, lambda: True) == errno.EINTR
    pending.rows = {}
    time.sleep(0.2)
    assert server.sent == []


@pytest.mark.parametrize(
    ("wait_for", "path", "code", "sent"),
    [
        ("all", "/elsewhere", None, False),
        ("all", "/elsewhere", errno.EDQUOT, True),
        ("all", "/home/me/x", errno.EDQUOT, False),
        ("workdir", "/home/me/x", None, False),
    ],
)
def test_what_holds_a_job_up(
    submissions: Submissions,
    server: Server,
    pending: Pending,
    wait_for: str,
    path: str,
    code: int | None,
    sent: bool,
) -> None:
    pending.rows = {path: None if code is None else os_error(code)}
    submissions.begin(make_submission(wait_for=wait_for))
    found = submissions.wait("a1", 0.5, never)
    assert (found.stage is Stage.SUBMITTED) == bool(server.sent) == sent
    assert pending.asked[0] == ("/" if wait_for == "all" else "/home/me")


def test_nothing_is_waited_for_where_nobody_wants_that(
    submissions: Submissions, server: Server, pending: Pending
) -> None:
    pending.rows = {"/home/me/x": None}
    submissions.begin(make_submission(wait_for="none"))
    assert submissions.wait("a1", 5, never).stage is Stage.SUBMITTED
    assert pending.asked == []


@pytest.mark.parametrize(
    ("left", "stage", "jobs"),
    [
        ({"stage": Stage.WAITING}, Stage.SUBMITTED, 1),
        ({"stage": Stage.SENDING, "sent": 1.0}, Stage.SUBMITTED, 1),
        ({"stage": Stage.WAITING, "created": 1.0}, Stage.REFUSED, 0),
        ({"stage": Stage.SENDING, "sent": 1.0, "created": 1.0}, Stage.REFUSED, 0),
        ({"stage": Stage.WAITING, "created": 1.0, "accepted": True}, Stage.SUBMITTED, 1),
        (
            {"stage": Stage.SENDING, "sent": 1.0, "created": 1.0, "accepted": True},
            Stage.SUBMITTED,
            1,
        ),
    ],
)
def test_what_an_earlier_process_left(
    server: Server, log: SubmissionLog, pending: Pending, left: Any, stage: Stage, jobs: int
) -> None:
    """What was just given, or is owed, becomes a job; what nobody waits for any more does not."""
    log.put(make_submission(**left))
    again = make_submissions(server, log, pending)
    again.recover()
    found = again.wait("a1", 10, never)
    again.stop()
    assert (found.stage, len(server.known)) == (stage, jobs)
    assert log.submissions("daint") == ([found] if jobs else [])


def test_what_was_sent_by_an_earlier_process_is_found(
    server: Server, log: SubmissionLog, pending: Pending
) -> None:
    server.take("a1")
    log.put(make_submission(stage=Stage.SENDING, sent=time.time() - 60))
    again = make_submissions(server, log, pending)
    again.recover()
    assert again.wait("a1", 10, never).job_id == "1"
    again.stop()
    assert server.sent == []


# -- the table -------------------------------------------------------------------------------------


def make_table(server: Any) -> tuple[JobTable, list[tuple[str, bool]]]:
    ended: list[tuple[str, bool]] = []
    flights = Flights(workers=2)
    table = JobTable(
        server, "daint", flights, lambda job, lately: ended.append((job.job_id, lately))
    )
    return table, ended


def test_all_ask_once(server: Server) -> None:
    table, _ = make_table(server)
    threads = [threading.Thread(target=table.entries) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert server.looks == 1
    table.expire()
    table.entries()
    table.entries()
    assert server.looks == 2


def test_an_end_is_told_once_and_before_it_is_shown(server: Server) -> None:
    server.known = {
        "1": Job("1", "x", "RUNNING"),
        "2": Job("2", "x", "FAILED", end=100),
        "3": Job("3", "x", "FAILED", end=int(time.time())),
    }
    table, ended = make_table(server)
    table.entries()
    assert ended == [("2", False), ("3", True)]
    server.known["1"] = Job("1", "x", "COMPLETED", end=100)
    table.expire()
    table.entries()
    table.expire()
    assert table.entries()["1"].job.ended
    assert ended[2:] == [("1", True)]


def test_a_requeued_job_ends_twice(server: Server) -> None:
    table, ended = make_table(server)
    for state in ("RUNNING", "NODE_FAIL", "PENDING", "COMPLETED"):
        server.known = {"1": Job("1", "x", state)}
        table.expire()
        table.entries()
    assert len(ended) == 2


def test_our_own_batch_jobs_are_not_shown(server: Server) -> None:
    server.known = {"1": Job("1", ".fcfs-move", "RUNNING"), "2": Job("2", "x", "RUNNING")}
    assert set(make_table(server)[0].entries()) == {"2"}


def test_ids_that_are_no_names_are_not_shown(server: Server) -> None:
    ids = ("", "..", "1/../..", "x", "1\0", "12", "7.pbs01")
    server.known = {job_id: Job(job_id, "x", "RUNNING") for job_id in ids}
    assert set(make_table(server)[0].entries()) == {"12", "7.pbs01"}


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ({"7_0": "COMPLETED 0", "7_1": "COMPLETED 0"}, "COMPLETED 0"),
        ({"7_0": "COMPLETED 0", "7_1": "FAILED 3", "7_2": "CANCELLED 0"}, "FAILED 3"),
        ({"7_0": "FAILED 1", "7_1": "FAILED 9"}, "FAILED 9"),
        ({"7_0": "FAILED 1", "7_1": "NODE_FAIL 0"}, "NODE_FAIL 0"),
        ({"7_0": "FAILED 1", "7_[1-5]": "PENDING"}, "PENDING"),
        ({"7_0": "RUNNING", "7_[1-5]": "PENDING"}, "RUNNING"),
    ],
)
def test_the_tasks_of_an_array(server: Server, states: dict[str, str], whole: str) -> None:
    for job_id, text in states.items():
        state, _, code = text.partition(" ")
        server.known[job_id] = Job(job_id, "x", state, exit_code=int(code) if code else None)
    entries = make_table(server)[0].entries()
    state, _, code = whole.partition(" ")
    assert set(entries) == {"7"}
    assert (entries["7"].job.state, entries["7"].job.exit_code) == (
        state,
        int(code) if code else None,
    )
    assert set(entries["7"].tasks) == {job_id.partition("_")[2] for job_id in states}


def test_arrays_of_pbs(server: Server) -> None:
    raw = [
        {"jobId": "7[].pbs01", "status": {"state": "R"}},
        {"jobId": "7[1].pbs01", "status": {"state": "F", "exitCode": 2}},
        {"jobId": "8.pbs01", "status": {"state": "Q", "exitCode": 0}},
        {"jobId": 9, "status": {"state": "CANCELLED by 1001"}},
        {"jobId": "10", "status": {"state": ["REQUEUED"]}},
    ]
    server.known = {str(each["jobId"]): job_of(each) for each in raw}
    entries = make_table(server)[0].entries()
    assert {job_id: entry.job.state for job_id, entry in entries.items()} == {
        "7[].pbs01": "FAILED",
        "8.pbs01": "PENDING",
        "9": "CANCELLED",
        "10": "REQUEUED",
    }
    assert set(entries["7[].pbs01"].tasks) == {"1"}


# -- the file system -------------------------------------------------------------------------------


class Directories(Filesystem):
    """All directories exist but /missing."""

    def getattr(self, path: str) -> Attr:
        if path == "/missing":
            raise os_error(errno.ENOENT, path)
        return make_attr(kind=Kind.DIRECTORY)


@pytest.fixture
def jobs(server: Any, log: SubmissionLog, pending: Pending) -> JobsFilesystem:
    return JobsFilesystem(
        JobsParts(
            Cluster(server, "daint"),
            Flights(workers=1),
            Directories(),
            pending.flush,
            log,
            "/home",
            7,
            8,
            close_s=5.0,
        )
    )


@pytest.mark.parametrize("directory", ["", "/a", "/a/b", "/a/.jobs2", "/a.jobs/b", "/.jobs-old/x"])
def test_every_directory_has_its_jobs(jobs: JobsFilesystem, directory: str) -> None:
    attr = jobs.getattr(f"{directory}/.jobs")
    assert (attr.kind, attr.mode, attr.uid, attr.gid) == (Kind.DIRECTORY, 0o700, 7, 8)
    assert "README" in [each.name for each in jobs.readdir(f"{directory}/.jobs")]
    assert jobs.getattr(f"{directory}/.jobs/queue").kind is Kind.FILE


def test_what_is_not_in_jobs(jobs: JobsFilesystem, server: Server) -> None:
    assert code_of(jobs.getattr, "/missing/.jobs") == errno.ENOENT
    assert code_of(jobs.getattr, "/.jobs/none") == errno.ENOENT
    assert code_of(jobs.getattr, "/.jobs/a/b") == errno.ENOENT
    assert server.looks == 0
    assert code_of(jobs.getattr, "/.jobs/4711/status") == errno.ENOENT
    assert code_of(jobs.open, "/.jobs", os.O_RDONLY) == errno.EISDIR
    assert code_of(jobs.open, "/.jobs/queue", os.O_WRONLY) == errno.EACCES
    assert code_of(jobs.mkdir, "/.jobs/d", 0o755) == errno.EPERM
    assert code_of(jobs.unlink, "/.jobs/queue") == errno.EPERM
    assert code_of(jobs.moved_in, "/.jobs/run.sh") == errno.EPERM


@pytest.mark.parametrize("name", ["queue", "x.jobid", "x.error", "x.status", "x.ctl", "active"])
def test_names_that_tell_what_became_of_a_script_are_taken(jobs: JobsFilesystem, name: str) -> None:
    assert code_of(jobs.create, f"/.jobs/{name}", os.O_WRONLY, 0o644) == errno.EACCES
    jobs.create("/.jobs/.tmp", os.O_WRONLY, 0o644)
    assert code_of(jobs.rename, "/.jobs/.tmp", f"/.jobs/{name}") == errno.EACCES


def test_a_script_holds_no_more_than_a_script(jobs: JobsFilesystem) -> None:
    handle = jobs.create("/.jobs/.tmp", os.O_WRONLY, 0o644)
    assert code_of(handle.write, b"x", 1 << 20) == errno.EFBIG
    assert code_of(handle.truncate, 1 << 50) == errno.EFBIG
    assert code_of(jobs.truncate, "/.jobs/.tmp", 1 << 50) == errno.EFBIG


def test_a_script_under_a_temporary_name_is_not_submitted(
    jobs: JobsFilesystem, server: Server
) -> None:
    for name in (".run.sh.swp", "run.sh~", "4913", "#run.sh#", ".goutputstream-AB12", "x.part"):
        handle = jobs.create(f"/.jobs/{name}", os.O_WRONLY, 0o644)
        handle.write(b"#!/bin/sh\n", 0)
        handle.flush()
        handle.release()
    assert server.sent == []
    jobs.rename("/.jobs/x.part", "/.jobs/x")
    assert len(server.sent) == 1
    assert jobs.getxattr("/.jobs/x", "user.firecrest.jobid") == b"1"
    assert code_of(jobs.getxattr, "/.jobs/4913", "user.firecrest.jobid") == errno.ENODATA


def test_what_is_no_script_is_refused_at_its_close(jobs: JobsFilesystem) -> None:
    handle = jobs.create("/.jobs/notes.txt", os.O_WRONLY, 0o644)
    handle.write(b"remember the milk", 0)
    assert code_of(handle.flush) == errno.EINVAL
    error = jobs.open("/.jobs/notes.txt.error", os.O_RDONLY).read(999, 0)
    assert b"#!" in error
    jobs.unlink("/.jobs/notes.txt.error")
    assert code_of(jobs.getattr, "/.jobs/notes.txt.error") == errno.ENOENT


def test_a_handle_that_ends_late_holds_up_no_later_close(
    jobs: JobsFilesystem, server: Server
) -> None:
    first = jobs.create("/.jobs/x", os.O_WRONLY, 0o644)
    first.flush()
    second = jobs.open("/.jobs/x", os.O_WRONLY)
    second.write(SCRIPT, 0)
    second.flush()
    assert len(server.sent) == 1
    first.release()
    second.release()
    assert len(server.sent) == 1


def test_an_editor_that_keeps_a_copy(jobs: JobsFilesystem, server: Server) -> None:
    """The script becomes `x~` and is written anew; a second save at once is the same version's."""
    for turn in range(2):
        if turn:
            jobs.rename("/.jobs/x", "/.jobs/x~")
        handle = jobs.create("/.jobs/x", os.O_WRONLY, 0o644)
        handle.write(SCRIPT, 0)
        assert (code_of(handle.flush) if turn else handle.flush()) == (
            errno.EAGAIN if turn else None
        )
        handle.release()
    jobs.unlink("/.jobs/x~")
    assert len(server.sent) == 1


def test_a_new_job_that_the_scheduler_does_not_tell_of_yet(
    jobs: JobsFilesystem, server: Server
) -> None:
    handle = jobs.create("/.jobs/x", os.O_WRONLY, 0o644)
    handle.write(SCRIPT, 0)
    handle.flush()
    known, server.known = server.known["1"], {}
    assert jobs.open("/.jobs/1/status", os.O_RDONLY).read(99, 0) == b"PENDING\n"
    # For its first second accounting knows its first step alone.
    server.known = {"1": replace(known, name="allocation", state="RUNNING", working_directory="")}
    jobs.refresh("/")
    assert jobs.open("/.jobs/1/status", os.O_RDONLY).read(99, 0) == b"RUNNING\n"
    assert jobs.readlink("/.jobs/1/workdir") == "../../home"
    assert jobs.readlink("/.jobs/by-name/x") == "../1"


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
