"""The mount behaves as a plain directory, whatever is done in whatever order: see `machine`.

`FIRECRESTFS_TEST_EXAMPLES=1000` tries more, and others at every run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ..crash.site import Nursery, Site
from .machine import MountMachine

pytestmark = [pytest.mark.fuse, pytest.mark.timeout(3600)]

EXAMPLES = int(os.environ.get("FIRECRESTFS_TEST_EXAMPLES", "0"))
#: A failure is told as it was found: to make it smaller would take minutes.
BOUNDS = settings(
    max_examples=EXAMPLES or 12,
    stateful_step_count=40,
    deadline=None,
    database=None,
    derandomize=not EXAMPLES,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
NewSite = Callable[..., Site]


@pytest.fixture
def new_site(nursery: Nursery, tmp_path: Path) -> Iterator[NewSite]:
    """A call that mounts a site of the test's own."""
    yield from sites(nursery, tmp_path)


def sites(nursery: Nursery, tmp_path: Path) -> Iterator[NewSite]:
    """Yield a call that mounts a site, and end what it has mounted."""
    sites: list[Site] = []

    def make(**options: float) -> Site:
        sites.append(Site(nursery, tmp_path / "site", tmp_path.name, **options))
        sites[0].mount()
        return sites[0]

    yield make
    for site in sites:
        site.end()


def run(machine: type[MountMachine], **facts: object) -> None:
    """Try examples of *machine*."""
    run_state_machine_as_test(type("Machine", (machine,), facts), settings=BOUNDS)


def test_while_stores_are_under_way(new_site: NewSite) -> None:
    run(MountMachine, site=new_site(write_back=0.02))


def test_with_everything_pending(new_site: NewSite) -> None:
    run(MountMachine, site=new_site(write_back=600.0), patient=True)
