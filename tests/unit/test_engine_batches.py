"""Many files at once: what goes in one archive, and what trouble in the middle costs."""

from __future__ import annotations

import os

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.errors import ConflictError
from firecrestfs.model import Attr, StoreItem
from firecrestfs.transfer.engine import TransferEngine

from .storing import counts, items, landed, mode_of
from .tools import Remote


def test_new_files_of_a_directory_go_in_one_archive(
    engine: TransferEngine, there: Remote, emulator: Emulator
) -> None:
    landed(engine, there, items(there, 15, mode=0o644))
    found = counts(emulator)
    assert found.pop("ops/upload") == found.pop("ops/extract") == 1
    assert sum(found.values()) <= 4


@pytest.mark.parametrize(
    ("mode", "left"), [(0o600, 0o600), (0o755, 0o755), (0o664, 0o644), (0o666, 0o644)]
)
def test_modes_in_an_archive_cost_no_request_each(
    engine: TransferEngine, there: Remote, emulator: Emulator, mode: int, left: int
) -> None:
    landed(engine, there, items(there, 15, mode=mode))
    assert mode_of(there, "f0") == left
    assert sum(counts(emulator).values()) <= 8


def test_a_mode_that_was_asked_for_is_kept_in_an_archive_too(
    engine: TransferEngine, there: Remote
) -> None:
    landed(engine, there, items(there, 5, mode=0o666, exact_mode=True))
    assert [mode_of(there, f"f{each}") for each in range(5)] == [0o666] * 5


def test_archives_are_cut_to_what_one_upload_carries(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    limit = client.system("cluster").limits.upload
    batch = items(there, 12, limit // 5, mode=0o644)
    landed(engine, there, batch)
    assert 3 <= counts(emulator)["ops/upload"] <= 6


def test_one_file_near_the_limit_does_not_unbundle_the_others(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    limit = client.system("cluster").limits.upload
    batch = items(there, 15, mode=0o644)
    batch.append(StoreItem(99, there / "large", bytes(limit), mode=0o644))
    landed(engine, there, batch)
    assert counts(emulator)["ops/upload"] <= 3


def test_directories_are_apart(engine: TransferEngine, there: Remote) -> None:
    for name in ("a", "b"):
        (there.local / name).mkdir()
    batch = [
        StoreItem(each, there / f"{'ab'[each % 2]}/f{each}", b"x", mode=0o644) for each in range(10)
    ]
    results = engine.store(batch)
    assert all(isinstance(each, Attr) for each in results.values())
    assert sorted(os.listdir(there.local / "a")) == [f"f{each}" for each in range(0, 10, 2)]


def test_one_refusal_costs_the_others_nothing(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    limit = client.system("cluster").limits.upload
    batch = items(there, 4, mode=0o644)
    batch[2] = StoreItem(2, there / "f2", bytes(limit + 1))
    results = engine.store(batch)
    assert [key for key, each in results.items() if isinstance(each, OSError)] == [2]
    assert there.names() == ["f0", "f1", "f3"]


def test_a_name_taken_meanwhile_is_a_conflict_in_a_batch_too(
    engine: TransferEngine, there: Remote
) -> None:
    (there.local / "f1").write_text("theirs")
    results = engine.store(items(there, 5, mode=0o644))
    assert isinstance(results[1], ConflictError)
    assert (there.local / "f1").read_text() == "theirs"


@pytest.mark.parametrize(
    ("fault", "endpoint", "after"),
    [
        ("lost_answer", "ops/upload", 0),
        ("lost_answer", "ops/extract", 0),
        ("late_status", "ops/extract", 0),
        ("status", "ops/extract", 0),
        ("status", "ops/ls", 1),
        ("drop", "ops/ls", 1),
        ("status", "ops/upload", 1),
        ("status", "ops/extract", 1),
        ("lost_answer", "ops/extract", 1),
    ],
)
def test_trouble_in_the_middle_makes_no_conflict_copies(
    engine: TransferEngine,
    client: TypedClient,
    there: Remote,
    emulator: Emulator,
    fault: str,
    endpoint: str,
    after: int,
) -> None:
    """What landed before is ours: storing it again must not find a stranger's file there."""
    limit = client.system("cluster").limits.upload
    emulator.faults.add(fault, endpoint, status=500, after=after, count=1)
    landed(engine, there, items(there, 6, limit // 5, mode=0o644))
