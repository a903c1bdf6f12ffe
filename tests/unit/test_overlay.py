"""The overlay: what is shown where, what the cluster has where, and what waits for what."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from firecrestfs.cache.content import ContentCache
from firecrestfs.model import Attr, Kind
from firecrestfs.vfs.entry import Change, Entry
from firecrestfs.vfs.overlay import Overlay

from .tools import make_attr, together


@pytest.fixture
def content(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 20)


@pytest.fixture
def overlay() -> Overlay:
    return Overlay()


class Tree:
    """Entries as changes on a mount leave them."""

    def __init__(self, overlay: Overlay, content: ContentCache) -> None:
        self.overlay = overlay
        self._content = content

    def directory(self, path: str, origin: str | None = None) -> Entry:
        """Add a directory; *origin* "" for a new one, None for where it is shown."""
        origin = path if origin is None else origin
        attr = make_attr(kind=Kind.DIRECTORY, mode=0o755)
        entry = Entry(f"d{path}", Kind.DIRECTORY, path, origin, shown=attr)
        entry.remote = attr if origin else None
        self.overlay.add(entry)
        return entry

    def file(self, path: str, origin: str | None = None) -> Entry:
        """Add a clean file of the cluster, or, without *origin*, a new one."""
        origin = path if origin is None else origin
        file = self._content.new(make_attr(1 if origin else 0))
        if not origin:
            file.create(0o644)
        entry = Entry(file.ident, Kind.FILE, path, origin, file)
        self.overlay.add(entry)
        return entry

    def unlinked(self, origin: str) -> Entry:
        entry = self.file(origin)
        self.overlay.unlink(entry)
        return entry


@pytest.fixture
def tree(overlay: Overlay, content: ContentCache) -> Tree:
    return Tree(overlay, content)


def names(overlay: Overlay, directory: str) -> list[str]:
    return [each.name for each in overlay.local_entries(directory)]


# -- what is to be told --------------------------------------------------------------------------


def test_what_differs_shows_in_its_directory(overlay: Overlay, tree: Tree) -> None:
    tree.file("/d/new", "")
    tree.file("/d/known")
    tree.file("/d/renamed", "/e/old")
    tree.directory("/top", "")
    assert names(overlay, "/d") == ["new", "renamed"]
    assert names(overlay, "/") == ["top"]
    assert names(overlay, "/e") == names(overlay, "/elsewhere") == []


def test_changes_come_in_the_order_in_which_they_can_be_told(overlay: Overlay, tree: Tree) -> None:
    assert overlay.changes(tree.file("/known")) == []
    assert overlay.changes(tree.file("/new", "")) == [Change.STORE]
    assert overlay.changes(tree.directory("/d", "")) == [Change.MAKE]
    assert overlay.changes(tree.unlinked("/gone")) == [Change.REMOVE]
    both = tree.file("/to", "/from")
    assert both.file is not None
    both.file.fill(b"x", make_attr(1))
    both.file.write(b"y", 0)
    assert overlay.changes(both) == [Change.MOVE, Change.STORE]


def test_a_mode_alone_is_set_and_with_bytes_is_part_of_their_store(
    overlay: Overlay, tree: Tree
) -> None:
    entry = tree.file("/f")
    assert entry.file is not None
    entry.file.set_mode(0o600)
    assert overlay.changes(entry) == [Change.SET]
    entry.file.fill(b"x", make_attr(1))
    entry.file.write(b"y", 0)
    assert overlay.changes(entry) == [Change.STORE]
    directory = tree.directory("/d")
    directory.wanted_mode = 0o700
    assert overlay.changes(directory) == [Change.SET]
    directory.remote = None
    overlay.settle(directory, "")
    assert overlay.changes(directory) == [Change.MAKE]


def test_a_new_file_differs_until_it_has_landed(overlay: Overlay, tree: Tree) -> None:
    entry = tree.file("/f", "")
    assert entry.file is not None
    snapshot = entry.file.begin_store(1 << 30)
    assert snapshot is not None
    assert overlay.differs(entry)
    overlay.settle(entry, "/f")
    entry.file.stored(snapshot, make_attr())
    assert not overlay.differs(entry)


def test_what_was_never_stored_needs_no_removal_what_may_have_been_does(
    overlay: Overlay, tree: Tree
) -> None:
    new, tried = tree.file("/f", ""), tree.file("/g", "")
    tried.attempted = "/g"
    for each in (new, tried):
        overlay.unlink(each)
    assert overlay.changes(new) == []
    assert overlay.changes(tried) == [Change.REMOVE]


def test_undone_is_nothing_to_tell(overlay: Overlay, tree: Tree) -> None:
    entry = tree.file("/a")
    overlay.move(entry, "/b")
    assert overlay.differs(entry)
    overlay.move(entry, "/a")
    assert not overlay.differs(entry)
    assert overlay.hidden_names("/") == set()


def test_what_was_forgotten_a_moment_ago_is_renamed_all_the_same(
    overlay: Overlay, tree: Tree
) -> None:
    """It had just landed, and needed no remembering, when somebody went to rename it."""
    entry = tree.directory("/a")
    overlay.forget(entry)
    assert overlay.move(entry, "/b") == [entry]
    assert overlay.changes(entry) == [Change.MOVE]
    assert overlay.locate("/b") == "/a"


def test_one_entry_for_all_who_ask(overlay: Overlay, tree: Tree, content: ContentCache) -> None:
    def make() -> Entry:
        file = content.new(make_attr(1))
        return Entry(file.ident, Kind.FILE, "/x", "/x", file)

    found = together(8, lambda _: overlay.add_or_get("/x", make))
    assert len({id(entry) for entry in found}) == 1
    assert overlay.all() == [found[0]]


# -- where the cluster has it --------------------------------------------------------------------


def test_without_entries_a_path_is_its_own_place(overlay: Overlay) -> None:
    assert overlay.locate("/") == "/"
    assert overlay.locate("/a/b") == "/a/b"


def test_below_a_renamed_directory_the_old_path_is_asked(overlay: Overlay, tree: Tree) -> None:
    entry = tree.directory("/a")
    overlay.move(entry, "/x/b")
    assert overlay.locate("/x/b") == "/a"
    assert overlay.locate("/x/b/c/d") == "/a/c/d"
    assert overlay.locate("/a") is None
    assert overlay.locate("/a/c") is None
    assert overlay.locate("/ab") == "/ab"
    assert overlay.locate("/") == "/"


def test_renames_within_a_renamed_directory(overlay: Overlay, tree: Tree) -> None:
    overlay.move(tree.directory("/a"), "/b")
    overlay.move(tree.directory("/b/in", "/a/in"), "/b/out")
    overlay.move(tree.file("/b/out/f", "/a/in/f"), "/top")
    assert overlay.locate("/b/out/x") == "/a/in/x"
    assert overlay.locate("/b/in/x") is None
    assert overlay.locate("/b/out/f") is None
    assert overlay.locate("/top") == "/a/in/f"
    assert overlay.hidden_names("/a/in") == {"f"}
    assert overlay.hidden_names("/a") == {"in"}
    assert overlay.hidden_names("/") == {"a"}


def test_a_new_directory_under_an_old_name_holds_nothing_of_the_cluster(
    overlay: Overlay, tree: Tree
) -> None:
    overlay.move(tree.directory("/a"), "/b")
    tree.directory("/a", "")
    assert overlay.locate("/a") is None
    assert overlay.locate("/a/f") is None
    assert overlay.locate("/b/f") == "/a/f"


def test_a_directory_that_was_removed_and_made_again_is_empty(overlay: Overlay, tree: Tree) -> None:
    overlay.unlink(tree.directory("/d"))
    assert overlay.locate("/d/f") is None
    tree.directory("/d2", "")
    assert overlay.locate("/d2/f") is None


def test_a_landed_rename_takes_all_below_it_along(overlay: Overlay, tree: Tree) -> None:
    top, inner = tree.directory("/a"), tree.directory("/a/in")
    gone, file = tree.unlinked("/a/in/gone"), tree.file("/a/in/f")
    beside = tree.file("/ab")
    overlay.move(top, "/b")
    assert set(overlay.settle(top, "/b")) == {top, inner, gone, file}
    assert (inner.origin, gone.origin, file.origin) == ("/b/in", "/b/in/gone", "/b/in/f")
    assert beside.origin == "/ab"
    assert overlay.locate("/a/x") == "/a/x"
    assert overlay.locate("/b/in/x") == "/b/in/x"
    assert overlay.hidden_names("/b/in") == {"gone"}
    assert not overlay.differs(file)
    assert overlay.by_origin("/a") is None
    assert overlay.by_origin("/b/in") is inner


def test_hidden_names_are_what_is_gone_from_there(overlay: Overlay, tree: Tree) -> None:
    tree.unlinked("/d/gone")
    tree.file("/d/known")
    tree.file("/e/new", "/d/old")
    tree.file("/d/here", "")
    assert overlay.hidden_names("/d") == {"gone", "old"}
    assert overlay.hidden_names("/e") == set()


def test_whole_names_are_compared(overlay: Overlay, tree: Tree) -> None:
    for path in ("/d/x", "/d/y/z", "/dx"):
        tree.file(path)
    top = tree.directory("/d")
    gone, beside = tree.unlinked("/d/gone"), tree.unlinked("/dgone")
    assert {each.path for each in overlay.below("/d") if each is not gone} == {
        "/d",
        "/d/x",
        "/d/y/z",
    }
    assert gone in overlay.below("/d")
    assert beside not in overlay.below("/d")
    assert len(overlay.below("/")) == 6
    overlay.move(top, "/e")
    assert overlay.entry("/dx") is not None
    assert overlay.entry("/e/y/z") is not None


def test_what_was_unlinked_in_a_renamed_directory_is_below_its_new_name(
    overlay: Overlay, tree: Tree
) -> None:
    """`mv a b; rm b/f; firecrestfs sync b` waits for the removal, too."""
    overlay.move(tree.directory("/a"), "/b")
    gone = tree.file("/b/f", "/a/f")
    overlay.unlink(gone)
    assert gone in overlay.below("/b")
    assert gone not in overlay.below("/a")


def test_what_a_store_may_have_left_is_below_its_directory(overlay: Overlay, tree: Tree) -> None:
    """A file whose store failed was unlinked: `sync` waits until what came of it is removed."""
    tried = tree.file("/d/f", "")
    tried.attempted = "/d/f"
    overlay.unlink(tried)
    assert overlay.below("/d") == [tried]
    assert overlay.below("/e") == []
    assert overlay.topmost_removed(tried) is tried


# -- moving --------------------------------------------------------------------------------------


def test_a_move_takes_the_entry_along(overlay: Overlay, tree: Tree) -> None:
    entry = tree.file("/d/old", "")
    assert overlay.move(entry, "/e/new") == [entry]
    assert overlay.entry("/e/new") is entry
    assert overlay.entry("/d/old") is None
    assert overlay.file("/e/new") is entry.file
    assert entry.file is not None
    assert overlay.of_file(entry.file) is entry
    assert (names(overlay, "/d"), names(overlay, "/e")) == ([], ["new"])


def test_two_that_take_each_others_names(overlay: Overlay, tree: Tree) -> None:
    one, two = tree.file("/a"), tree.file("/b")
    overlay.move(one, "/t")
    overlay.move(two, "/a")
    overlay.move(one, "/b")
    assert (overlay.target(one), overlay.target(two)) == ("/b", "/a")
    assert overlay.hidden_names("/") == {"a", "b"}
    # Neither waits for the other: whoever goes first steps aside.
    assert overlay.blockers(one) == overlay.blockers(two) == []
    overlay.settle(one, "/.aside")
    assert overlay.blockers(two) == []
    overlay.settle(two, "/a")
    assert not overlay.differs(two)
    assert overlay.changes(one) == [Change.MOVE]
    assert overlay.blockers(one) == []
    overlay.settle(one, "/b")
    assert not overlay.differs(one)


def test_three_in_a_ring(overlay: Overlay, tree: Tree) -> None:
    ring = [tree.file(f"/{name}") for name in "abc"]
    overlay.move(ring[0], "/t")
    overlay.move(ring[2], "/a")
    overlay.move(ring[1], "/c")
    overlay.move(ring[0], "/b")
    assert [overlay.blockers(each) for each in ring] == [[], [], []]


def test_a_chain_goes_from_its_free_end(overlay: Overlay, tree: Tree) -> None:
    one, two, three = (tree.file(f"/{name}") for name in "abc")
    overlay.move(three, "/d")
    overlay.move(two, "/c")
    overlay.move(one, "/b")
    assert overlay.blockers(one) == [two]
    assert overlay.blockers(two) == [three]
    assert overlay.blockers(three) == []
    overlay.settle(three, "/d")
    assert overlay.blockers(two) == []


def test_two_directories_that_take_each_others_names(overlay: Overlay, tree: Tree) -> None:
    one, two = tree.directory("/a"), tree.directory("/b")
    inside = tree.file("/a/f", "/a/f")
    overlay.move(one, "/t")
    overlay.move(two, "/a")
    overlay.move(one, "/b")
    assert overlay.locate("/a/x") == "/b/x"
    assert overlay.locate("/b/x") == "/a/x"
    assert overlay.entry("/b/f") is inside
    assert not overlay.differs(inside)
    assert overlay.blockers(one) == overlay.blockers(two) == []


# -- what waits for what -------------------------------------------------------------------------


def test_what_is_in_a_new_directory_waits_for_it(overlay: Overlay, tree: Tree) -> None:
    top = tree.directory("/new", "")
    inner = tree.directory("/new/in", "")
    entry = tree.file("/new/in/f", "")
    assert overlay.blockers(entry) == [inner, top]
    assert overlay.target(entry) is None
    assert overlay.new_parent(entry) is inner
    assert overlay.topmost_new(entry) is top
    overlay.settle(top, "/new")
    assert overlay.blockers(entry) == [inner]
    assert overlay.target(inner) == "/new/in"


def test_a_file_in_a_renamed_directory_goes_where_that_is(overlay: Overlay, tree: Tree) -> None:
    overlay.move(tree.directory("/a"), "/b")
    entry = tree.file("/b/f", "")
    assert overlay.target(entry) == "/a/f"
    assert overlay.blockers(entry) == []


def test_nobody_goes_into_a_directory_that_is_on_its_way(overlay: Overlay, tree: Tree) -> None:
    top = tree.directory("/a")
    inside = tree.file("/a/f", "")
    overlay.move(top, "/b")
    top.busy = True
    assert overlay.blockers(inside) == [top]
    top.busy, inside.busy = False, True
    assert overlay.blockers(top) == [inside]


def test_a_name_that_is_taken_is_freed_first(overlay: Overlay, tree: Tree) -> None:
    gone = tree.unlinked("/f")
    new = tree.file("/f", "")
    assert overlay.blockers(new) == [gone]
    assert overlay.unlinked_at(new) is gone
    assert overlay.shown_at_origin(gone) is new


def test_who_takes_a_place_does_not_wait_for_it(overlay: Overlay, tree: Tree) -> None:
    gone = tree.unlinked("/new")
    entry = tree.file("/new", "/old")
    assert overlay.blockers(entry) == [gone]
    overlay.replace(entry, gone)
    assert overlay.blockers(entry) == []
    assert overlay.blockers(gone) == [entry]
    assert overlay.release(entry) is gone
    assert overlay.release(entry) is None
    assert overlay.blockers(gone) == []


def test_forgetting_releases_what_was_to_be_replaced(overlay: Overlay, tree: Tree) -> None:
    gone = tree.unlinked("/new")
    entry = tree.file("/new", "/old")
    overlay.replace(entry, gone)
    overlay.forget(entry)
    assert gone.replaced_by is None
    assert overlay.blockers(gone) == []


def test_forgetting_what_was_to_be_replaced_forgets_it_on_both_sides(
    overlay: Overlay, tree: Tree
) -> None:
    """Else a later rename would be told to go over what is no more known."""
    gone = tree.unlinked("/new")
    entry = tree.file("/new", "/old")
    overlay.replace(entry, gone)
    overlay.forget(gone)
    assert entry.replacing is None


def test_a_directory_is_removed_after_what_was_renamed_out_of_it(
    overlay: Overlay, tree: Tree
) -> None:
    top = tree.directory("/d")
    saved = tree.file("/saved", "/d/f")
    stored = tree.unlinked("/d/g")
    stored.busy = True
    overlay.unlink(top)
    assert set(overlay.blockers(top)) == {saved, stored}
    stored.busy = False
    overlay.settle(saved, "/saved")
    # What was unlinked in it goes before, or along.
    assert overlay.blockers(top) == [stored]
    overlay.forget(stored)
    assert overlay.blockers(top) == []
    assert overlay.topmost_removed(stored) is top


def test_the_uppermost_of_what_was_removed(overlay: Overlay, tree: Tree) -> None:
    chain = [tree.directory(path) for path in ("/a", "/a/b", "/a/b/c")]
    kept = tree.unlinked("/a/f")
    file = tree.unlinked("/a/b/c/f")
    for each in chain[1:]:
        overlay.unlink(each)
    assert overlay.topmost_removed(file) is chain[1]
    assert overlay.topmost_removed(kept) is kept


def test_modes_above_a_path_are_found(overlay: Overlay, tree: Tree) -> None:
    top, new = tree.directory("/a"), tree.directory("/a/new", "")
    top.wanted_mode = new.wanted_mode = 0o700
    entry = tree.file("/a/f")
    assert entry.file is not None
    entry.file.set_mode(0o600)
    assert overlay.ungiven_modes("/a/f") == [entry, top]
    assert overlay.ungiven_modes("/a/new/x") == [top]
    assert overlay.ungiven_modes("/b") == []


# -- unlinked while open -------------------------------------------------------------------------


def test_an_open_file_that_is_unlinked_is_gone_here_and_still_there(
    overlay: Overlay, tree: Tree
) -> None:
    entry = tree.file("/d/x")
    overlay.orphan(entry, "/d/.fuse_hidden1")
    assert overlay.hidden_names("/d") == {"x"}
    assert overlay.locate("/d/x") is None
    assert overlay.entry("/d/x") is None
    assert overlay.entry("/d/.fuse_hidden1") is entry
    assert overlay.is_orphan("/d/.fuse_hidden1")
    assert overlay.is_orphaned(entry)
    assert entry.held
    assert names(overlay, "/d") == []
    # It is the cluster's until the cluster has removed it: until then nobody shall see it.
    assert overlay.end_orphan("/d/.fuse_hidden1") is entry
    assert overlay.hidden_names("/d") == {"x"}
    assert not entry.held
    assert overlay.changes(entry) == [Change.REMOVE]
    assert overlay.end_orphan("/d/.fuse_hidden1") is None


def test_what_never_was_there_is_not_gone_there(overlay: Overlay, tree: Tree) -> None:
    entry = tree.file("/x", "")
    overlay.orphan(entry, "/.fuse_hidden1")
    assert not entry.held
    assert overlay.hidden_names("/") == set()
    assert overlay.end_orphan("/.fuse_hidden1") is entry
    assert overlay.changes(entry) == []


def test_what_is_at_a_files_path_is_it_and_what_was_unlinked_there(
    overlay: Overlay, tree: Tree
) -> None:
    removed, other = tree.file("/d/x"), tree.file("/d/xy")
    overlay.unlink(removed)
    overlay.unlink(other)
    unsure = tree.file("/d/x", "")
    overlay.attempt(unsure, "/d/x")
    overlay.unlink(unsure)
    new = tree.file("/d/x", "")
    below = overlay.below("/d/x")
    assert len(below) == 3 and {id(each) for each in below} == {id(removed), id(unsure), id(new)}
    assert set(map(id, below)) < set(map(id, overlay.below("/d")))
    overlay.unlink(new)
    assert {id(each) for each in overlay.below("/d/x")} == {id(removed), id(unsure)}


def test_a_directory_waits_for_the_open_files_in_it(overlay: Overlay, tree: Tree) -> None:
    top = tree.directory("/d")
    entry = tree.file("/d/x")
    overlay.orphan(entry, "/d/.fuse_hidden1")
    overlay.unlink(top)
    assert overlay.blockers(top) == [entry]
    assert overlay.release_orphans("/d") == [entry]
    assert overlay.release_orphans("/d") == []
    # Not held any more, it may go along.
    assert overlay.blockers(top) == [entry] and not entry.held
    assert overlay.entry("/d/.fuse_hidden1") is None


def test_hidden_names_move_with_their_directory(overlay: Overlay, tree: Tree) -> None:
    top, entry = tree.directory("/d"), tree.file("/d/x")
    overlay.orphan(entry, "/d/.fuse_hidden1")
    overlay.move(top, "/e")
    assert overlay.end_orphan("/e/.fuse_hidden1") is entry


def test_a_forgotten_orphan_leaves_no_name(overlay: Overlay, tree: Tree) -> None:
    entry = tree.file("/x")
    overlay.orphan(entry, "/.fuse_hidden1")
    overlay.forget(entry)
    assert overlay.entry("/.fuse_hidden1") is None
    assert not overlay.is_orphaned(entry)
    assert overlay.locate("/x") == "/x"


# -- copies --------------------------------------------------------------------------------------


def test_another_copy_gives_another_ident(
    overlay: Overlay, tree: Tree, content: ContentCache
) -> None:
    entry = tree.file("/x")
    old, new = entry.file, content.new(make_attr(2))
    assert old is not None
    overlay.give_copy(entry, new)
    assert overlay.of_file(old) is None
    assert overlay.by_ident(old.ident) is None
    assert overlay.of_file(new) is overlay.by_ident(new.ident) is entry


def test_what_landed_shows_the_mode_that_it_got(tree: Tree) -> None:
    entry = tree.directory("/d", "")
    attr: Attr = make_attr(kind=Kind.DIRECTORY, mode=0o2755, nlink=7)
    entry.landed(attr)
    assert (entry.attr.mode, entry.attr.nlink) == (0o2755, 7)
    assert entry.base is attr


# -- many threads --------------------------------------------------------------------------------


def test_entries_paths_and_origins_agree_whatever_threads_do(overlay: Overlay, tree: Tree) -> None:
    paths = [f"/{directory}/{name}" for directory in "ab" for name in "xyz"]

    def step(dice: random.Random) -> None:
        path, other = dice.sample(paths, 2)
        entry = overlay.entry(path)
        if entry is None:
            entry = tree.file(path, overlay.locate(path) or "")
            if dice.randrange(2):
                return
        match dice.randrange(4):
            case 0:
                overlay.unlink(entry)
            case 1:
                if (there := overlay.entry(other)) is not None:
                    overlay.unlink(there)
                overlay.move(entry, other)
            case 2:
                target = overlay.target(entry)
                if target is not None and overlay.by_origin(target) in (None, entry):
                    overlay.settle(entry, target)
            case 3:
                overlay.forget(entry)

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(300):
            with overlay.lock:
                step(dice)
            overlay.local_entries("/a")
            overlay.hidden_names("/b")
            overlay.locate(dice.choice(paths))

    assert together(6, work) == [None] * 6
    agree(overlay, paths)


def agree(overlay: Overlay, paths: list[str]) -> None:
    """What is looked up in either direction is the same, and nothing has two places."""
    everything = overlay.all()
    for path in paths:
        entry = overlay.entry(path)
        assert entry is None or (entry.path == path and entry in everything)
        there = overlay.by_origin(path)
        assert there is None or (there.origin == path and there in everything)
    shown = [each for each in everything if each.path]
    assert sorted(each.path for each in shown) == sorted(
        path for path in paths if overlay.entry(path)
    )
    for where in "ab":
        gone = {
            each.origin.rpartition("/")[2]
            for each in everything
            if each.origin.startswith(f"/{where}/") and each.path != each.origin
        }
        assert overlay.hidden_names(f"/{where}") == gone
        local = {f"/{where}/{name}" for name in names(overlay, f"/{where}")}
        assert local == {
            each.path
            for each in shown
            if each.path.startswith(f"/{where}/") and overlay.differs(each)
        }
