"""Sealer: what is noted is brought to the disk, also after a time when that failed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.database import Database
from firecrestfs.cache.journal import Journal, Record
from firecrestfs.cache.sealing import Sealer

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
