"""Emulators and mounts that tests share: one server per driver, one mount per settings."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ..harness import SYSTEMS, EmulatorProcess, EmulatorThreads, Mounted, Server
from .drivers import Driver, KernelDriver, VfsDriver, build_in_process

#: The drivers: no kernel; mfusepy on libfuse 3; fusepy on libfuse 2.
WITHOUT_KERNEL = pytest.param("vfs")
WITH_KERNEL = [
    pytest.param("mfusepy", marks=pytest.mark.fuse),
    pytest.param("fuse", marks=pytest.mark.fuse),
]


@dataclass
class Site:
    """A server with a mount of it; `mounted` is None where no kernel knows of the mount."""

    server: Server
    driver: Driver
    mounted: Mounted | None = None

    def watching(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Make whatever hangs in the mount fail after *seconds*."""
        if self.mounted is None:
            return contextlib.nullcontext()
        self.mounted.ensure()
        return self.mounted.watching(seconds)


class Sites:
    """Makes servers and mounts at their first use and ends them all together."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self._numbers = itertools.count(1)
        self._servers: dict[str, Server] = {}
        self._sites: dict[tuple[str, tuple[tuple[str, Any], ...]], Site] = {}

    def close(self) -> None:
        """End everything."""
        self._stack.close()

    def server(self, kind: str) -> Server:
        """Return the server for mounts of *kind*."""
        if kind not in self._servers:
            root = self._directory / f"clusters-{kind}"
            self._servers[kind] = self._stack.enter_context(
                EmulatorThreads(root) if kind == "vfs" else EmulatorProcess(root, systems=SYSTEMS)
            )
        return self._servers[kind]

    def site(self, kind: str, **settings: Any) -> Site:
        """Return the mount of *kind* with *settings* of the configuration."""
        key = (kind, tuple(sorted(settings.items())))
        if key not in self._sites:
            home = self._directory / f"{kind}-{next(self._numbers)}"
            home.mkdir()
            self._sites[key] = self._stack.enter_context(
                _open(kind, self.server(kind), home, settings)
            )
        return self._sites[key]


@contextlib.contextmanager
def _open(kind: str, server: Server, home: Path, settings: dict[str, Any]) -> Iterator[Site]:
    if kind == "vfs":
        mount = build_in_process(server, home, **settings)
        try:
            yield Site(server, VfsDriver(mount))
        finally:
            mount.stop()
        return
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    options = [f"{name}={value}" for name, value in settings.items()]
    with Mounted(server, home, binding=kind, options=options) as mounted:
        yield Site(server, KernelDriver(mounted.path), mounted)
