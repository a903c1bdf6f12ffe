"""Here everything runs on the kernel; what programs do, with both bindings.

`centre` is a server of its own and `mounting` a mount that isn't there yet, for tests of the
command line and of what happens to a mount: its own, so that it may be killed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..fs.sites import WITH_KERNEL, Sites
from ..harness import Mounted, Server, local_home

Mounting = Callable[..., Mounted]


@pytest.fixture(scope="session", params=WITH_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """The binding: mfusepy or fuse (fusepy)."""
    return str(request.param)


@pytest.fixture
def centre(sites: Sites) -> Iterator[Server]:
    """A server; its knobs and faults are put back and its home directory is emptied."""
    server = sites.server("own")
    before = server.settings()
    known = set(os.listdir(local_home(server)))
    yield server
    server.set(**before)
    server.faults([])
    for name in set(os.listdir(local_home(server))) - known:
        path = local_home(server) / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture
def mounting(centre: Server, tmp_path: Path) -> Iterator[Mounting]:
    """A call that prepares a mount of `centre`; all are ended with the test."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    with contextlib.ExitStack() as stack:

        def prepare(server: Server = centre, **given: object) -> Mounted:
            mounted = Mounted(server, tmp_path, **given)  # type: ignore[arg-type]
            stack.callback(mounted.end)
            return mounted

        yield prepare


@pytest.fixture
def mount(mounting: Mounting) -> Mounted:
    """A mount of `centre`."""
    mounted = mounting()
    done = mounted.mount()
    assert done.returncode == 0, done.stderr
    return mounted
