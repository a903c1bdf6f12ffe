"""What was closed survives the death of the mount, wherever it dies: hundreds of kills.

Here the writer saves new files, over stored ones by way of temporary names, removes some and makes
directories; `test_kills_everywhere` has all that it can do. `scripts/crash_test.py` kills by the
thousand.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

import pytest

import firecrestfs

from .rounds import POINTS, Order, Rounds, run
from .site import Nursery

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(600)]

#: Kills at random moments.
RANDOM_KILLS = int(os.environ.get("FIRECRESTFS_TEST_KILLS", "120"))
KINDS = "new,new,tempsave,linksave,unlink,mkdir"


def report(all_rounds: list[Rounds]) -> str:
    """Return what was found wrong."""
    return "\n".join(line for each in all_rounds for line in each.wrong)


def test_every_fault_point_is_in_the_table() -> None:
    top = Path(firecrestfs.__file__).parent
    found = {
        name
        for file in top.rglob("*.py")
        for name in re.findall(r'\breach\("([^"]+)"\)', file.read_text())
    }
    assert found == set(POINTS)


def test_kills_at_random_moments(nursery: Nursery, tmp_path: Path) -> None:
    orders = [Order()] * RANDOM_KILLS
    found = run(nursery, tmp_path, orders, seed="random", kinds=KINDS, litter=True)
    assert report(found) == ""
    assert sum(each.kills for each in found) == RANDOM_KILLS
    # It did do something.
    assert sum(each.steps for each in found) > RANDOM_KILLS


def test_kills_at_fault_points(nursery: Nursery, tmp_path: Path) -> None:
    chance = random.Random(1)
    # A rename that replaces what is not stored yet isn't one step: see test_kills_everywhere.
    points = [name for name in POINTS if name[:7] not in ("recover", "rename.")]
    orders = [Order(f"{name}:{chance.randint(1, 4)}") for name in points * 4]
    found = run(nursery, tmp_path, orders, seed="points", kinds=KINDS, litter=True)
    assert report(found) == ""
    assert set.union(*(each.reached for each in found)) >= set(points)


def test_kills_during_recovery(nursery: Nursery, tmp_path: Path) -> None:
    points = ("recover.begun", "recover.taken", "recover.done", "change.sent", "store.proven")
    # The first to die has taken something from its queue: there is something to take up.
    orders = [Order("store.begun", f"{name}:{number}") for name in points for number in (1, 1, 2)]
    orders += [Order("", f"{name}:{number}") for name in points for number in (1, 2)]
    found = run(nursery, tmp_path, orders, seed="again", kinds=KINDS, litter=True)
    assert report(found) == ""
    assert set.union(*(each.reached for each in found)) >= set(points)
