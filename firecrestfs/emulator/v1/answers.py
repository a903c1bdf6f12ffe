"""The shapes in which API v1 answers: sorted JSON, pages of HTML, and what the gateway says."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from typing import Any

from flask import Response, request

_PAGE = """<html>
  <head>
    <title>Bad Request</title>
  </head>
  <body>
    <h1><p>Bad Request</p></h1>
    {reason}
  </body>
</html>
"""
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DRAIN = 1 << 16


class Answer(Exception):
    """The end of a request before its normal end. `body`: the JSON object to answer with."""

    def __init__(self, status: int, headers: dict[str, str] | None = None, **body: Any) -> None:
        super().__init__(str(body))
        self.status = status
        self.headers = headers or {}
        self.body = body


def reply(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with JSON, as all services encode it; 204 has the type but no body."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":")) + "\n"
    data = b"" if status == 204 else text.encode()
    return Response(data, status, headers, content_type="application/json")


def task_created(task_id: str, status: int = 200) -> Response:
    """Say where the client can follow what has begun."""
    url = f"/tasks/{task_id}"
    return reply({"success": "Task created", "task_id": task_id, "task_url": url}, status)


def from_gateway(status: int, message: str) -> Response:
    """Answer in the gateway's name."""
    return reply({"message": message}, status)


def bad_gateway() -> Response:
    """Answer for a service that has closed the connection."""
    return from_gateway(502, "An invalid response was received from the upstream server")


def refused_by_server(reason: str) -> Response:
    """Answer as the HTTP server in front of a service does, before or behind the service."""
    page = _PAGE.format(reason=html.escape(reason))
    return Response(page, 400, content_type="text/html")


def too_large(description: str) -> Response:
    """Refuse a body that has not been read; only then swallow it, so that the answer arrives."""
    response = reply({"description": description}, 413)
    size = len(response.get_data())
    response.response = _drained(response.get_data(), request.environ["wsgi.input"])
    response.headers["Content-Length"] = str(size)
    response.headers["Connection"] = "close"
    return response


def _drained(data: bytes, stream: Any) -> Iterator[bytes]:
    yield data
    try:
        while stream.read(_DRAIN):
            pass
    except OSError:
        pass  # the client has gone


def sendable(response: Response) -> Response:
    """Put in place of an answer what comes of it if its headers can't be sent."""
    for _, value in response.headers:
        if not value.isascii() and any(char > "\xff" for char in value):
            return bad_gateway()
        if _UNSENDABLE.search(value):
            return refused_by_server(f"Invalid HTTP Header: {repr(value)!r}")
    return response
