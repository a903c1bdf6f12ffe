"""The exceptions of the package: everything that crosses a layer is an `OSError` with an errno.

    OSError
     ├ FirecrestException        the server (or the way to it) refused; see `.responses`
     │  └ JobCutShortError       a job of ours was ended, for a reason that isn't ours
     ├ ConflictError             both versions of a file survive, ours under `.landed_as`
     └ NotYetError               the cluster is still at it: ask again
        └ NotAppendedError       … or store the whole file: what was appended can't go alone

Python's own `OSError` constructor picks `FileNotFoundError` and friends; the subclasses of
`FirecrestException` in `api.faults` do the same for the server's refusals.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .model import Attr, Response

#: Local errnos after which the same request may succeed later, unchanged.
_TRANSIENT = frozenset(
    {
        errno.EAGAIN,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ETIMEDOUT,
        errno.EINTR,
    }
)
#: Errnos of failures to ask, where they are transient: EACCES is a missing token then.
_NOBODY = frozenset(
    {
        errno.EHOSTUNREACH,
        errno.EHOSTDOWN,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.EPIPE,
        errno.EACCES,
    }
)


class FirecrestException(OSError):
    """A refusal by the server or the way to it.

    `errno` and `strerror` are what a local file system would say, `responses` the answers that led
    here, oldest first (empty when none arrived), `transient` whether trying again later can help.
    `ambiguous` is true when the request may have been carried out although no answer said so.
    """

    def __init__(
        self,
        code: int,
        text: str,
        path: str | None = None,
        *,
        responses: tuple[Response, ...] = (),
        transient: bool = False,
        ambiguous: bool = False,
    ) -> None:
        super().__init__(code, text, path)
        self.responses = responses
        self.transient = transient
        self.ambiguous = ambiguous


class JobCutShortError(FirecrestException):
    """The cluster's scheduler has ended a job of ours, which tells nothing of what it was for.

    Another one may do it: but not for ever, for nobody says that what ends them ever ends.
    """

    def __init__(self, text: str, path: str | None = None) -> None:
        super().__init__(errno.EAGAIN, text, path, transient=True)


class ConflictError(OSError):
    """The remote file at `filename` was changed by someone else; ours was stored as `landed_as`.

    `attr` describes what was stored. Both are empty where theirs shall stay and ours yield.
    """

    def __init__(self, path: str, landed_as: str, attr: Attr | None) -> None:
        text = "changed on the cluster since it was read here"
        if landed_as:
            text += f"; your version is kept there as {landed_as.rpartition('/')[2]}"
        super().__init__(errno.ESTALE, text, path)
        self.landed_as = landed_as
        self.attr = attr


class NotYetError(OSError):
    """The cluster is at it and has not failed: ask again after `pause_s` seconds."""

    def __init__(
        self, path: str, pause_s: float, text: str = "waits for a job on the cluster"
    ) -> None:
        super().__init__(errno.EAGAIN, text, path)
        self.pause_s = pause_s


class NotAppendedError(NotYetError):
    """What was appended to `filename` can't be stored alone, and nothing of it was."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, 1.0)
        self.strerror = f"what was appended can't be stored alone: {reason}"


def os_error(code: int, path: str | None = None, text: str | None = None) -> OSError:
    """Return the `OSError` for errno *code*; *text* replaces the system's own words."""
    return OSError(code, text or os.strerror(code), path)


def is_transient(exc: OSError) -> bool:
    """Tell whether what failed with *exc* may be tried again, unchanged, later."""
    if isinstance(exc, FirecrestException):
        return exc.transient
    return exc.errno in _TRANSIENT


def tells_nothing(exc: OSError) -> bool:
    """Tell whether *exc* means that nobody could be asked, so what was known before still stands.

    True where the server or the cluster can't be reached, or no token can be had.
    """
    if not isinstance(exc, FirecrestException):
        # A wait that ended without an answer.
        return exc.errno == errno.ETIMEDOUT
    if exc.errno == errno.ETIMEDOUT:
        return not exc.responses
    return exc.transient and exc.errno in _NOBODY
