"""Symlink texts: whatever the cluster has, a link in the mount never leads out of its system."""

from __future__ import annotations

import os
import posixpath
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from firecrestfs.vfs.links import remote_target, shown_target

PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "...", "ü", "..a", " "])
TARGETS = st.builds(
    lambda lead, parts: lead + "/".join(parts),
    st.sampled_from(["", "/", "//", "///", "../"]),
    st.lists(PARTS, min_size=1, max_size=8),
).filter(bool)
NAMES = st.sampled_from(["a", "b", "c"])
DIRECTORIES = st.lists(NAMES, max_size=4).map(lambda parts: "/" + "/".join(parts))


@pytest.mark.parametrize(
    ("path", "target", "shown"),
    [
        ("/users/me/link", "/scratch/me/data", "../../scratch/me/data"),
        ("/link", "/", "."),
        ("/link", "/users", "users"),
        ("/a/b/link", "sibling", "sibling"),
        ("/a/b/link", "../c", "../c"),
        ("/a/b/link", "../../c", "../../c"),
        ("/a/b/link", "../../../c", "../../c"),
        ("/a/link", "//b//c/", "../b/c"),
        ("/a/link", "gone/with spaces", "gone/with spaces"),
    ],
)
def test_examples(path: str, target: str, shown: str) -> None:
    assert shown_target(path, target) == shown


@given(DIRECTORIES, NAMES, TARGETS)
@example("/", "a", "../../etc/passwd")
@example("/a", "b", "b/../../../etc")
def test_read_as_text_no_link_leads_above_the_root(directory: str, name: str, target: str) -> None:
    shown = shown_target(posixpath.join(directory, name), target)
    assert shown
    assert not shown.startswith("/")
    level = len([part for part in directory.split("/") if part])
    for part in shown.split("/"):
        level += {"..": -1, ".": 0, "": 0}.get(part, 1)
        assert level >= 0, shown


@given(DIRECTORIES, NAMES, TARGETS)
def test_without_other_links_it_leads_where_the_cluster_would(
    directory: str, name: str, target: str
) -> None:
    path = posixpath.join(directory, name)
    there = posixpath.normpath("/" + posixpath.join(directory, target).lstrip("/"))
    shown = shown_target(path, target)
    here = posixpath.normpath("/" + posixpath.join(directory, shown).lstrip("/"))
    assert here == there


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(DIRECTORIES, NAMES, TARGETS), min_size=1, max_size=6), DIRECTORIES)
@example([("/", "a", "/"), ("/b", "c", "../a/../../x")], "/b/c")
@example([("/b", "a", ".."), ("/b", "c", "a/../../x")], "/b/c")
@example([("/b", "a", "a//a")], "/b/a")
def test_followed_by_the_kernel_no_link_leads_out(
    links: list[tuple[str, str, str]], path: str
) -> None:
    """Links through links: `..` after a name goes up from wherever that name has led."""
    with tempfile.TemporaryDirectory() as directory:
        outside = Path(os.path.realpath(directory))
        top = outside / "mount" / "system"
        top.mkdir(parents=True)
        made = []
        for where, name, target in links:
            # `realpath` takes the rest of a looping link for absolute where it begins with "//".
            text = re.sub("/+", "/", shown_target(posixpath.join(where, name), target))
            place = Path(f"{top}{where}")
            try:
                place.mkdir(parents=True, exist_ok=True)
                if Path(os.path.realpath(place)) != place:
                    continue  # a link is on the way: this name has no such path on the cluster
                (place / name).symlink_to(text)
            except OSError:
                continue
            made.append(place / name)
        for each in [*made, Path(f"{top}{path}")]:
            reached = os.path.realpath(each)
            assert reached == str(top) or reached.startswith(f"{top}/"), (links, reached)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("/mnt/hpc/daint/users/me", "/users/me"),
        ("/mnt/hpc/daint", "/"),
        ("/mnt/hpc/daint2/x", "/mnt/hpc/daint2/x"),
        ("/mnt/hpc/eiger/x", "/mnt/hpc/eiger/x"),
        ("relative/x", "relative/x"),
        ("/usr/bin", "/usr/bin"),
    ],
)
def test_links_made_here_name_the_cluster_s_paths(target: str, text: str) -> None:
    assert remote_target("/mnt/hpc", "daint", target) == text
    assert remote_target("/mnt/hpc/", "daint", target) == text


@given(DIRECTORIES, NAMES, DIRECTORIES)
def test_a_link_made_with_a_path_in_the_mount_shows_that_place(
    directory: str, name: str, place: str
) -> None:
    text = remote_target("/mnt", "sys", f"/mnt/sys{place}")
    shown = shown_target(posixpath.join(directory, name), text)
    assert posixpath.normpath(posixpath.join(directory, shown)) == posixpath.normpath(place)
