"""The shapes in which API v2 answers: JSON with its meta headers, errors, validation errors."""

from __future__ import annotations

import json
import time
from typing import Any

from flask import Response, g

VERSION = "2.x.x"


class ApiError(Exception):
    """An error answer. `headers` come on top of the usual ones."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        headers: dict[str, str] | None = None,
        caused_by: list[str] | None = None,
        unhandled: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.unhandled = unhandled  # such errors don't name the user
        self.body: dict[str, Any] = {
            "errorType": "error",
            "message": message,
            "causedBy": caused_by,
            "data": None,
        }


class Invalid(ApiError):
    """A validation error: 400, with one entry per bad field."""

    def __init__(self, fields: list[dict[str, Any]], *, early: bool = False) -> None:
        count = "1 validation error" if len(fields) == 1 else f"{len(fields)} validation errors"
        lines = [
            f"  {{'loc': ({f['location']!r}, {f['name']!r}), 'msg': {f['message']!r}}}"
            for f in fields
        ]
        super().__init__(400, f"{count}:\n" + "\n".join(lines).lower(), unhandled=early)
        self.body.update(errorType="validation", data={"fields": fields})


def field_error(location: str, name: object, message: str) -> dict[str, Any]:
    """Describe one bad field."""
    return {"location": location, "name": name, "message": message}


def meta_headers() -> dict[str, str]:
    """Return the headers that every answer has."""
    return {"F7T-Timestamp": f"{time.time():.6f}", "F7T-AppVersion": VERSION}


def reply(body: Any, status: int = 200) -> Response:
    """Answer with JSON; with None the body is empty, as for 204."""
    data = b"" if body is None else _encode(body)
    return Response(data, status, meta_headers(), "application/json")


def reply_bytes(data: bytes) -> Response:
    """Answer with raw bytes."""
    return Response(data, 200, meta_headers(), "application/octet-stream")


def reply_error(error: ApiError) -> Response:
    """Answer with an error; from authentication on it names the user."""
    user = None if error.unhandled else getattr(g, "username", None)
    response = reply({**error.body, "user": user}, error.status)
    if getattr(g, "username", None):
        response.headers["F7T-AuthUsername"] = g.username
    for name, value in error.headers.items():
        response.headers[name] = value
    return response


def _encode(body: Any) -> bytes:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
