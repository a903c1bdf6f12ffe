"""Large files on real mounts: a cluster whose direct limit is so low that small ones are large.

Each body runs on API v2 with mfusepy on libfuse 3, and on v1 with fusepy on libfuse 2.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fs.drivers import KernelDriver
from ..fs.sites import Site
from ..harness import SETTINGS, SYSTEMS, EmulatorProcess, Mounted

pytestmark = pytest.mark.fuse

#: What one request may carry, in bytes.
DIRECT = 64 * 1024
PART = 10 * 1024 * 1024
#: Files over it wait in a queue that is short, and land a moment after they were sent.
LARGE_SETTINGS = {
    **SETTINGS,
    "max_ops_file_size": DIRECT,
    "max_part_size": PART,
    "poll_interval": 0.3,
}
KINDS = {"v2-mfusepy": ("v2", "mfusepy"), "v1-fuse": ("v1", "fuse")}


class LargeSites:
    """Servers and mounts, made at their first use and ended together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._servers: dict[str, EmulatorProcess] = {}
        self._sites: dict[tuple[str, str, str, int], Site] = {}

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def server(self, api: str, direct: int = DIRECT) -> EmulatorProcess:
        """Return the server of one API version and direct limit."""
        key = f"{api}-{direct}"
        if key not in self._servers:
            root = self._directory / f"large-{key}"
            settings = LARGE_SETTINGS | {"max_ops_file_size": direct}
            server = EmulatorProcess(root, systems=SYSTEMS, settings=settings, api=api)
            self._servers[key] = self._stack.enter_context(server)
        return self._servers[key]

    def site(self, api: str, binding: str, options: str = "", direct: int = DIRECT) -> Site:
        """Return the mount of a server of *api* by *binding* with *options*."""
        if not os.path.exists("/dev/fuse"):
            pytest.skip("this machine has no /dev/fuse")
        key = (api, binding, options, direct)
        if key not in self._sites:
            home = self._directory / f"home-{len(self._sites)}"
            home.mkdir()
            server = self.server(api, direct)
            # The binding of libfuse 3 loads libfuse 2 where that is installed as well.
            env = {"FUSE_LIBRARY_NAME": "fuse3"} if binding == "mfusepy" else {}
            mounted = self._stack.enter_context(
                Mounted(server, home, binding=binding, options=options.split(), env=env)
            )
            self._sites[key] = Site(server, KernelDriver(mounted.path), mounted)
        return self._sites[key]


@pytest.fixture(scope="session")
def large_sites(tmp_path_factory: pytest.TempPathFactory, umask: None) -> Iterator[LargeSites]:
    """All servers and mounts of these tests."""
    sites = LargeSites(tmp_path_factory.mktemp("large"))
    yield sites
    sites.close()


@pytest.fixture(scope="session", params=[pytest.param(k, marks=pytest.mark.fuse) for k in KINDS])
def kind(request: pytest.FixtureRequest) -> str:
    """Which API, and which binding."""
    return str(request.param)


@pytest.fixture
def site(large_sites: LargeSites, kind: str) -> Site:
    """The mount."""
    return large_sites.site(*KINDS[kind])
