"""Every class of error, by pyFirecREST's name for it, as an answer over HTTP provokes it."""

from __future__ import annotations

import errno
from typing import Any

import pytest

import firecrestfs.api as f7t

from .script import ScriptedServer, own, reply

S = "cluster"
PAGE = "<html>portal</html>"


def failing(status: int, error: str, header: str = "") -> Any:
    headers = {header: "why"} if header else {}
    return reply(status, {"description": "Failed", "error": error}, headers)


@pytest.mark.parametrize(
    ("version", "act", "name"),
    [
        ("1", failing(400, "", "X-Invalid-Path"), "HeaderException"),
        ("1", failing(400, "", "X-Permission-Denied"), "HeaderException"),
        ("1", failing(400, "", "X-A-Directory"), "HeaderException"),
        ("1", failing(400, "", "X-Timeout"), "HeaderException"),
        ("1", failing(400, "", "X-Machine-Does-Not-Exist"), "HeaderException"),
        ("1", reply(401, {"message": "Unauthorized"}), "UnauthorizedException"),
        ("2", own(401, "token expired"), "UnauthorizedException"),
        ("2", own(404, "System not found."), "HeaderException"),
        ("2", own(501, "Scheduler can't handle this request"), "NotImplementedOnAPIversion"),
        ("1", reply(200, PAGE), "UnexpectedStatusException"),
        ("2", reply(200, PAGE), "NoJSONException"),
        ("2", reply(200, b"no json"), "NoJSONException"),
    ],
)
def test_names(server: ScriptedServer, version: str, act: Any, name: str) -> None:
    client = f7t.Firecrest(server.url, f7t.StaticToken("t0k"), api_version=version)
    client.timeout = 5
    server.play(act)
    with pytest.raises(f7t.FirecrestException) as caught:
        client.stat(S, "/home/demo/f")
    exc = caught.value
    assert isinstance(exc, getattr(f7t, name)), repr(exc)
    assert exc.errno
    assert exc.responses[-1].status_code
    assert type(exc.responses[-1]).__module__.startswith("firecrestfs")


def test_a_rejected_secret(server: ScriptedServer) -> None:
    server.play(reply(401, {"error": "invalid_client"}))
    auth = f7t.ClientCredentialsAuth("me", "s3krit", f"{server.url}/token")
    with pytest.raises(f7t.ClientsCredentialsException) as caught:
        f7t.Firecrest(server.url, auth, api_version="2").all_systems()
    assert "s3krit" not in str(caught.value)


def test_settings_of_old_scripts(server: ScriptedServer) -> None:
    client = f7t.Firecrest(server.url, f7t.StaticToken("t0k"), True, "a-role")
    client.set_api_version("1.16.0")
    client.timeout = 3
    assert client.timeout == client.session.deadline_s == 3
    assert isinstance(client.server(), f7t.ServerV1)
    assert f7t.TokenCommandAuth is f7t.TokenCommand


def test_nothing_of_requests_hangs_on_an_error(server: ScriptedServer) -> None:
    # Its exceptions hold the request: whoever reports an error with all it came from would report
    # the token.
    nowhere = "http://127.0.0.1:1"
    calls = [
        lambda: f7t.Firecrest(nowhere, f7t.StaticToken("t0k"), api_version="2").all_systems(),
        lambda: f7t.Firecrest(nowhere, f7t.StaticToken("t0k")).all_systems(),
        lambda: f7t.ClientCredentialsAuth("me", "s3krit", f"{nowhere}/token").get_access_token(),
    ]
    for call in calls:
        with pytest.raises(f7t.FirecrestException) as caught:
            call()
        assert caught.value.errno == errno.EHOSTUNREACH
        assert _origins(caught.value) == {"firecrestfs"}


def _origins(exc: BaseException | None) -> set[str]:
    """Return the packages of *exc* and of all it came from."""
    if exc is None:
        return set()
    here = {type(exc).__module__.split(".")[0]}
    return here | _origins(exc.__cause__) | _origins(exc.__context__)
