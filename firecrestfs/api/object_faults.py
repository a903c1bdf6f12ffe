"""What an object store answers, as errno and text, without a word of the links that were used.

Stores quote an address's signature, and what they computed, back at whoever asks; HTTP libraries
put whole addresses into their exceptions and debugging lines. Nothing of that goes on from here.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from ..errors import FirecrestException
from ..model import Response
from .fault_tools import quote
from .faults import refusal

_ERROR = re.compile(r"<Error[\s>]", re.ASCII)


def total_of(answer: requests.Response) -> int:
    """Return the size of the whole object in bytes, by the headers."""
    ranged = re.fullmatch(r"bytes \d+-\d+/(\d+)", str(answer.headers.get("Content-Range", "")))
    if ranged:
        return int(ranged[1])
    length = str(answer.headers.get("Content-Length", ""))
    if not length.isdecimal():
        raise refusal(errno.EBADMSG, "the object store doesn't tell the object's size")
    return int(length)


def some_of(answer: requests.Response) -> str:
    """Return the beginning of a body."""
    return bytes(answer.raw.read(64 * 1024, decode_content=True) or b"").decode("utf-8", "replace")


def check_body(answer: requests.Response, method: str) -> None:
    """Raise the refusal that a success has in its body."""
    text = some_of(answer)
    if _ERROR.search(text):
        raise refused(answer.status_code, text, method)


def check(answer: requests.Response, method: str) -> None:
    """Raise what an error status means."""
    if not 200 <= answer.status_code < 300:
        raise refused(answer.status_code, some_of(answer), method)


#: Codes of S3: errno, our words, whether a repeat may help.
_CODES: dict[str, tuple[int, str, bool]] = {
    "NoSuchKey": (errno.ENOENT, "there is no such object in the object store", False),
    "NoSuchUpload": (errno.ESTALE, "the upload is over, or was given up: start another", False),
    "EntityTooLarge": (errno.EFBIG, "more than the object store takes", False),
    "RequestTimeout": (errno.ETIMEDOUT, "the object store waited too long", True),
    "InternalError": (errno.EIO, "the object store has a problem", True),
    "SlowDown": (errno.EAGAIN, "the object store is busy", True),
}
_STATUSES: dict[int, tuple[int, str, bool]] = {
    401: (errno.EACCES, "the link to the object store was refused; it may have expired", False),
    403: (errno.EACCES, "the link to the object store was refused; it may have expired", False),
    404: (errno.ENOENT, "there is no such object in the object store", False),
    413: (errno.EFBIG, "more than the object store takes", False),
    429: (errno.EAGAIN, "the object store is busy", True),
}


def refused(status: int, text: str, method: str) -> FirecrestException:
    """Return the exception for a refusal; its evidence is the code and the message."""
    code, words = _field(text, "Code"), _field(text, "Message")
    row = _CODES.get(code) or _STATUSES.get(status)
    if row is None:
        row = (errno.EIO, "the object store refused", status >= 500 or status == 408)
    shown = f" ({quote(': '.join(part for part in (code, words) if part))})" if code else ""
    body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>" if code else ""
    response = Response(status, {}, body, method, "object store")
    open_end = method != "GET" and (row[2] or status < 400)
    return refusal(
        row[0], row[1] + shown, responses=(response,), transient=row[2], ambiguous=open_end
    )


def _field(text: str, name: str) -> str:
    match = re.search(rf"<{name}>([^<]*)</{name}>", text)
    return match[1] if match else ""


def code_of(exc: FirecrestException) -> str:
    """Return the store's word for why it refused, or ""."""
    return _field(exc.responses[-1].text, "Code") if exc.responses else ""


@contextmanager
def without_context() -> Iterator[None]:
    """Cut off what an exception came from: the texts of HTTP libraries hold whole URLs."""
    try:
        yield
    except FirecrestException as exc:
        exc.__cause__ = exc.__context__ = None
        fault = exc
    else:
        return
    raise fault


class _Redact(logging.Filter):
    """Takes the queries of presigned URLs out of what urllib3 logs for debugging."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                _SIGNED.sub(r"\1?…", arg) if isinstance(arg, str) else arg for arg in record.args
            )
        return True


_SIGNED = re.compile(r"([^?]*)\?(?=.*(?:Signature|temp_url_sig)=).*")
logging.getLogger("urllib3.connectionpool").addFilter(_Redact())
