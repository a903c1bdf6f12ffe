"""The mount dies between two steps of ours: what is taken up then is what it would have been."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import wait_for
from .site import Nursery, Site
from .writer import digest

pytestmark = pytest.mark.fuse


@pytest.fixture
def lazy(nursery: Nursery, tmp_path: Path) -> Iterator[Site]:
    """A site whose mounts store nothing by themselves."""
    site = Site(nursery, tmp_path / "site", tmp_path.name, write_back=600)
    yield site
    site.end()


def die_at(site: Site, step: str) -> None:
    """Let the next mount of *site* die at *step*."""
    if site.mount(step):
        with contextlib.suppress(OSError):
            os.listdir(site.top)
            site.driver.sync()
    assert wait_for(lambda: not site.lives, 10)
    site.kill()


def test_a_closed_version_is_taken_twice(lazy: Site) -> None:
    """What was being written over it has been set aside by then."""
    lazy.mount()
    (lazy.top / "f").write_bytes(b"closed")
    with (lazy.top / "f").open("r+b", buffering=0) as file:
        file.write(b"HALF")
        lazy.kill()
        with contextlib.suppress(OSError):
            file.close()
    die_at(lazy, "recover.taken")
    lazy.mount()
    assert lazy.drain() == {}
    assert lazy.on_cluster() == {"f": digest(b"closed")}
    assert lazy.set_aside() == [b"HALFed"]
    assert list((lazy.state_dir / "files").iterdir()) == []


def test_what_has_landed_is_still_to_be_renamed_and_linked(lazy: Site) -> None:
    """Its store is proven, but not yet in the journal."""
    lazy.mount()
    (lazy.top / "a").write_bytes(b"precious")
    os.link(lazy.top / "a", lazy.top / "b")
    os.utime(lazy.top / "a", ns=(10**18, 10**18))
    lazy.kill()
    die_at(lazy, "store.landed")
    assert lazy.on_cluster() == {"a": digest(b"precious")}
    lazy.mount()
    assert lazy.drain() == {}
    assert lazy.on_cluster() == {"a": digest(b"precious"), "b": digest(b"precious")}
    assert os.path.samefile(lazy.there / "a", lazy.there / "b")
    assert (lazy.there / "a").stat().st_mtime_ns == 10**18
    assert lazy.errors() == []


@pytest.mark.parametrize("first", ["change.sent", "change.answered"])
def test_it_is_renamed_again_and_the_mount_dies_again(lazy: Site, first: str) -> None:
    """Where the first rename has left it is not forgotten while the second is begun."""
    for one in range(1, 8):
        for two in range(1, 8):
            for path in lazy.there.iterdir():
                path.unlink()
            (lazy.there / "a").write_bytes(b"precious")
            died_first = dies(lazy, f"{first}:{one}", "a", "b")
            died = dies(lazy, f"change.unsent:{two}", "b", "c")
            lazy.mount()
            assert lazy.drain() == {}
            found = lazy.on_cluster()
            assert found == {"c": digest(b"precious")}, f"{one}, {two}: {lazy.errors()}"
            lazy.kill()
            if not died:
                break
        if not died_first:
            assert one > 1
            return
    pytest.fail("there was no end to the requests")


def dies(site: Site, fault: str, old: str, new: str) -> bool:
    """Rename with a mount that is to die at *fault* while that is carried out."""
    assert site.mount(fault)
    os.listdir(site.top)
    os.rename(site.top / old, site.top / new)
    with contextlib.suppress(OSError):
        site.driver.sync()
    # It may be dying still.
    died = wait_for(lambda: not site.lives, 0.5)
    site.kill()
    return died


@pytest.mark.parametrize("edited", [False, True], ids=["as it was", "edited"])
def test_it_is_renamed_back_after_a_death(lazy: Site, edited: bool) -> None:
    """Whether the rename was carried out is not known by then."""
    for number in range(2, 20):
        for path in lazy.there.iterdir():
            path.unlink()
        (lazy.there / "a").write_bytes(b"precious")
        died = dies(lazy, f"change.{('sent', 'answered')[number % 2]}:{number // 2}", "a", "b")
        lazy.mount()
        os.listdir(lazy.top)
        os.rename(lazy.top / "b", lazy.top / "a")
        if edited:
            (lazy.top / "a").write_bytes(b"edited")
        assert lazy.drain() == {}
        found = lazy.on_cluster()
        assert found == {"a": digest(b"edited" if edited else b"precious")}, f"{number}"
        assert lazy.errors() == []
        assert os.listdir(lazy.top) == ["a"]
        lazy.kill()
        if not died:
            assert number > 2
            return
    pytest.fail("there was no end to the requests")
