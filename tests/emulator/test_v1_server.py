"""API v1 as a whole: the gateway, tokens, the status pages and what the front door adds."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests

from firecrestfs.emulator import Emulator, FileSystem, SystemSpec

from .conftest import V1Client


def test_gateway_refuses_what_no_service_answers(v1_client: V1Client) -> None:
    for method, path in (
        ("GET", "/"),
        ("GET", "/filesystem/cluster/ops/ls"),
        ("DELETE", "/tasks/0123"),
        ("POST", "/status/systems"),
        ("GET", "/reservations"),
    ):
        response = v1_client.call(method, path)
        assert (response.status_code, response.text) == (400, '{"message":"Invalid"}\n')


def test_open_gateway_lets_a_task_be_deleted(v1: Emulator, v1_client: V1Client) -> None:
    v1.knobs.put("open_gateway", True)
    task = v1_client.begin("GET", "/compute/nodes")
    v1_client.wait(task)
    assert v1_client.call("DELETE", f"/tasks/{task}").status_code == 204
    assert v1_client.task(task)["status"] == "302"
    assert v1_client.task(task)["data"] == ""
    assert v1_client.listed(task)["status"] == "200"


def test_services_answer_in_html_where_flask_does(v1_client: V1Client) -> None:
    missing = v1_client.call("GET", "/utilities/nosuch")
    assert missing.status_code == 404
    assert missing.headers["Content-Type"] == "text/html; charset=utf-8"
    assert v1_client.call("POST", "/utilities/ls").status_code == 405
    assert v1_client.get("download", "/home/demo").status_code == 500
    assert v1_client.call("GET", "/utilities/ls/").status_code == 404


def test_json_is_sorted_compact_and_ends_a_line(v1_client: V1Client) -> None:
    text = v1_client.get("stat", "/home/demo/é").text
    expected = "stat: cannot statx '/home/demo/\\u00e9': No such file or directory"
    assert text == f'{{"description":"Error on stat operation","error":"{expected}"}}\n'


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (None, "No Auth Header given"),
        ("Bearer garbage", "Bad header or JWT, general exception raised"),
        ("bearer {good}", "Bad header or JWT, general exception raised"),
        ("Bearer {old}", "JWT token has expired"),
        ("Bearer {forged}", "JWT token has invalid signature"),
    ],
)
def test_tokens_are_refused_in_the_services_words(
    v1: Emulator, header: str | None, words: str
) -> None:
    tokens = {
        "good": v1.tokens.issue("demo", 300),
        "old": v1.tokens.issue("demo", -1),
        "forged": v1.tokens.issue("demo", 300, key=b"another key of thirty-two bytes!"),
    }
    headers = {"X-Machine-Name": "cluster"}
    if header is not None:
        headers["Authorization"] = header.format(**tokens)
    with requests.Session() as http:
        http.trust_env = False
        response = http.get(f"{v1.url}/utilities/whoami", headers=headers, timeout=10)
    assert (response.status_code, response.json()) == (401, {"description": words})


def test_a_token_that_lives_for_seconds_is_good(v1: Emulator) -> None:
    client = V1Client(v1.url, v1.tokens.issue("demo", 5))
    assert client.call("GET", "/utilities/whoami").json()["output"] == "demo"
    client.http.close()


@pytest.mark.parametrize("service", ["utilities", "storage", "compute", "tasks"])
def test_liveness_needs_a_token_and_no_system(v1_client: V1Client, service: str) -> None:
    del v1_client.http.headers["X-Machine-Name"]
    assert v1_client.call("GET", f"/{service}/status").json() == {"success": "ack"}


def _parameter(client: V1Client, group: str, name: str) -> str:
    headers = {"Cache-Control": "no-cache"}
    out = client.call("GET", "/status/parameters", headers=headers).json()["out"]
    return str(next(row["value"] for row in out[group] if row["name"] == name))


@pytest.mark.parametrize("size", [5 * 2**20, 100_000, 1, 2**20 + 1, 3 * 2**19])
def test_published_limit_is_the_real_one(v1: Emulator, v1_client: V1Client, size: int) -> None:
    v1.knobs.put("max_ops_file_size", size)
    text = _parameter(v1_client, "utilities", "UTILITIES_MAX_FILE_SIZE")
    assert float(text) * 2**20 == size
    assert text.isdigit() == (size % 2**20 == 0)


def test_version_may_be_empty_or_missing(v1: Emulator, v1_client: V1Client) -> None:
    assert _parameter(v1_client, "general", "FIRECREST_VERSION") == "1.16.6"
    v1.knobs.put("server_version", "")
    assert _parameter(v1_client, "general", "FIRECREST_VERSION") == ""
    v1.knobs.put("server_version", "-")
    headers = {"Cache-Control": "no-cache"}
    out = v1_client.call("GET", "/status/parameters", headers=headers).json()["out"]
    assert "general" not in out


def test_status_is_kept_until_somebody_asks_anew(v1: Emulator, v1_client: V1Client) -> None:
    def state(**headers: str) -> str:
        response = v1_client.call("GET", "/status/systems/cluster", headers=headers)
        return str(response.json()["out"]["description"])

    assert state() == "System ready"
    v1.knobs.put("unhealthy", "/scratch")
    assert state() == "System ready"
    assert state(**{"Cache-Control": "no-cache"}) == "Filesystem /scratch is not available"
    v1.knobs.put("unhealthy", "")
    assert state() == "Filesystem /scratch is not available"
    v1.knobs.put("status_cache", 0)
    assert state() == "System ready"


def test_systems_differ_in_file_systems_and_health(tmp_path: Path) -> None:
    home = FileSystem("/home", "users")
    systems = (SystemSpec("one"), SystemSpec("two", file_systems=(home,), down=True))
    with Emulator(tmp_path / "root", api="v1", systems=systems) as emulator:
        client = V1Client(emulator.url, emulator.tokens.issue("demo", 300))
        out = client.call("GET", "/status/filesystems").json()["out"]
        assert [(fs["path"], fs["status"]) for fs in out["one"]] == [
            ("/home", "available"),
            ("/scratch", "available"),
        ]
        assert [(fs["path"], fs["status"]) for fs in out["two"]] == [("/home", "not available")]
        client.http.headers["X-Machine-Name"] = "two"
        response = client.get("ls", "/home")
        assert response.headers["X-Error"] == "Connection refused"
        client.http.close()


def test_log_and_faults_know_the_endpoints_of_v1(v1: Emulator, v1_client: V1Client) -> None:
    v1.faults.add("status", "utilities/stat", path="*/x", status=429, headers={"Retry-After": "1"})
    assert v1_client.get("stat", "/home/demo").status_code == 200
    limited = v1_client.get("stat", "/home/demo/x")
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "1")
    v1_client.call("GET", "/tasks")
    v1_client.call("GET", "/compute/nodes")
    endpoints = [entry.endpoint for entry in v1.requests]
    assert endpoints == ["utilities/stat", "utilities/stat", "tasks/list", "compute/nodes"]


def test_long_request_lines_are_refused_by_the_server_in_front(v1_client: V1Client) -> None:
    response = v1_client.get("stat", "/home/demo/" + "x" * 5000)
    assert response.status_code == 400
    assert "Request Line is too large" in response.text
