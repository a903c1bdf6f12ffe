"""What is being made on the cluster is renamed here; then the mount dies before that is proven."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness import wait_for
from .site import Nursery, Site
from .told import Tree
from .writer import digest

pytestmark = pytest.mark.fuse


@pytest.fixture
def site(nursery: Nursery, tmp_path: Path) -> Iterator[Site]:
    """A site whose mount waits for seconds to hear of what it has made."""
    site = Site(nursery, tmp_path / "site", tmp_path.name)
    yield site
    nursery.server.faults([])
    site.end()


def make_file(path: Path) -> None:
    path.write_bytes(b"precious")


def make_empty_file(path: Path) -> None:
    path.touch()


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    path.symlink_to("nowhere")


MADE = {make_file: digest(b"precious"), make_empty_file: digest(b""), make_directory: "dir"}


@pytest.mark.parametrize("anew", [False, True], ids=["renamed", "made anew"])
@pytest.mark.parametrize("make", [*MADE, make_link], ids=lambda each: each.__name__)
def test_nothing_is_left_under_the_old_name(
    site: Site, make: Callable[[Path], None], anew: bool
) -> None:
    server = site.nursery.server
    site.mount()
    os.listdir(site.top)
    looks = ("ops/stat", "ops/ls")
    server.faults([{"kind": "stall", "match": each, "seconds": 4, "count": -1} for each in looks])
    make(site.top / "a")
    assert wait_for(lambda: os.path.lexists(site.there / "a"), 20)
    os.rename(site.top / "a", site.top / "b")
    if anew:
        (site.top / "a").write_bytes(b"another")
    site.kill()
    server.faults([])
    site.mount()
    assert sorted(os.listdir(site.top)) == (["a", "b"] if anew else ["b"])
    assert site.drain() == {}
    expected: Tree = {"a": digest(b"another")} if anew else {}
    if make is make_link:
        assert os.readlink(site.there / "b") == "nowhere"
        (site.there / "b").unlink()
    else:
        expected["b"] = MADE[make]
    assert site.on_cluster() == expected
    assert site.errors() == []
