"""The journal: what it keeps, for whom, and that it is there after any death of the process."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from firecrestfs.cache.database import Database
from firecrestfs.cache.journal import Journal, Record
from firecrestfs.model import Kind, Source

from .tools import SECOND, make_attr, together

RECORD = Record("a1", "daint", "/users/me/f", "")
#: Every field set, to values that a careless way there and back would change.
BASE = make_attr(
    1 << 60,
    mode=0o4751,
    mtime_ns=1_700_000_000_123_456_789,
    uid=2**32 - 2,
    gid=-1,
    owner="ünï\udcff",
    group="g'\"\n",
    nlink=3,
    ino=2**64 - 1,
    dev=2**63,
    atime_ns=-5 * SECOND,
    ctime_ns=1,
    acl=True,
    source=Source.LS,
    listed="2023-11-14T23:13:20",
    inode=2**64 - 2,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(Database(path))
    yield journal
    journal.close()


def reopened(path: Path) -> list[Record]:
    """Return what the next process finds."""
    journal = Journal(Database(path))
    try:
        return journal.records()
    finally:
        journal.close()


# -- there and back ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        replace(RECORD, closed=False, mode=0, mtime_ns=0),
        replace(RECORD, mode=0o7777, mtime_ns=1_700_000_000_123_456_789),
        replace(RECORD, mtime_ns=-5 * SECOND),
        replace(RECORD, path='/\udcff\udc80/it\'s "x"\n\t\\ \u2028ü\U0001f600'),
        replace(RECORD, path="/" + "n" * 4000),
        replace(RECORD, base=BASE),
        replace(RECORD, base=replace(BASE, kind=Kind.SYMLINK, target="../\udcff")),
        replace(RECORD, path="", origin="/\udcff gone", kind=Kind.DIRECTORY),
        replace(RECORD, path="/new", origin="/old\n", exact_mode=True),
        replace(RECORD, kind=Kind.SYMLINK, text="../\udcff", made_text="/mnt/ü'\""),
        replace(RECORD, size=1 << 60, crc=2**32 - 1, promised="a1.closed", closed=False),
        replace(RECORD, sent=((0, "e3b0"), (1 << 60, "ff" * 32)), attempted="/\udcff/f"),
        replace(RECORD, moving=("/to/\udcff", 2**63, 2**64 - 1)),
        replace(RECORD, kind=Kind.DIRECTORY, mode=0o2755, inherits=True),
    ],
)
def test_a_record_comes_back_as_it_was(journal: Journal, path: Path, record: Record) -> None:
    journal.record(record)
    assert journal.records() == [record]
    assert reopened(path) == [record]


@pytest.mark.parametrize("year", [1900, 3000])
def test_a_time_of_any_year_is_kept(journal: Journal, year: int) -> None:
    """`touch -d 3000-01-01` is a time like any other."""
    record = replace(RECORD, mtime_ns=(year - 1970) * 31_556_952 * SECOND)
    journal.record(record)
    assert journal.records() == [record]


@pytest.mark.parametrize("kind", Kind)
def test_bases_of_every_kind(journal: Journal, kind: Kind) -> None:
    journal.record(replace(RECORD, base=make_attr(kind=kind)))
    assert journal.records()[0].base == make_attr(kind=kind)


def test_a_later_record_of_a_copy_takes_the_place_of_the_earlier(journal: Journal) -> None:
    journal.record(replace(RECORD, closed=False, mode=0o600, base=BASE))
    journal.record(replace(RECORD, path="/renamed"))
    assert journal.records() == [replace(RECORD, path="/renamed")]


def test_records_are_in_the_order_in_which_they_were_first_made(journal: Journal) -> None:
    for ident in ("c", "a", "b"):
        journal.record(replace(RECORD, ident=ident, closed=False))
    journal.record(replace(RECORD, ident="c", closed=True))
    assert [each.ident for each in journal.records()] == ["c", "a", "b"]


def test_several_records_are_one_change(journal: Journal, path: Path) -> None:
    """A rename over a file is two records: nobody may ever find one without the other."""
    journal.record(RECORD)
    torn = replace(RECORD, ident="a2", base=make_attr(listed=b"no text"))
    with pytest.raises(TypeError):
        journal.record(replace(RECORD, path="/new"), torn)
    assert reopened(path) == [RECORD]
    journal.record(replace(RECORD, path="/new"), replace(RECORD, ident="a2", path=""))
    assert [(each.ident, each.path) for each in reopened(path)] == [("a1", "/new"), ("a2", "")]
    journal.forget("a1", "a2", "never known")
    journal.record()
    journal.forget()
    assert reopened(path) == []


def test_what_landed_is_forgotten(journal: Journal, path: Path) -> None:
    for ident in ("a", "b"):
        journal.record(replace(RECORD, ident=ident))
    journal.forget("a")
    journal.forget("never known")
    assert [each.ident for each in journal.records()] == ["b"]
    assert [each.ident for each in reopened(path)] == ["b"]


def test_what_was_looked_at_earlier_is_not_written_over_what_came_later(
    journal: Journal, path: Path
) -> None:
    """A store finds that a file has landed; before it says so, somebody writes it again."""
    journal.record(RECORD)
    later = replace(RECORD, closed=False)

    def landed() -> tuple[list[Record], list[str]]:
        journal.record(later)
        return [], [RECORD.ident]

    journal.note(landed)
    assert reopened(path) == [later]

    def renamed() -> tuple[list[Record], list[str]]:
        journal.forget(RECORD.ident)
        return [replace(RECORD, path="/users/me/g"), other], []

    other = replace(RECORD, ident="b2")
    journal.note(renamed)
    assert reopened(path) == [other]
    journal.note(lambda: ([later], [other.ident]))
    assert reopened(path) == [later]


def test_who_fails_to_look_keeps_nobody_from_writing(journal: Journal, path: Path) -> None:
    def fail() -> tuple[list[Record], list[str]]:
        journal.record(RECORD)
        raise OSError(errno.EIO, "no")

    with pytest.raises(OSError):
        journal.note(fail)
    journal.forget(RECORD.ident)
    assert reopened(path) == []


def test_two_copies_may_have_one_path_and_systems_are_apart(journal: Journal) -> None:
    records = [RECORD, replace(RECORD, ident="a2"), replace(RECORD, ident="a3", system="eiger")]
    for each in records:
        journal.record(each)
    assert journal.records() == records


# -- power losses --------------------------------------------------------------------------------


def trusted(path: Path, boot: str) -> dict[str, bool]:
    """Return whose bytes a process of the boot *boot* may trust."""
    journal = Journal(Database(path), boot)
    try:
        return {each.record.ident: each.trusted for each in journal.found()}
    finally:
        journal.close()


def test_what_is_not_sealed_is_trusted_within_one_boot_only(path: Path) -> None:
    journal = Journal(Database(path), "monday")
    for ident in ("a", "b"):
        journal.record(replace(RECORD, ident=ident))
    journal.seal([mark for mark in journal.unsealed() if mark[0] == "a"])
    assert trusted(path, "monday") == {"a": True, "b": True}
    assert trusted(path, "tuesday") == {"a": True, "b": False}
    assert [ident for ident, _ in journal.unsealed()] == ["b"]
    journal.close()


def test_a_change_breaks_the_seal(path: Path) -> None:
    journal = Journal(Database(path), "monday")
    journal.record(RECORD)
    journal.seal(journal.unsealed())
    assert journal.unsealed() == []
    journal.record(replace(RECORD, closed=False))
    assert len(journal.unsealed()) == 1
    assert trusted(path, "tuesday") == {"a1": False}
    journal.close()


def test_a_change_during_the_sealing_is_not_sealed(path: Path) -> None:
    """Between the look at the bytes and the seal, somebody wrote."""
    journal = Journal(Database(path), "monday")
    journal.record(RECORD)
    marks = journal.unsealed()
    journal.record(replace(RECORD, closed=False))
    journal.seal(marks)
    assert trusted(path, "tuesday") == {"a1": False}
    journal.seal(journal.unsealed())
    assert trusted(path, "tuesday") == {"a1": True}
    journal.close()


def test_a_forgotten_record_may_be_sealed(journal: Journal) -> None:
    journal.record(RECORD)
    marks = journal.unsealed()
    journal.forget("a1")
    journal.seal(marks)
    journal.seal()
    assert journal.records() == []


def test_a_record_of_an_earlier_boot_that_is_written_again_is_of_this_one(path: Path) -> None:
    journal = Journal(Database(path), "monday")
    journal.record(RECORD)
    journal.close()
    journal = Journal(Database(path), "tuesday")
    assert [each.trusted for each in journal.found()] == [False]
    journal.record(RECORD)
    assert [each.trusted for each in journal.found()] == [True]
    journal.close()
    assert trusted(path, "wednesday") == {"a1": False}


def test_who_seals_is_woken_by_a_record(journal: Journal) -> None:
    assert not journal.written.is_set()
    journal.record(RECORD)
    assert journal.written.is_set()


def test_a_long_log_is_folded_into_the_database(path: Path, journal: Journal) -> None:
    """Only in a seal: never does a call that a program waits for sync the disk."""
    wal = path.with_name(path.name + "-wal")
    for letter in "abcdefghijklmnopqrstuvwxyz":
        big = replace(RECORD, text=letter * (1 << 20))
        journal.record(big)
    assert wal.stat().st_size > 16 << 20
    journal.seal()
    assert wal.stat().st_size < 1 << 20
    assert reopened(path) == [big]


# -- archives of ours on the cluster -------------------------------------------------------------


def test_leftovers_are_of_one_system_and_outlive_the_process(journal: Journal, path: Path) -> None:
    for where in ("/a/\udcff", "/a/\udcff", "/b"):
        journal.leave("daint", where)
    journal.leave("eiger", "/c")
    journal.removed("daint", "/b")
    journal.removed("daint", "/c")
    again = Journal(Database(path))
    assert (again.leftovers("daint"), again.leftovers("eiger")) == (["/a/\udcff"], ["/c"])
    again.close()


# -- other programs' journals --------------------------------------------------------------------


def test_a_journal_of_a_newer_program_is_left_alone(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE files (something TEXT)")
    other.execute("PRAGMA user_version = 99")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(OSError, match="newer") as info:
        Journal(Database(path))
    assert info.value.errno == errno.EPROTO
    assert info.value.filename == str(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("trouble", ["no database", "no directory"])
def test_a_journal_that_can_not_be_opened_is_an_oserror(path: Path, trouble: str) -> None:
    """The state of a server is a person's to mend: she is told which file it is."""
    if trouble == "no database":
        path.write_bytes(b"not a database, whatever it is " * 100)
    else:
        path = path.parent / "missing" / path.name
    with pytest.raises(OSError) as info:
        Journal(Database(path))
    assert str(path) in str(info.value)
    assert _open_descriptors(path) == []


def _open_descriptors(path: Path) -> list[str]:
    links = (os.path.realpath(each) for each in Path("/proc/self/fd").iterdir())
    return [link for link in links if link == os.path.realpath(path)]


# -- threads and deaths --------------------------------------------------------------------------


def test_many_threads_write_one_journal(journal: Journal) -> None:
    def work(number: int) -> int:
        for each in range(50):
            journal.record(replace(RECORD, ident=f"{number}-{each}", path=f"/{number}"))
            if each % 2:
                journal.forget(f"{number}-{each}")
            assert all(found.path for found in journal.records())
        return number

    assert together(6, work) == list(range(6))
    assert sorted(each.ident for each in journal.records()) == sorted(
        f"{number}-{each}" for number in range(6) for each in range(0, 50, 2)
    )


WRITER = """
import os, sys, time
from pathlib import Path
from firecrestfs.cache.database import Database
from firecrestfs.cache.journal import Journal, Record
journal = Journal(Database(Path(sys.argv[1])))
for number in range(20):
    path = f"/{number}/\\udcff"
    journal.record(Record(f"i{number}", "daint", path, "", closed=number % 2 == 0, mode=0o640))
journal.forget("i3")
print("written", flush=True)
if sys.argv[2] == "exit":
    os._exit(1)
time.sleep(60)
"""


@pytest.mark.parametrize("death", ["exit", "kill"])
def test_what_was_recorded_outlives_the_process(path: Path, death: str) -> None:
    command = [sys.executable, "-c", WRITER, str(path), death]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    assert reopened(path) == [
        Record(f"i{number}", "daint", f"/{number}/\udcff", "", closed=number % 2 == 0, mode=0o640)
        for number in range(20)
        if number != 3
    ]
