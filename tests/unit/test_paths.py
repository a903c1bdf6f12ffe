"""Paths of a cluster, as text."""

from __future__ import annotations

import pytest

from firecrestfs.paths import (
    common_directory,
    directory_of,
    is_below,
    join,
    name_of,
    relative,
    split,
)


@pytest.mark.parametrize("path", ["/a", "/a/b", "/a/b c", "/a/\n"])
def test_split_and_join_undo_each_other(path: str) -> None:
    assert join(*split(path)) == path


def test_the_root_has_no_name() -> None:
    assert split("/") == ("/", "")


@pytest.mark.parametrize(
    ("path", "top", "answer"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/anything", "/", True),
    ],
)
def test_below_means_whole_names(path: str, top: str, answer: bool) -> None:
    assert is_below(path, top) is answer


@pytest.mark.parametrize("path", ["/", "/a", "/a/b"])
def test_both_parts_alone(path: str) -> None:
    assert (directory_of(path), name_of(path)) == split(path)


@pytest.mark.parametrize(("top", "path"), [("/", "/a/b"), ("/a", "/a/b"), ("/a/b", "/a/b/c d/e")])
def test_what_is_relative_leads_back(top: str, path: str) -> None:
    assert not relative(path, top).startswith("/")
    assert f"{top.rstrip('/')}/{relative(path, top)}" == path


@pytest.mark.parametrize(
    ("paths", "common"),
    [
        (["/a/b/c"], "/a/b"),
        (["/a/b/c", "/a/b/d"], "/a/b"),
        (["/a/b/c", "/a/bc/d"], "/a"),
        (["/a/b", "/a/b/c"], "/a"),
        (["/a", "/b/c"], "/"),
    ],
)
def test_the_common_directory_is_above_all(paths: list[str], common: str) -> None:
    assert common_directory(paths) == common
