"""Reads an upload the way the real server's parser does: file names stay as sent, byte for byte."""

from __future__ import annotations

import re
from typing import NamedTuple

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_PARAMETER = re.compile(rb'\b(filename|name)="((?:[^"\\]|\\.)*)"', re.IGNORECASE | re.DOTALL)


class Part(NamedTuple):
    """One part of a form. `filename` is None for a plain field."""

    name: str
    filename: str | None
    content: bytes


def parse(content_type: str, body: bytes) -> list[Part]:
    """Return the parts of a multipart/form-data body; none if it isn't one."""
    match = _BOUNDARY.search(content_type)
    if match is None or not content_type.lower().startswith("multipart/form-data"):
        return []
    delimiter = b"\r\n--" + match.group(1).encode("latin-1")
    pieces = (b"\r\n" + body).split(delimiter)[1:]
    parts = [_part(piece) for piece in pieces if not piece.startswith(b"--")]
    return [part for part in parts if part is not None]


def _part(piece: bytes) -> Part | None:
    head, separator, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    found = {key.lower(): value for key, value in _PARAMETER.findall(head)}
    if not separator or b"name" not in found:
        return None
    filename = found.get(b"filename")
    return Part(
        found[b"name"].decode("utf-8", "replace"),
        None if filename is None else filename.replace(b'\\"', b'"').decode("utf-8", "replace"),
        content,
    )
