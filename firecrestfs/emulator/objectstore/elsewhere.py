"""A store that isn't ours: any server that speaks S3, reached as FirecREST reaches one.

Links are signed here; what the cluster's side does itself goes by such links, too. The keys are
those of a store for tests, which asks for none in particular.
"""

from __future__ import annotations

import dataclasses
import http.client
import urllib.error
import urllib.parse
import urllib.request
import xml.etree.ElementTree
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, cast

from ..knobs import Knobs
from .errors import StoreError
from .shelf import Blob
from .signatures import Signer
from .store import ObjectStore, PostForm

_PATIENCE_S = 60.0


@dataclasses.dataclass(frozen=True)
class FarBlob(Blob):
    """An object of that store; its bytes are fetched when it is opened."""

    url: str = ""
    length: int = 0

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.length

    def open(self) -> BinaryIO:
        """Return its bytes as a file to read."""
        return cast(BinaryIO, _ask("GET", self.url))


class FarStore(ObjectStore):
    """The interface of `ObjectStore` on the server at *url*. Buckets come to be when needed."""

    def __init__(self, folder: Path, knobs: Knobs, url: str) -> None:
        super().__init__(folder, knobs)
        self.url = url.rstrip("/")
        self.signer = Signer("testing", "testing")
        self._buckets: set[str] = set()

    def form(self, key: str, expires: int | None = None) -> PostForm:
        """Return the form that stores one file under *key*."""
        self._need_bucket(key)
        return super().form(key, expires)

    def find(self, key: str) -> Blob | None:
        """Return the object under *key*, if there is one."""
        try:
            with _ask("HEAD", self.presign("HEAD", key)) as answer:
                heads = answer.headers
        except FileNotFoundError:
            return None
        stored = parsedate_to_datetime(heads["Last-Modified"]).timestamp()
        etag = heads["ETag"].strip('"')
        url, length = self.presign("GET", key), int(heads["Content-Length"])
        return FarBlob((), etag, stored, stored, url, length)

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        """Store an object, in place of one that may be there."""
        self._need_bucket(key)
        piece = self._shelf.write(chunks)
        try:
            with piece.path.open("rb") as body:
                _ask("PUT", self.presign("PUT", key), body, piece.size).close()
        finally:
            self._shelf.remove([piece])
        found = self.find(key)
        if found is None:
            raise StoreError("InternalError")
        return found

    def delete(self, key: str) -> None:
        """Remove an object if there is one."""
        _ask("DELETE", self.presign("DELETE", key)).close()

    def keys(self) -> list[str]:
        """Return the keys of all objects in the buckets that were used."""
        names: list[str] = []
        for bucket in sorted(self._buckets):
            with _ask("GET", self.presign("GET", bucket)) as answer:
                root = xml.etree.ElementTree.fromstring(answer.read())
            names += [f"{bucket}/{key.text}" for key in root.findall("{*}Contents/{*}Key")]
        return names

    def create_upload(self, key: str) -> str:
        """Begin an upload in parts; return its id."""
        self._need_bucket(key)
        with _ask("POST", self.presign("POST", key, uploads=""), length=0) as answer:
            root = xml.etree.ElementTree.fromstring(answer.read())
        return root.findtext("{*}UploadId", "")

    def _need_bucket(self, key: str) -> None:
        bucket = key.partition("/")[0]
        if bucket not in self._buckets:
            _ask("PUT", self.presign("PUT", bucket), length=0).close()
            self._buckets.add(bucket)


def store_at(folder: Path, knobs: Knobs) -> ObjectStore:
    """Return the store of a site: its own, or the one that `store_url` names."""
    if knobs.store_url:
        return FarStore(folder, knobs, knobs.store_url)
    return ObjectStore(folder, knobs)


def _ask(
    method: str, url: str, body: BinaryIO | None = None, length: int | None = None
) -> http.client.HTTPResponse:
    """Send a request. Raises FileNotFoundError where there is no such thing, else OSError."""
    headers = {} if length is None else {"Content-Length": str(length)}
    headers |= {"Content-Type": "binary/octet-stream"} if body is not None else {}
    request = urllib.request.Request(url, body, headers, method=method)
    try:
        return cast(http.client.HTTPResponse, urllib.request.urlopen(request, timeout=_PATIENCE_S))
    except urllib.error.HTTPError as exc:
        with exc:
            if exc.code == 404:
                raise FileNotFoundError(urllib.parse.urlsplit(url).path) from None
        raise OSError(f"{method} {urllib.parse.urlsplit(url).path}: {exc.code}") from None
