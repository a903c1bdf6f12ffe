"""The tutorial on a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from firecrestfs.api import Firecrest
from firecrestfs.model import Kind

from ..tutorial import Here, TutorialSteps
from .place import ACCOUNT, JOB_S, Place, member


class _Cluster:
    """The directory on the cluster, by the typed client."""

    def __init__(self, place: Place, work: str) -> None:
        self._place = place
        self._work = Place(place.client, place.system, work)
        self._before = set(self._logs())

    def put(self, name: str, data: bytes) -> None:
        if data:
            self._place.put(name, data)
        else:
            self._place.plant(member(name))

    def get(self, name: str) -> bytes:
        return self._place.get(name)

    def mkdir(self, name: str) -> None:
        self._place.mkdir(name)

    def logs(self) -> list[str]:
        return sorted(set(self._logs()) - self._before)

    def _logs(self) -> list[str]:
        found = {*self._work.names(), *self._place.names()}
        return [name for name in found if name.startswith(".f7t_")]


@pytest.fixture(scope="module")
def here(top: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    """The client, and a directory of the tutorial's own."""
    place = top.below("tutorial")
    place.mkdir()
    client: Firecrest = place.client._client
    far = _Cluster(place, client._work_dir(place.system, None) or place.path)
    here = Here(client, place.system, place.path, far, tmp_path_factory.mktemp("near"))
    here.account, here.patience = ACCOUNT, JOB_S
    here.prepare()
    yield here
    for job in here.jobs:
        _remove(place, job)


def _remove(place: Place, job: dict[str, object]) -> None:
    """Remove what a job has left outside of *place*."""
    script, output = str(job["job_file"]), str(job["job_file_out"])
    directory = os.path.dirname(script)
    if os.path.dirname(directory).endswith("/firecrest"):
        place.client.remove_tree(place.system, directory)
    elif not output.startswith(place.path) and Place(place.client, place.system, output).exists(""):
        place.client.remove(place.system, output, Kind.FILE)


class TestTutorial(TutorialSteps):
    """Its steps."""
