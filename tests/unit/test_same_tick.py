"""Writes so soon after a snapshot that the kernel's clock for files has not moved on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firecrestfs.cache import local_copy
from firecrestfs.cache.cached_file import CachedFile

from .copies import new_file


@pytest.fixture(autouse=True)
def slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick that no delay of this machine outlasts."""
    monkeypatch.setattr(local_copy, "_TICK_NS", 10**12)


def write(file: CachedFile, path: Path, data: bytes, tick: int = 0) -> int:
    """Write *data* in the *tick* of an earlier write; return in which it was.

    Kernels since 6.13 have a finer clock for who has looked in between.
    """
    file.write(data, 0)
    if tick:
        os.utime(path, ns=(tick, tick))
    return path.stat().st_mtime_ns


def test_a_change_of_equal_size_right_after_a_snapshot(places: tuple[Path, Path]) -> None:
    """What is being sent is told from what was written meanwhile by its size and time."""
    file, path = new_file(places, b"old"), places[1] / "f"
    tick = write(file, path, b"one")
    snapshot = file.begin_store(0)
    assert snapshot is not None
    assert snapshot.local is not None
    assert snapshot.local.unchanged
    write(file, path, b"two", tick)
    assert not snapshot.local.unchanged
    file.store_failed()
    # Nor is the next one taken for another try to send the same bytes.
    later = file.begin_store(0)
    assert later is not None
    assert later.local is not None
    assert later.local.mtime_ns != snapshot.local.mtime_ns


def test_a_try_that_failed_is_known_again(places: tuple[Path, Path]) -> None:
    file = new_file(places, b"old")
    first = file.begin_store(0)
    file.store_failed()
    again = file.begin_store(0)
    assert first is not None
    assert again is not None
    assert first.local == again.local
