"""A server and a nursery of mounts; neither is shared with tests of other directories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..harness import EmulatorProcess
from .site import Nursery


@pytest.fixture(scope="session", params=["v2"])
def nursery(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, umask: None
) -> Iterator[Nursery]:
    """A process that forks mounts of an emulator of its own."""
    home = tmp_path_factory.mktemp("crash")
    with EmulatorProcess(home / "clusters", systems=("cluster",), api=request.param) as server:
        nursery = Nursery(server, home / "nursery")
        yield nursery
        nursery.close()
