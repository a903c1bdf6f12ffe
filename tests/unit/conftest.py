"""Fixtures of the unit tests: one emulator for all of them, a directory on it for each test."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.api import ClientCredentialsAuth, Firecrest, TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.engine import TransferEngine

from .tools import Remote

logging.getLogger("cheroot").setLevel(logging.ERROR)

#: Small enough that tests of limits stay quick.
SETTINGS = {"command_seconds": 2.0, "max_ops_file_size": 64 * 1024}


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
    assert running.alarms == []


@pytest.fixture
def client(emulator: Emulator, shared_client: TypedClient) -> TypedClient:
    return shared_client


@pytest.fixture
def there(emulator: Emulator, request: pytest.FixtureRequest) -> Remote:
    """A directory of the test's own on the cluster."""
    system = emulator.systems[0]
    name = re.sub(r"\W+", "-", request.node.nodeid.partition("::")[2])[:100]
    local = Path(system["local_home"]) / name
    local.mkdir()
    return Remote(f"{system['home']}/{name}", local)


@pytest.fixture
def bundler(client: TypedClient) -> Bundler:
    return Bundler(client, "cluster")


@pytest.fixture
def engine(client: TypedClient, bundler: Bundler, emulator: Emulator) -> TransferEngine:
    user = client.userinfo("cluster")
    emulator.requests.clear()
    return TransferEngine(client, client.system("cluster"), user, bundler)
