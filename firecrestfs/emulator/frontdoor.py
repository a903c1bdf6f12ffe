"""What every request passes before an API sees it: the log, the latency, the faults."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.exceptions import HTTPException

from . import torn
from .faults import Fault
from .objectstore import PREFIX, StoreWeb
from .requestlog import LoggedRequest
from .site import Site

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CONTROL = "/_emulator/"
_PATHS = ("path", "targetPath", "sourcePath")  # query parameters that name the file
#: How transfer jobs introduce themselves to the object store.
JOB_AGENT = "transfer-job"


class Hangup(Exception):
    """Close the connection without (the rest of) an answer; with `reset` by a TCP reset."""

    def __init__(self, reset: bool = False) -> None:
        super().__init__("hang up")
        self.reset = reset


class FrontDoor:
    """A WSGI application around Flask's and the object store's. Safe from any thread."""

    def __init__(self, app: Flask, site: Site, canonical_path: Callable[[str], str]) -> None:
        self._app = app
        self._site = site
        self._canonical_path = canonical_path
        self._map = app.url_map.bind("localhost")
        self._store = StoreWeb(site.store)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request. Raises Hangup where the connection is to be closed instead."""
        path = str(environ["PATH_INFO"])
        if path.startswith(CONTROL):
            return self._app.wsgi_app(environ, start_response)
        if path.startswith(f"{PREFIX}/"):
            asker = "job" if environ.get("HTTP_USER_AGENT") == JOB_AGENT else "store"
            endpoint = f"{asker}/{self._store.operation(environ)}"
            passage = _Passage(self._store, self._site, environ, endpoint)
            return passage.run(path.removeprefix(f"{PREFIX}/"), start_response)
        if not path.startswith("/_"):
            environ["PATH_INFO"] = self._canonical_path(path)
        query = urllib.parse.parse_qs(str(environ.get("QUERY_STRING", "")))
        passage = _Passage(self._app.wsgi_app, self._site, environ, self._endpoint(environ))
        subject = next((query[name][0] for name in _PATHS if name in query), "")
        return passage.run(subject, start_response)

    def _endpoint(self, environ: WSGIEnvironment) -> str:
        try:
            method = str(environ["REQUEST_METHOD"])
            return str(self._map.match(str(environ["PATH_INFO"]), method=method)[0])
        except HTTPException:
            return ""


class _Passage:
    """One request on its way in and out."""

    def __init__(
        self, app: WSGIApplication, site: Site, environ: WSGIEnvironment, endpoint: str
    ) -> None:
        self._app = app
        self._site = site
        self._environ = environ
        self._endpoint = endpoint
        self._started = time.perf_counter()
        self._status = 0

    def run(self, subject: str, start_response: StartResponse) -> Iterable[bytes]:
        """Let the request through, or let happen to it what a fault for *subject* says."""
        self._wait()
        method = str(self._environ["REQUEST_METHOD"])
        fault = self._site.faults.take(self._endpoint, method, subject)
        try:
            return self._answer(fault, start_response)
        finally:
            self._log()

    def _wait(self) -> None:
        knobs = self._site.knobs
        special = {"token": knobs.token_latency, "store": knobs.store_latency, "job": 0.0}
        milliseconds = special.get(self._endpoint.split("/")[0], knobs.latency)
        if milliseconds > 0:
            time.sleep(milliseconds / 1000)

    def _answer(self, fault: Fault | None, start_response: StartResponse) -> Iterable[bytes]:
        if fault is None:
            return self._work(start_response)
        if fault.kind in ("drop", "reset"):
            raise Hangup(fault.kind == "reset")
        if fault.kind == "status":
            return self._say(fault, start_response)
        if fault.kind in ("stall_body", "cut_body"):
            return _interrupted(self._work(start_response), fault)
        if fault.kind in ("late_status", "lost_answer", "torn"):
            return self._deny(fault, start_response)
        if fault.kind == "expire_tokens":
            self._site.tokens.revoke_all()
        else:
            time.sleep(fault.seconds)
        return self._work(start_response)

    def _deny(self, fault: Fault, start_response: StartResponse) -> Iterable[bytes]:
        """Do the work, but don't admit it."""
        if fault.kind == "torn":
            torn.cut(self._environ, fault.bytes, whole=self._endpoint.startswith(("store", "job")))
        for _ in self._work(_ignore):
            pass
        if fault.kind == "lost_answer" or fault.status == 0:
            self._status = 0
            raise Hangup
        return self._say(fault, start_response)

    def _work(self, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            self._status = int(status.split()[0])
            return start_response(status, headers, exc_info)

        return self._app(self._environ, start)

    def _say(self, fault: Fault, start_response: StartResponse) -> Iterable[bytes]:
        torn.drain(self._environ)  # else the client would get a broken pipe, not the answer
        is_text = isinstance(fault.body, str)
        data = (fault.body if is_text else json.dumps(fault.body)).encode()
        headers = {
            "Content-Type": "text/plain" if is_text else "application/json",
            "Content-Length": str(len(data)),
            **fault.headers,
        }
        self._status = fault.status
        start_response(f"{fault.status} Fault", list(headers.items()))
        return [data]

    def _log(self) -> None:
        environ = self._environ
        self._site.requests.add(
            LoggedRequest(
                str(environ["REQUEST_METHOD"]),
                str(environ["PATH_INFO"]),
                urllib.parse.unquote_plus(str(environ.get("QUERY_STRING", ""))),
                self._status,
                time.perf_counter() - self._started,
                self._endpoint,
            )
        )


def _ignore(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    """Take the head of an answer that nobody will see."""
    return lambda data: None


def _interrupted(body: Iterable[bytes], fault: Fault) -> Iterator[bytes]:
    left = fault.bytes
    for chunk in body:
        if len(chunk) <= left:
            left -= len(chunk)
            yield chunk
            continue
        yield chunk[:left]
        if fault.kind == "cut_body":
            raise Hangup
        time.sleep(fault.seconds)
        yield chunk[left:]
        left = 1 << 62  # only once
