"""Each kind of fault, as a client sees it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import requests

from firecrestfs.emulator import Emulator

from .conftest import Client


def test_status_instead_of_the_work_for_a_number_of_requests(
    emulator: Emulator, client: Client
) -> None:
    emulator.faults.add(
        "status", "ops/stat", status=429, headers={"Retry-After": "7"}, body="slow down", count=2
    )
    for _ in range(2):
        response = client.get("stat", "/home/demo")
        assert (response.status_code, response.text) == (429, "slow down")
        assert response.headers["Retry-After"] == "7"
    assert client.get("stat", "/home/demo").status_code == 200
    assert [entry.status for entry in emulator.requests] == [429, 429, 200]


def test_lost_answer_comes_after_the_work(emulator: Emulator, client: Client, home: Path) -> None:
    emulator.faults.add("lost_answer", "ops/mkdir")
    with pytest.raises(requests.ConnectionError):
        client.ops("POST", "mkdir", json={"path": "/home/demo/made"})
    assert (home / "made").is_dir()
    assert emulator.requests[0].status == 0
    assert client.names("/home/demo") == ["made"]


@pytest.mark.parametrize("kind", ["drop", "reset"])
def test_dropped_connection_comes_before_the_work(
    kind: str, emulator: Emulator, client: Client, home: Path
) -> None:
    emulator.faults.add(kind, "ops/upload")
    with pytest.raises(requests.ConnectionError):
        client.upload("/home/demo", "x", b"data")
    assert not list(home.iterdir())
    assert client.upload("/home/demo", "x", b"data").status_code == 204


def test_stall_delays_the_answer(emulator: Emulator, client: Client) -> None:
    emulator.faults.add("stall", "ops/*", seconds=0.3)
    started = time.perf_counter()
    assert client.get("ls", "/home/demo").status_code == 200
    assert time.perf_counter() - started >= 0.3


def test_body_that_stalls_and_body_that_is_cut(
    emulator: Emulator, client: Client, home: Path
) -> None:
    (home / "f").write_bytes(b"0123456789")
    emulator.faults.add("stall_body", "ops/download", bytes=4, seconds=0.3)
    emulator.faults.add("cut_body", "ops/download", bytes=4)
    started = time.perf_counter()
    assert client.get("download", "/home/demo/f").content == b"0123456789"
    assert time.perf_counter() - started >= 0.3
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        client.get("download", "/home/demo/f")


def test_late_status_denies_what_was_done(emulator: Emulator, client: Client, home: Path) -> None:
    emulator.faults.add("late_status", "ops/upload", status=408)
    assert client.upload("/home/demo", "x", b"data").status_code == 408
    assert (home / "x").read_bytes() == b"data"


def test_rules_choose_by_path_and_skip_the_first(emulator: Emulator, client: Client) -> None:
    emulator.faults.add("status", path="*/b", status=503, after=1, count=-1)
    codes = [client.get("ls", f"/home/demo/{name}").status_code for name in "abab"]
    assert codes == [404, 404, 404, 503]


def test_rules_over_http(emulator: Emulator, client: Client) -> None:
    url = f"{emulator.url}/_emulator/faults"
    rule = {"match": "ops/ls", "kind": "status", "status": 502, "body": {"a": 1}}
    assert requests.post(url, json=[rule], timeout=10).json()[0]["count"] == 1
    response = client.get("ls", "/home/demo")
    assert (response.status_code, response.json()) == (502, {"a": 1})
    assert requests.post(url, json=[{"kind": "rain"}], timeout=10).status_code == 400
    assert requests.delete(url, timeout=10).json() == []


def test_unhealthy_file_system_is_refused(emulator: Emulator, client: Client) -> None:
    emulator.knobs.put("unhealthy", "/home")
    response = client.get("ls", "/home/demo")
    assert response.status_code == 503
    message = "The requested filesystem (/home on cluster) is unhealthy."
    assert response.json()["message"] == message
    assert client.get("ls", "/scratch/demo").status_code == 200
