"""Local state over remote listings: which path has which copy, what is gone, which times show."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.content import ContentCache
from firecrestfs.vfs.overlay import Overlay, differs

from .tools import SECOND, make_attr, together


@pytest.fixture
def content(tmp_path: Path) -> ContentCache:
    return ContentCache(tmp_path / "cache", tmp_path / "state", 1 << 20)


@pytest.fixture
def overlay() -> Overlay:
    return Overlay()


def clean(content: ContentCache) -> CachedFile:
    return content.new(make_attr(1))


def dirty(content: ContentCache) -> CachedFile:
    file = content.new(make_attr())
    file.create(0o644)
    return file


def names(overlay: Overlay, directory: str) -> list[str]:
    return [each.name for each in overlay.local_entries(directory)]


def test_what_differs_shows_in_its_directory(overlay: Overlay, content: ContentCache) -> None:
    overlay.attach("/d/new", dirty(content))
    overlay.attach("/d/known", clean(content))
    overlay.attach("/top", dirty(content))
    assert names(overlay, "/d") == ["new"]
    assert names(overlay, "/") == ["top"]
    assert names(overlay, "/elsewhere") == []


def test_a_new_file_differs_until_it_has_landed(content: ContentCache) -> None:
    file = dirty(content)
    snapshot = file.begin_store()
    assert snapshot is not None
    assert differs(file)
    file.stored(snapshot, make_attr())
    assert not differs(file)


def test_one_copy_for_all_who_open(overlay: Overlay, content: ContentCache) -> None:
    found = together(8, lambda _: overlay.attach_or_get("/x", lambda: clean(content)))
    assert len({id(file) for file in found}) == 1
    assert overlay.path_of(found[0].ident) == "/x"


def test_a_move_takes_the_copy_along(overlay: Overlay, content: ContentCache) -> None:
    file, replaced = dirty(content), dirty(content)
    overlay.attach("/d/old", file)
    overlay.attach("/e/new", replaced)
    assert overlay.move("/d/old", "/e/new") is replaced
    assert overlay.file("/e/new") is file
    assert overlay.file("/d/old") is None
    assert overlay.path_of(file.ident) == "/e/new"
    assert overlay.path_of(replaced.ident) == ""
    assert (names(overlay, "/d"), names(overlay, "/e")) == ([], ["new"])


def test_only_the_right_copy_is_detached(overlay: Overlay, content: ContentCache) -> None:
    file = clean(content)
    overlay.attach("/x", file)
    assert overlay.detach("/x", clean(content)) is None
    assert overlay.file("/x") is file
    assert overlay.detach("/x", file) is file


def test_below_means_whole_names(overlay: Overlay, content: ContentCache) -> None:
    for path in ("/d", "/d/x", "/d/y/z", "/dx"):
        overlay.attach(path, clean(content))
    assert sorted(path for path, _ in overlay.files_below("/d")) == ["/d", "/d/x", "/d/y/z"]
    assert len(overlay.files_below("/")) == 4


# -- unlinked while open -------------------------------------------------------------------------


def test_an_open_file_that_is_unlinked_is_gone_here_and_still_there(
    overlay: Overlay, content: ContentCache
) -> None:
    file = clean(content)
    overlay.attach("/d/x", file)
    assert overlay.orphan("/d/x", "/d/.fuse_hidden1") is file
    assert overlay.is_gone("/d/x")
    assert overlay.file("/d/x") is None
    assert overlay.remote_path(file.ident) == "/d/x"
    assert overlay.end_orphan("/d/.fuse_hidden1") == (file, "/d/x")
    # It is the cluster's until the cluster has removed it: until then nobody shall see it.
    assert overlay.gone("/d/x") == file.base
    assert overlay.is_gone("/d/x")


def test_what_never_was_there_is_not_gone_there(overlay: Overlay, content: ContentCache) -> None:
    file = dirty(content)
    overlay.attach("/x", file)
    overlay.orphan("/x", "/.fuse_hidden1")
    assert not overlay.is_gone("/x")
    assert overlay.end_orphan("/.fuse_hidden1") == (file, "/x")


def test_a_new_file_of_that_name_goes_over_the_one_that_is_gone(
    overlay: Overlay, content: ContentCache
) -> None:
    old = clean(content)
    overlay.attach("/x", old)
    overlay.orphan("/x", "/.fuse_hidden1")
    assert overlay.attach("/x", dirty(content)) == old.base
    assert not overlay.is_gone("/x")
    assert overlay.end_orphan("/.fuse_hidden1") == (old, "/x")


def test_what_is_gone_is_taken_once(overlay: Overlay, content: ContentCache) -> None:
    for path in ("/d/x", "/d/e/y", "/dz"):
        overlay.attach(path, clean(content))
        overlay.orphan(path, f"/.fuse_hidden-{path.replace('/', '-')}")
    assert sorted(overlay.gone_below("/d")) == ["/d/e/y", "/d/x"]
    assert overlay.take_gone("/dz") is not None
    assert overlay.take_gone("/dz") is None


# -- times ---------------------------------------------------------------------------------------


def test_times_show_while_the_remote_file_is_the_same(overlay: Overlay) -> None:
    attr = make_attr(5)
    overlay.remember_times("/x", attr, None, 7 * SECOND)
    assert overlay.with_times("/x", attr).mtime_ns == 7 * SECOND
    assert overlay.with_times("/x", make_attr(6)) == make_attr(6)
    changed = make_attr(5, mtime_ns=attr.mtime_ns + SECOND)
    assert overlay.with_times("/x", changed) == changed


def test_times_set_one_by_one_add_up(overlay: Overlay) -> None:
    attr = make_attr(5)
    overlay.remember_times("/x", attr, 3 * SECOND, None)
    overlay.remember_times("/x", attr, None, 7 * SECOND)
    shown = overlay.with_times("/x", attr)
    assert (shown.atime_ns, shown.mtime_ns) == (3 * SECOND, 7 * SECOND)


def test_times_of_an_older_version_are_not_given_to_a_newer(overlay: Overlay) -> None:
    overlay.remember_times("/x", make_attr(5), None, 7 * SECOND)
    newer = make_attr(6, mtime_ns=1_800_000_000 * SECOND)
    overlay.remember_times("/x", newer, 3 * SECOND, None)
    shown = overlay.with_times("/x", newer)
    assert (shown.atime_ns, shown.mtime_ns) == (3 * SECOND, newer.mtime_ns)


def test_a_rename_takes_the_times_along(overlay: Overlay) -> None:
    """`touch -d yesterday f; mv f g`: a rename changes no mtime."""
    attr = make_attr(5)
    overlay.remember_times("/f", attr, None, 7 * SECOND)
    overlay.move("/f", "/g")
    assert overlay.with_times("/g", attr).mtime_ns == 7 * SECOND
    assert overlay.with_times("/f", attr) == attr


# -- many threads --------------------------------------------------------------------------------


def test_copies_and_paths_agree_whatever_threads_do(
    overlay: Overlay, content: ContentCache
) -> None:
    paths = [f"/{directory}/{name}" for directory in "ab" for name in "xyz"]

    def work(number: int) -> None:
        dice = random.Random(number)
        for _ in range(300):
            path, other = dice.sample(paths, 2)
            match dice.randrange(4):
                case 0:
                    overlay.attach(path, dirty(content))
                case 1:
                    overlay.detach(path)
                case 2:
                    overlay.move(path, other)
                case 3:
                    overlay.local_entries(path[:2])

    assert together(6, work) == [None] * 6
    for path in paths:
        file = overlay.file(path)
        assert file is None or overlay.path_of(file.ident) == path
    shown = sorted(f"/{where}/{name}" for where in "ab" for name in names(overlay, f"/{where}"))
    assert shown == sorted(path for path, _ in overlay.files_below("/"))
