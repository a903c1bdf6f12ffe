"""What went wrong, in the terms of a local file system.

`fault_v2` turns an answer of a FirecREST v2 server (or of a gateway in front of it) into a
`FirecrestException`; `transport.transport_faults` does the same for requests that got no answer.
The rows are in `fault_table`.

    FirecrestException
     ├ Refused                the cluster says no to the path, the user or the system
     │  ├ NotFound            also FileNotFoundError
     │  │  └ JobNotFound
     │  ├ PermissionRefused   also PermissionError
     │  ├ NotADirectory       also NotADirectoryError
     │  ├ IsADirectory        also IsADirectoryError
     │  ├ SystemUnknown       the server knows no such cluster
     │  └ TimedOut            also TimeoutError
     ├ Exists                 also FileExistsError
     ├ Unauthorized           the token, not the file; also PermissionError
     ├ TooLarge               more than one direct request may carry
     ├ RateLimited            asked to come back later
     ├ Unreachable            no answer from FirecREST or from the cluster behind it
     ├ BadAnswer              an answer that isn't FirecREST's
     ├ Unsupported            this version of FirecREST has no such thing
     ├ StorageDownloadException, StorageUploadException
     │                        a staged transfer failed
     └ Inexact                the answer can't be proven to be the bytes that were asked for

At the end are the names that pyFirecREST has for the same things.
"""

from __future__ import annotations

import email.utils
import errno
import json
import re
import time
from collections.abc import Mapping

from ..errors import FirecrestException
from ..model import Response
from . import fault_table
from .fault_tools import Verdict


class Refused(FirecrestException):
    """The cluster refused, for a reason that has to do with the path, the user or the system."""


class NotFound(Refused, FileNotFoundError):
    """The cluster says that the path isn't there (ENOENT)."""


class JobNotFound(NotFound):
    """The scheduler doesn't know the job; true of a fresh one for some seconds, too (ENOENT)."""


class Exists(FirecrestException, FileExistsError):
    """The path is there already (EEXIST)."""


class PermissionRefused(Refused, PermissionError):
    """The cluster or the server forbids it (EACCES, EPERM)."""


class Unauthorized(FirecrestException, PermissionError):
    """No valid access token; goes away when the user logs in again (EACCES)."""


class NotADirectory(Refused, NotADirectoryError):
    """A part of the path is no directory (ENOTDIR)."""


class IsADirectory(Refused, IsADirectoryError):
    """The path is a directory (EISDIR)."""


class TooLarge(FirecrestException):
    """One direct request can't carry that much (EFBIG)."""


class SystemUnknown(Refused):
    """The server offers no system of that name (ENODEV)."""


class RateLimited(FirecrestException):
    """Too many requests or jobs; `retry_after` seconds were asked for (EAGAIN)."""

    retry_after: float = 0.0


class TimedOut(Refused, TimeoutError):
    """No answer in time (ETIMEDOUT); what changes something may have happened."""


class Unreachable(FirecrestException, ConnectionError):
    """FirecREST, or the cluster behind it, can't be reached (EHOSTUNREACH and friends)."""


class BadAnswer(FirecrestException):
    """What came back isn't what FirecREST answers (EBADMSG)."""


class Unsupported(FirecrestException):
    """FirecREST has no such thing in this version (EOPNOTSUPP)."""


class StorageDownloadException(FirecrestException):
    """A file could not be staged for download (EIO)."""


class StorageUploadException(FirecrestException):
    """A staged file did not arrive on the cluster (EIO)."""


class Inexact(FirecrestException):
    """The bytes asked for can't be proven from the text that came back (EILSEQ)."""

    def __init__(self, text: str, path: str | None = None) -> None:
        super().__init__(errno.EILSEQ, text, path)


_CLASSES: dict[int, type[FirecrestException]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: Exists,
    errno.EACCES: PermissionRefused,
    errno.EPERM: PermissionRefused,
    errno.ENOTDIR: NotADirectory,
    errno.EISDIR: IsADirectory,
    errno.EFBIG: TooLarge,
    errno.ETIMEDOUT: TimedOut,
    errno.ENODEV: SystemUnknown,
    errno.EBADMSG: BadAnswer,
    errno.EOPNOTSUPP: Unsupported,
    errno.EHOSTUNREACH: Unreachable,
    errno.EHOSTDOWN: Unreachable,
    errno.ECONNRESET: Unreachable,
}
_NAMED: dict[str, type[FirecrestException]] = {
    "token": Unauthorized,
    "system": SystemUnknown,
    "job": JobNotFound,
    "rate": RateLimited,
}


def refusal(
    code: int,
    text: str,
    path: str | None = None,
    *,
    responses: tuple[Response, ...] = (),
    transient: bool = False,
    ambiguous: bool = False,
    kind: str = "",
) -> FirecrestException:
    """Return the exception for errno *code* in its most telling class (*kind*: a special one)."""
    cls = _NAMED.get(kind) or _CLASSES.get(code, FirecrestException)
    return cls(code, text, path, responses=responses, transient=transient, ambiguous=ambiguous)


# -- answers ----------------------------------------------------------------------------------

#: Headers that may carry a secret, or that say where one is.
_SECRET_HEADERS = frozenset(
    {"auth-token", "authorization", "set-cookie", "cookie", "location", "proxy-authorization"}
)
#: How much of a body is kept as evidence.
_EVIDENCE = 64 * 1024


def evidence(
    status: int, headers: Mapping[str, str], body: bytes, method: str, endpoint: str
) -> Response:
    """Return the answer as a value that can be shown: without tokens, cookies or addresses."""
    clean = {k.lower(): v for k, v in headers.items() if k.lower() not in _SECRET_HEADERS}
    text = body[:_EVIDENCE].decode("utf-8", "replace")
    return Response(status, clean, text, method, endpoint)


def fault_v2(
    response: Response, path: str | None = None, *, mutating: bool = False
) -> FirecrestException:
    """Return the exception for a v2 answer with an error status.

    *mutating*: the request changes something, so an answer that came after the command had begun
    leaves its effect open (`ambiguous`).
    """
    body = _json_object(response)
    verdict = _verdict(response.status_code, body, response)
    exc = refusal(
        verdict.code,
        verdict.text,
        path,
        responses=(response,),
        transient=verdict.transient,
        ambiguous=mutating and verdict.begun,
        kind=verdict.kind,
    )
    if isinstance(exc, RateLimited):
        exc.retry_after = retry_after(response.headers) or 10.0
    return exc


def _verdict(status: int, body: Mapping[str, object] | None, response: Response) -> Verdict:
    if body is None or "errorType" not in body:
        return fault_table.of_gateway(status, response.headers, response.text)
    if body.get("errorType") == "validation":
        return fault_table.of_validation(body.get("data"))
    message = str(body.get("message") or "")
    causes = body.get("causedBy")
    verdict = fault_table.of_message(status, message)
    for cause in causes if isinstance(causes, list) else ():
        if verdict is None or verdict.vague:
            verdict = fault_table.of_message(status, str(cause)) or verdict
    return verdict or fault_table.of_status(status, message)


def is_default(exc: FirecrestException) -> bool:
    """Tell whether no row of the table knew the answer behind *exc*."""
    return exc.errno == errno.EIO and fault_table.UNKNOWN in (exc.strerror or "")


def is_authorisation(response: Response) -> bool:
    """Tell whether a 401 is about access to the system, so that a new token wouldn't help."""
    return "system access authorization" in response.text


def _json_object(response: Response) -> dict[str, object] | None:
    try:
        body = json.loads(response.text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """Return the seconds that a 429 or 503 asks to wait, or None where it doesn't say.

    Understands `Retry-After` (seconds or an HTTP date; *now* is the epoch to compare it with)
    and `RateLimit-Reset` (seconds). Never negative, never more than an hour.
    """
    low = {name.lower(): value.strip() for name, value in headers.items()}
    for name in ("retry-after", "ratelimit-reset"):
        seconds = _seconds(low.get(name, ""), time.time() if now is None else now)
        if seconds is not None:
            return min(max(seconds, 0.0), 3600.0)
    return None


def _seconds(value: str, now: float) -> float | None:
    if re.fullmatch(r"\d+(\.\d*)?", value):
        return float(value)
    try:
        return email.utils.parsedate_to_datetime(value).timestamp() - now
    except (TypeError, ValueError, IndexError):
        return None


# -- pyFirecREST's names -----------------------------------------------------------------------

HeaderException = Refused
UnauthorizedException = Unauthorized
ClientsCredentialsException = Unauthorized
UnexpectedStatusException = BadAnswer
NoJSONException = BadAnswer
PollingIterException = TimedOut
NotImplementedOnAPIversion = Unsupported
