"""An emulator of one's own for each test, and a client that knows nothing of the package."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator


class Client:
    """Plain HTTP: a session with a token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers["Authorization"] = f"Bearer {token}"

    def ops(self, method: str, name: str, **options: Any) -> requests.Response:
        return self.call(method, f"/filesystem/cluster/ops/{name}", **options)

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, self.url + path, timeout=20, **options)

    def get(self, name: str, path: str, **query: Any) -> requests.Response:
        return self.ops("GET", name, params={"path": path, **query})

    def upload(self, folder: str, name: str, data: bytes) -> requests.Response:
        return self.ops("POST", "upload", params={"path": folder}, files={"file": (name, data)})

    def names(self, path: str, **query: Any) -> list[str]:
        rows = self.get("ls", path, showHidden="true", **query).json()["output"]
        return [row["name"] for row in rows]

    def submit(self, script: str, **job: Any) -> str:
        body = {"workingDirectory": "/home/demo", "script": f"#!/bin/bash\n{script}\n", **job}
        response = self.call("POST", "/compute/cluster/jobs", json={"job": body})
        assert response.status_code == 201, response.text
        return str(response.json()["jobId"])

    def job(self, job_id: str) -> dict[str, Any]:
        jobs = self.call("GET", f"/compute/cluster/jobs/{job_id}").json()["jobs"]
        return dict(jobs[0])

    def state(self, job_id: str) -> str:
        return str(self.job(job_id)["status"]["state"])

    def wait(self, job_id: str) -> dict[str, Any]:
        unfinished = ("PENDING", "RUNNING", "COMPLETING")
        wait_for(lambda: self.state(job_id) not in unfinished)
        return self.job(job_id)


class V1Client:
    """Plain HTTP for API v1: a session with a token and the name of a system."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.headers.update({"Authorization": f"Bearer {token}", "X-Machine-Name": "cluster"})

    def call(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, self.url + path, timeout=20, **options)

    def get(self, name: str, path: str, **query: Any) -> requests.Response:
        return self.call("GET", f"/utilities/{name}", params={"targetPath": path, **query})

    def send(self, method: str, name: str, **form: str) -> requests.Response:
        return self.call(method, f"/utilities/{name}", data=form)

    def upload(self, folder: str, name: str, data: bytes) -> requests.Response:
        form = {"targetPath": folder}
        return self.call("POST", "/utilities/upload", data=form, files={"file": (name, data)})

    def download(self, path: str, **headers: str) -> requests.Response:
        query = {"sourcePath": path}
        return self.call("GET", "/utilities/download", params=query, headers=headers)

    def names(self, path: str, **query: Any) -> list[str]:
        rows = self.get("ls", path, showhidden="true", **query).json()["output"]
        return [row["name"] if isinstance(row, dict) else row for row in rows]

    def begin(self, method: str, path: str, **options: Any) -> str:
        """Send what makes a task; return its id."""
        response = self.call(method, path, **options)
        assert response.status_code in (200, 201), response.text
        return str(response.json()["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/tasks/{task_id}").json()["task"])

    def listed(self, task_id: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/tasks?tasks={task_id}").json()["tasks"][task_id])

    def wait(self, task_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until a task has one of the statuses, by default 200 or 400."""
        wanted = statuses or ("200", "400")
        wait_for(lambda: self.task(task_id)["status"] in wanted)
        return self.task(task_id)

    def result(self, method: str, path: str, **options: Any) -> Any:
        """Return the data of the task that a call makes, when it has ended."""
        return self.wait(self.begin(method, path, **options))["data"]


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until *condition* holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing came of it"
        time.sleep(0.02)


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    settings = {"command_seconds": 0.5, "queue_seconds": 0}
    with Emulator(tmp_path / "root", settings=settings) as running:
        yield running


@pytest.fixture
def v1(tmp_path: Path) -> Iterator[Emulator]:
    settings = {"command_seconds": 0.5, "queue_seconds": 0, "poll_interval": 0.05}
    with Emulator(tmp_path / "root", api="v1", settings=settings) as running:
        yield running


@pytest.fixture
def v1_client(v1: Emulator) -> Iterator[V1Client]:
    one = V1Client(v1.url, v1.tokens.issue("demo", 300))
    yield one
    one.http.close()


@pytest.fixture
def v1_home(v1: Emulator) -> Path:
    """The directory on this machine that plays the remote home."""
    return Path(v1.systems[0]["local_home"])


@pytest.fixture
def client(emulator: Emulator) -> Iterator[Client]:
    one = Client(emulator.url, emulator.tokens.issue("demo", 300))
    yield one
    one.http.close()


@pytest.fixture
def home(emulator: Emulator) -> Path:
    """The directory on this machine that plays the remote home."""
    return Path(emulator.systems[0]["local_home"])
