"""Faults on demand on API v1: each kind on a route, by count, by probability and by schedule."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator
from firecrestfs.emulator.faults import KINDS

from .conftest import V1Client


def _mkdir(client: V1Client) -> requests.Response:
    return client.send("POST", "mkdir", targetPath="/home/demo/made")


def _is_made(emulator: Emulator) -> bool:
    return (Path(emulator.systems[0]["local_home"]) / "made").is_dir()


def _is_cut(call: Callable[[], requests.Response]) -> bool:
    try:
        return not call().content
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
        return True


def _answers(code: int) -> Callable[[Emulator, V1Client], bool]:
    return lambda emulator, client: _mkdir(client).status_code == code


def _torn(emulator: Emulator, client: V1Client) -> bool:
    answer = client.upload("/home/demo", "f", b"0123456789")
    there = Path(emulator.systems[0]["local_home"]) / "f"
    return answer.status_code == 503 and there.read_bytes() == b"0123"


#: For each kind: the rule's options, what a request shows, and whether `mkdir` is done.
ROWS: dict[str, tuple[dict[str, Any], Callable[[Emulator, V1Client], bool], bool]] = {
    "status": ({"status": 424}, _answers(424), False),
    "lost_answer": ({}, lambda emulator, client: _is_cut(lambda: _mkdir(client)), True),
    "drop": ({}, lambda emulator, client: _is_cut(lambda: _mkdir(client)), False),
    "reset": ({}, lambda emulator, client: _is_cut(lambda: _mkdir(client)), False),
    "stall": ({"seconds": 0.2}, _answers(201), True),
    "stall_body": ({"seconds": 0.2, "bytes": 3}, _answers(201), True),
    "cut_body": ({"bytes": 3}, lambda emulator, client: _is_cut(lambda: _mkdir(client)), True),
    "late_status": ({"status": 408}, _answers(408), True),
    "torn": ({"bytes": 4, "match": "*/upload"}, _torn, False),
    "expire_tokens": ({}, _answers(401), False),
}


def test_every_kind_has_its_row() -> None:
    assert set(ROWS) == set(KINDS)


@pytest.mark.parametrize("kind", ROWS)
def test_a_fault_by_count(kind: str, v1: Emulator, v1_client: V1Client) -> None:
    options, shows, done = ROWS[kind]
    v1.faults.add(kind, **{"match": "utilities/mkdir", "count": 1, **options})
    started = time.monotonic()
    assert shows(v1, v1_client)
    assert time.monotonic() - started >= options.get("seconds", 0)
    assert _is_made(v1) is done
    assert v1.faults.rules()[0]["count"] == 0
    # The route is well again, and others never were ill.
    assert v1_client.get("ls", "/home/demo").status_code == (
        401 if kind == "expire_tokens" else 200
    )


@pytest.mark.parametrize("kind", ["status", "drop"])
def test_a_fault_by_schedule_and_by_probability(
    kind: str, v1: Emulator, v1_client: V1Client
) -> None:
    def is_hit() -> bool:
        return _is_cut(ask) if kind == "drop" else ask().status_code == 503

    def ask() -> requests.Response:
        return v1_client.get("stat", "/home/demo")

    v1.faults.add(kind, "utilities/stat", count=-1, probability=0.5, end=3600.0)
    hits = [is_hit() for _ in range(40)]
    assert 5 < sum(hits) < 35
    v1.faults.clear()
    v1.faults.add(kind, "utilities/stat", count=-1, begin=3600.0)
    assert not is_hit()
    v1.faults.clear()
    v1.faults.add(kind, "utilities/stat", count=-1, end=0.0)
    assert not is_hit()
    v1.faults.clear()
    v1.faults.add(kind, "utilities/stat", count=-1, after=1, every=2)
    assert [is_hit() for _ in range(5)] == [False, False, True, False, True]
