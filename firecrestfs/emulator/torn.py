"""Uploads of which only the beginning arrives."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

_CHUNK = 256 * 1024
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_FILE = re.compile(rb"\r\nContent-Disposition:[^\r]*filename=", re.IGNORECASE)


def cut(environ: WSGIEnvironment, keep: int, *, whole: bool) -> None:
    """Leave *keep* bytes of the file in a form; with *whole* of the body, whatever it is.

    A cut form is well-formed, as if the file had been shorter: the API does its work with it. A
    cut body is not, and is refused or ignored.
    """
    stream = _stream(environ)
    if whole:
        environ["wsgi.input"] = io.BytesIO(stream.read(keep))
        while stream.read(_CHUNK):
            pass
        return
    body = stream.read(int(str(environ.get("CONTENT_LENGTH") or 0)))
    body = _shortened(body, str(environ.get("CONTENT_TYPE", "")), keep)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))


def _shortened(body: bytes, content_type: str, keep: int) -> bytes:
    boundary = _BOUNDARY.search(content_type)
    part = _FILE.search(body)
    if boundary is None or part is None:
        return body[:keep]
    start = body.index(b"\r\n\r\n", part.end()) + 4
    end = body.index(b"\r\n--" + boundary.group(1).encode("latin-1"), start)
    return body[: min(start + keep, end)] + body[end:]


def drain(environ: WSGIEnvironment) -> None:
    """Read what is left of the body, in pieces."""
    stream = _stream(environ)
    while stream.read(_CHUNK):
        pass


def _stream(environ: WSGIEnvironment) -> BinaryIO:
    stream: BinaryIO = environ["wsgi.input"]
    return stream
