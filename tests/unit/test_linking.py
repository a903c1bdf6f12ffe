"""Many hard links at once: few requests, and each proven to be what it is taken for."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.errors import is_transient
from firecrestfs.model import Attr
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.linking import Linker, Wish

from .storing import counts
from .tools import Remote

SOME = 20


@pytest.fixture
def linker(client: TypedClient, bundler: Bundler) -> Linker:
    return Linker(client, "cluster", bundler)


@pytest.fixture
def wishes(there: Remote) -> list[Wish]:
    """Files in a directory, to be linked into two others."""
    for name in ("files", "a", "b"):
        (there.local / name).mkdir()
    for number in range(SOME):
        (there.local / f"files/f{number}").write_text(f"file {number}")
    return [
        Wish(there / f"files/f{number}", there / f"{'ab'[number % 2]}/g{number}")
        for number in range(SOME)
    ]


class Begun:
    """What was told to be begun."""

    def __init__(self) -> None:
        self.told: dict[str, Attr] = {}

    def __call__(self, sources: Mapping[str, Attr]) -> None:
        self.told |= sources


def are_linked(there: Remote, wishes: list[Wish]) -> list[bool]:
    local = [
        [there.local / path.removeprefix(there.path + "/") for path in (each.old, each.new)]
        for each in wishes
    ]
    return [new.exists() and new.samefile(old) for old, new in local]


def codes(results: dict[str, Attr | OSError]) -> dict[str, int | None]:
    return {
        path.rpartition("/")[2]: each.errno
        for path, each in results.items()
        if isinstance(each, OSError)
    }


def test_many_links_take_few_requests(
    linker: Linker, there: Remote, wishes: list[Wish], emulator: Emulator
) -> None:
    begun = Begun()
    counts(emulator)
    results = linker.link(wishes, begun)
    assert sum(counts(emulator).values()) <= 9
    assert all(are_linked(there, wishes))
    assert {each.nlink for each in results.values() if isinstance(each, Attr)} == {2}
    assert begun.told.keys() == results.keys() == {each.new for each in wishes}
    assert there.names() == ["a", "b", "files"]


def test_what_is_there_already_is_kept(linker: Linker, there: Remote, wishes: list[Wish]) -> None:
    (there.local / "a/g0").write_text("file 0")
    (there.local / "b/g1").hardlink_to(there.local / "files/f1")
    (there.local / "files/f2").unlink()
    begun = Begun()
    results = linker.link(wishes, begun)
    assert codes(results) == {"g0": errno.EEXIST, "g2": errno.ENOENT}
    assert (there.local / "a/g0").stat().st_nlink == 1
    assert all(are_linked(there, [wishes[1], *wishes[3:]]))
    # What another made is nothing that was begun here.
    assert not begun.told.keys() & {there / "a/g0", there / "b/g1", there / "a/g2"}


def test_a_lost_answer_is_settled(
    linker: Linker, there: Remote, wishes: list[Wish], emulator: Emulator
) -> None:
    emulator.faults.add("lost_answer", "ops/extract", count=1)
    assert codes(linker.link(wishes, Begun())) == {}
    assert all(are_linked(there, wishes))


def test_a_request_that_never_arrived_is_made_again_later(
    linker: Linker, there: Remote, wishes: list[Wish], emulator: Emulator
) -> None:
    emulator.faults.add("drop", "ops/extract", count=1)
    results = linker.link(wishes, Begun())
    assert all(isinstance(each, OSError) and is_transient(each) for each in results.values())
    assert not any(are_linked(there, wishes))
    assert codes(linker.link(wishes, Begun())) == {}
    assert all(are_linked(there, wishes))


def test_where_nothing_can_be_asked_all_wait(
    linker: Linker, there: Remote, wishes: list[Wish], emulator: Emulator
) -> None:
    emulator.faults.add("drop", "ops/ls", count=-1)
    results = linker.link(wishes, Begun())
    assert all(isinstance(each, OSError) and is_transient(each) for each in results.values())
    assert not any(are_linked(there, wishes))


def test_a_directory_that_lets_nothing_in(
    linker: Linker, there: Remote, wishes: list[Wish]
) -> None:
    (there.local / "a").chmod(0o500)
    results = linker.link(wishes, Begun())
    assert set(codes(results).values()) <= {errno.EACCES, errno.EXDEV}
    assert len(codes(results)) == SOME // 2
    assert sum(are_linked(there, wishes)) == SOME // 2
