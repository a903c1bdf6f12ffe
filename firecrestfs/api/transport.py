"""Everything that `requests` raises, in the terms of a local file system.

Nothing of `requests` leaves this package: each place that sends goes through `transport_faults`.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from ..errors import FirecrestException
from .fault_tools import quote
from .faults import Unreachable, refusal


class GaveUp(Exception):
    """Carries a `FirecrestException` out of a socket. No OSError: buffered readers swallow EINTR,
    and urllib3 wraps every OSError in something vaguer.
    """

    def __init__(self, fault: FirecrestException) -> None:
        super().__init__(fault)
        self.fault = fault


@contextmanager
def transport_faults(what: str, *, mutating: bool = False) -> Iterator[None]:
    """Turn whatever `requests` raises inside into a `FirecrestException` that starts with *what*.

    *what* is the server, as the user would name it.
    """
    try:
        yield
    except FirecrestException:
        raise
    except GaveUp as exc:
        exc.fault.ambiguous = mutating
        raise exc.fault from None
    except requests.RequestException as exc:
        raise _transport_fault(exc, what, mutating) from exc
    except OSError as exc:
        # urllib3 and the socket layer below it; requests lets some of these through.
        code = exc.errno or errno.ECONNRESET
        text = f"{what}: the connection failed ({_reason(exc)}): check the network"
        raise Unreachable(code, text, transient=True, ambiguous=mutating) from exc
    except Exception as exc:
        if not type(exc).__module__.startswith(("urllib3", "http.")):
            raise
        text = f"{what}: the answer broke off ({_reason(exc)})"
        raise Unreachable(errno.ECONNRESET, text, transient=True, ambiguous=mutating) from exc


def _transport_fault(
    exc: requests.RequestException, what: str, mutating: bool
) -> FirecrestException:
    row = next(row for row in _TRANSPORT if isinstance(exc, row[0]))
    _, code, happened, advice, transient, begun = row
    if begun and _never_sent(exc):
        code, begun = errno.EHOSTUNREACH, False
        happened, advice = " can't be reached", "check the network, and the address if it is new"
    if any(isinstance(part, socket.gaierror) for part in _chain(exc)):
        happened, advice = ": unknown host", "check the address, and the network"
    line = f"{what}{happened} ({_reason(exc)})" + (f": {advice}" if advice else "")
    return refusal(code, line, transient=transient, ambiguous=mutating and begun)


#: Most specific first: class, errno, what happened, advice, transient, whether the request may
#: have been carried out.
_TRANSPORT: tuple[tuple[type[requests.RequestException], int, str, str, bool, bool], ...] = (
    (
        requests.exceptions.SSLError,
        errno.EHOSTUNREACH,
        " shows a certificate that can't be verified",
        "a portal, a proxy or a wrong address",
        True,
        False,
    ),
    (
        requests.exceptions.ProxyError,
        errno.EHOSTUNREACH,
        ": the proxy refused or can't be reached",
        "check HTTPS_PROXY",
        True,
        False,
    ),
    (
        requests.exceptions.ConnectTimeout,
        errno.EHOSTUNREACH,
        " can't be reached within the time limit",
        "check the network",
        True,
        False,
    ),
    (requests.exceptions.ReadTimeout, errno.ETIMEDOUT, ": no answer in time", "", True, True),
    (
        requests.exceptions.ChunkedEncodingError,
        errno.ECONNRESET,
        ": the answer broke off",
        "",
        True,
        True,
    ),
    (
        requests.exceptions.ContentDecodingError,
        errno.ECONNRESET,
        ": the answer could not be decoded",
        "",
        True,
        True,
    ),
    (requests.exceptions.InvalidURL, errno.EINVAL, ": not a usable address", "", False, False),
    (requests.exceptions.MissingSchema, errno.EINVAL, ": not a usable address", "", False, False),
    (requests.exceptions.InvalidSchema, errno.EINVAL, ": not a usable address", "", False, False),
    (requests.exceptions.InvalidHeader, errno.EINVAL, ": a header can't be sent", "", False, False),
    (requests.ConnectionError, errno.ECONNRESET, ": the connection broke", "", True, True),
    (requests.RequestException, errno.EIO, ": the request failed", "", True, True),
)
#: Names of urllib3's exceptions that are raised before a byte of the request has been sent.
_UNSENT = ("NewConnectionError", "NameResolutionError", "ConnectTimeoutError")


def _never_sent(exc: BaseException) -> bool:
    return any(type(part).__name__ in _UNSENT for part in _chain(exc))


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """Yield *exc* and what it wraps: urllib3 hides causes in `args` and `reason`."""
    todo, seen = [exc], set[int]()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        inside = [*getattr(part, "args", ()), getattr(part, "reason", None), part.__cause__]
        todo += [x for x in (*inside, part.__context__) if isinstance(x, BaseException)]


def _reason(exc: BaseException) -> str:
    """Return the innermost reason in a few words; addresses and object ids are left out."""
    parts = [p for p in _chain(exc) if isinstance(p, OSError) and p.strerror]
    if parts:
        return str(parts[-1].strerror)
    if type(exc) is OSError:
        return quote(str(exc))
    word = type(list(_chain(exc))[-1]).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word).lower()
