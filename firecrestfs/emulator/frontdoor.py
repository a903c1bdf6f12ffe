"""What every request passes before an API sees it: the log, the latency, the faults."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask
from werkzeug.exceptions import HTTPException

from .faults import Fault
from .requestlog import LoggedRequest
from .site import Site

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

CONTROL = "/_emulator/"
_PATHS = ("path", "targetPath", "sourcePath")  # query parameters that name the file


class Hangup(Exception):
    """Close the connection without (the rest of) an answer; with `reset` by a TCP reset."""

    def __init__(self, reset: bool = False) -> None:
        super().__init__("hang up")
        self.reset = reset


class FrontDoor:
    """A WSGI application around the Flask one. Safe from any thread."""

    def __init__(self, app: Flask, site: Site, canonical_path: Callable[[str], str]) -> None:
        self._app = app
        self._site = site
        self._canonical_path = canonical_path
        self._map = app.url_map.bind("localhost")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request. Raises Hangup where the connection is to be closed instead."""
        path = str(environ["PATH_INFO"])
        if path.startswith(CONTROL):
            return self._app.wsgi_app(environ, start_response)
        if not path.startswith("/_"):
            environ["PATH_INFO"] = self._canonical_path(path)
        return _Passage(self._app, self._site, environ, self._endpoint(environ)).run(start_response)

    def _endpoint(self, environ: WSGIEnvironment) -> str:
        try:
            method = str(environ["REQUEST_METHOD"])
            return str(self._map.match(str(environ["PATH_INFO"]), method=method)[0])
        except HTTPException:
            return ""


class _Passage:
    """One request on its way in and out."""

    def __init__(self, app: Flask, site: Site, environ: WSGIEnvironment, endpoint: str) -> None:
        self._app = app
        self._site = site
        self._environ = environ
        self._endpoint = endpoint
        self._started = time.perf_counter()
        self._status = 0

    def run(self, start_response: StartResponse) -> Iterable[bytes]:
        self._wait()
        query = urllib.parse.parse_qs(self._environ.get("QUERY_STRING", ""))
        method = str(self._environ["REQUEST_METHOD"])
        path = next((query[name][0] for name in _PATHS if name in query), "")
        fault = self._site.faults.take(self._endpoint, method, path)
        try:
            return self._answer(fault, start_response)
        finally:
            self._log()

    def _wait(self) -> None:
        knobs = self._site.knobs
        milliseconds = knobs.token_latency if self._endpoint == "token" else knobs.latency
        if milliseconds > 0:
            time.sleep(milliseconds / 1000)

    def _answer(self, fault: Fault | None, start_response: StartResponse) -> Iterable[bytes]:
        if fault is None:
            return self._work(start_response)
        if fault.kind in ("drop", "reset"):
            raise Hangup(fault.kind == "reset")
        if fault.kind == "stall":
            time.sleep(fault.seconds)
            return self._work(start_response)
        if fault.kind == "status":
            return self._say(fault, start_response)
        body = b"".join(self._work(start_response if "body" in fault.kind else _ignore))
        if fault.kind == "late_status":
            return self._say(fault, start_response)
        if fault.kind == "lost_answer":
            self._status = 0
            raise Hangup
        return _interrupted(body, fault)

    def _work(self, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            self._status = int(status.split()[0])
            return start_response(status, headers, exc_info)

        return self._app.wsgi_app(self._environ, start)

    def _say(self, fault: Fault, start_response: StartResponse) -> Iterable[bytes]:
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


def _interrupted(body: bytes, fault: Fault) -> Iterator[bytes]:
    yield body[: fault.bytes]
    if fault.kind == "cut_body":
        raise Hangup
    time.sleep(fault.seconds)
    yield body[fault.bytes :]
