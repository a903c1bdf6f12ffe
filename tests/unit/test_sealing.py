"""Sealer: what is noted is brought to the disk, also after a time when that failed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.database import Database
from firecrestfs.cache.journal import Journal, Record
from firecrestfs.cache.sealing import Sealer
from firecrestfs.cache.submissions import Stage, Submission, SubmissionLog
from firecrestfs.cache.transfers import AppendRecord, Transfers, UploadRecord

from .tools import make_attr, wait_until


@pytest.fixture
def content(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 20)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(Database(tmp_path / "journal.sqlite"))
    yield journal
    journal.close()


def test_sealing_is_tried_again(
    content: ContentCache, journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it had failed, nothing was sealed until something else was written, or never again."""
    file = content.new(make_attr())
    file.create(0o644)
    file.write(b"x", 0)
    away, place = tmp_path / "away", tmp_path / "state" / "files"
    place.rename(away)
    journal.change([Record(file.ident, "cluster", "/f", "")], [])
    sealer = Sealer(content, journal)
    sealer.start()
    wait_until(lambda: "may not survive" in caplog.text)
    assert journal.unsealed() != []
    away.rename(place)
    wait_until(lambda: journal.unsealed() == [])
    sealer.stop()
    assert caplog.text.count("may not survive") == 1


@pytest.fixture
def losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Copies of the database, each as a power loss would have left it from an fsync on."""
    losses: list[Path] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        if os.readlink(f"/proc/self/fd/{fd}") == str(tmp_path / "db-wal"):
            found = tmp_path / f"disk-{len(losses)}"
            found.mkdir()
            for name in ("db", "db-wal"):
                shutil.copyfile(tmp_path / name, found / name)
            losses.append(found)

    monkeypatch.setattr(os, "fsync", fsync)
    return losses


UPLOAD = UploadRecord("id", "cluster", "/f", "/.fcfs-1", 10, 1, {"job": "7"}, {})
APPEND = AppendRecord("id", "cluster", "/f", "/.fcfs-2", 10, 5, 1, 1, "7")


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (lambda db: Transfers(db).begin(UPLOAD), lambda db: Transfers(db).upload("id") == UPLOAD),
        (
            lambda db: Transfers(db).note_append(APPEND),
            lambda db: Transfers(db).appends("cluster") == [APPEND],
        ),
        (
            lambda db: Transfers(db).may_leave("cluster", "/.fcfs-3"),
            lambda db: Transfers(db).leftovers("cluster") == ["/.fcfs-3"],
        ),
        (
            lambda db: Journal(db).leave("cluster", "/.fcfs-4"),
            lambda db: Journal(db).leftovers("cluster") == ["/.fcfs-4"],
        ),
    ],
    ids=["upload", "append", "staged leftover", "leftover"],
)
def test_what_is_on_the_cluster_is_sealed_by_itself(
    content: ContentCache,
    tmp_path: Path,
    losses: list[Path],
    write: Callable[[Database], None],
    read: Callable[[Database], bool],
) -> None:
    """It was only when a file changed: a power loss left uploads there that nobody knew of."""
    database = Database(tmp_path / "db")
    sealer = Sealer(content, Journal(database))
    sealer.start()
    write(database)

    def sealed() -> bool:
        if not losses:
            return False
        after = Database(losses[-1] / "db")
        try:
            return read(after)
        finally:
            after.close()

    wait_until(sealed)
    sealer.stop()
    database.close()


def test_a_request_for_a_job_survives_a_power_loss_before_it_is_sent(
    tmp_path: Path, losses: list[Path]
) -> None:
    """Nobody would look for its job: it was submitted a second time."""
    database = Database(tmp_path / "db")
    submission = Submission("id", "cluster", "/", "job.sh", "/", stage=Stage.SENDING, sent=1.0)
    SubmissionLog(database).put(submission)
    database.close()
    assert SubmissionLog(Database(losses[-1] / "db")).submissions("cluster") == [submission]
