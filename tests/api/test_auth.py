"""Token sources: kept, renewed once for all, never asked in vain, never shown."""

from __future__ import annotations

import base64
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import (
    ClientCredentialsAuth,
    StaticToken,
    TokenCommand,
    TokenFile,
    TokenSource,
    auth,
    faults,
)
from firecrestfs.api.tokens import claims, user_of
from firecrestfs.emulator import Emulator
from firecrestfs.errors import FirecrestException

from .script import ScriptedServer, hang_up, reply


def issued(token: str, life: Any = 300) -> Any:
    return reply(200, {"access_token": token, "expires_in": life, "token_type": "Bearer"})


def credentials(server: ScriptedServer, **how: Any) -> ClientCredentialsAuth:
    return ClientCredentialsAuth("my id", "s3krit&", server.url + "/token", **how)


def refused(act: Callable[[], object]) -> FirecrestException:
    with pytest.raises(FirecrestException) as caught:
        act()
    assert "s3krit" not in str(caught.value)
    return caught.value


def jwt(**payload: Any) -> str:
    raw = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    return f"e30.{raw}.sig"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that tests set."""
    clock = [1000.0]
    monkeypatch.setattr(auth, "clock", lambda: clock[0])
    return clock


# -- client credentials -------------------------------------------------------------------------


def test_the_post_method(server: ScriptedServer) -> None:
    server.play(issued("tok"))
    assert credentials(server, scope="a b").get_access_token() == "tok"
    sent = server.seen[0]
    assert sent.line == "POST /token HTTP/1.1"
    assert sent.body == (
        b"grant_type=client_credentials&scope=a+b&client_id=my+id&client_secret=s3krit%26"
    )
    assert "authorization" not in sent.headers


def test_the_basic_method(server: ScriptedServer) -> None:
    server.play(issued("tok"))
    source = credentials(server, client_auth_method="client_secret_basic")
    assert source.get_access_token() == "tok"
    expected = base64.b64encode(b"my id:s3krit&").decode()
    assert server.seen[0].headers["authorization"] == f"Basic {expected}"
    assert b"s3krit" not in server.seen[0].body


def test_an_unknown_method_is_a_mistake(server: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="client_auth_method"):
        credentials(server, client_auth_method="mtls")


def test_the_secret_is_not_sent_in_the_clear() -> None:
    exc = refused(lambda: ClientCredentialsAuth("i", "s3krit", "http://idp.example.org/token"))
    assert exc.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("life", "kept"), [(300, 240.0), (3600, 3540.0), (100, 50.0), (60, 30.0), ("300", 240.0)]
)
def test_renewal_in_time(server: ScriptedServer, now: list[float], life: Any, kept: float) -> None:
    server.play(issued("one", life), issued("two", life))
    source = credentials(server)
    assert source.get_access_token() == "one"
    now[0] += kept - 1
    assert source.get_access_token() == "one"
    now[0] += 2
    assert source.get_access_token() == "two"


def test_an_unstated_life_lasts_until_refused(server: ScriptedServer, now: list[float]) -> None:
    server.play(reply(200, {"access_token": "one"}), issued("two"))
    source = credentials(server)
    assert source.get_access_token() == "one"
    now[0] += 1e6
    assert source.get_access_token() == "one"
    source.invalidate("one")
    assert source.get_access_token() == "two"


def test_one_refresh_for_all_threads(server: ScriptedServer) -> None:
    def slow(sock: Any) -> bool:
        time.sleep(0.2)
        return bool(issued("tok")(sock))

    server.play(slow)
    source = credentials(server)
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: source.get_access_token(), range(32)))
    assert found == {"tok"}
    assert len(server.seen) == 1


def test_one_failure_for_all_threads(server: ScriptedServer) -> None:
    barrier = threading.Barrier(8)

    def slow(sock: Any) -> bool:
        time.sleep(0.4)
        return bool(reply(503, "<html>")(sock))

    server.play(slow)
    source = credentials(server)

    def ask(_: int) -> int | None:
        barrier.wait()
        return refused(source.get_access_token).errno

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {errno.EHOSTUNREACH}
    assert len(server.seen) == 1


@pytest.mark.parametrize("status", [400, 401])
def test_a_rejected_secret_is_not_sent_again(server: ScriptedServer, status: int) -> None:
    server.play(
        reply(status, {"error": "invalid_client", "error_description": "bad s3krit& given"}),
        issued("tok"),
    )
    source = credentials(server)
    for _ in range(3):
        exc = refused(source.get_access_token)
        assert isinstance(exc, faults.Unauthorized)
        assert exc.errno == errno.EACCES
        assert "log in" in str(exc)
    assert len(server.seen) == 1
    source.renew()
    assert source.get_access_token() == "tok"


@pytest.mark.parametrize("act", [hang_up, reply(503, "<html>"), reply(500, b""), reply(429, b"")])
def test_passing_failures_are_tried_again(server: ScriptedServer, act: Any) -> None:
    server.play(act, issued("tok"))
    source = credentials(server)
    exc = refused(source.get_access_token)
    assert exc.transient
    assert source.get_access_token() == "tok"


def test_no_token_server_is_no_route_not_no_permission() -> None:
    with ScriptedServer() as gone:
        url = gone.url
    source = ClientCredentialsAuth("i", "s3krit", url)
    exc = refused(source.get_access_token)
    assert (exc.errno, exc.transient) == (errno.EHOSTUNREACH, True)
    assert "token server" in str(exc)


def test_a_token_outlives_a_failed_renewal(server: ScriptedServer, now: list[float]) -> None:
    server.play(issued("one", 300), reply(503, b""))
    source = credentials(server)
    source.get_access_token()
    now[0] += 250
    assert source.get_access_token() == "one"
    now[0] += 20
    assert refused(source.get_access_token).transient


@pytest.mark.parametrize(
    "act", [reply(200, "<html>"), reply(200, {}), reply(200, {"access_token": ""})]
)
def test_an_answer_without_token(server: ScriptedServer, act: Any) -> None:
    server.play(act)
    assert refused(credentials(server).get_access_token).errno == errno.EACCES


def test_a_wrong_token_url_says_so(server: ScriptedServer) -> None:
    server.play(reply(404, "<html>"))
    exc = refused(credentials(server).get_access_token)
    assert "AUTH_TOKEN_URL" in str(exc)


def test_invalidating_an_old_token_keeps_the_new_one(server: ScriptedServer) -> None:
    server.play(issued("one"), issued("two"))
    source = credentials(server)
    source.get_access_token()
    source.invalidate("one")
    assert source.get_access_token() == "two"
    source.invalidate("one")
    assert source.get_access_token() == "two"
    assert len(server.seen) == 2


def test_the_secret_is_not_shown(server: ScriptedServer) -> None:
    assert "s3krit" not in repr(credentials(server))


def test_the_emulators_tokens(emu: Emulator) -> None:
    source = ClientCredentialsAuth(emu.client_id, emu.client_secret, emu.token_url)
    assert user_of(source.get_access_token()) == "demo"
    wrong = ClientCredentialsAuth(emu.client_id, "wrong", emu.token_url)
    assert isinstance(refused(wrong.get_access_token), faults.Unauthorized)


# -- files --------------------------------------------------------------------------------------


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text("  one\n")
    path.chmod(0o600)
    return path


def test_a_token_file(token_file: Path) -> None:
    source = TokenFile(token_file)
    assert source.get_access_token() == "one"
    token_file.write_text("two\n")
    assert source.get_access_token() == "one"
    source.invalidate("one")
    assert source.get_access_token() == "two"


def test_a_token_file_with_a_refused_token(token_file: Path) -> None:
    source = TokenFile(token_file)
    source.invalidate(source.get_access_token())
    exc = refused(source.get_access_token)
    assert exc.errno == errno.EACCES
    assert str(token_file) in str(exc)
    source.renew()
    assert source.get_access_token() == "one"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o660])
def test_a_token_file_that_others_can_read(token_file: Path, mode: int) -> None:
    token_file.chmod(mode)
    exc = refused(TokenFile(token_file).get_access_token)
    assert exc.errno == errno.EACCES
    assert "chmod 600" in str(exc)


def test_a_missing_token_file(tmp_path: Path) -> None:
    exc = refused(TokenFile(tmp_path / "none").get_access_token)
    assert exc.errno == errno.EACCES
    assert "No such file" in str(exc)


def test_a_token_files_own_expiry_counts(token_file: Path, now: list[float]) -> None:
    first, second = jwt(exp=time.time() + 300), jwt(exp=time.time() + 900, n=2)
    token_file.write_text(first)
    source = TokenFile(token_file)
    assert source.get_access_token() == first
    token_file.write_text(second)
    now[0] += 250
    assert source.get_access_token() == second


# -- commands -----------------------------------------------------------------------------------


def test_a_token_command_runs_at_most_once_in_a_while(tmp_path: Path, now: list[float]) -> None:
    counter = tmp_path / "runs"
    code = f"open({str(counter)!r}, 'a').write('x'); print(open({str(counter)!r}).read() + 'tok')"
    source = TokenCommand([sys.executable, "-c", code])
    assert source.get_access_token() == "xtok"
    assert source.get_access_token() == "xtok"
    source.invalidate("xtok")
    assert refused(source.get_access_token).errno == errno.EACCES
    now[0] += 31
    assert source.get_access_token() == "xxtok"


def test_a_failing_token_command(now: list[float]) -> None:
    code = "import sys; print('s3cret-out'); sys.exit('please run kinit')"
    source = TokenCommand([sys.executable, "-c", code])
    exc = refused(source.get_access_token)
    assert exc.errno == errno.EACCES
    assert "please run kinit" in str(exc)
    assert "s3cret-out" not in str(exc)
    assert str(refused(source.get_access_token)) == str(exc)
    source.renew()
    assert "kinit" in str(refused(source.get_access_token))


@pytest.mark.parametrize("command", ["", "/no/such/command --x", "true"])
def test_token_commands_that_give_nothing(command: str) -> None:
    assert refused(TokenCommand(command).get_access_token).errno == errno.EACCES


def test_a_token_command_is_no_shell(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    source = TokenCommand(f"echo tok;touch {marker}")
    refused(source.get_access_token)
    assert not marker.exists()


def test_a_token_command_gets_no_terminal() -> None:
    code = "import sys; print('tok' if not sys.stdin.read() else 'no')"
    assert TokenCommand([sys.executable, "-c", code]).get_access_token() == "tok"


# -- the rest -----------------------------------------------------------------------------------


def test_a_static_token() -> None:
    source = StaticToken(" tok\n")
    assert source.get_access_token() == "tok"
    source.invalidate("other")
    assert source.get_access_token() == "tok"
    source.invalidate("tok")
    assert refused(source.get_access_token).errno == errno.EACCES
    source.renew()
    assert source.get_access_token() == "tok"


def test_all_sources_are_sources() -> None:
    for source in (StaticToken("t"), TokenFile("/x"), TokenCommand("x")):
        assert isinstance(source, TokenSource)


def test_claims_are_read_defensively() -> None:
    assert claims(jwt(a=1)) == {"a": 1}
    for broken in ("", "a.b", "a.b.c", "a.%%.c", f"a.{base64.b64encode(b'[1]').decode()}.c"):
        assert claims(broken) == {}
    assert user_of(jwt(preferred_username="me", sub="x")) == "me"
    assert user_of(jwt(sub="x")) == "x"
    assert user_of("opaque") is None


def test_environment_is_left_alone(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment never sees what goes to this machine itself."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    server.play(issued("tok"))
    assert credentials(server).get_access_token() == "tok"
    assert os.environ["http_proxy"]
