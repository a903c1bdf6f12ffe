"""Reads a POST form from a stream: the fields first, then the file in pieces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

from .errors import StoreError
from .shelf import CHUNK

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"]*)"', re.IGNORECASE)
_MOST = 20 * 1024  # bytes of all that precedes the file


class FormReader:
    """One form. Call `fields`, then `file`, each once."""

    def __init__(self, content_type: str, stream: BinaryIO) -> None:
        match = _BOUNDARY.search(content_type)
        if match is None or not content_type.lower().startswith("multipart/form-data"):
            raise StoreError("PreconditionFailed", Condition="Bucket POST must be multipart")
        self._delimiter = b"\r\n--" + match.group(1).encode("latin-1")
        self._stream = stream
        self._buffer = bytearray(b"\r\n")  # so that the first delimiter looks like the others

    def fields(self) -> dict[str, str]:
        """Return the fields before the file, names in lower case. Raises StoreError."""
        out: dict[str, str] = {}
        self._until(self._delimiter)
        while not self._starts_with(b"--"):
            match = _NAME.search(self._until(b"\r\n\r\n"))
            name = match.group(1).decode("utf-8", "replace").lower() if match else ""
            if name == "file":
                return out
            out[name] = self._until(self._delimiter).decode("utf-8", "replace")
        words = "POST requires exactly one file upload per request."
        raise StoreError("InvalidArgument", words, ArgumentName="file", ArgumentValue=0)

    def file(self) -> Iterator[bytes]:
        """Yield the content of the file. Raises StoreError if the form ends before it."""
        keep = len(self._delimiter) - 1
        while (end := self._buffer.find(self._delimiter)) < 0:
            ready = len(self._buffer) - keep
            if ready > 0:
                yield bytes(self._buffer[:ready])
                del self._buffer[:ready]
            self._fill()
        yield bytes(self._buffer[:end])

    def _until(self, end: bytes) -> bytes:
        while (at := self._buffer.find(end)) < 0:
            if len(self._buffer) > _MOST:
                raise StoreError("MalformedPOSTRequest")
            self._fill()
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def _starts_with(self, text: bytes) -> bool:
        while len(self._buffer) < len(text):
            self._fill()
        return self._buffer.startswith(text)

    def _fill(self) -> None:
        chunk = self._stream.read(CHUNK)
        if not chunk:
            raise StoreError("MalformedPOSTRequest")
        self._buffer += chunk
