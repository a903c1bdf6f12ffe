"""Sites of API v1 that are made otherwise: older object stores, the old service of reservations."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import Any

import pytest

from firecrestfs.api import Firecrest, NotImplementedOnAPIversion, ServerV1, StaticToken
from firecrestfs.emulator import Emulator
from firecrestfs.errors import FirecrestException

from .script import Act, ScriptedServer, reply

M = "cluster"
CREATED = reply(201, {"success": "Task created", "task_id": "a" * 32})
STAT = {"mode": 0o100644, "size": 4, "mtime": 1, "ctime": 1, "atime": 1, "uid": 1, "gid": 1}
MISSING = reply(400, {"error": "stat: cannot statx '/d/f': No such file or directory"})
DIRECTORY = reply(200, {"output": {**STAT, "mode": 0o040755}})
LANDED = reply(200, {"output": STAT})


@pytest.fixture(scope="module")
def version() -> str:
    return "v1"


def client_of(server: ScriptedServer, storage: str, *acts: Act) -> Firecrest:
    server.play(*acts)
    client = Firecrest(server.url, StaticToken("t"), deadline_s=5)
    told = {"storage": [{"name": "OBJECT_STORAGE", "value": storage}]}
    client._server = ServerV1(client.session, told)
    return client


def task(status: str, data: Any) -> Act:
    return reply(200, {"task": {"hash_id": "a" * 32, "status": status, "data": data}})


def offer(server: ScriptedServer, method: str, path: str, **parameters: Any) -> Act:
    """The task of an upload that waits for the bytes."""
    told = {
        "method": method,
        "url": f"{server.url}{path}",
        "files": "report.bin",
        "headers": {},
        "json": {},
        "data": {},
        "params": {},
        **parameters,
    }
    message = {"command": "curl …", "parameters": told}
    return task("111", {"msg": message, "status": "111", "source": "report.bin"})


def send(client: Firecrest) -> None:
    source = io.BytesIO(b"data")
    source.name = "report.bin"
    client.external_upload(M, source, "/d/f").finish_upload(timeout=5)


# -- object stores ----------------------------------------------------------------------------


def test_the_older_kind_of_s3_gets_the_bare_bytes(server: ScriptedServer) -> None:
    params = {"AWSAccessKeyId": "key", "Signature": "a+b/c=", "Expires": 1800000000}
    told = offer(server, "PUT", "/me/task/report.bin", params=params)
    client = client_of(server, "s3v2", MISSING, DIRECTORY, CREATED, told, reply(200))
    send(client)
    sent = server.seen[-1]
    # The signature covers the type of the content: there must be none.
    assert "content-type" not in sent.headers
    assert sent.headers["content-length"] == "4"
    assert sent.line.split()[:2] == [
        "PUT",
        "/me/task/report.bin?AWSAccessKeyId=key&Signature=a%2Bb%2Fc%3D&Expires=1800000000",
    ]
    assert sent.body == b"data"
    assert "authorization" not in sent.headers


def test_swift_gets_a_form_whose_file_has_the_announced_name(server: ScriptedServer) -> None:
    fields = {
        "max_file_size": 5368709120,
        "max_file_count": 1,
        "expires": 1800000000,
        "signature": "0a1b",
        "redirect": "",
    }
    told = offer(server, "POST", "/v1/AUTH_x/me/task/", data=fields)
    client = client_of(server, "swift", MISSING, DIRECTORY, CREATED, told, reply(201))
    send(client)
    sent = server.seen[-1]
    assert sent.line.split()[:2] == ["POST", "/v1/AUTH_x/me/task/"]
    for name, value in fields.items():
        assert f'name="{name}"\r\n\r\n{value}\r\n'.encode() in sent.body
    # Another name would be another object, which nobody looks for.
    assert b'name="file"; filename="report.bin"\r\n' in sent.body
    assert sent.body.index(b'name="redirect"') < sent.body.index(b'name="file"')
    assert server.seen[2].body.count(b"sourcePath=report.bin") == 1


@pytest.mark.parametrize("storage", ["swift", "Swift"])
def test_swift_never_shows_an_empty_file(server: ScriptedServer, storage: str) -> None:
    """So it is sent directly."""
    empty = reply(200, {"output": {**STAT, "size": 0}})
    acts = (MISSING, DIRECTORY, MISSING, reply(201, {"output": ""}), empty)
    client = client_of(server, storage, *acts)
    upload = client.external_upload(M, io.BytesIO(b""), "/d/f")
    assert upload.status == "111"
    upload.finish_upload()
    upload.wait(timeout=5)
    assert upload.status == "114"
    asked = [seen.line.split()[1].partition("?")[0] for seen in server.seen]
    assert "/utilities/upload" in asked
    assert not [path for path in asked if path.startswith("/storage")]


def test_a_site_without_an_object_store_says_so(server: ScriptedServer) -> None:
    """Its storage service doesn't even start: requests would end in the gateway's 502."""
    client = client_of(server, "", MISSING, DIRECTORY)
    for act in (
        lambda: client.external_download(M, "/d/f"),
        lambda: client.external_upload(M, io.BytesIO(b"data"), "/d/f"),
    ):
        exc = _refused(act)
        assert exc.errno == errno.EOPNOTSUPP
        assert "no object store" in str(exc)
    assert not [seen for seen in server.seen if "/storage/" in seen.line]


@pytest.mark.parametrize("bare", [True, False])
def test_links_of_any_store_are_fetched(server: ScriptedServer, bare: bool) -> None:
    """Servers up to 1.13 tell the link only, later ones an object that holds it."""
    url = f"{server.url}/v1/AUTH_x/me/task/f?temp_url_sig=0a&temp_url_expires=9"
    found = url if bare else {"url": url, "source": "/d/f", "system_name": M}
    client = client_of(server, "swift", CREATED, task("117", found), reply(200, b"data"))
    sink = io.BytesIO()
    client.external_download(M, "/d/f").finish_download(sink, timeout=5)
    assert sink.getvalue() == b"data"
    assert "authorization" not in server.seen[-1].headers


# -- advance reservations ---------------------------------------------------------------------

TIMES = ("2027-01-01T00:00:00", "2027-01-02T00:00:00")


def test_reservations_are_listed(server: ScriptedServer) -> None:
    told = [{"reservationname": "mine", "nodes": "nid1"}]
    client = client_of(server, "s3v4", reply(200, {"success": told}))
    assert client.all_reservations(M) == told
    assert server.seen[-1].line.startswith("GET /reservations ")
    assert server.seen[-1].headers["x-machine-name"] == M


def test_reservations_are_changed(server: ScriptedServer) -> None:
    client = client_of(server, "s3v4", reply(201, {"success": "made"}))
    client.create_reservation(M, "mine", "proj", "2", "gpu", *TIMES)
    made = server.seen[-1]
    assert made.line.startswith("POST /reservations ")
    for part in (b"reservation=mine", b"numberOfNodes=2", b"starttime=2027-01-01T00%3A00%3A00"):
        assert part in made.body
    server.play(reply(200, {"success": "changed"}), reply(204))
    client.update_reservation(M, "mine", "proj", "3", "gpu", *TIMES)
    assert server.seen[-1].line.startswith("PUT /reservations/mine ")
    client.delete_reservation(M, "mine")
    assert server.seen[-1].line.startswith("DELETE /reservations/mine ")


def test_a_refused_reservation_says_why(server: ScriptedServer) -> None:
    words = "'numberOfNodes' parameter is not valid. It should be an integer > 0"
    body = {"error": "Error creating reservation", "description": words}
    client = client_of(server, "s3v4", reply(400, body))
    exc = _refused(lambda: client.create_reservation(M, "mine", "proj", "x", "gpu", *TIMES))
    assert exc.errno == errno.EINVAL
    assert "numberOfNodes" in str(exc)


def test_most_sites_have_no_service_for_them(emu: Emulator, client: Firecrest) -> None:
    for act in (
        lambda: client.all_reservations(M),
        lambda: client.create_reservation(M, "mine", "proj", "1", "gpu", *TIMES),
        lambda: client.delete_reservation(M, "mine"),
    ):
        assert _refused(act).errno == errno.ENOSYS


def test_v2_has_none(server: ScriptedServer) -> None:
    client = Firecrest(server.url, StaticToken("t"), api_version="2")
    with pytest.raises(NotImplementedOnAPIversion):
        client.all_reservations(M)


def _refused(act: Callable[[], Any]) -> FirecrestException:
    with pytest.raises(FirecrestException) as caught:
        act()
    return caught.value
