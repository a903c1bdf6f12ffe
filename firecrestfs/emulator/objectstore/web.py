"""The routes of the object store, as a WSGI application."""

from __future__ import annotations

import email.utils
import logging
import re
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO

from .errors import DECLARATION, StoreError, element
from .postform import FormReader
from .shelf import CHUNK, Blob
from .store import ObjectStore
from .transport import Answer, Request

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

_log = logging.getLogger(__name__)

#: Where the routes are below the site's URL.
PREFIX = "/_s3"

_XML = {"Content-Type": "application/xml"}
_TWO_WAYS = (
    "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
    "string parameter or the Authorization header should be specified"
)


class StoreWeb:
    """Answers requests to the object store. Safe from any thread."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._handlers: dict[str, Callable[[Request], Answer]] = {
            "get": self._get,
            "head": self._get,
            "put": self._put,
            "part": self._part,
            "complete": self._complete,
            "abort": self._abort,
            "delete": self._delete,
            "form": self._form,
        }

    @staticmethod
    def operation(environ: WSGIEnvironment) -> str:
        """Return what a request is: "get", "part", "complete" and so on, "" if none of them."""
        request = Request(environ, PREFIX)
        upload = bool(request.parameter("uploadId"))
        if not request.name:
            return "form" if request.method == "POST" and request.bucket else ""
        names = {
            ("GET", False): "get",
            ("HEAD", False): "head",
            ("PUT", False): "put",
            ("PUT", True): "part",
            ("POST", True): "complete",
            ("DELETE", True): "abort",
            ("DELETE", False): "delete",
        }
        # A method that the URL isn't signed for fails by its signature.
        return names.get((request.method, upload), request.method.lower() if upload else "")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ, PREFIX)
        try:
            answer = self._answer(request, self.operation(environ))
        except StoreError as exc:
            answer = _refusal(request, exc)
        except OSError as exc:  # the disk is full, for one
            _log.error("%s %s", request.method, request.path, exc_info=exc)
            answer = _refusal(request, StoreError("InternalError"))
        phrase = HTTPStatus(answer.status).phrase
        start_response(f"{answer.status} {phrase}", list(answer.headers.items()))
        return () if request.method == "HEAD" else answer.body

    def _answer(self, request: Request, operation: str) -> Answer:
        authorization = request.header("authorization")
        if authorization:
            raise StoreError(
                "InvalidArgument",
                _TWO_WAYS,
                ArgumentName="Authorization",
                ArgumentValue=authorization,
            )
        if operation != "form":
            self._store.signer.verify(request.signed)
        if operation not in self._handlers:
            raise StoreError("MethodNotAllowed", Method=request.method)
        return self._handlers[operation](request)

    # -- reading ------------------------------------------------------------------------------

    def _get(self, request: Request) -> Answer:
        blob = self._store.find(request.key)
        if blob is None:
            raise StoreError("NoSuchKey", Key=request.name)
        headers = {
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
            "ETag": f'"{blob.etag}"',
            "Last-Modified": email.utils.formatdate(blob.stored, usegmt=True),
        }
        if _matches(request.header("if-none-match"), blob):
            return Answer(304, {"ETag": headers["ETag"]})
        if request.header("if-match") and not _matches(request.header("if-match"), blob):
            raise StoreError("PreconditionFailed", Condition="If-Match")
        wanted = _range(request, blob)
        start, end = wanted or (0, blob.size)
        headers["Content-Length"] = str(end - start)
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{blob.size}"
        body: Iterable[bytes] = ()
        if request.method != "HEAD" and end > start:
            body = _excerpt(blob.open(), start, end)
        return Answer(206 if wanted else 200, headers, body)

    # -- writing ------------------------------------------------------------------------------

    def _put(self, request: Request) -> Answer:
        blob = self._store.put(request.key, request.chunks())
        return _stored(blob.etag)

    def _part(self, request: Request) -> Answer:
        number = request.parameter("partNumber")
        if not number.isdigit() or not 1 <= int(number) <= 10000:
            words = "Part number must be an integer between 1 and 10000, inclusive"
            raise StoreError("InvalidArgument", words, ArgumentName="partNumber")
        upload_id = request.parameter("uploadId")
        chunks = request.chunks()
        return _stored(self._store.put_part(request.key, upload_id, int(number), chunks))

    def _complete(self, request: Request) -> Answer:
        body = b"".join(request.chunks())
        blob = self._store.complete(request.key, request.parameter("uploadId"), _part_list(body))
        text = "".join(
            element(name, value)
            for name, value in (
                ("Location", self._store.location(request.key)),
                ("Bucket", request.bucket),
                ("Key", request.name),
                ("ETag", f'"{blob.etag}"'),
            )
        )
        name = "CompleteMultipartUploadResult"
        data = f"{DECLARATION}<{name}>{text}</{name}>".encode()
        return Answer(200, {**_XML, "Content-Length": str(len(data))}, [data])

    def _abort(self, request: Request) -> Answer:
        self._store.abort(request.key, request.parameter("uploadId"))
        return Answer(204, {})

    def _delete(self, request: Request) -> Answer:
        self._store.delete(request.key)
        return Answer(204, {})

    def _form(self, request: Request) -> Answer:
        _ = request.length
        reader = FormReader(request.header("content-type"), request.stream)
        fields = reader.fields()
        self._store.signer.verify_form(request.bucket, fields)
        key = f"{request.bucket}/{fields['key']}"
        blob = self._store.put(key, reader.file())
        request.drain()  # what follows the file counts for nothing
        return Answer(204, {"ETag": f'"{blob.etag}"', "Location": self._store.location(key)})


def _refusal(request: Request, error: StoreError) -> Answer:
    request.drain()
    body = error.xml()
    return Answer(error.status, {**_XML, "Content-Length": str(len(body))}, [body])


def _stored(etag: str) -> Answer:
    kind = "text/plain; charset=utf-8"
    return Answer(200, {"ETag": f'"{etag}"', "Content-Type": kind, "Content-Length": "0"})


def _matches(header: str, blob: Blob) -> bool:
    tags = [tag.strip().strip('"') for tag in header.split(",")]
    return "*" in tags or blob.etag in tags


def _range(request: Request, blob: Blob) -> tuple[int, int] | None:
    """Return the bytes that are asked for, None for all. Raises StoreError.

    What isn't one well-formed range is ignored, as S3 does.
    """
    header = request.header("range")
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header)
    condition = request.header("if-range")
    if match is None or not any(match.groups()) or (condition and not _matches(condition, blob)):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, blob.size - int(last)), blob.size
    else:
        start, end = int(first), min(blob.size, int(last) + 1) if last else blob.size
        if last and int(last) < start:
            return None
    if start >= blob.size or start == end:
        raise StoreError("InvalidRange", RangeRequested=header, ActualObjectSize=blob.size)
    return start, end


def _excerpt(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    with file:
        file.seek(start)
        while start < end:
            chunk = file.read(min(CHUNK, end - start))
            start += len(chunk)
            yield chunk


def _part_list(body: bytes) -> list[tuple[int, str]]:
    """Read the list of parts. Raises StoreError."""
    try:
        root = xml.etree.ElementTree.fromstring(body)
        rows = [
            (int(part.findtext("{*}PartNumber", "")), part.findtext("{*}ETag", "").strip())
            for part in root.findall("{*}Part")
        ]
    except (xml.etree.ElementTree.ParseError, ValueError) as exc:
        raise StoreError("MalformedXML") from exc
    if not root.tag.endswith("CompleteMultipartUpload") or len(root) != len(rows):
        raise StoreError("MalformedXML")
    return rows
