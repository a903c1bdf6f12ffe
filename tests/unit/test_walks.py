"""Walks: programs that go through a tree get it at once; people in their homes don't."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.model import Attr, DirEntry, Kind
from firecrestfs.vfs.walks import Walks, by_directory

from .tools import FakeClock, Remote, make_attr
from .wired import Files

#: As a server lists them: in no order that a person would guess.
NAMES = [f"run{number * 37 % 300:03}" for number in range(300)]


def entries(names: Sequence[str]) -> dict[str, Attr]:
    return {name: make_attr(kind=Kind.DIRECTORY) for name in names}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def walks(clock: FakeClock) -> Walks:
    return Walks(clock)


def found(walks: Walks, names: Sequence[str], siblings: dict[str, Attr]) -> list[str | None]:
    return [walks.listed(f"/home/{name}", siblings) for name in names]


# -- the rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [NAMES, sorted(NAMES), [name for name in NAMES if name < "run200"]],
    ids=["as told", "sorted", "those of a pattern"],
)
def test_the_first_three_in_order_are_a_walk(walks: Walks, order: list[str]) -> None:
    siblings = entries(order)
    walks.read("/home")
    assert found(walks, order[:3], siblings) == [None, None, "/home"]


def test_hidden_directories_may_be_left_out(walks: Walks) -> None:
    siblings = entries([".cache", ".git", "a", "b", "c", "d"])
    walks.read("/home")
    assert found(walks, ["a", "b", "c"], siblings)[-1] == "/home"


def test_files_between_directories_do_not_hide_a_walk(walks: Walks) -> None:
    siblings = entries(["a", "c", "e"]) | {"b": make_attr(), "d": make_attr(kind=Kind.SYMLINK)}
    walks.read("/home")
    assert found(walks, ["a", "c", "e"], siblings)[-1] == "/home"


def test_threads_of_one_walk_may_be_a_little_out_of_order(walks: Walks) -> None:
    walks.read("/home")
    order = [NAMES[each] for each in (1, 0, 2)]
    assert found(walks, order, entries(NAMES))[-1] == "/home"


@pytest.mark.parametrize(
    "looked_into",
    [
        ["run100", "run200", "run007"],
        ["run100", "run101", "run102", "run103"],
        [NAMES[1], NAMES[2], NAMES[3]],
        [NAMES[0], NAMES[0], NAMES[0], NAMES[0]],
        [NAMES[0], NAMES[1], NAMES[0], NAMES[1]],
        [NAMES[0], NAMES[1], NAMES[100], NAMES[2]],
    ],
)
def test_a_person_who_looks_around_is_no_walk(walks: Walks, looked_into: list[str]) -> None:
    walks.read("/home")
    assert set(found(walks, looked_into, entries(NAMES))) == {None}


def test_who_never_read_the_directory_does_not_walk_it(walks: Walks) -> None:
    """Its entries are known from lookups, which aren't a program's."""
    assert set(found(walks, NAMES[:5], entries(NAMES))) == {None}


def test_without_known_siblings_nothing_is_recognised(walks: Walks) -> None:
    walks.read("/home")
    assert [walks.listed(f"/home/{name}", None) for name in NAMES[:5]] == [None] * 5


def test_a_person_takes_longer_than_a_program(walks: Walks, clock: FakeClock) -> None:
    walks.read("/home")
    for name in NAMES[:6]:
        assert walks.listed(f"/home/{name}", entries(NAMES)) is None
        clock.advance(6)


def test_two_directories_are_two_walks(walks: Walks) -> None:
    siblings = entries(["a", "b", "c"])
    walks.read("/x")
    walks.read("/y")
    assert walks.listed("/x/a", siblings) is None
    assert walks.listed("/x/b", siblings) is None
    assert walks.listed("/y/c", siblings) is None
    assert walks.listed("/x/c", siblings) == "/x"


def test_a_tree_that_was_too_large_is_left_alone_for_a_while(
    walks: Walks, clock: FakeClock
) -> None:
    siblings = entries(NAMES)
    walks.read("/home")
    assert found(walks, NAMES[:3], siblings)[-1] == "/home"
    walks.refused("/home")
    walks.read("/home")
    assert set(found(walks, NAMES[:9], siblings)) == {None}
    clock.advance(601)
    walks.read("/home")
    assert found(walks, NAMES[:3], siblings)[-1] == "/home"


def test_a_recursive_listing_is_sorted_into_its_directories() -> None:
    directory, file = make_attr(kind=Kind.DIRECTORY), make_attr(3)
    tables = by_directory(
        "/top",
        [
            DirEntry("a", directory),
            DirEntry("a/b", directory),
            DirEntry("a/b/f", file),
            DirEntry("empty", directory),
            DirEntry("g", file),
        ],
    )
    shown = {path: [each.name for each in table] for path, table in tables.items()}
    assert shown == {
        "/top": ["a", "empty", "g"],
        "/top/a": ["b"],
        "/top/a/b": ["f"],
        "/top/empty": [],
    }


def test_an_empty_tree_is_one_empty_directory() -> None:
    assert by_directory("/", []) == {"/": []}


# -- on a mount ----------------------------------------------------------------------------------


@pytest.fixture
def home(files: Files, there: Remote, emulator: Emulator) -> Files:
    """Hundreds of directories with a file each; their names are known."""
    for name in NAMES:
        (there.local / name).mkdir()
        (there.local / name / "file").write_text(name)
    files.refresh()
    files.stat("")
    emulator.requests.clear()
    return files


def listings(emulator: Emulator) -> tuple[int, int]:
    """Return how many directories were listed, and how many trees."""
    asked = [each.query for each in emulator.requests.clear() if each.endpoint == "ops/ls"]
    trees = [query for query in asked if "recursive=true" in query.lower()]
    return len(asked) - len(trees), len(trees)


def ls(files: Files, name: str = "") -> list[str]:
    """As ls(1): look the directory up, then read it."""
    files.stat(name)
    return sorted(each for each, _, _ in files.ops.readdir(files.path(name), 0))


@pytest.mark.parametrize("first", [False, True], ids=["at once", "after a look around"])
def test_a_person_in_her_home_lists_what_she_asks_for(
    home: Files, emulator: Emulator, first: bool
) -> None:
    """`ls a; ls b; ls c`, and with an `ls` before."""
    if first:
        ls(home)
    for name in ("run100", "run150", "run200", "run201", "run202"):
        assert ls(home, name) == [".", "..", "file"]
    assert listings(emulator) == (6, 0)


@pytest.mark.parametrize("order", ["as told", "sorted"])
def test_find_lists_the_tree_once(home: Files, emulator: Emulator, order: str) -> None:
    """`find`, `du`, `grep -r` (and `ls -R`, which sorts) look into all, one after the other."""
    told = [name for name, _, _ in home.ops.readdir(home.path(""), 0) if name.startswith("run")]
    assert len(told) == 300
    for name in sorted(told) if order == "sorted" else told:
        assert ls(home, name) == [".", "..", "file"]
        assert home.stat(f"{name}/file")["st_size"] == 6
    assert listings(emulator) == (3, 1)


def test_a_tree_that_takes_too_long_is_walked_directory_by_directory(
    home: Files, emulator: Emulator
) -> None:
    told = [name for name, _, _ in home.ops.readdir(home.path(""), 0) if name.startswith("run")]
    emulator.faults.add("status", "ops/ls", status=408, after=2, count=1)
    for name in told[:10]:
        assert ls(home, name) == [".", "..", "file"]
    alone, trees = listings(emulator)
    assert trees == 1
    assert alone == 11


def test_a_listing_that_was_misread_is_not_believed() -> None:
    directory = make_attr(0, kind=Kind.DIRECTORY)
    misread = [DirEntry("a:b", directory), DirEntry("a\\:b/f", make_attr(1))]
    with pytest.raises(OSError, match="can't be trusted"):
        by_directory("/top", misread)
