"""Each kind of fault, as a client sees it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import requests

from firecrestfs.emulator import Emulator, Fault

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


HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (408, {"errorType": "error", "message": "Command execution timeout limit exceeded."}, {}),
        (413, {"errorType": "error", "message": "File to upload is too large."}, {}),
        (424, {"errorType": "error", "message": "Unable to open a new SSH channel."}, {}),
        (429, "API rate limit exceeded", {"Retry-After": "3"}),
        (429, "API rate limit exceeded", {"RateLimit-Reset": "3"}),
        (500, {"errorType": "error", "message": "Remote process failed with exit status:None"}, {}),
        (502, HTML, {"Content-Type": "text/html"}),
        (503, "down for maintenance", {"Content-Type": "text/plain"}),
        (504, "", {}),
    ],
)
def test_every_answer_can_be_put_in_place_of_every_route(
    status: int,
    body: Any,
    headers: dict[str, str],
    emulator: Emulator,
    client: Client,
    home: Path,
) -> None:
    for endpoint, path in (
        ("ops/mkdir", "/filesystem/cluster/ops/mkdir"),
        ("transfer/cp", "/filesystem/cluster/transfer/cp"),
        ("jobs/submit", "/compute/cluster/jobs"),
        ("token", "/_auth/token"),
    ):
        emulator.faults.add("status", endpoint, status=status, body=body, headers=headers)
        response = client.call("POST", path, json={"path": "/home/demo/d"})
        assert response.status_code == status
        assert (response.text if isinstance(body, str) else response.json()) == body
        assert headers.items() <= response.headers.items()
    assert not list(home.iterdir())


def test_every_third_request_between_two_moments(emulator: Emulator, client: Client) -> None:
    emulator.faults.add("status", "ops/stat", every=3, count=-1, begin=0.2, end=0.6)

    def codes(number: int) -> list[int]:
        return [client.get("stat", "/home/demo").status_code for _ in range(number)]

    assert codes(4) == [200] * 4
    time.sleep(0.25)
    assert codes(6) == [200, 200, 503] * 2
    time.sleep(0.4)
    assert codes(4) == [200] * 4


def test_about_half_of_the_requests_but_the_same_ones(emulator: Emulator, client: Client) -> None:
    emulator.faults.add("status", "ops/stat", probability=0.5, count=-1)
    codes = [client.get("stat", "/home/demo").status_code for _ in range(40)]
    assert 8 < codes.count(503) < 32


def test_tokens_may_expire_midway(emulator: Emulator, client: Client) -> None:
    emulator.faults.add("expire_tokens", after=2)
    codes = [client.get("ls", "/home/demo").status_code for _ in range(4)]
    assert codes == [200, 200, 401, 401]


@pytest.mark.parametrize("status", [408, 0])
def test_a_torn_upload_leaves_its_beginning(
    status: int, emulator: Emulator, client: Client, home: Path
) -> None:
    (home / "f").write_bytes(b"old content")
    emulator.faults.add("torn", "ops/upload", bytes=4, status=status)
    if status:
        assert client.upload("/home/demo", "f", b"0123456789").status_code == status
    else:
        with pytest.raises(requests.ConnectionError):
            client.upload("/home/demo", "f", b"0123456789")
    assert (home / "f").read_bytes() == b"0123"
    assert client.upload("/home/demo", "f", b"0123456789").status_code == 204


KEY = "demo/1/f"


def test_faults_of_the_object_store(emulator: Emulator) -> None:
    store, faults = emulator.store, emulator.faults
    put, get = store.presign("PUT", KEY), store.presign("GET", KEY)
    faults.add("torn", "store/put", bytes=4, status=0)
    faults.add("drop", "store/put")
    faults.add("status", "store/put", status=503, body="<Error><Code>SlowDown</Code></Error>")
    for _ in range(2):
        with pytest.raises(requests.ConnectionError):
            requests.put(put, data=b"0123456789", timeout=10)
    assert "SlowDown" in requests.put(put, data=b"0123456789", timeout=10).text
    assert not store.exists(KEY)
    faults.add("lost_answer", "store/put", path="demo/1/*")
    with pytest.raises(requests.ConnectionError):
        requests.put(put, data=b"0123456789", timeout=10)
    assert store.exists(KEY)
    faults.add("cut_body", "store/get", bytes=4)
    faults.add("stall_body", "store/get", bytes=4, seconds=0.3)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.get(get, timeout=10)
    started = time.perf_counter()
    assert requests.get(get, timeout=10).content == b"0123456789"
    assert time.perf_counter() - started >= 0.3
    with pytest.raises(requests.Timeout):
        faults.add("stall", "store/get", seconds=0.5)
        requests.get(get, timeout=0.1)


def test_completion_may_answer_200_with_an_error(emulator: Emulator) -> None:
    upload_id = emulator.store.create_upload(KEY)
    part = emulator.store.presign("PUT", KEY, uploadId=upload_id, partNumber=1)
    tag = requests.put(part, data=b"data", timeout=10).headers["ETag"]
    body = "<Error><Code>InternalError</Code></Error>"
    emulator.faults.add("status", "store/complete", status=200, body=body)
    rows = f"<Part><PartNumber>1</PartNumber><ETag>{tag}</ETag></Part>"
    parts = f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>"
    url = emulator.store.presign("POST", KEY, uploadId=upload_id)
    assert requests.post(url, data=parts, timeout=10).text == body
    assert not emulator.store.exists(KEY)
    emulator.faults.add("late_status", "store/complete", status=200, body=body)
    assert requests.post(url, data=parts, timeout=10).text == body
    assert emulator.store.exists(KEY)


def test_latency_of_api_and_object_store(emulator: Emulator, client: Client) -> None:
    emulator.store.put(KEY, [b"data"])
    for knob, call in (
        ("latency", lambda: client.get("ls", "/home/demo")),
        ("store_latency", lambda: requests.get(emulator.store.presign("GET", KEY), timeout=10)),
    ):
        emulator.knobs.put(knob, 200)
        started = time.perf_counter()
        assert call().status_code == 200
        assert time.perf_counter() - started >= 0.2
        emulator.knobs.put(knob, 0)


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


def test_a_rule_as_text() -> None:
    found = Fault.from_text("stall,match=ops/*,seconds=1.5,count=-1,probability=0.1,begin=2,end=9")
    assert (found.kind, found.match, found.seconds, found.count) == ("stall", "ops/*", 1.5, -1)
    assert (found.probability, found.begin, found.end) == (0.1, 2, 9)
    same = Fault.from_text('{"kind": "status", "status": 429, "headers": {"Retry-After": "2"}}')
    also = Fault.from_text("status,status=429,headers.Retry-After=2")
    assert (same.headers, same.status) == (also.headers, also.status) == ({"Retry-After": "2"}, 429)
