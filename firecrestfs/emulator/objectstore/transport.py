"""One HTTP request to the object store, and its answer."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from .errors import StoreError
from .shelf import CHUNK
from .signatures import Signed

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment

LARGEST = 5 * 1024**3  # bytes of one body


class Answer(NamedTuple):
    """Status, headers and body; the length of the body is among the headers."""

    status: int
    headers: dict[str, str]
    body: Iterable[bytes] = ()


class Request:
    """What a client wants. `bucket` and `key` are decoded."""

    def __init__(self, environ: WSGIEnvironment, prefix: str) -> None:
        self._environ = environ
        self.method = str(environ["REQUEST_METHOD"])
        self.path = str(environ["PATH_INFO"]).encode("latin-1").decode("utf-8", "replace")
        self.bucket, _, self.name = self.path.removeprefix(prefix).lstrip("/").partition("/")
        raw = str(environ.get("QUERY_STRING", ""))
        self.query = urllib.parse.parse_qsl(raw, keep_blank_values=True)

    @property
    def key(self) -> str:
        """The key as the store has it, with its bucket."""
        return f"{self.bucket}/{self.name}"

    def parameter(self, name: str) -> str:
        """Return a query parameter, empty if it is absent."""
        return dict(self.query).get(name, "")

    def header(self, name: str) -> str:
        """Return a header, empty if it is absent."""
        variable = name.upper().replace("-", "_")
        if variable not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            variable = f"HTTP_{variable}"
        return str(self._environ.get(variable, ""))

    @property
    def signed(self) -> Signed:
        """What its signature has to cover."""
        return Signed(self.method, self.path, f"/{self.key}", self.query, self.header)

    @property
    def length(self) -> int:
        """The length of its body. Raises StoreError where it isn't given."""
        if self.header("transfer-encoding"):
            raise StoreError("NotImplemented", Header="Transfer-Encoding")
        if not self.header("content-length").isdigit():
            raise StoreError("MissingContentLength")
        return int(self.header("content-length"))

    @property
    def stream(self) -> BinaryIO:
        """The body, to be read in pieces."""
        stream: BinaryIO = self._environ["wsgi.input"]
        return stream

    def chunks(self) -> Iterator[bytes]:
        """Yield the body. Raises StoreError if the client goes away before its end."""
        left = self.length
        if left > LARGEST:
            raise StoreError("EntityTooLarge", ProposedSize=left, MaxSizeAllowed=LARGEST)
        while left:
            chunk = self.stream.read(min(CHUNK, left))
            if not chunk:
                raise StoreError("IncompleteBody")
            left -= len(chunk)
            yield chunk

    def drain(self) -> None:
        """Read what is left of the body: else the client would not read the answer."""
        while self.stream.read(CHUNK):
            pass
