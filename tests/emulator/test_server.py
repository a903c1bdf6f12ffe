"""The emulator as a program, its identity provider, its control routes and its speed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator

from .conftest import Client, wait_for


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "firecrestfs.emulator", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    with process:
        return process.wait(15)


def token_of(described: dict[str, Any]) -> str:
    form = {"grant_type": "client_credentials"}
    credentials = (described["client_id"], described["client_secret"])
    response = requests.post(described["token_url"], data=form, auth=credentials, timeout=10)
    return str(response.json()["access_token"])


def running(marker: str) -> bool:
    done = subprocess.run(["pgrep", "-f", marker], capture_output=True, check=False)
    return done.returncode == 0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    one = start("--json", "--root", str(tmp_path / "root"), "--set", "queue_seconds=0")
    yield one
    if one.poll() is None:
        end(one, signal.SIGKILL)


def test_program_says_how_to_reach_it_and_ends_on_sigterm(
    process: subprocess.Popen[str], tmp_path: Path
) -> None:
    described = json.loads(first_line(process))
    assert described["api"] == "v2"
    assert described["pid"] == process.pid
    system = described["systems"][0]
    assert (system["name"], system["home"], system["scratch"]) == (
        "cluster",
        "/home/demo",
        "/scratch/demo",
    )
    Path(system["local_home"], "here").write_text("x")
    client = Client(described["url"], token_of(described))
    assert client.names("/home/demo") == ["here"]
    client.http.close()
    assert end(process) == 0
    assert (tmp_path / "root").exists()  # a root that was given stays


def test_program_without_json_prints_lines_for_the_shell() -> None:
    process = start()
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(7)]
    assert end(process, signal.SIGINT) == 0
    assert [line.split("=")[0] for line in lines if line.startswith("export")] == [
        "export FIRECREST_URL",
        "export FIRECREST_CLIENT_ID",
        "export FIRECREST_CLIENT_SECRET",
        "export AUTH_TOKEN_URL",
    ]
    local = next(line.split(" is ")[1].strip() for line in lines if " is " in line)
    assert not Path(local).exists()  # the temporary root is gone


def test_program_refuses_an_unknown_setting() -> None:
    command = [sys.executable, "-m", "firecrestfs.emulator", "--set", "nonsense=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    assert "unknown setting 'nonsense'" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_jobs_end_with_the_program(process: subprocess.Popen[str], number: int) -> None:
    described = json.loads(first_line(process))
    client = Client(described["url"], token_of(described))
    marker = f"sleep 4{os.getpid()}{number}"
    job = client.submit(f"setsid {marker} &\n{marker}")
    wait_for(lambda: client.state(job) == "RUNNING" and running(marker))
    client.http.close()
    end(process, number)
    wait_for(lambda: not running(marker), 5)


def test_token_by_post_and_by_basic_credentials(emulator: Emulator) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": emulator.client_id,
        "client_secret": emulator.client_secret,
    }
    posted = requests.post(emulator.token_url, data=form, timeout=10).json()
    assert posted["expires_in"] == 300
    assert posted["token_type"] == "Bearer"
    assert token_of(emulator.describe())
    wrong = requests.post(emulator.token_url, data={**form, "client_secret": "x"}, timeout=10)
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")


def test_tokens_expire_and_can_be_expired(emulator: Emulator, client: Client) -> None:
    assert client.get("ls", "/home/demo").status_code == 200
    requests.post(f"{emulator.url}/_emulator/expire-tokens", timeout=10).raise_for_status()
    refused = client.get("ls", "/home/demo")
    assert (refused.status_code, refused.json()["message"]) == (401, "Access token expired")
    emulator.knobs.put("min_token_ttl", 0)
    client.http.headers["Authorization"] = f"Bearer {emulator.tokens.issue('demo', 0.3)}"
    assert client.get("ls", "/home/demo").status_code == 200
    time.sleep(0.4)
    assert client.get("ls", "/home/demo").status_code == 401


def test_requests_are_logged_with_endpoint_and_status(emulator: Emulator, client: Client) -> None:
    token_of(emulator.describe())
    client.get("ls", "/home/demo")
    client.get("stat", "/home/demo/nope")
    client.call("GET", "/nonsense")
    seen = [(entry.endpoint, entry.method, entry.status) for entry in emulator.requests]
    assert seen == [
        ("token", "POST", 200),
        ("ops/ls", "GET", 200),
        ("ops/stat", "GET", 404),
        ("", "GET", 404),
    ]
    assert emulator.requests[1].query == "path=/home/demo"
    assert emulator.requests.count() == 3
    over_http = requests.get(f"{emulator.url}/_emulator/requests?reset=1", timeout=10).json()
    assert [row["endpoint"] for row in over_http] == ["token", "ops/ls", "ops/stat", ""]
    assert len(emulator.requests) == 0


def test_settings_are_live_and_checked(emulator: Emulator, client: Client) -> None:
    url = f"{emulator.url}/_emulator/set"
    assert requests.post(url, json={"max_ops_file_size": 1000}, timeout=10).status_code == 200
    assert client.upload("/home/demo", "a", b"x" * 1001).status_code == 413
    assert client.upload("/home/demo", "a", b"x" * 1000).status_code == 204
    assert client.get("download", "/home/demo/a").status_code == 413
    refused = requests.post(url, json={"latency": 5, "zone": "Mars/Olympus"}, timeout=10)
    assert refused.status_code == 400
    assert emulator.knobs.latency == 0  # all or nothing
    state = requests.get(f"{emulator.url}/_emulator/state", timeout=10).json()
    assert state["settings"]["max_ops_file_size"] == 1000


def test_latency_is_added_to_calls_but_not_to_tokens(emulator: Emulator, client: Client) -> None:
    client.get("ls", "/home/demo")
    emulator.knobs.put("latency", 200)
    started = time.perf_counter()
    client.get("ls", "/home/demo")
    assert time.perf_counter() - started >= 0.2
    token_of(emulator.describe())
    waits = {entry.endpoint: entry.seconds for entry in emulator.requests}
    assert waits["token"] < 0.2 <= waits["ops/ls"]


def test_calls_are_cheap_and_run_side_by_side(emulator: Emulator, client: Client) -> None:
    client.get("stat", "/home/demo")
    durations = []
    for _ in range(100):
        started = time.perf_counter()
        client.get("stat", "/home/demo")
        durations.append(time.perf_counter() - started)
    assert sorted(durations)[10] < 0.006  # about 1.2 ms where nothing else runs
    emulator.knobs.put("latency", 300)
    started = time.perf_counter()
    threads = [threading.Thread(target=client.get, args=("stat", "/home/demo")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.perf_counter() - started < 1.6  # one after the other: 2.4


def test_published_description_names_the_routes(client: Client) -> None:
    paths = client.call("GET", "/openapi.json").json()["paths"]
    assert set(paths["/compute/{system_name}/jobs"]) == {"get", "post"}
    assert "/filesystem/{system_name}/ops/ls" in paths


def test_listing_of_5000_entries(client: Client, home: Path) -> None:
    for number in range(5000):
        (home / f"file_{number:05d}").touch()
    durations = []
    for _ in range(3):
        started = time.perf_counter()
        assert len(client.get("ls", "/home/demo").json()["output"]) == 5000
        durations.append(time.perf_counter() - started)
    assert min(durations) < 1.0  # about 0.1 s where nothing else runs


def test_two_systems_have_trees_of_their_own(tmp_path: Path) -> None:
    with Emulator(tmp_path / "root", systems=("daint", "eiger")) as emulator:
        first, second = (Path(system["local_home"]) for system in emulator.systems)
        (first / "only").touch()
        assert not (second / "only").exists()
        assert [system["name"] for system in emulator.systems] == ["daint", "eiger"]
