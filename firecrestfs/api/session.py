"""The one place that sends requests to FirecREST: pooled, paced, limited, logged, repeated.

A request is sent in nested rings, each with one job: `request` (deadline, log) → repeat what is
safe to repeat → wait for the pacer and a free slot → token, and once more after a 401 → one
exchange on a pooled connection.
"""

from __future__ import annotations

import errno
import json
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import requests

from ..errors import FirecrestException
from ..faultpoints import reach
from ..model import Response
from .auth import TokenSource, bearer_of
from .faults import (
    RateLimited,
    Unauthorized,
    evidence,
    fault_v2,
    is_authorisation,
    refusal,
)
from .pool import Pacer, SessionPool
from .tokens import check_origin, host_of, is_loopback
from .transport import transport_faults
from .wire import Call, making, patient_session, read_body

log = logging.getLogger("firecrestfs.api")

#: Repeats of an idempotent request after failures that may pass within seconds.
_REPEATS = 2
#: The pause before the first repeat that makes one, in seconds; doubled for each further one.
_PAUSE = 0.6
_MEBI = 1024 * 1024


class Body(Protocol):
    """A request body of known length that can be sent again."""

    content_type: str

    def open(self) -> Any:
        """Return the bytes, or an object with `read` and `__len__`, from the start."""
        ...


class Faults(Protocol):
    """Turns an answer with an error status into an exception; `faults.fault_v2` is one."""

    def __call__(
        self, response: Response, path: str | None = None, *, mutating: bool = False
    ) -> FirecrestException:
        """Return the exception for *response*."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `template` is the endpoint without names, for logs and counters.

    `idempotent`: may be sent twice. `mutating`: changes something on the cluster. `path` is what
    an error names. Times in seconds, `limit` (of the answer) in bytes; None: the session's.
    """

    method: str
    endpoint: str
    template: str
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    body: Body | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    idempotent: bool = False
    mutating: bool = True
    path: str | None = None
    deadline_s: float | None = None
    read_timeout_s: float | None = None
    limit: int = 256 * _MEBI
    faults: Faults = fault_v2
    with_token: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer, read completely; header names are lower case."""

    status_code: int
    headers: Mapping[str, str]
    body: bytes
    request: Request

    def json(self) -> Any:
        """Return the decoded JSON. Raises EBADMSG where the body is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise self.not_firecrest() from None

    def not_firecrest(self) -> FirecrestException:
        """Return the error for a success that FirecREST didn't report: a portal's or gateway's."""
        asked = self.request
        got = evidence(self.status_code, self.headers, self.body, asked.method, asked.template)
        text = "the answer is not FirecREST's: check FIRECREST_URL, or log in to the network"
        return refusal(
            errno.EBADMSG,
            f"{asked.template}: {text}",
            asked.path,
            responses=(got,),
            transient=True,
            ambiguous=asked.mutating,
        )


class ApiSession:
    """Sends requests to one FirecREST server. Thread-safe; at most *max_requests* at a time.

    *interrupted* is asked every 0.2 s while a call waits, in the calling thread: true ends the call
    with EINTR. *deadline_s* limits a call in all, waits and repeats included; *read_timeout_s* is
    how long a silent server is waited for. Plain http is for this machine, or *allow_http*.
    """

    def __init__(
        self,
        url: str,
        tokens: TokenSource,
        *,
        deadline_s: float = 90.0,
        read_timeout_s: float = 75.0,
        connect_timeout_s: float = 10.0,
        max_requests: int = 6,
        interrupted: Callable[[], bool] | None = None,
        allow_http: bool = False,
        verify: bool | str = True,
    ) -> None:
        check_origin(url, allow_http=allow_http)
        self.url = url.split("?", 1)[0].rstrip("/")
        self.host = host_of(url)
        self.tokens = tokens
        self.deadline_s = deadline_s
        self.read_timeout_s = read_timeout_s
        self._connect_timeout = connect_timeout_s
        self._interrupted = interrupted
        self._verify = verify
        self._pacer = Pacer()
        self._slots = threading.BoundedSemaphore(max_requests)
        trust_env = not is_loopback(url)
        self._pool = SessionPool(lambda: patient_session(trust_env=trust_env))
        self._stats_lock = threading.Lock()  # guards _stats
        self._stats: Counter[str] = Counter()
        self._date = ""  # one assignment at a time; any thread's latest will do

    def request(self, request: Request) -> Answer:
        """Send *request* and return the answer. Any thread.

        Raises `FirecrestException`: see `faults`; EINTR where the caller was interrupted, EAGAIN
        where the server asks for a longer wait than the deadline leaves.
        """
        call = Call(request.deadline_s or self.deadline_s, self._interrupted, what=self.host)
        with making(call):
            try:
                return self._repeating(request, call)
            except FirecrestException as exc:
                if exc.filename is None and request.path is not None:
                    exc.filename = request.path
                # What it came from holds the request, and with it the token.
                exc.__cause__ = exc.__context__ = None
                raise

    def patience(self, deadline_s: float | None = None) -> Call:
        """Return the limits for a wait of several requests; interrupts end it as they do those."""
        return Call(deadline_s or self.deadline_s, self._interrupted, what=self.host)

    def stats(self) -> dict[str, int]:
        """Return how many requests went to each endpoint template so far."""
        with self._stats_lock:
            return dict(self._stats)

    def server_date(self) -> str:
        """Return the `Date` of the latest answer, as the server wrote it; "" where none came."""
        return self._date

    def drop_connections(self) -> None:
        """Close all connections, those in use as well: after a suspend they are dead."""
        self._pool.drop()

    # -- ring 2: what is safe to repeat -------------------------------------------------------

    def _repeating(self, request: Request, call: Call) -> Answer:
        failures = 0
        while True:
            try:
                return self._in_turn(request, call)
            except RateLimited as exc:
                if not _refused_unseen(exc):
                    raise
                self._pacer.back_off(exc.retry_after or 10.0)
            except FirecrestException as exc:
                failures += 1
                if not _repeatable(request, exc, failures):
                    raise
                pause = _pause(exc, failures)
                if pause >= call.remaining():
                    raise
                log.debug("%s: %s; again in %.1f s", request.template, exc.strerror, pause)
                call.sleep(pause)

    # -- ring 3: pace and slots ---------------------------------------------------------------

    def _in_turn(self, request: Request, call: Call) -> Answer:
        self._pacer.wait(call)
        call.acquire(self._slots)
        try:
            return self._with_token(request, call)
        finally:
            self._slots.release()

    # -- ring 4: the token --------------------------------------------------------------------

    def _with_token(self, request: Request, call: Call) -> Answer:
        if not request.with_token:
            return self._checked(request, call, None)
        token = bearer_of(self.tokens)
        try:
            return self._checked(request, call, token)
        except Unauthorized as exc:
            # The server looks at the token before anything else, so nothing has happened yet.
            if not exc.responses or is_authorisation(exc.responses[-1]):
                raise
            first = exc
        newer = self._newer_token(token, first)
        return self._checked(request, call, newer)

    def _newer_token(self, refused: str, why: FirecrestException) -> str:
        invalidate = getattr(self.tokens, "invalidate", None)
        if invalidate is not None:
            invalidate(refused)
        try:
            token = bearer_of(self.tokens)
        except FirecrestException as exc:
            exc.responses = exc.responses or why.responses
            raise
        if token == refused:
            raise why
        return token

    # -- ring 5: one exchange -----------------------------------------------------------------

    def _checked(self, request: Request, call: Call, token: str | None) -> Answer:
        answer = self._logged(request, call, token)
        if 200 <= answer.status_code < 300:
            if _is_a_page(answer):
                raise answer.not_firecrest()
            return answer
        got = evidence(
            answer.status_code, answer.headers, answer.body, request.method, request.template
        )
        raise request.faults(got, request.path, mutating=request.mutating)

    def _logged(self, request: Request, call: Call, token: str | None) -> Answer:
        with self._stats_lock:
            self._stats[f"{request.method} {request.template}"] += 1
        start = time.monotonic()
        status: object = "-"
        try:
            answer = self._exchange(request, call, token)
            status = answer.status_code
            return answer
        except FirecrestException as exc:
            status = errno.errorcode.get(exc.errno or 0, "?")
            raise
        finally:
            ms = (time.monotonic() - start) * 1000
            log.info("%s %s %s %.0f ms", request.method, request.endpoint, status, ms)

    def _exchange(self, request: Request, call: Call, token: str | None) -> Answer:
        fresh = not request.idempotent
        call.changes = request.mutating
        if request.mutating:
            reach("change.unsent")
        with (
            self._pool.session(call, fresh=fresh) as session,
            transport_faults(self.host, mutating=request.mutating),
            self._send(session, request, call, token) as got,
        ):
            body = read_body(got, request.limit)
            headers = {name.lower(): value for name, value in got.headers.items()}
            self._date = headers.get("date", self._date)
            if request.mutating:
                reach("change.answered")
            return Answer(got.status_code, headers, body, request)

    def _send(
        self, session: requests.Session, request: Request, call: Call, token: str | None
    ) -> requests.Response:
        headers = {"Accept": "application/json, */*;q=0.5", "X-Request-ID": str(uuid.uuid4())}
        headers.update(request.headers)
        if request.body is not None:
            headers["Content-Type"] = request.body.content_type
        patience = request.read_timeout_s or self.read_timeout_s
        return session.request(
            request.method,
            self.url + request.endpoint,
            params=dict(request.params),
            json=request.json,
            data=request.body.open() if request.body is not None else None,
            headers=headers,
            auth=_Bearer(token),
            timeout=(min(self._connect_timeout, max(call.remaining(), 0.1)), patience),
            allow_redirects=False,
            stream=True,
            verify=self._verify,
        )


def _is_a_page(answer: Answer) -> bool:
    """Tell whether a success is a web page; taken for a file's content it would do harm."""
    kind = answer.headers.get("content-type", "")
    return "f7t-appversion" not in answer.headers and kind.startswith("text/html")


class _Bearer(requests.auth.AuthBase):
    """Adds the token. An auth object, because without one requests would look into ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _refused_unseen(exc: RateLimited) -> bool:
    """Tell whether a gateway turned the request away before anybody looked at it (429)."""
    return bool(exc.responses) and exc.responses[-1].status_code == 429


#: Statuses after which the same request may do better within seconds.
_SHORT_LIVED = frozenset({424, 502, 503, 504})


def _repeatable(request: Request, exc: FirecrestException, failures: int) -> bool:
    if not request.idempotent or not exc.transient or failures > _REPEATS:
        return False
    if exc.errno in (errno.EINTR, errno.ECONNABORTED):
        return False
    if not exc.responses:
        return exc.errno in (errno.ECONNRESET, errno.EPIPE, errno.EHOSTUNREACH)
    status = exc.responses[-1].status_code
    if status == 503 and "unhealthy" in exc.responses[-1].text:
        # The verdict of a check that runs every other minute: asking again tells nothing new.
        return False
    return status in _SHORT_LIVED or "exit status:None" in exc.responses[-1].text


def _pause(exc: FirecrestException, failures: int) -> float:
    if failures == 1 and not exc.responses and exc.errno != errno.EHOSTUNREACH:
        # Most likely a kept connection that the server had closed: a new one will do.
        return 0.0
    return float(_PAUSE * 2 ** (failures - 1) * random.uniform(0.7, 1.3))
