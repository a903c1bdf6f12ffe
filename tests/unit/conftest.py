"""Fixtures of the unit tests: one emulator for all of them, a directory on it for each test."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.api import ClientCredentialsAuth, Firecrest, TypedClient
from firecrestfs.cache.database import Database
from firecrestfs.cache.transfers import Transfers
from firecrestfs.emulator import Emulator
from firecrestfs.emulator.jobs import State
from firecrestfs.mount import Mount, build
from firecrestfs.transfer.aliases import Aliases
from firecrestfs.transfer.appends import Appends
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.compressed import Compressed
from firecrestfs.transfer.engine import TransferEngine
from firecrestfs.transfer.large_stores import LargeStores
from firecrestfs.transfer.leftovers import Leftovers
from firecrestfs.transfer.placing import Placing
from firecrestfs.transfer.progress import Board
from firecrestfs.transfer.remote_job import RemoteJobs

from .bench import Bench
from .large import Start, jobs
from .tools import Remote
from .wired import BINDING, Files, make_config, restarting

logging.getLogger("cheroot").setLevel(logging.ERROR)

#: Small enough that tests of limits stay quick.
SETTINGS = {"command_seconds": 2.0, "max_ops_file_size": 64 * 1024}

_numbers = itertools.count()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("unit"), settings=SETTINGS) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def shared_client(running: Emulator) -> TypedClient:
    auth = ClientCredentialsAuth(running.client_id, running.client_secret, running.token_url)
    client = TypedClient(Firecrest(running.url, auth))
    client.systems()
    return client


@pytest.fixture
def emulator(running: Emulator) -> Iterator[Emulator]:
    """The emulator; settings and faults are put back, and no path changed a command line."""
    before = running.knobs.as_dict()
    running.requests.clear()
    yield running
    for name, value in before.items():
        running.knobs.put(name, value)
    running.faults.clear()
    # What a test has left in the queue is none of the next one's.
    for job in jobs(running):
        running.clusters["cluster"].scheduler.strike(job, State.CANCELLED)
    assert running.alarms == []


@pytest.fixture
def client(emulator: Emulator, shared_client: TypedClient) -> TypedClient:
    return shared_client


@pytest.fixture
def there(emulator: Emulator, request: pytest.FixtureRequest) -> Remote:
    """A directory of the test's own on the cluster."""
    system = emulator.systems[0]
    name = re.sub(r"\W+", "-", request.node.nodeid.partition("::")[2])[:100]
    # Numbered: a test that is run again finds nothing of its first run.
    name = f"{name}{next(_numbers)}"
    local = Path(system["local_home"]) / name
    local.mkdir()
    return Remote(f"{system['home']}/{name}", local)


@pytest.fixture
def bundler(client: TypedClient) -> Bundler:
    return Bundler(client, "cluster")


def large_stores(client: TypedClient, directory: Path) -> LargeStores:
    """Return what stores large files; it keeps its books in *directory*."""
    user, features = client.userinfo("cluster"), client.features("cluster")
    transfers = Transfers(Database(directory / "transfers.sqlite"))
    leftovers = Leftovers(client, "cluster", transfers)
    stopped = threading.Event()
    system = client.system("cluster")
    jobs = RemoteJobs(client, system, user, leftovers, [], stopped)
    return LargeStores(
        client,
        system,
        user,
        features,
        Aliases(client, "cluster", leftovers, []),
        Placing(client, "cluster", user, features, Bundler(client, "cluster"), jobs),
        Appends(client, "cluster", jobs, transfers),
        transfers,
        leftovers,
        Board(),
        stopped,
        Compressed(bundler, takes_archives=True),
    )


@pytest.fixture
def engine(
    client: TypedClient, bundler: Bundler, emulator: Emulator, tmp_path: Path
) -> TransferEngine:
    user, large = client.userinfo("cluster"), large_stores(client, tmp_path)
    emulator.requests.clear()
    system, features = client.system("cluster"), client.features("cluster")
    return TransferEngine(client, system, user, bundler, features, large)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(params=["same", "apart"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Directories for clean and dirty copies: on one file system, and on two."""
    clean, dirty = tmp_path / "clean", tmp_path / "dirty"
    clean.mkdir()
    if request.param == "same":
        dirty.mkdir()
        yield clean, dirty
        return
    dirty = Path(tempfile.mkdtemp(dir="/dev/shm"))
    assert os.stat(dirty).st_dev != os.stat(clean).st_dev
    yield clean, dirty
    shutil.rmtree(dirty)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.cluster.hold.set()
    bench.queue.stop()


@pytest.fixture
def mount(emulator: Emulator, tmp_path: Path) -> Iterator[Mount]:
    mount = build(make_config(emulator, tmp_path), BINDING, "/mnt/hpc")
    yield mount
    mount.stop()
    mount.journal.close()


@pytest.fixture
def files(mount: Mount, there: Remote) -> Files:
    made = Files(mount, there)
    made.stat("")  # connects
    return made


@pytest.fixture
def restart(emulator: Emulator, there: Remote, tmp_path: Path) -> Iterator[Start]:
    """Start a mount over the test's state; the one before is gone then, whatever it was at."""
    with restarting(emulator, there, tmp_path) as restart:
        yield restart


@pytest.fixture
def start(restart: Start, emulator: Emulator) -> Start:
    """Start a mount as `restart` does; it has taken up what was left."""

    def start(write_back: float = 0.01) -> Files:
        files = restart(write_back)
        files.mount.recover()
        files.stat("")
        return files

    emulator.knobs.put("queue_seconds", 0.0)
    emulator.knobs.put("poll_interval", 0.2)
    return start
