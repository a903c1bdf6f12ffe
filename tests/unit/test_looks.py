"""Looks: one name, a directory's listing or a whole small tree, whichever takes fewer requests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.model import Attr, Kind
from firecrestfs.vfs.looks import Looks, SmallTrees

from .tools import FakeClock, Remote, make_attr
from .wired import Files


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def looks(clock: FakeClock) -> Looks:
    return Looks(["/home"], 5.0, clock)


# -- the tops of file systems --------------------------------------------------------------------


def test_a_top_is_listed_after_two_misses(looks: Looks) -> None:
    assert looks.singly("/home")
    looks.missed("/home")
    assert looks.singly("/home")
    looks.missed("/home")
    assert not looks.singly("/home")


def test_misses_of_different_searches_do_not_add_up(looks: Looks, clock: FakeClock) -> None:
    """A shell's prompt that looks for `.git` now and then asks for that alone."""
    for _ in range(10):
        looks.missed("/home")
        clock.advance(6)
        assert looks.singly("/home")


def test_other_directories_are_listed_at_once(looks: Looks) -> None:
    assert not looks.singly("/home/me")


def test_a_large_top_is_listed_once(looks: Looks) -> None:
    for _ in range(2):
        looks.missed("/home")
    looks.listed("/home", 3000)
    assert looks.singly("/home")


def test_a_directory_that_can_not_be_listed_is_tried_again_later(
    looks: Looks, clock: FakeClock
) -> None:
    looks.refused("/home/me")
    assert looks.singly("/home/me")
    clock.advance(31)
    assert not looks.singly("/home/me")
    looks.refused("/home/me")
    looks.refresh("/home")
    assert not looks.singly("/home/me")


# -- small trees ---------------------------------------------------------------------------------


def listings(files: int, *, directories: int = 2) -> dict[str, Mapping[str, Attr]]:
    """Return the listings of `/t` and its directories, with *files* each."""
    top = {f"d{number}": make_attr(kind=Kind.DIRECTORY) for number in range(directories)}
    each = {f"f{number}": make_attr() for number in range(files)}
    return {"/t": top, **{f"/t/{name}": each for name in top}}


def test_a_small_tree_is_known_by_its_listings() -> None:
    trees = SmallTrees()
    trees.made("/t")
    assert trees.holds("/t", listings(10).get)
    assert not trees.holds("/t", listings(600).get)
    assert not trees.holds("/t", listings(10, directories=0).get)


def test_a_tree_that_is_only_partly_known_may_be_large() -> None:
    trees = SmallTrees()
    trees.made("/t")
    known = listings(10)
    del known["/t/d1"]
    assert not trees.holds("/t", known.get)


def test_how_large_a_tree_was_outlives_its_listings() -> None:
    trees = SmallTrees()
    trees.made("/t")
    trees.remember(listings(10))
    assert trees.holds("/t", {}.get)


def test_a_tree_that_someone_looked_into_by_chance_is_none() -> None:
    trees = SmallTrees()
    trees.remember(listings(10))
    assert not trees.holds("/t", {}.get)


# -- on a mount ----------------------------------------------------------------------------------


def asked(emulator: Emulator) -> Counter[str]:
    return Counter(each.endpoint for each in emulator.requests.clear() if not each.is_token)


def is_absent(files: Files, path: str) -> bool:
    try:
        files.ops.getattr(f"/cluster{path}")
    except FileNotFoundError:
        return True
    return False


def test_names_that_editors_look_for_above_all_homes(files: Files, emulator: Emulator) -> None:
    emulator.requests.clear()
    for name in (".git", ".svn", ".hg", ".dir-locals.el", "pyvenv.cfg", "_MTN"):
        assert is_absent(files, f"/home/{name}")
    assert asked(emulator) == {"ops/stat": 2, "ops/ls": 1}


def test_one_name_above_all_homes_is_asked_for_alone(files: Files, emulator: Emulator) -> None:
    emulator.requests.clear()
    for _ in range(3):
        assert is_absent(files, "/home/.git")
    assert asked(emulator) == {"ops/stat": 1}


@pytest.mark.parametrize("status", [403, 500])
def test_where_the_top_can_not_be_listed_names_are_asked_for(
    files: Files, emulator: Emulator, status: int
) -> None:
    emulator.faults.add("status", "ops/ls", status=status, count=1)
    emulator.requests.clear()
    for number in range(6):
        assert is_absent(files, f"/home/.none{number}")
    assert asked(emulator)["ops/stat"] == 6


def test_a_tree_that_was_made_here_is_looked_through_by_one_listing(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    for top in ("", "/a", "/b"):
        files.ops.mkdir(files.path(f"tree{top}"), 0o755)
        files.create(f"tree{top}/f", b"x")
    files.sync()
    files.refresh()
    (there.local / "tree/b/theirs").write_bytes(b"new")
    files.stat("")
    emulator.requests.clear()
    for name in ("tree", "tree/f", "tree/a", "tree/a/f", "tree/b", "tree/b/f", "tree/b/theirs"):
        files.stat(name)
    assert asked(emulator) == {"ops/ls": 2}


def test_what_is_new_in_such_a_tree_is_seen_as_soon_as_anywhere(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    files.ops.mkdir(files.path("tree"), 0o755)
    files.ops.mkdir(files.path("tree/a"), 0o755)
    files.sync()
    files.refresh()
    local: Path = there.local / "tree/a/later"
    with pytest.raises(FileNotFoundError):
        files.stat("tree/a/later")
    local.write_bytes(b"x")
    files.refresh()
    assert files.stat("tree/a/later")["st_size"] == 1
