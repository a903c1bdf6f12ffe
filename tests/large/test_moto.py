"""Both ways by an object store that others wrote: moto's S3 server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..fs.drivers import Driver, KernelDriver
from ..fs.sites import Site
from ..harness import SYSTEMS, EmulatorProcess, Mounted, local_home
from .conftest import DIRECT, KINDS, LARGE_SETTINGS, PART
from .test_reading import blob, orders
from .test_writing import same, uploads

#: What one request carries of a file: on v2 it travels as base64.
WITHIN = DIRECT // 4 * 3
SIZES = [0, 1, WITHIN - 3, DIRECT - 1, DIRECT, DIRECT + 1]
SIZES += [PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 1]


@pytest.fixture(scope="module")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the store is, in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("moto") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        _await(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        process.kill()
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"moto's server does not answer: {log.read_text()}")


@pytest.fixture(scope="module")
def moto_site(
    store_url: str, kind: str, tmp_path_factory: pytest.TempPathFactory, umask: None
) -> Iterator[Site]:
    """A mount of a cluster that stages by that store."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse")
    api, binding = KINDS[kind]
    root = tmp_path_factory.mktemp(f"moto-{api}")
    settings = LARGE_SETTINGS | {"store_url": store_url}
    env = {"FUSE_LIBRARY_NAME": "fuse3"} if binding == "mfusepy" else {}
    home = root / "home"
    home.mkdir()
    with (
        EmulatorProcess(root / "site", systems=SYSTEMS, settings=settings, api=api) as server,
        Mounted(server, home, binding=binding, env=env) as mounted,
    ):
        yield Site(server, KernelDriver(mounted.path), mounted)


@pytest.fixture
def site(moto_site: Site) -> Site:
    """The mount."""
    return moto_site


def test_both_ways(fs: Driver, there: Path, site: Site) -> None:
    """Sizes around all limits; digests on both ends."""
    server = site.server
    for size in SIZES:
        (there / f"down{size}").write_bytes(blob(size, size))
    names = [f"down{size}" for size in SIZES]
    assert sorted(fs.listdir()) == sorted(names)
    for size in SIZES:
        data = fs.read_file(f"down{size}")
        assert hashlib.sha256(data).digest() == hashlib.sha256(blob(size, size)).digest(), size
    assert orders(server) >= sum(size > DIRECT for size in SIZES)
    for size in SIZES:
        fs.write_file(f"up{size}", blob(size, size + 7))
    fs.land()
    for size in SIZES:
        assert same(there / f"up{size}", blob(size, size + 7)), size
    assert uploads(server) >= sum(size > DIRECT for size in SIZES)
    # None of it went by the store that the emulator has of its own, and nothing is left.
    assert not [each for each in server.requests() if each.startswith("store/")]
    assert sorted(os.listdir(there)) == sorted(names + [f"up{size}" for size in SIZES])
    left = [each.name for each in local_home(server).iterdir() if each.name.startswith(".fcfs-")]
    assert left == []
