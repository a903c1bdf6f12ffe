"""What a dead process left on the cluster, and what has become of it meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.database import Database
from firecrestfs.cache.transfers import Transfers
from firecrestfs.transfer import bundle, leftovers
from firecrestfs.transfer.bundle import Bundler

from .tools import Remote


@pytest.mark.parametrize("name", [".fcfs-1.tar", ".fcfs-2"])
def test_an_archive_whose_directory_is_a_file_now(
    client: TypedClient, there: Remote, name: str
) -> None:
    """It was removed with its directory: a sweep that fails for it would fail for ever."""
    (there.local / "d").write_text("another's")
    gone: list[str] = []
    left = bundle.Leftovers([there / f"d/{name}"], removed=gone.append)
    Bundler(client, "cluster", left).sweep()
    assert gone == [there / f"d/{name}"]
    assert there.names() == ["d"]


def test_a_staged_file_whose_directory_is_a_file_now(
    client: TypedClient, there: Remote, tmp_path: Path
) -> None:
    (there.local / "d").write_text("another's")
    transfers = Transfers(Database(tmp_path / "db"))
    transfers.may_leave("cluster", there / "d/.fcfs-large")
    leftovers.Leftovers(client, "cluster", transfers).sweep()
    assert transfers.leftovers("cluster") == []
    assert there.names() == ["d"]


def test_two_sweeps_find_the_same_to_be_needed_no_more() -> None:
    """A sync and an unmount, say, at the same time: the second finds nothing left to settle."""
    noted: set[str] = set()
    left = bundle.Leftovers((), noted.add, noted.discard)
    left.doubt("/d/kept", "/d/f", {7})
    assert len(noted) == 1
    for _ in range(2):
        left.settle("/d/kept")
        left.discard("/d/kept")
    assert left.doubtful() == {}
    assert noted == set()
