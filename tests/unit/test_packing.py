"""New trees in archives: what goes in, what is proven, and what trouble at each step costs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import ClientCredentialsAuth, Firecrest, TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.errors import ConflictError
from firecrestfs.model import Attr, Kind, StoreItem
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.engine import TransferEngine
from firecrestfs.transfer.packing import Packer

from .storing import counts, items, landed, mode_of
from .tools import SECOND, Remote

LIMIT = 64 * 1024
TIME = 1_600_000_000 * SECOND + 123_456_789


@pytest.fixture
def client(emulator: Emulator) -> TypedClient:
    """A client that knows the cluster's zone, as the mount's does: it reads times of listings."""
    auth = ClientCredentialsAuth(emulator.client_id, emulator.client_secret, emulator.token_url)
    client = TypedClient(Firecrest(emulator.url, auth), {"cluster": emulator.knobs.zone})
    client.systems()
    return client


@pytest.fixture
def packer(client: TypedClient, bundler: Bundler, emulator: Emulator) -> Packer:
    """A packer alone: what it doesn't place isn't placed."""
    emulator.requests.clear()
    return Packer(client, "cluster", bundler, LIMIT, lambda item, attr: attr)


def directory(there: Remote, key: int, name: str, **options: Any) -> StoreItem:
    return StoreItem(key, there / name, b"", kind=Kind.DIRECTORY, mode=0o755, **options)


def file(there: Remote, key: int, name: str, data: bytes = b"x", **options: Any) -> StoreItem:
    values = {"mode": 0o644, "written_ns": TIME} | options
    return StoreItem(key, there / name, data, **values)


def a_tree(there: Remote) -> list[StoreItem]:
    """A new directory with all that can be in one."""
    return [
        directory(there, 0, "t"),
        directory(there, 1, "t/in"),
        directory(there, 2, "t/in/deep"),
        file(there, 3, "t/a", b"hello"),
        file(there, 4, "t/in/empty", b""),
        file(there, 5, "t/in/deep/run", b"#!", mode=0o750, mtime_ns=TIME),
        StoreItem(6, there / "t/in/link", b"", kind=Kind.SYMLINK, link="../a"),
        file(there, 7, "t/secret", b"s", mode=0o600),
    ]


def is_whole(there: Remote) -> None:
    """See that the cluster has all of `a_tree`, as it shall be."""
    top = there.local / "t"
    found = sorted(str(each.relative_to(top)) for each in top.rglob("*"))
    assert found == ["a", "in", "in/deep", "in/deep/run", "in/empty", "in/link", "secret"]
    assert (top / "a").read_bytes() == b"hello"
    assert (top / "in/empty").read_bytes() == b""
    assert os.readlink(top / "in/link") == "../a"
    assert (top / "in/deep/run").stat().st_mtime_ns == TIME
    assert mode_of(there, "t/in/deep/run") == 0o750
    assert mode_of(there, "t/secret") == 0o600
    assert there.names() == ["t"]


def failures(results: dict[int, Attr | OSError]) -> list[int]:
    return sorted(key for key, each in results.items() if isinstance(each, OSError))


# -- trees ---------------------------------------------------------------------------------------


def test_a_new_tree_is_one_archive(packer: Packer, there: Remote, emulator: Emulator) -> None:
    batch = a_tree(there)
    results = packer.place(batch)
    is_whole(there)
    assert sorted(results) == [item.key for item in batch]
    assert failures(results) == []
    found = counts(emulator)
    assert found["ops/upload"] == found["ops/extract"] == 1
    # A look before, a look at all of it after, the archive's way there and away.
    assert sum(found.values()) <= 6


def test_what_was_proven_is_described_as_it_is(packer: Packer, there: Remote) -> None:
    results = packer.place(a_tree(there))
    found = {key: each for key, each in results.items() if isinstance(each, Attr)}
    assert {found[key].kind for key in (0, 1, 2)} == {Kind.DIRECTORY}
    assert (found[3].size, found[3].mode & 0o777) == (5, 0o644)
    assert found[6].kind is Kind.SYMLINK
    assert found[5].mtime_ns // SECOND == TIME // SECOND


def test_few_entries_go_singly(packer: Packer, there: Remote, emulator: Emulator) -> None:
    assert packer.place(items(there, 2)) == {}
    assert counts(emulator) == {}


def test_what_is_based_on_the_cluster_is_not_packed(packer: Packer, there: Remote) -> None:
    """A tar replaces files by new ones: what others hold by a link would be torn apart."""
    batch = items(there, 4, written_ns=TIME)
    based = [StoreItem(9, there / "old", b"x", base=Attr(Kind.FILE, 0o644, 1, 0))]
    results = packer.place(batch + based)
    assert sorted(results) == [0, 1, 2, 3]
    assert "old" not in there.names()


def test_a_file_too_large_for_an_archive_is_left_to_others(packer: Packer, there: Remote) -> None:
    batch = [*items(there, 4, written_ns=TIME), file(there, 9, "large", bytes(LIMIT))]
    assert sorted(packer.place(batch)) == [0, 1, 2, 3]


def test_portions_of_a_tree_bring_their_directories_first(
    packer: Packer, there: Remote, emulator: Emulator
) -> None:
    batch = [directory(there, 0, "t")]
    batch += [file(there, key, f"t/f{key}", bytes([key]) * 12_000) for key in range(1, 13)]
    results = packer.place(batch)
    assert failures(results) == []
    assert sorted(results) == list(range(13))
    assert sorted(os.listdir(there.local / "t")) == sorted(f"f{key}" for key in range(1, 13))
    for key in range(1, 13):
        assert (there.local / f"t/f{key}").read_bytes() == bytes([key]) * 12_000
    assert 3 <= counts(emulator)["ops/upload"] <= 6


def test_trees_in_two_places_are_two_archives(
    packer: Packer, there: Remote, emulator: Emulator
) -> None:
    (there.local / "a").mkdir()
    (there.local / "b").mkdir()
    batch = [file(there, key, f"{'ab'[key % 2]}/f{key}") for key in range(8)]
    assert failures(packer.place(batch)) == []
    assert counts(emulator)["ops/extract"] == 2
    assert sorted(os.listdir(there.local / "b")) == ["f1", "f3", "f5", "f7"]


def test_a_strange_tree_beside_is_not_read(
    packer: Packer, there: Remote, emulator: Emulator
) -> None:
    """The proof of a new directory must not list what is beside it, however much that is."""
    (there.local / "huge/deep").mkdir(parents=True)
    for number in range(50):
        (there.local / f"huge/deep/{number}").touch()
    results = packer.place(a_tree(there))
    assert failures(results) == []
    assert sorted(results) == list(range(8))


def test_a_directory_that_inherits_is_made_by_what_is_in_it(packer: Packer, there: Remote) -> None:
    """tar would set its mode, and with it take away what its parent passes on."""
    there.local.chmod(0o2775)
    batch = [
        directory(there, 0, "t", inherits=True),
        *[file(there, key, f"t/f{key}") for key in range(1, 4)],
    ]
    results = packer.place(batch)
    assert failures(results) == []
    assert sorted(results) == [0, 1, 2, 3]
    assert mode_of(there, "t") & 0o2000


def test_an_empty_directory_that_inherits_has_what_it_inherits(
    engine: TransferEngine, there: Remote
) -> None:
    there.local.chmod(0o2775)
    batch = [directory(there, key, f"t{key}", inherits=True) for key in range(4)]
    results = engine.store(batch)
    assert failures(results) == []
    for key in range(4):
        assert mode_of(there, f"t{key}") & 0o2000, "files made in it would have another group"


# -- names that are taken ------------------------------------------------------------------------


def test_a_name_that_was_taken_meanwhile_is_left_alone(packer: Packer, there: Remote) -> None:
    (there.local / "f1").write_text("theirs")
    results = packer.place(items(there, 5, written_ns=TIME))
    assert sorted(results) == [0, 2, 3, 4]
    assert (there.local / "f1").read_text() == "theirs"


def test_a_taken_name_keeps_both_when_it_goes_singly(engine: TransferEngine, there: Remote) -> None:
    (there.local / "f1").write_text("theirs")
    results = engine.store(items(there, 5, mode=0o644))
    assert isinstance(results[1], ConflictError)
    assert failures(results) == [1]
    assert (there.local / "f1").read_text() == "theirs"


def test_a_directory_that_somebody_else_made_is_filled(packer: Packer, there: Remote) -> None:
    (there.local / "t").mkdir(mode=0o700)
    (there.local / "t/theirs").write_text("x")
    batch = [directory(there, 0, "t"), *[file(there, key, f"t/f{key}") for key in range(1, 5)]]
    results = packer.place(batch)
    assert failures(results) == []
    assert set(results) >= {1, 2, 3, 4}
    assert sorted(os.listdir(there.local / "t")) == ["f1", "f2", "f3", "f4", "theirs"]
    # tar would have given it another mode.
    assert mode_of(there, "t") == 0o700


@pytest.mark.parametrize("what", ["file", "link to a directory", "link to nowhere"])
def test_something_else_where_a_directory_shall_be_is_neither_replaced_nor_entered(
    engine: TransferEngine, there: Remote, tmp_path: Path, what: str
) -> None:
    (there.local / "elsewhere").mkdir()
    if what == "file":
        (there.local / "t").write_text("theirs")
    else:
        (there.local / "t").symlink_to("elsewhere" if "directory" in what else "nowhere")
    batch = [directory(there, 0, "t"), *[file(there, key, f"t/f{key}") for key in range(1, 5)]]
    results = engine.store(batch)
    assert failures(results) == [0, 1, 2, 3, 4]
    assert there.names() == ["elsewhere", "t"]
    assert os.listdir(there.local / "elsewhere") == []
    if what == "file":
        assert (there.local / "t").read_text() == "theirs"
    else:
        assert (there.local / "t").is_symlink()


def test_a_link_that_somebody_else_made_is_not_ours(engine: TransferEngine, there: Remote) -> None:
    """It is proven by its text."""
    (there.local / "link").symlink_to("theirs")
    batch = items(there, 4, mode=0o644, written_ns=TIME)
    batch.append(StoreItem(9, there / "link", b"", kind=Kind.SYMLINK, link="ours"))
    results = engine.store(batch)
    assert os.readlink(there.local / "link") == "theirs"
    assert failures(results) == [9]


def test_a_file_of_another_time_under_the_name_is_not_proof(packer: Packer, there: Remote) -> None:
    """Somebody else's file of the same size is not ours, whatever it holds."""
    (there.local / "f1").write_bytes(b"?" * 100)
    results = packer.place(items(there, 5, written_ns=TIME))
    assert 1 not in results
    assert (there.local / "f1").read_bytes() == b"?" * 100


# -- trouble -------------------------------------------------------------------------------------

FAULTS = ["status", "late_status", "lost_answer", "drop"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("endpoint", "after"),
    [("ops/ls", 0), ("ops/ls", 1), ("ops/upload", 0), ("ops/extract", 0), ("ops/rm", 0)],
)
def test_trouble_at_any_step_costs_nothing(
    engine: TransferEngine,
    bundler: Bundler,
    there: Remote,
    emulator: Emulator,
    endpoint: str,
    after: int,
    fault: str,
) -> None:
    """Each entry is there once, whole, after a few tries; nothing of ours is left."""
    emulator.faults.add(fault, endpoint, status=502, after=after, count=1)
    batch = a_tree(there)
    results = engine.store(batch)
    for _ in range(3):
        again = [item for item in batch if isinstance(results[item.key], OSError)]
        if again:
            results |= engine.store(again)
    assert failures(results) == []
    bundler.sweep()
    is_whole(there)


def test_a_lost_answer_to_the_extraction_is_settled_by_the_proof(
    packer: Packer, there: Remote, emulator: Emulator
) -> None:
    emulator.faults.add("lost_answer", "ops/extract", count=1)
    batch = a_tree(there)
    assert failures(packer.place(batch)) == []
    is_whole(there)


def test_what_landed_in_an_earlier_try_is_known_again(
    packer: Packer, there: Remote, emulator: Emulator
) -> None:
    """The mount died, or the network, between the extraction and the proof."""
    batch = a_tree(there)
    packer.place(batch)
    counts(emulator)
    results = packer.place(batch)
    assert failures(results) == []
    assert set(results) == {item.key for item in batch}
    assert "ops/upload" not in counts(emulator)
    is_whole(there)


def test_a_full_cluster_is_told_for_each(
    engine: TransferEngine, there: Remote, emulator: Emulator
) -> None:
    emulator.knobs.put("disk_full", True)
    results = engine.store(items(there, 5, mode=0o644))
    assert failures(results) == [0, 1, 2, 3, 4]
    emulator.knobs.put("disk_full", False)
    landed(engine, there, items(there, 5, mode=0o644))


def test_a_directory_that_is_refused_refuses_what_is_in_it(
    engine: TransferEngine, there: Remote, emulator: Emulator
) -> None:
    there.local.chmod(0o500)
    try:
        results = engine.store(a_tree(there))
    finally:
        there.local.chmod(0o755)
    assert failures(results) == list(range(8))
    assert there.names() == []
