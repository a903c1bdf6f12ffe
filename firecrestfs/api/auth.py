"""Access tokens: where they come from, and when a new one is asked for.

A token source is anything with `get_access_token() -> str`; those here also know `invalidate`
(a server refused that token) and `renew` (the user says: try again). All are thread-safe. A
refresh is a single flight: one thread asks, the others wait for its outcome. Secrets and tokens
never appear in an error or a log.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shlex
import stat
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from ..errors import FirecrestException
from .fault_tools import quote
from .faults import RateLimited, evidence, refusal, retry_after
from .tokens import check_origin, fit_token, is_loopback, life_of, no_token
from .transport import transport_faults
from .wire import SLICE, Call, clock, current_call, making, patient_session, read_body

log = logging.getLogger("firecrestfs.api")

#: Servers refuse tokens with less than half a minute left, so renew well before that (seconds).
_MARGIN = 60.0
#: A token with less life than this is of no use to anybody (seconds).
_USELESS = 35.0
_TOKEN_DEADLINE = 30.0
#: Failures of the asking thread's own call: the threads that wait with it ask again themselves.
_MINE_ALONE = (errno.EINTR, errno.ETIMEDOUT, errno.ECONNABORTED)


@runtime_checkable
class TokenSource(Protocol):
    """Anything that hands out access tokens; pyfirecrest's authorisation objects do."""

    def get_access_token(self) -> str:
        """Return a token for the `Authorization: Bearer` header. Any thread."""
        ...


def bearer_of(source: TokenSource) -> str:
    """Return a token of any source, checked to be fit for a header. Raises EACCES."""
    try:
        token = source.get_access_token()
    except OSError as exc:
        if isinstance(exc, FirecrestException):
            raise
        raise no_token(f"no access token: {quote(str(exc))}") from exc
    except Exception as exc:
        # A source of somebody else's; its exceptions are unknown and may hold secrets.
        raise no_token(f"no access token: {type(exc).__name__}") from exc
    return fit_token(token)


class _Flight:
    """One refresh that is under way, and its outcome."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: BaseException | None = None

    def wait(self) -> None:
        """Wait in slices for the outcome. Raises as `Call.check` does for the waiting thread."""
        while not self.done.wait(SLICE):
            call = current_call()
            if call is not None:
                call.check()


class CachedToken(ABC):
    """A token that is kept for most of its life. Subclasses say where a new one comes from."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards everything below; never held while fetching
        self._token = ""
        self._renew_at = 0.0
        self._ends_at = 0.0
        self._flight: _Flight | None = None
        self._rejected: FirecrestException | None = None

    def get_access_token(self) -> str:
        """Return a token that has some life left. Raises EACCES, or why none could be had."""
        while True:
            with self._lock:
                if self._rejected is not None:
                    raise _again(self._rejected)
                if self._token and clock() < self._renew_at:
                    return self._token
                flight, mine = self._flight or _Flight(), self._flight is None
                self._flight = flight
            if mine:
                return self._fly(flight)
            flight.wait()
            if isinstance(flight.error, FirecrestException):
                raise _again(flight.error)

    def invalidate(self, token: str) -> None:
        """Drop *token*, which a server refused; a newer one is kept."""
        with self._lock:
            if token == self._token:
                self._token = ""

    def renew(self) -> None:
        """Forget the token and an earlier rejection: the next request asks again."""
        with self._lock:
            self._token = ""
            self._rejected = None

    @abstractmethod
    def _fetch(self) -> tuple[str, float | None]:
        """Return a new token and its life in seconds, None where unknown. No lock is held."""

    def _fly(self, flight: _Flight) -> str:
        try:
            token, life = self._fetch()
            return self._keep(fit_token(token), life)
        except FirecrestException as exc:
            token = self._still_good(exc)
            if not token:
                flight.error = None if exc.errno in _MINE_ALONE else exc
                raise
            return token
        finally:
            with self._lock:
                self._flight = None
            flight.done.set()

    def _keep(self, token: str, life: float | None) -> str:
        seconds = 10 * 365 * 86400.0 if life is None else life
        with self._lock:
            self._token = token
            self._renew_at = clock() + max(seconds - _MARGIN, seconds / 2)
            self._ends_at = clock() + seconds
        return token

    def _still_good(self, exc: FirecrestException) -> str:
        """Return the old token where the new one failed for a while only and it has some life."""
        with self._lock:
            good = exc.transient and self._ends_at - clock() > _USELESS
            return self._token if good else ""

    def _reject(self, exc: FirecrestException) -> FirecrestException:
        with self._lock:
            self._rejected = exc
        return exc


def _again(exc: FirecrestException) -> FirecrestException:
    """Return a fresh copy: one exception object must not be raised in two threads."""
    return type(exc)(
        exc.errno or errno.EACCES,
        exc.strerror or "",
        responses=exc.responses,
        transient=exc.transient,
    )


class ClientCredentialsAuth(CachedToken):
    """OAuth2 client credentials: the way FirecREST's users get tokens.

    *client_auth_method* is `client_secret_post` or `client_secret_basic`; *min_token_validity* is
    there for scripts that name it: tokens are renewed in time anyway. A secret that the token
    server rejected isn't sent again before `renew()`.
    """

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        token_uri: str,
        min_token_validity: int = 10,
        client_auth_method: str = "client_secret_post",
        scope: str | None = None,
        *,
        allow_http: bool = False,
        verify: bool | str = True,
    ) -> None:
        super().__init__()
        if client_auth_method not in ("client_secret_post", "client_secret_basic"):
            raise ValueError(f"unknown client_auth_method: {client_auth_method}")
        check_origin(token_uri, allow_http=allow_http)
        self._client = (client_id, client_secret)
        self._uri = token_uri
        self._basic = client_auth_method == "client_secret_basic"
        self._scope = scope
        self._session = patient_session(trust_env=not is_loopback(token_uri))
        self._verify = verify

    def __repr__(self) -> str:
        return f"ClientCredentialsAuth(client_id={self._client[0]!r})"

    def _fetch(self) -> tuple[str, float | None]:
        outer = current_call()
        seconds = _TOKEN_DEADLINE if outer is None else min(_TOKEN_DEADLINE, outer.remaining())
        call = Call(seconds, outer.interrupted if outer else None, what=self._where())
        with making(call):
            try:
                status, headers, body = self._exchange()
            except FirecrestException as exc:
                # What it came from holds the request, and with it the secret.
                exc.__cause__ = exc.__context__ = None
                raise
        if status != 200:
            raise self._refused(status, headers, body)
        return self._parsed(body)

    def _where(self) -> str:
        return f"the token server {urlsplit(self._uri).hostname}"

    def _exchange(self) -> tuple[int, dict[str, str], bytes]:
        form = {"grant_type": "client_credentials"}
        if self._scope:
            form["scope"] = self._scope
        if not self._basic:
            form |= {"client_id": self._client[0], "client_secret": self._client[1]}
        start = time.monotonic()
        with transport_faults(self._where()):
            answer = self._session.post(
                self._uri,
                data=form,
                auth=self._client if self._basic else _no_netrc,
                headers={"Accept": "application/json"},
                timeout=(10, _TOKEN_DEADLINE),
                allow_redirects=False,
                stream=True,
                verify=self._verify,
            )
            with answer:
                body = read_body(answer, 1024 * 1024)
        took = (time.monotonic() - start) * 1000
        log.info("POST token %d %d ms", answer.status_code, took)
        return answer.status_code, dict(answer.headers), body

    def _parsed(self, body: bytes) -> tuple[str, float | None]:
        found = _json(body)
        life = found.get("expires_in")
        try:
            seconds = float(life) if life is not None else None
        except (TypeError, ValueError):
            seconds = None
        return fit_token(found.get("access_token")), seconds

    def _refused(self, status: int, headers: dict[str, str], body: bytes) -> FirecrestException:
        found = _json(body)
        said = quote(str(found.get("error_description") or found.get("error") or "")).replace(
            self._client[1] or "\0", "…"
        )
        where = f"{self._where()} ({status})"
        if status in (400, 401) and "error" in found:
            text = f"{where} rejects the client's id or secret ({said}): check both, then log in"
            return self._reject(no_token(text))
        if status in (403, 404, 405) or 300 <= status < 400:
            return no_token(f"{where} hands out no token: check AUTH_TOKEN_URL", transient=False)
        return self._unavailable(status, headers, f"{where} has no token now; it may work later")

    def _unavailable(self, status: int, headers: dict[str, str], text: str) -> FirecrestException:
        answer = evidence(status, headers, b"", "POST", "token")
        code, kind = (errno.EAGAIN, "rate") if status == 429 else (errno.EHOSTUNREACH, "")
        exc = refusal(code, text, responses=(answer,), transient=True, kind=kind)
        if isinstance(exc, RateLimited):
            exc.retry_after = retry_after(headers) or 10.0
        return exc


def _no_netrc(request: Any) -> Any:
    """Authorise nothing; without this, requests would take a password from ~/.netrc."""
    return request


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


class TokenFile(CachedToken):
    """A token in a file of the user's own; read again when a server refuses the old one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__()
        self._path = os.path.abspath(os.fspath(path))
        self._refused_token = ""

    def invalidate(self, token: str) -> None:
        """Drop *token*; the file is read again before the next request."""
        super().invalidate(token)
        self._refused_token = token

    def renew(self) -> None:
        """Read the file again, and try even the same token again."""
        super().renew()
        self._refused_token = ""

    def _fetch(self) -> tuple[str, float | None]:
        token = fit_token(self._read())
        if token == self._refused_token:
            raise no_token(f"the token in {self._path} was refused: put a fresh one there")
        return token, life_of(token)

    def _read(self) -> str:
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                self._check_private(os.fstat(file.fileno()))
                return file.read(64 * 1024)
        except FirecrestException:
            raise
        except OSError as exc:
            raise no_token(f"no token: {self._path}: {exc.strerror}") from exc

    def _check_private(self, found: os.stat_result) -> None:
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            text = f"others can read the token file {self._path}: chmod 600 it"
            raise no_token(text)


class TokenCommand(CachedToken):
    """A token printed by a command of the user's; run at most once in *interval_s* seconds."""

    def __init__(self, command: str | Sequence[str], interval_s: float = 30.0) -> None:
        super().__init__()
        self._command = shlex.split(command) if isinstance(command, str) else list(command)
        self._interval = interval_s
        self._ran_at: float | None = None
        self._failure: FirecrestException | None = None

    def renew(self) -> None:
        """Run the command again for the next request, however short ago it ran."""
        super().renew()
        self._ran_at = None

    def _fetch(self) -> tuple[str, float | None]:
        # Only ever inside the single flight, so these two fields have one writer.
        if self._ran_at is not None and clock() - self._ran_at < self._interval:
            raise self._failure or no_token("the token command's token was refused: log in again")
        self._ran_at = clock()
        self._failure = None
        try:
            token = fit_token(self._run())
        except FirecrestException as exc:
            self._failure = exc
            raise
        return token, life_of(token)

    def _run(self) -> str:
        name = os.path.basename(self._command[0]) if self._command else "?"
        try:
            done = subprocess.run(
                self._command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_TOKEN_DEADLINE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired, IndexError) as exc:
            raise no_token(f"the token command {name} failed: {type(exc).__name__}") from exc
        if done.returncode:
            said = quote(done.stderr.decode("utf-8", "replace"))
            raise no_token(f"the token command {name} failed ({done.returncode}): {said}")
        return done.stdout.decode("ascii", "replace")


class StaticToken:
    """One token, as given; for tests and short commands."""

    def __init__(self, token: str) -> None:
        self._token = fit_token(token)
        self._refused = False

    def get_access_token(self) -> str:
        """Return the token. Raises EACCES once a server has refused it."""
        if self._refused:
            raise no_token("the access token was refused: it has expired or is for another server")
        return self._token

    def invalidate(self, token: str) -> None:
        """Note that the token was refused."""
        self._refused = self._refused or token == self._token

    def renew(self) -> None:
        """Try the token again."""
        self._refused = False
