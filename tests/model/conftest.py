"""A server that takes its time, so that stores are under way while names change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.model.machine")

from ..crash.site import Nursery  # noqa: E402
from ..harness import EmulatorProcess  # noqa: E402


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory, umask: None) -> Iterator[Nursery]:
    """A process that forks mounts of an emulator of its own."""
    home = tmp_path_factory.mktemp("model")
    with EmulatorProcess(home / "clusters", systems=("cluster",)) as server:
        server.set(latency=5.0)
        nursery = Nursery(server, home / "nursery")
        yield nursery
        nursery.close()
