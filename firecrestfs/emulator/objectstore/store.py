"""The objects themselves, multipart uploads, and the links that lead to them."""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
import threading
import time
import urllib.parse
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from ..knobs import Knobs
from .errors import StoreError
from .shelf import Blob, Piece, Shelf
from .signatures import Signer


@dataclasses.dataclass(frozen=True)
class PostForm:
    """Where to POST a file, with which fields before it."""

    url: str
    fields: dict[str, str]


@dataclasses.dataclass
class _Upload:
    """A multipart upload in progress."""

    key: str
    started: float
    parts: dict[int, Piece] = dataclasses.field(default_factory=dict)


class ObjectStore:
    """All objects of a site. Keys start with the bucket. Safe from any thread.

    `url` is where its routes are; set before the first link is made. Knobs: `url_ttl`,
    `late_objects`, `min_part_size`, `object_days`, `complete_twice`.
    """

    def __init__(self, folder: Path, knobs: Knobs) -> None:
        self.url = ""
        self.signer = Signer("EMULATEDKEY" + secrets.token_hex(5).upper(), secrets.token_hex(20))
        self._knobs = knobs
        self._shelf = Shelf(folder)
        self._lock = threading.Lock()  # guards all below
        self._blobs: dict[str, Blob] = {}
        self._uploads: dict[str, _Upload] = {}
        self._completed: dict[str, tuple[str, Blob]] = {}

    # -- links --------------------------------------------------------------------------------

    def location(self, key: str) -> str:
        """Return the URL of an object, without a signature."""
        return f"{self.url}/{urllib.parse.quote(key, safe='/~')}"

    def presign(
        self, method: str, key: str, expires: int | None = None, **parameters: object
    ) -> str:
        """Return a URL that allows one *method* for some seconds, `url_ttl` without a number."""
        parts = urllib.parse.urlsplit(self.url)
        pairs = [(name, str(value)) for name, value in parameters.items()]
        seconds = expires or self._knobs.url_ttl
        path = f"{parts.path}/{key}"
        query = self.signer.presign(method, parts.netloc, path, seconds, pairs)
        return f"{self.location(key)}?{query}"

    def presign_v2(self, method: str, key: str, expires: int | None = None) -> dict[str, str]:
        """Return the query parameters that allow one *method* at `location(key)`, version 2."""
        return self.signer.presign_v2(method, f"/{key}", expires or self._knobs.url_ttl)

    def form(self, key: str, expires: int | None = None) -> PostForm:
        """Return the form that stores one file under *key*, as often as it is posted."""
        bucket, _, name = key.partition("/")
        fields = self.signer.sign_form(bucket, name, expires or self._knobs.url_ttl)
        return PostForm(self.location(bucket), fields)

    # -- objects ------------------------------------------------------------------------------

    def find(self, key: str) -> Blob | None:
        """Return the object that can be seen under *key*, if there is one."""
        with self._lock:
            self._forget_old_locked()
            blob = self._blobs.get(key)
            return blob if blob is not None and blob.visible <= time.time() else None

    def exists(self, key: str) -> bool:
        """Tell whether an object can be seen under *key*."""
        return self.find(key) is not None

    def open(self, key: str) -> BinaryIO:
        """Return an object as a file to read. Raises FileNotFoundError."""
        blob = self.find(key)
        if blob is None:
            raise FileNotFoundError(key)
        return blob.open()

    def put(self, key: str, chunks: Iterable[bytes]) -> Blob:
        """Store an object, in place of one that may be there."""
        piece = self._shelf.write(chunks)
        with self._lock:
            return self._place_locked(key, (piece,), piece.md5)

    def delete(self, key: str) -> None:
        """Remove an object if there is one."""
        with self._lock:
            blob = self._blobs.pop(key, None)
        self._shelf.remove(blob.pieces if blob else ())

    def keys(self) -> list[str]:
        """Return the keys of all objects, also of those that can't be seen yet."""
        with self._lock:
            self._forget_old_locked()
            return sorted(self._blobs)

    def clear(self) -> None:
        """Remove all objects and uploads."""
        with self._lock:
            for blob in self._blobs.values():
                self._shelf.remove(blob.pieces)
            for upload in self._uploads.values():
                self._shelf.remove(upload.parts.values())
            self._blobs.clear()
            self._uploads.clear()
        self._shelf.remove_folder()

    # -- multipart uploads --------------------------------------------------------------------

    def create_upload(self, key: str) -> str:
        """Begin an upload in parts; return its id."""
        upload_id = secrets.token_hex(16)
        with self._lock:
            self._uploads[upload_id] = _Upload(key, time.time())
        return upload_id

    def put_part(self, key: str, upload_id: str, number: int, chunks: Iterable[bytes]) -> str:
        """Take one part; return its ETag. Raises StoreError."""
        self._upload(key, upload_id)  # refuse before reading the body
        piece = self._shelf.write(chunks)
        with self._lock:
            upload = self._uploads.get(upload_id)
            if upload is None:  # completed or aborted meanwhile
                self._shelf.remove([piece])
                raise StoreError("NoSuchUpload", UploadId=upload_id)
            old = upload.parts.get(number)
            upload.parts[number] = piece
        self._shelf.remove([old] if old else ())
        return piece.md5

    def complete(self, key: str, upload_id: str, parts: list[tuple[int, str]]) -> Blob:
        """Make an object of (number, ETag) pairs. Raises StoreError."""
        if not parts:
            raise StoreError("MalformedXML")
        with self._lock:
            repeated = self._completed.get(upload_id)
            if repeated is not None and repeated[0] == key and self._knobs.complete_twice:
                return repeated[1]
            upload = self._uploads.get(upload_id)
            if upload is None or upload.key != key:
                raise StoreError("NoSuchUpload", UploadId=upload_id)
            pieces = _chosen(upload, upload_id, parts, self._knobs.min_part_size)
            del self._uploads[upload_id]
            digests = b"".join(bytes.fromhex(piece.md5) for piece in pieces)
            digest = hashlib.md5(digests, usedforsecurity=False).hexdigest()
            blob = self._place_locked(key, tuple(pieces), f"{digest}-{len(pieces)}")
            self._completed[upload_id] = (key, blob)
        self._shelf.remove(piece for piece in upload.parts.values() if piece not in pieces)
        return blob

    def abort(self, key: str, upload_id: str) -> None:
        """Give up an upload. Raises StoreError."""
        self._upload(key, upload_id)
        with self._lock:
            upload = self._uploads.pop(upload_id, None)
        self._shelf.remove(upload.parts.values() if upload else ())

    def _upload(self, key: str, upload_id: str) -> _Upload:
        with self._lock:
            upload = self._uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise StoreError("NoSuchUpload", UploadId=upload_id)
        return upload

    # -- common -------------------------------------------------------------------------------

    def _place_locked(self, key: str, pieces: tuple[Piece, ...], etag: str) -> Blob:
        now = time.time()
        blob = Blob(pieces, etag, now, now + self._knobs.late_objects)
        old = self._blobs.get(key)
        self._blobs[key] = blob
        self._shelf.remove(old.pieces if old else ())
        return blob

    def _forget_old_locked(self) -> None:
        """Apply the buckets' lifecycle rule."""
        oldest = time.time() - self._knobs.object_days * 86400
        for key in [key for key, blob in self._blobs.items() if blob.stored < oldest]:
            self._shelf.remove(self._blobs.pop(key).pieces)
        for upload_id in [one for one, up in self._uploads.items() if up.started < oldest]:
            self._shelf.remove(self._uploads.pop(upload_id).parts.values())


def _chosen(
    upload: _Upload, upload_id: str, parts: list[tuple[int, str]], smallest: int
) -> list[Piece]:
    """Return the pieces that a completion names. Raises StoreError."""
    numbers = [number for number, _ in parts]
    if sorted(set(numbers)) != numbers:
        raise StoreError("InvalidPartOrder", UploadId=upload_id)
    for number, etag in parts:
        piece = upload.parts.get(number)
        if piece is None or piece.md5 != etag.strip('"'):
            raise StoreError("InvalidPart", UploadId=upload_id, PartNumber=number, ETag=etag)
    pieces = [upload.parts[number] for number in numbers]
    for number, piece in zip(numbers[:-1], pieces[:-1], strict=True):
        if piece.size < smallest:
            raise StoreError(
                "EntityTooSmall",
                ProposedSize=piece.size,
                MinSizeAllowed=smallest,
                PartNumber=number,
                ETag=piece.md5,
            )
    return pieces
