"""What is changed in the very moment in which it lands is changed all the same."""

from __future__ import annotations

import os
import random
import stat
import time
from pathlib import Path

import pytest

from .drivers import Driver
from .sites import WITHOUT_KERNEL, Site, Sites

_CHANCE = random.Random(1)


@pytest.fixture(scope="session", params=WITHOUT_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """No kernel takes part in this."""
    return str(request.param)


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that stores at once."""
    return sites.site(kind, write_back=0.001)


def test_modes_of_new_directories(fs: Driver, there: Path) -> None:
    for number in range(150):
        name = f"d{number}"
        fs.mkdir(name)
        time.sleep(_CHANCE.uniform(0.0, 0.02))
        fs.chmod(name, 0o700)
        assert stat.S_IMODE(fs.stat(name).st_mode) == 0o700, name
    fs.land()
    modes = {name: stat.S_IMODE((there / name).stat().st_mode) for name in os.listdir(there)}
    assert modes == dict.fromkeys(modes, 0o700)


def test_names_of_new_directories(fs: Driver, there: Path) -> None:
    for number in range(150):
        fs.mkdir(f"d{number}")
        time.sleep(_CHANCE.uniform(0.0, 0.02))
        fs.rename(f"d{number}", f"e{number}")
    fs.land()
    assert sorted(os.listdir(there)) == sorted(f"e{number}" for number in range(150))
