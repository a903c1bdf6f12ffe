"""The one door of all FUSE operations: nothing leaves it but a result or an errno.

fusepy makes garbage of an exception without an errno, and every exception of `requests` is one.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import threading
import time
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

#: Threads inside an operation: the object that it is of, and when it has waited long enough (0: it
#: has not waited). Not a threading.local: where thread states aren't kept, libfuse's threads would
#: make theirs anew at every call.
_inside: dict[int, list[Any]] = {}
_this_thread = threading.get_ident
#: A process that waits is looked for so often (seconds).
_LOOK_S = 1.0


def interrupted() -> bool:
    """Tell whether the process that waits for this thread's operation has been interrupted."""
    found = _inside.get(_this_thread())
    return found is not None and bool(found[0].check_interrupted())


def end_of_patience(seconds: float) -> float:
    """Return when (boot time) this thread's operation gives up: *seconds* after its first wait.

    However many things an operation waits for, one after the other, its caller waits once.
    """
    found = _inside.get(_this_thread())
    if found is None:
        return boottime() + seconds
    found[1] = found[1] or boottime() + seconds
    return float(found[1])


def caller() -> int:
    """Return the id of the process (or thread) that waits for this thread's operation; 0: none."""
    found = _inside.get(_this_thread())
    return 0 if found is None else int(found[0].context()[2])


def patience() -> Callable[[], None]:
    """Return a call that raises EINTR once nobody waits for this thread's operation any more.

    A process that is killed while the kernel reads ahead for it interrupts nothing: it is gone.
    """
    pid, looked = caller(), time.monotonic()

    def check() -> None:
        nonlocal looked
        if interrupted():
            raise OSError(errno.EINTR, os.strerror(errno.EINTR))
        if pid and time.monotonic() - looked > _LOOK_S:
            looked = time.monotonic()
            if _is_gone(pid):
                raise OSError(errno.EINTR, "the process that waited has ended")

    return check


def _is_gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return os.path.exists("/proc/self/stat")


class Guarded:
    """An object whose operations pass the door."""

    def __init__(self, report: Callable[[str, str], None]) -> None:
        """*report* is told of what went wrong, a path and a readable line."""
        self._report = report
        self.check_interrupted: Callable[[], int] = lambda: 0
        self.context: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)
        #: Called by each thread before all else.
        self.enter: Callable[[], None] = lambda: None

    def place(self, args: tuple[Any, ...]) -> str:
        """Return the path that an operation with *args* is about."""
        return str(args[0]) if args else "/"

    def refused(self, name: str, args: tuple[Any, ...], exc: OSError) -> OSError:
        """Return what the kernel is told of *exc*; say it where a person can read it."""
        code = exc.errno if isinstance(exc.errno, int) and exc.errno > 0 else errno.EIO
        if code == errno.ENOSYS:
            # The kernel would never ask for this operation again, on the whole mount.
            code = errno.EOPNOTSUPP
        if code in _QUIET:
            log.debug("%s %s: %s", name, self.place(args), exc)
        else:
            log.warning("%s %s: %s", name, self.place(args), exc)
            if exc.strerror and exc.strerror != os.strerror(code):
                self._report(self.place(args), str(exc.strerror))
        return OSError(code, os.strerror(code))


def door(method: F) -> F:
    """Let nothing leave *method* but its result or an `OSError` with a positive errno."""
    name = method.__name__

    @functools.wraps(method)
    def run(self: Guarded, *args: Any) -> Any:
        self.enter()
        thread = _this_thread()
        _inside[thread] = [self, 0.0]
        try:
            return method(self, *args)
        except OSError as exc:
            raise self.refused(name, args, exc) from None
        except Exception:
            log.exception("%s %s: internal error", name, self.place(args))
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from None
        finally:
            _inside.pop(thread, None)

    return run  # type: ignore[return-value]
