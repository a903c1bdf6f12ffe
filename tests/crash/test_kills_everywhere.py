"""Kills among all that a program can do to names, and nothing left behind on the cluster.

Renames of stored files, saves in place, whole directories removed: what each step promised is
carried out after the next mount, at every fault point, between any two requests.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import wait_for
from .rounds import POINTS, Order, run
from .site import Nursery, Site
from .test_kills import report
from .told import Tree
from .writer import digest

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(600)]

RANDOM_KILLS = int(os.environ.get("FIRECRESTFS_TEST_KILLS", "120"))


def test_kills_at_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    chance = random.Random(2)
    again = ["", "", "", "recover.done:2", "change.sent:2", "change.answered:1"]
    orders = [
        Order(again=chance.choice(again), look=chance.random() < 0.3) for _ in range(RANDOM_KILLS)
    ]
    found = run(nursery, tmp_path, orders, seed="all")
    assert report(found) == ""


def test_kills_while_stores_go_on(nursery: Nursery, tmp_path: Path) -> None:
    """Nobody waits for anything to land: files are saved again while the cluster has them half."""
    points = ["change.unsent", "change.sent", "change.answered", "store.proven", "store.begun"]
    orders = [
        Order(f"{name}:{number}", look=number < 3) for name in points for number in (1, 2, 1, 2, 3)
    ]
    found = run(nursery, tmp_path, orders, seed="on", kinds="new,rewrite,tempsave,tempsave")
    assert report(found) == ""


def test_kills_at_every_fault_point(nursery: Nursery, tmp_path: Path) -> None:
    chance = random.Random(3)
    points = [name for name in POINTS if not name.startswith("recover")]
    orders = [Order(f"{name}:{chance.randint(1, 6)}") for name in points * 4]
    found = run(nursery, tmp_path, orders, seed="every")
    assert report(found) == ""
    assert set.union(*(each.reached for each in found)) == set(points)


@pytest.fixture
def site(nursery: Nursery, tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    site = Site(nursery, tmp_path / "site", tmp_path.name)
    request.addfinalizer(site.end)
    return site


def rename_over(site: Site) -> None:
    """Rename one stored file over another."""
    os.rename(site.top / "old", site.top / "new")


def rename_to_absent(site: Site) -> None:
    """Rename a stored file to a name that isn't there."""
    os.rename(site.top / "old", site.top / "d/absent")


def rename_directory(site: Site) -> None:
    """Rename a stored directory."""
    os.rename(site.top / "d", site.top / "e")


def bundle(site: Site) -> None:
    """Save what travels as one tar: empty files, times, many at once."""
    for number in range(6):
        path = site.top / f"bundled-{number}"
        path.write_bytes(b"%d" % number * 50 * (number % 2))
        os.utime(path, (10**9, 10**9))


def remove_tree(site: Site) -> None:
    """What `rm -rf d` does."""
    os.unlink(site.top / "d/inside")
    os.rmdir(site.top / "d")


ACTIONS = [rename_over, rename_to_absent, rename_directory, bundle, remove_tree]
BEFORE = {"old": b"the old one\n", "new": b"to be replaced\n", "d/inside": b"inside\n"}


def expected(action: Callable[[Site], None]) -> tuple[Tree, Tree]:
    """Return the trees before and after *action*."""
    before: Tree = {path: digest(data) for path, data in BEFORE.items()}
    before["d"] = "dir"
    after = dict(before)
    if action is rename_over:
        after["new"] = after.pop("old")
    elif action is rename_to_absent:
        after["d/absent"] = after.pop("old")
    elif action is rename_directory:
        after |= {"e": after.pop("d"), "e/inside": after.pop("d/inside")}
    elif action is bundle:
        after |= {
            f"bundled-{number}": digest(b"%d" % number * 50 * (number % 2)) for number in range(6)
        }
    else:
        del after["d"], after["d/inside"]
    return before, after


def act_and_die(site: Site, action: Callable[[Site], None]) -> bool:
    """Do *action* on a mount that is about to die; return whether it returned in time."""
    try:
        os.listdir(site.top)
        action(site)
    except OSError:
        # It may be dying still.
        assert wait_for(lambda: not site.lives, 5)
        return False
    # What was only noted is carried out a moment later.
    wait_for(lambda: not site.lives or nothing_waits(site), 5)
    return True


def nothing_waits(site: Site) -> bool:
    try:
        return site.driver.pending() == {}
    except OSError:
        return False


def fits(action: Callable[[Site], None], found: Tree, returned: bool) -> bool:
    """Tell whether *found* is what the cluster may have after *action*, whole or cut."""
    before, after = expected(action)
    if returned:
        return found == after
    if action is bundle:
        made = found.keys() - before.keys()
        return all(found[each] in (after.get(each), digest(b"")) for each in made) and (
            {path: state for path, state in found.items() if path not in made} == before
        )
    if action is remove_tree:
        unlinked = {path: state for path, state in before.items() if path != "d/inside"}
        return found in (before, unlinked, after)
    return found in (before, after)


def plant(top: Path) -> None:
    """Put what `BEFORE` says on the cluster, and nothing else."""
    for path in sorted(top.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (top / "d").mkdir()
    for path, data in BEFORE.items():
        (top / path).write_bytes(data)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda each: each.__name__)
def test_between_any_two_requests(site: Site, action: Callable[[Site], None]) -> None:
    """The mount dies when its Nth change is sent, or answered; then the same with the next N."""
    for number in range(2, 40):
        plant(site.there)
        assert site.mount(f"change.{('sent', 'answered')[number % 2]}:{number // 2}")
        returned = act_and_die(site, action)
        died = not site.lives
        site.kill()
        site.mount()
        assert site.drain() == {}
        found = site.on_cluster()
        assert fits(action, found, returned), f"{number}, {returned}: {found}"
        site.kill()
        if not died:
            # All was done before it came to the Nth.
            assert number > 2
            return
    pytest.fail("there was no end to the requests")


def test_a_directory_goes_although_an_archive_of_ours_was_left_in_it(site: Site) -> None:
    assert site.mount("change.answered:2")
    os.mkdir(site.top / "d")
    assert site.drain() == {}
    # An empty file travels in an archive, which is all that has arrived.
    (site.top / "d/f").touch()
    with contextlib.suppress(OSError):
        site.driver.sync()
    assert wait_for(lambda: not site.lives, 5)
    assert [name for name in os.listdir(site.there / "d") if name.startswith(".fcfs-")]
    site.kill()
    site.mount()
    os.unlink(site.top / "d/f")
    os.rmdir(site.top / "d")
    assert site.drain() == {}
    assert site.on_cluster() == {}
    assert site.errors() == []


@pytest.mark.parametrize("saved", ["new", "old", "both"])
def test_a_save_over_a_rename_whose_end_is_not_known(
    nursery: Nursery, tmp_path: Path, request: pytest.FixtureRequest, saved: str
) -> None:
    """The mount dies while it renames; the next one is told of other things there, and dies too."""
    site = Site(nursery, tmp_path / "site", tmp_path.name, write_back=60)
    request.addfinalizer(site.end)
    for number in range(2, 40):
        plant(site.there)
        assert site.mount(f"change.{('sent', 'answered')[number % 2]}:{number // 2}")
        died = True
        with contextlib.suppress(OSError):
            os.listdir(site.top)
            rename_over(site)
            site.driver.sync()
            died = False
        site.kill()
        site.mount()
        expected: Tree = {"d": "dir", "d/inside": digest(BEFORE["d/inside"])}
        expected |= {"new": digest(BEFORE["old"])}
        for name in ("new", "old") if saved == "both" else (saved,):
            (site.top / "temporary").write_bytes(b"saved as " + name.encode())
            os.rename(site.top / "temporary", site.top / name)
            expected[name] = digest(b"saved as " + name.encode())
        site.kill()
        site.mount()
        assert site.drain() == {}
        assert site.on_cluster() == expected, f"{number}: {site.errors()}"
        site.kill()
        if not died:
            assert number > 2
            return
    pytest.fail("there was no end to the requests")


def test_sync_waits_for_recovery(nursery: Nursery, tmp_path: Path) -> None:
    site = Site(nursery, tmp_path / "site", tmp_path.name, write_back=60)
    try:
        site.mount()
        (site.top / "f").write_bytes(b"closed")
        site.kill()
        site.mount()
        # Nobody has looked into the mount yet.
        assert site.driver.sync() == {}
        assert (site.there / "f").read_bytes() == b"closed"
    finally:
        site.end()


@pytest.mark.parametrize("asked", ["by mkdir", "by chmod"])
@pytest.mark.parametrize("step", ["change.sent", "change.answered"])
def test_the_mode_of_a_directory_of_which_nobody_heard(site: Site, step: str, asked: str) -> None:
    """That the next mount finds it there says nothing of its mode."""
    for number in range(1, 10):
        assert site.mount(f"{step}:{number}")
        os.listdir(site.top)
        os.mkdir(site.top / "d", 0o700 if asked == "by mkdir" else 0o755)
        if asked == "by chmod":
            os.chmod(site.top / "d", 0o700)
        wait_for(lambda: not site.lives or nothing_waits(site), 5)
        died = not site.lives
        site.kill()
        site.mount()
        assert site.drain() == {}
        assert (site.there / "d").stat().st_mode & 0o777 == 0o700, f"{number}"
        assert (site.top / "d").stat().st_mode & 0o777 == 0o700
        site.kill()
        (site.there / "d").rmdir()
        if not died:
            assert number > 1
            return
    pytest.fail("there was no end to the requests")
