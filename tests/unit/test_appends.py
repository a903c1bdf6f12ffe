"""The script that appends on the cluster: once, however often it is run, whenever it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from firecrestfs.cache.transfers import AppendRecord
from firecrestfs.transfer.appends import script_of

OLD, MORE = b"old bytes\n" * 1000, b"appended here\n" * 500


class Case:
    """A file on the cluster, and a folder with what is to be put behind it."""

    def __init__(self, top: Path, name: str = "it's a log $HOME") -> None:
        self.target = top / name
        self.target.write_bytes(OLD)
        self.folders = 0
        self.top = top

    def record(self, data: bytes = MORE) -> AppendRecord:
        folder = self.top / f"folder {self.folders}"
        self.folders += 1
        folder.mkdir()
        (folder / "piece").write_bytes(data)
        now = self.target.stat()
        path, size = str(self.target), len(data)
        seconds = int(now.st_mtime)
        return AppendRecord("i", "s", path, str(folder), now.st_size, size, now.st_ino, seconds)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


def begin(record: AppendRecord) -> subprocess.Popen[bytes]:
    script = f"set -e\nexec 2>&1\n{script_of(record)}"
    return subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True)


def run(record: AppendRecord) -> tuple[int, str]:
    """Run the script; return its exit code and what it said."""
    with begin(record) as process:
        said = process.communicate(timeout=60)[0]
        return process.returncode, said.decode()


def begun(record: AppendRecord) -> Path:
    return Path(record.folder) / "begun"


def test_it_is_appended_once(case: Case) -> None:
    record = case.record()
    for _ in range(3):
        assert run(record) == (0, "")
        assert case.target.read_bytes() == OLD + MORE
    assert case.target.stat().st_ino == record.ino


@pytest.mark.parametrize("done", [0, 1, 17, len(MORE) - 1, len(MORE)])
def test_one_that_was_killed_is_gone_on_with(case: Case, done: int) -> None:
    record = case.record()
    (Path(record.folder) / "piece").rename(begun(record))
    if done:
        with case.target.open("ab") as file:
            file.write(MORE[:done])
    assert run(record) == (0, "")
    assert case.target.read_bytes() == OLD + MORE


def test_it_says_that_all_is_there_when_it_has_compared_it(case: Case) -> None:
    record = case.record()
    done = Path(record.folder) / "done"
    (Path(record.folder) / "piece").rename(begun(record))
    with case.target.open("ab") as file:
        file.write(MORE[:5] + b"theirs" * len(MORE))
    changed(case, record, OLD + MORE[:5] + b"theirs" * len(MORE))
    assert not done.exists()
    os.truncate(case.target, len(OLD) + 5)
    assert run(record) == (0, "")
    assert done.exists()


def test_killed_at_any_moment(case: Case) -> None:
    for number in range(30):
        case.target.write_bytes(OLD)
        record = case.record()
        with begin(record) as process:
            time.sleep(number * 0.002)
            os.killpg(process.pid, signal.SIGKILL)
        assert run(record) == (0, "")
        assert case.target.read_bytes() == OLD + MORE


def test_two_at_a_time(case: Case) -> None:
    for _ in range(10):
        case.target.write_bytes(OLD)
        record = case.record()
        with begin(record) as one, begin(record) as other:
            one.communicate(timeout=60)
            other.communicate(timeout=60)
        assert 0 in (one.returncode, other.returncode)
        assert case.target.read_bytes() == OLD + MORE


def test_others_have_put_something_behind_it_since(case: Case) -> None:
    record = case.record()
    assert run(record) == (0, "")
    with case.target.open("ab") as file:
        file.write(b"theirs\n")
    assert run(record) == (0, "")
    assert case.target.read_bytes() == OLD + MORE + b"theirs\n"


def changed(case: Case, record: AppendRecord, expected: bytes) -> None:
    """See that nothing is done to a file that isn't what it was."""
    code, said = run(record)
    assert (code, said) == (3, "the file was changed meanwhile\n")
    assert case.target.read_bytes() == expected


def test_two_who_append_the_same(case: Case) -> None:
    """The second finds its own bytes at the end, which are the first's."""
    one, other = case.record(), case.record()
    assert run(one) == (0, "")
    changed(case, other, OLD + MORE)
    assert not begun(other).exists()


def test_what_has_changed_is_left_alone(case: Case) -> None:
    record = case.record()
    # Another one of the same size.
    case.target.rename(case.top / "away")
    case.target.write_bytes(OLD)
    os.utime(case.target, (record.mtime, record.mtime))
    changed(case, record, OLD)
    case.target.unlink()
    (case.top / "away").rename(case.target)
    # The same one, written anew.
    os.utime(case.target, (record.mtime + 1, record.mtime + 1))
    changed(case, record, OLD)
    case.target.write_bytes(OLD[:-1])
    changed(case, record, OLD[:-1])
    assert not begun(record).exists()


def test_it_was_rewritten_after_a_beginning(case: Case) -> None:
    record = case.record()
    (Path(record.folder) / "piece").rename(begun(record))
    for data in (OLD[:-1], OLD + b"theirs\n", OLD):
        case.target.write_bytes(data)
        os.utime(case.target, (record.mtime + 1, record.mtime + 1))
        changed(case, record, data)


def test_nobody_wants_it_any_more(case: Case) -> None:
    record = case.record()
    (Path(record.folder) / "piece").unlink()
    Path(record.folder).rmdir()
    assert run(record) == (0, "")
    assert case.target.read_bytes() == OLD


def test_the_file_is_gone(case: Case) -> None:
    record = case.record()
    case.target.unlink()
    code, said = run(record)
    assert code != 0
    assert "No such file or directory" in said
    assert not case.target.exists()
