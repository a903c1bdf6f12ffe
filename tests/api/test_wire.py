"""Connections: TLS, certificates, proxies; and every exception of requests is mapped."""

from __future__ import annotations

import errno
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import urllib3

from firecrestfs.api import ApiSession, StaticToken
from firecrestfs.api.session import Request
from firecrestfs.api.transport import transport_faults
from firecrestfs.errors import FirecrestException

from .script import ScriptedServer, drip, reply, silent

BODY = bytes(range(256)) * 8000


def subclasses(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    yield cls
    for sub in cls.__subclasses__():
        yield from subclasses(sub)


@pytest.mark.parametrize("cls", sorted(set(subclasses(requests.RequestException)), key=str))
def test_every_exception_of_requests_is_mapped(cls: type[BaseException]) -> None:
    decoding = issubclass(cls, ValueError) and "JSONDecode" in cls.__name__
    exc = cls("no", "", 0) if decoding else cls("no")
    with pytest.raises(FirecrestException) as caught, transport_faults("it", mutating=True):
        raise exc
    assert (caught.value.errno or 0) > 0
    assert "requests" not in (caught.value.strerror or "")
    assert (caught.value.strerror or "").startswith("it")


@pytest.mark.parametrize(
    "exc",
    [
        OSError("no number"),
        OSError(errno.EPIPE, "broken"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("slow"),
        ssl.SSLError("bad record"),
        urllib3.exceptions.ProtocolError("half"),
        urllib3.exceptions.ReadTimeoutError(None, "", "slow"),  # type: ignore[arg-type]
        urllib3.exceptions.DecodeError("gzip"),
    ],
)
def test_what_requests_lets_through_is_mapped_too(exc: Exception) -> None:
    with pytest.raises(FirecrestException) as caught, transport_faults("it", mutating=True):
        raise exc
    assert (caught.value.errno or 0) > 0
    assert caught.value.transient
    assert caught.value.ambiguous


def test_our_own_mistakes_are_not_hidden() -> None:
    with pytest.raises(KeyError), transport_faults("it"):
        raise KeyError("bug")


# -- TLS ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    directory = tmp_path_factory.mktemp("tls")
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True
    )
    return cert, key


class TLSServer(ScriptedServer):
    """The scripted server behind TLS."""

    context: ssl.SSLContext

    def _serve(self, sock: object, number: int) -> None:
        try:
            wrapped = self.context.wrap_socket(sock, server_side=True)  # type: ignore[arg-type]
        except OSError:
            return
        super()._serve(wrapped, number)

    @property
    def url(self) -> str:
        return super().url.replace("http://127.0.0.1", "https://localhost")


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Iterator[TLSServer]:
    server = TLSServer()
    server.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.context.load_cert_chain(*certificate)
    with server:
        yield server


def session(url: str, **how: object) -> ApiSession:
    return ApiSession(url, StaticToken("t"), deadline_s=8, **how)  # type: ignore[arg-type]


GET = Request("GET", "/x", "/x", idempotent=True, mutating=False)


class Bytes:
    content_type = "application/octet-stream"

    def open(self) -> bytes:
        return BODY


def test_tls_both_ways(tls: TLSServer, certificate: tuple[Path, Path]) -> None:
    tls.play(reply(200, BODY))
    api = session(tls.url, verify=str(certificate[0]))
    assert api.request(GET).body == BODY
    api.request(Request("POST", "/x", "/x", body=Bytes()))
    assert tls.seen[-1].body == BODY
    assert len({seen.connection for seen in tls.seen}) == 1


def test_tls_waits_can_be_interrupted(tls: TLSServer, certificate: tuple[Path, Path]) -> None:
    for act in (silent(5), drip(100, 0.1)):
        tls.play(act)
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        start = time.monotonic()
        with pytest.raises(FirecrestException) as caught:
            session(tls.url, verify=str(certificate[0]), interrupted=stop.is_set).request(GET)
        assert caught.value.errno == errno.EINTR
        assert time.monotonic() - start < 1.5


def test_an_untrusted_certificate_gets_no_token(tls: TLSServer) -> None:
    with pytest.raises(FirecrestException) as caught:
        session(tls.url).request(Request("POST", "/x", "/x", json={}))
    assert (caught.value.errno, caught.value.ambiguous) == (errno.EHOSTUNREACH, False)
    assert "certificate" in str(caught.value)
    assert tls.seen == []


def test_a_certificate_of_another_host_gets_no_token(
    tls: TLSServer, certificate: tuple[Path, Path]
) -> None:
    url = tls.url.replace("localhost", "127.0.0.1")
    with pytest.raises(FirecrestException) as caught:
        session(url, verify=str(certificate[0])).request(GET)
    assert "certificate" in str(caught.value)
    assert tls.seen == []


def test_a_slow_reader_gets_a_large_body(server: ScriptedServer) -> None:
    """Sending goes on in pieces although no single one fits the socket's buffers."""
    big = b"x" * 8_000_000

    class Big(Bytes):
        def open(self) -> bytes:
            return big

    server.play(reply(200, b""))
    session(server.url).request(Request("POST", "/x", "/x", body=Big()))
    assert server.seen[0].body == big


def test_a_proxy_is_used_and_its_refusal_understood(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", server.url)
    server.play(reply(403, b""))
    with pytest.raises(FirecrestException) as caught:
        session("https://hpc.example.org").request(GET)
    assert server.seen[0].line.startswith("CONNECT hpc.example.org:443")
    assert "authorization" not in server.seen[0].headers
    assert caught.value.errno == errno.EHOSTUNREACH
    assert "proxy" in str(caught.value)
