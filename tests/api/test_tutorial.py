"""The tutorial on both versions of the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import firecrestfs.api as f7t
from firecrestfs.emulator import Emulator

from ..tutorial import Here, MyAuthorizationClass, TutorialSteps


class _Disk:
    """The emulated cluster's disk."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def put(self, name: str, data: bytes) -> None:
        (self._home / name).write_bytes(data)

    def get(self, name: str) -> bytes:
        return (self._home / name).read_bytes()

    def mkdir(self, name: str) -> None:
        (self._home / name).mkdir()

    def logs(self) -> list[str]:
        return [path.name for path in self._home.parent.parent.rglob(".f7t_*")]


@pytest.fixture(scope="module", params=["v1", "v2"])
def site(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    settings = {"poll_interval": 0.2, "queue_seconds": 0.1, "status_cache": 0.0}
    root = tmp_path_factory.mktemp("site")
    with Emulator(root, api=request.param, settings=settings) as emulator:
        yield emulator
        assert emulator.alarms == []


@pytest.fixture(scope="module")
def here(site: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Here:
    """The client, and the user's home on the first cluster."""
    auth = f7t.ClientCredentialsAuth(
        site.client_id, site.client_secret, site.token_url, min_token_validity=20
    )
    client = f7t.Firecrest(firecrest_url=site.url, authorization=MyAuthorizationClass(auth))
    system = site.systems[0]
    far = _Disk(Path(system["local_home"]))
    here = Here(client, system["name"], system["home"], far, tmp_path_factory.mktemp("near"))
    here.prepare()
    return here


class TestTutorial(TutorialSteps):
    """Its steps."""
