"""The one door of all FUSE operations: nothing leaves it but a result or an errno.

fusepy makes garbage of an exception without an errno, and every exception of `requests` is one.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from firecrestfs.cache.metadata import boottime

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

#: Misses that are part of everyday life and not worth a line.
_QUIET = frozenset(
    {errno.ENOENT, errno.ENODATA, errno.EEXIST, errno.ENOTEMPTY, errno.ENOTSUP, errno.EINTR,
     errno.ENOTDIR, errno.EISDIR, errno.EXDEV}
)  # fmt: skip

#: Threads inside an operation: the call that tells whether it was interrupted, and when it has
#: waited long enough (0: it has not waited). Not a threading.local: libfuse's threads would make
#: theirs anew at every call.
_inside: dict[int, list[Any]] = {}
_this_thread = threading.get_ident


def interrupted() -> bool:
    """Tell whether the process that waits for this thread's operation has been interrupted."""
    found = _inside.get(_this_thread())
    return found is not None and bool(found[0]())


def end_of_patience(seconds: float) -> float:
    """Return when (boot time) this thread's operation gives up: *seconds* after its first wait.

    However many things an operation waits for, one after the other, its caller waits once.
    """
    found = _inside.get(_this_thread())
    if found is None:
        return boottime() + seconds
    found[1] = found[1] or boottime() + seconds
    return float(found[1])


class Guarded:
    """An object whose operations pass the door."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        """*report* is told of what went wrong, a path and a readable line."""
        self._report = report
        self.check_interrupted: Callable[[], int] = lambda: 0

    def refused(self, name: str, args: tuple[Any, ...], exc: OSError) -> OSError:
        """Return what the kernel is told of *exc*; say it where a person can read it."""
        code = exc.errno if isinstance(exc.errno, int) and exc.errno > 0 else errno.EIO
        if code == errno.ENOSYS:
            # The kernel would never ask for this operation again, on the whole mount.
            code = errno.EOPNOTSUPP
        if code in _QUIET:
            log.debug("%s %s: %s", name, args[:1], exc)
        else:
            log.warning("%s %s: %s", name, args[0] if args else "", exc)
            if exc.strerror and exc.strerror != os.strerror(code):
                self._report(str(args[0]) if args else "/", str(exc.strerror))
        return OSError(code, os.strerror(code))


def door(method: F) -> F:
    """Let nothing leave *method* but its result or an `OSError` with a positive errno."""
    name = method.__name__

    @functools.wraps(method)
    def run(self: Guarded, *args: Any) -> Any:
        thread = _this_thread()
        _inside[thread] = [self.check_interrupted, 0.0]
        try:
            return method(self, *args)
        except OSError as exc:
            raise self.refused(name, args, exc) from None
        except Exception:
            log.exception("%s %s: internal error", name, args[0] if args else "")
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        finally:
            _inside.pop(thread, None)

    return run  # type: ignore[return-value]
