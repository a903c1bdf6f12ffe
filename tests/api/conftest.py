"""Fixtures: an emulator per test that asks for one, and a server that plays a script."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.api import ClientCredentialsAuth, Firecrest, TypedClient
from firecrestfs.emulator import Emulator

from .script import ScriptedServer

logging.getLogger("cheroot").setLevel(logging.ERROR)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeats come quickly, so that the tests do."""
    monkeypatch.setattr("firecrestfs.api.session._PAUSE", 0.02)


@pytest.fixture(scope="module")
def version() -> str:
    """The API version of the module's emulator; modules for both put a parametrised one here."""
    return "v2"


@pytest.fixture(scope="module")
def running(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    root = tmp_path_factory.mktemp("clusters")
    settings = {"command_seconds": 1.0, "queue_seconds": 0.05, "status_cache": 0.0}
    with Emulator(root, api=version, settings=settings) as emulator:
        yield emulator


@pytest.fixture
def emu(running: Emulator) -> Iterator[Emulator]:
    """The emulator, with default settings, and no alarm at the end."""
    before = running.knobs.as_dict()
    running.requests.clear()
    yield running
    for name, value in before.items():
        running.knobs.put(name, value)
    running.faults.replace([])
    assert running.alarms == []


@pytest.fixture
def client(emu: Emulator) -> Firecrest:
    auth = ClientCredentialsAuth(emu.client_id, emu.client_secret, emu.token_url)
    return Firecrest(emu.url, auth)


@pytest.fixture
def typed(client: Firecrest) -> TypedClient:
    return TypedClient(client)


@pytest.fixture
def home(emu: Emulator, request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A directory of the test's own: its remote path and the local one that plays it."""
    system = emu.systems[0]
    name = request.node.name.replace("/", "_").replace("[", "-").replace("]", "")
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)[:50]
    name += f"-{uuid.uuid4().hex[:8]}"
    local = Path(system["local_home"]) / name
    local.mkdir()
    return f"{system['home']}/{name}", local


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted
