"""Sending: what is repeated, what waits, what is never sent, and that nothing hangs."""

from __future__ import annotations

import contextlib
import errno
import gzip
import logging
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import ApiSession, StaticToken, faults
from firecrestfs.api.session import Answer, Request
from firecrestfs.errors import FirecrestException

from .script import (
    Act,
    ScriptedServer,
    cut,
    drip,
    hang_up,
    own,
    reply,
    reset,
    silent,
)

OK = reply(200, {"ok": True}, {"F7T-AppVersion": "2.x.x"})


def session(server: ScriptedServer, **how: Any) -> ApiSession:
    how.setdefault("deadline_s", 10.0)
    return ApiSession(server.url, how.pop("tokens", StaticToken("t0ken")), **how)


def get(api: ApiSession, **how: Any) -> Answer:
    return api.request(Request("GET", "/x/ops", "/x/ops", idempotent=True, mutating=False, **how))


def post(api: ApiSession, **how: Any) -> Answer:
    return api.request(Request("POST", "/x/ops", "/x/ops", json={"a": 1}, **how))


def refused(act: Callable[[], object]) -> FirecrestException:
    with pytest.raises(FirecrestException) as caught:
        act()
    return caught.value


# -- what a request carries ---------------------------------------------------------------------


def test_a_request_carries_the_token_and_a_new_uuid(server: ScriptedServer) -> None:
    server.play(OK)
    api = session(server)
    assert get(api).json() == {"ok": True}
    get(api)
    first, second = (seen.headers for seen in server.seen)
    assert first["authorization"] == "Bearer t0ken"
    assert uuid.UUID(first["x-request-id"]).version == 4
    assert first["x-request-id"] != second["x-request-id"]


def test_netrc_never_replaces_the_token(
    server: ScriptedServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password sekrit\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    server.play(OK)
    get(session(server))
    assert server.seen[0].headers["authorization"] == "Bearer t0ken"


def test_connections_are_kept(server: ScriptedServer) -> None:
    server.play(OK)
    api = session(server)
    for _ in range(5):
        get(api)
    assert {seen.connection for seen in server.seen} == {1}


def test_redirects_are_not_followed(server: ScriptedServer) -> None:
    with ScriptedServer() as other:
        server.play(reply(307, "", {"Location": other.url + "/x"}))
        exc = refused(lambda: get(session(server)))
        assert exc.errno == errno.EREMOTEIO
        assert other.seen == []


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://hpc.example.org", False),
        ("https://hpc.example.org/v2", True),
        ("http://127.0.0.1:1", True),
        ("http://localhost:1", True),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost.example.org", False),
        ("http://127.example.org", False),
        ("ftp://hpc.example.org", False),
        ("https://me:pw@hpc.example.org", False),
        ("hpc.example.org", False),
    ],
)
def test_tokens_travel_encrypted(url: str, allowed: bool) -> None:
    if allowed:
        ApiSession(url, StaticToken("t"))
    else:
        exc = refused(lambda: ApiSession(url, StaticToken("t")))
        assert exc.errno == errno.EINVAL
        assert "pw" not in str(exc)
    if url.startswith("http://"):
        ApiSession(url, StaticToken("t"), allow_http=True)


# -- answers ------------------------------------------------------------------------------------


def test_a_web_page_is_no_answer(server: ScriptedServer) -> None:
    server.play(reply(200, "<html>please log in</html>"))
    exc = refused(lambda: get(session(server)))
    assert (exc.errno, exc.transient) == (errno.EBADMSG, True)
    assert refused(lambda: post(session(server))).ambiguous


def test_json_that_is_none(server: ScriptedServer) -> None:
    server.play(reply(200, b"{oops", {"F7T-AppVersion": "2.x.x"}))
    answer = get(session(server))
    assert refused(answer.json).errno == errno.EBADMSG


def test_html_502s_are_repeated_for_reads(server: ScriptedServer) -> None:
    page = reply(502, "<html>Bad Gateway</html>")
    server.play(page, page, OK)
    assert get(session(server)).status_code == 200
    assert len(server.seen) == 3


def test_html_502s_end_some_day(server: ScriptedServer) -> None:
    server.play(reply(502, "<html>Bad Gateway</html>"))
    exc = refused(lambda: get(session(server)))
    assert (exc.errno, exc.transient) == (errno.EHOSTUNREACH, True)
    assert exc.responses[-1].status_code == 502
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    "act",
    [
        own(500, "Remote process failed with exit status:None"),
        own(424, "Unable to open a new SSH channel."),
        own(424, "SSH connection Reset."),
        reply(503, "<html>"),
        reply(504, "<html>"),
    ],
)
def test_what_passes_is_repeated_for_reads_only(server: ScriptedServer, act: Act) -> None:
    server.play(act, OK)
    assert get(session(server)).status_code == 200
    server.play(act, OK)
    assert refused(lambda: post(session(server))).transient


@pytest.mark.parametrize(
    "act",
    [
        own(500, "(\"'NoneType' object\",)"),
        own(408, "Command execution timeout limit exceeded."),
        own(413, "Command output exceeded buffer limit."),
        own(404, "Not Found"),
    ],
)
def test_what_stays_is_not_repeated(server: ScriptedServer, act: Act) -> None:
    server.play(act, OK)
    refused(lambda: get(session(server)))
    assert len(server.seen) == 1


def test_the_pause_between_repeats_grows(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecrestfs.api.session._PAUSE", 0.3)
    server.play(reply(502, "<html>"))
    start = time.monotonic()
    refused(lambda: get(session(server)))
    assert 0.3 * 3 * 0.7 <= time.monotonic() - start <= 0.3 * 3 * 1.3 + 0.3


def test_no_repeat_beyond_the_deadline(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecrestfs.api.session._PAUSE", 5.0)
    server.play(reply(502, "<html>"))
    start = time.monotonic()
    assert refused(lambda: get(session(server), deadline_s=2)).errno == errno.EHOSTUNREACH
    assert time.monotonic() - start < 1


def test_an_unhealthy_system_is_not_asked_again(server: ScriptedServer) -> None:
    server.play(own(503, "The ssh service for the requested system (s) is unhealthy."))
    assert refused(lambda: get(session(server))).errno == errno.EHOSTDOWN
    assert len(server.seen) == 1


def test_a_huge_answer_is_refused(server: ScriptedServer) -> None:
    server.play(reply(200, b"x" * 3000))
    assert refused(lambda: get(session(server), limit=2000)).errno == errno.EFBIG


def test_a_compressed_answer_counts_as_what_it_unpacks_to(server: ScriptedServer) -> None:
    packed = gzip.compress(b"x" * 3_000_000)
    server.play(reply(200, packed, {"Content-Encoding": "gzip"}))
    api = session(server)
    assert get(api).body == b"x" * 3_000_000
    assert refused(lambda: get(api, limit=2_000_000)).errno == errno.EFBIG


def chunked(*chunks: bytes, end: bool = True) -> Act:
    def act(sock: Any) -> bool:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for chunk in chunks:
            sock.sendall(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        if end:
            sock.sendall(b"0\r\n\r\n")
        return end

    return act


def test_a_chunked_answer(server: ScriptedServer) -> None:
    server.play(chunked(b"one", b"two" * 50_000), OK)
    api = session(server)
    assert get(api).body == b"one" + b"two" * 50_000
    get(api)
    assert server.seen[-1].connection == 1
    server.play(chunked(b"one", end=False), OK)
    assert get(api).json() == {"ok": True}


def test_a_large_answer_comes_whole(server: ScriptedServer) -> None:
    body = bytes(range(256)) * 20_000
    server.play(reply(200, body))
    assert get(session(server)).body == body


# -- broken connections -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [hang_up, reset, cut(100, b"abc")])
def test_a_read_survives_one_broken_connection(server: ScriptedServer, fault: Act) -> None:
    server.play(fault, OK)
    assert get(session(server)).status_code == 200


@pytest.mark.parametrize("fault", [hang_up, reset, cut(100, b"abc")])
def test_a_change_is_sent_once_and_left_open(server: ScriptedServer, fault: Act) -> None:
    server.play(fault, OK)
    exc = refused(lambda: post(session(server)))
    assert exc.transient
    assert exc.ambiguous
    assert len(server.seen) == 1


def test_a_refused_connection_is_not_ambiguous_and_names_the_server() -> None:
    exc = refused(lambda: post(ApiSession("http://127.0.0.1:9", StaticToken("t"))))
    assert (exc.errno, exc.ambiguous, exc.filename) == (errno.EHOSTUNREACH, False, None)
    said = "127.0.0.1:9 can't be reached (Connection refused): check the network"
    assert str(exc.strerror).startswith(said)


def test_an_unknown_host_is_called_one() -> None:
    api = ApiSession("https://nosuchhost.invalid", StaticToken("t"), deadline_s=5)
    exc = refused(lambda: get(api))
    assert (exc.errno, exc.transient, exc.filename) == (errno.EHOSTUNREACH, True, None)
    assert str(exc.strerror).startswith("nosuchhost.invalid:443: unknown host (")


def test_the_date_of_the_latest_answer_is_kept(server: ScriptedServer) -> None:
    server.play(
        reply(200, {}, {"Date": "Mon, 01 Jul 2024 12:00:00 GMT"}),
        reply(200, {}),
        own(404, "Not Found", {"Date": "Mon, 01 Jul 2024 12:00:09 GMT"}),
    )
    api = session(server)
    assert api.server_date() == ""
    get(api)
    get(api)
    assert api.server_date() == "Mon, 01 Jul 2024 12:00:00 GMT"
    refused(lambda: get(api))
    assert api.server_date() == "Mon, 01 Jul 2024 12:00:09 GMT"


def test_idle_connections_closed_by_the_server_do_not_show(server: ScriptedServer) -> None:
    server.play(OK)
    api = session(server)
    get(api)
    server.close_connections()
    get(api)
    server.close_connections()
    time.sleep(0.05)
    post(api)
    assert len({seen.connection for seen in server.seen}) == 3


def test_a_kept_connection_that_dies_under_a_read(server: ScriptedServer) -> None:
    server.play(OK, hang_up, OK)
    api = session(server)
    get(api)
    start = time.monotonic()
    get(api)
    assert time.monotonic() - start < 0.3


def test_a_change_does_not_trust_a_connection_that_was_idle(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecrestfs.api.pool._FRESH", 0.0)
    server.play(OK)
    api = session(server)
    get(api)
    time.sleep(0.01)
    post(api)
    assert [seen.connection for seen in server.seen] == [1, 2]


# -- deadlines and interrupts -------------------------------------------------------------------


def test_the_deadline_covers_silence(server: ScriptedServer) -> None:
    server.play(silent(5))
    start = time.monotonic()
    exc = refused(lambda: get(session(server), deadline_s=0.5))
    assert time.monotonic() - start < 1.5
    assert (exc.errno, exc.transient, exc.ambiguous) == (errno.ETIMEDOUT, True, False)
    assert refused(lambda: post(session(server), deadline_s=0.5)).ambiguous


def test_the_deadline_covers_dripping_bodies(server: ScriptedServer) -> None:
    server.play(drip(100, 0.1))
    start = time.monotonic()
    assert refused(lambda: get(session(server), deadline_s=0.6)).errno == errno.ETIMEDOUT
    assert time.monotonic() - start < 1.6


def test_a_slow_body_is_fine_within_the_deadline(server: ScriptedServer) -> None:
    server.play(drip(10, 0.05))
    assert get(session(server, read_timeout_s=0.3)).body == b"x" * 10


def test_a_silent_server_is_given_up_after_the_read_timeout(server: ScriptedServer) -> None:
    server.play(silent(5))
    start = time.monotonic()
    exc = refused(lambda: get(session(server, read_timeout_s=0.4)))
    assert time.monotonic() - start < 1.5
    assert exc.errno == errno.ETIMEDOUT
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "script",
    [
        (silent(5),),
        (drip(100, 0.1),),
        (reply(429, b"", {"Retry-After": "5"}),),
    ],
)
def test_an_interrupt_ends_every_wait(server: ScriptedServer, script: tuple[Act, ...]) -> None:
    server.play(*script)
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    start = time.monotonic()
    exc = refused(lambda: get(session(server, interrupted=stop.is_set)))
    assert time.monotonic() - start < 1.2
    assert exc.errno == errno.EINTR


def test_an_interrupted_change_is_ambiguous(server: ScriptedServer) -> None:
    server.play(silent(5))
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    exc = refused(lambda: post(session(server, interrupted=stop.is_set)))
    assert (exc.errno, exc.ambiguous) == (errno.EINTR, True)


def test_drop_connections_frees_those_who_wait(server: ScriptedServer) -> None:
    server.play(silent(5))
    api = session(server)
    threading.Timer(0.3, api.drop_connections).start()
    start = time.monotonic()
    exc = refused(lambda: get(api))
    assert time.monotonic() - start < 1.2
    assert (exc.errno, exc.transient) == (errno.ECONNABORTED, True)
    server.play(OK)
    assert get(api).status_code == 200


def test_a_slow_upload_is_fine_while_it_moves(server: ScriptedServer) -> None:
    """The whole body may take longer than any single timeout."""

    class Trickle:
        content_type = "application/octet-stream"

        def open(self) -> Any:
            return self

        def __init__(self) -> None:
            self.left = 8

        def __len__(self) -> int:
            return 8

        def read(self, size: int = -1) -> bytes:
            if not self.left:
                return b""
            time.sleep(0.15)
            self.left -= 1
            return b"x"

    server.play(OK)
    api = session(server, connect_timeout_s=0.5, read_timeout_s=0.5)
    answer = api.request(Request("POST", "/x", "/x", body=Trickle()))
    assert answer.status_code == 200
    assert server.seen[0].body == b"x" * 8


# -- pacing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"Retry-After": "0.4"}, {"RateLimit-Reset": "0.4"}])
def test_a_429_waits_as_long_as_asked(server: ScriptedServer, headers: dict[str, str]) -> None:
    server.play(reply(429, "slow down", headers), OK)
    start = time.monotonic()
    assert post(session(server)).status_code == 200
    assert 0.35 < time.monotonic() - start < 2.5


def test_a_429_holds_all_threads(server: ScriptedServer) -> None:
    server.play(reply(429, b"", {"Retry-After": "0.6"}), OK)
    api = session(server)
    started = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(get, api)
        time.sleep(0.2)
        others = [pool.submit(get, api) for _ in range(3)]
        done = []
        for future in [first, *others]:
            future.result()
            done.append(time.monotonic() - started)
    assert min(done) > 0.5
    assert len(server.seen) == 5


def test_a_429_beyond_the_deadline_is_an_error_at_once(server: ScriptedServer) -> None:
    server.play(reply(429, b"", {"Retry-After": "600"}), OK)
    api = session(server)
    start = time.monotonic()
    exc = refused(lambda: get(api))
    assert time.monotonic() - start < 1
    assert (exc.errno, exc.transient) == (errno.EAGAIN, True)
    assert isinstance(exc, faults.RateLimited)
    # The brake holds for later calls, too: they don't even ask.
    assert refused(lambda: get(api)).errno == errno.EAGAIN
    assert len(server.seen) == 1


def test_no_more_requests_at_a_time_than_allowed(server: ScriptedServer) -> None:
    running, most, lock = 0, 0, threading.Lock()

    def slow(sock: Any) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.05)
        with lock:
            running -= 1
        return OK(sock)

    server.play(slow)
    api = session(server, max_requests=3)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: get(api), range(24)))
    assert most == 3
    assert len({seen.connection for seen in server.seen}) <= 3


# -- tokens in the middle -----------------------------------------------------------------------


class Source:
    """A source that knows nothing but `get_access_token`, like other people's."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    def get_access_token(self) -> str:
        return self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]


def test_a_401_is_repeated_once_with_a_new_token(server: ScriptedServer) -> None:
    server.play(own(401, "Access token expired", {"auth-token": "old"}), OK)
    assert post(session(server, tokens=Source("old", "new"))).status_code == 200
    sent = [seen.headers["authorization"] for seen in server.seen]
    assert sent == ["Bearer old", "Bearer new"]


def test_a_second_401_is_the_end(server: ScriptedServer) -> None:
    server.play(own(401, "Access token expired"))
    exc = refused(lambda: get(session(server, tokens=Source("a", "b", "c"))))
    assert isinstance(exc, faults.Unauthorized)
    assert (exc.errno, len(server.seen)) == (errno.EACCES, 2)


def test_the_same_token_is_not_sent_again(server: ScriptedServer) -> None:
    server.play(own(401, "Access token expired"))
    refused(lambda: get(session(server, tokens=Source("a"))))
    assert len(server.seen) == 1


def test_a_401_about_access_is_final(server: ScriptedServer) -> None:
    server.play(own(401, "Unable to verify system access authorization"))
    exc = refused(lambda: get(session(server, tokens=Source("a", "b"))))
    assert (exc.errno, len(server.seen)) == (errno.EACCES, 1)


def test_a_source_that_fails_is_eacces(server: ScriptedServer) -> None:
    class Broken:
        def get_access_token(self) -> str:
            raise RuntimeError("sekrit")

    exc = refused(lambda: get(session(server, tokens=Broken())))
    assert (exc.errno, server.seen) == (errno.EACCES, [])
    assert "sekrit" not in str(exc)


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "umläut", None])
def test_what_is_no_token_is_not_sent(server: ScriptedServer, token: Any) -> None:
    exc = refused(lambda: get(session(server, tokens=Source(token))))
    assert (exc.errno, server.seen) == (errno.EACCES, [])


# -- log and statistics -------------------------------------------------------------------------


def test_requests_are_logged_without_secrets(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.play(own(401, "Access token is invalid.", {"auth-token": "t0ken"}), OK)
    caplog.set_level(logging.DEBUG)
    api = session(server, tokens=Source("t0ken", "t1ken"))
    get(api, params={"path": "/secret/place"})
    lines = [r.getMessage() for r in caplog.records if r.name == "firecrestfs.api"]
    assert [line.rsplit(" ", 2)[0] for line in lines] == ["GET /x/ops 401", "GET /x/ops 200"]
    ours = [line for line in lines if "ken" in line]
    assert ours == []
    assert api.stats() == {"GET /x/ops": 2}


def test_nothing_but_oserror_leaves(server: ScriptedServer) -> None:
    for act in (hang_up, reset, cut(5, b""), reply(500, "x"), reply(200, "x")):
        server.play(act)
        refused(lambda: get(session(server)))


def test_sessions_make_no_threads(server: ScriptedServer) -> None:
    server.play(OK)
    before = threading.active_count()
    api = session(server)
    get(api)
    # One thread of the test server's per connection, none of ours.
    assert threading.active_count() <= before + 1


def test_importing_the_client_needs_no_libfuse() -> None:
    code = (
        "import sys, firecrestfs.api as a; sys.exit(bool({'fuse', 'mfusepy'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# -- a server that may be gone ---------------------------------------------------------------------


def test_after_a_failure_nothing_is_sent_but_a_look_now_and_then(server: ScriptedServer) -> None:
    server.play(reply(503, "<html>"))
    api = session(server, fail_fast=True)
    assert refused(lambda: get(api)).errno == errno.EHOSTDOWN
    sent = len(server.seen)
    start = time.monotonic()
    for _ in range(100):
        exc = refused(lambda: get(api))
        assert (exc.errno, exc.transient, exc.filename) == (errno.EHOSTUNREACH, True, None)
        assert "out of reach since" in str(exc.strerror)
    assert time.monotonic() - start < 10
    assert len(server.seen) - sent < 20
    assert all(seen.line.startswith("GET / ") for seen in server.seen[sent:])
    # A look shows nobody a token.
    assert all("authorization" not in seen.headers for seen in server.seen[sent:])
    server.play(OK)
    end = time.monotonic() + 10
    while api.circuit.unreachable() is not None and time.monotonic() < end:
        with contextlib.suppress(FirecrestException):
            get(api)
    assert get(api).status_code == 200


def test_a_dead_connection_is_left_for_a_new_one(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("firecrestfs.api.circuit._SILENCE_S", 0.4)
    server.play(silent(20), OK)
    api = session(server, fail_fast=True, deadline_s=15.0)
    done = threading.Event()

    def wait() -> None:
        """As those do who wait for the answer."""
        while not done.wait(0.05):
            api.circuit.silence()

    waiter = threading.Thread(target=wait)
    waiter.start()
    try:
        assert get(api).status_code == 200
    finally:
        done.set()
        waiter.join()
    assert [seen.line.split(" ")[1] for seen in server.seen] == ["/x/ops", "/", "/x/ops"]
    assert api.circuit.unreachable() is None
