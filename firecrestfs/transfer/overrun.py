"""Overrun: large files whose sending outlasts the job of the server that is to fetch them."""

from __future__ import annotations

import errno

from firecrestfs.errors import FirecrestException, os_error
from firecrestfs.model import LocalFile


class OverranError(FirecrestException):
    """The server's job for an upload has reached its time limit before the file was there."""


class Overrun:
    """Which files took too long the last time. Thread-safe."""

    def __init__(self) -> None:
        self._once: set[str] = set()

    def refusal(self, local: LocalFile, path: str, limit_s: int) -> OSError:
        """Return what to tell when *local* took longer than *limit_s* (0: not known).

        The line may have been slow once, so another try may help; the second time it is for good.
        """
        limit = f" of {limit_s / 60:.0f} minutes" if limit_s else ""
        text = (
            "the server's job that takes it from the object store has reached its time limit"
            f"{limit} before all {local.size:,} bytes were sent and there. A faster line or a"
            " smaller file helps, or a longer limit, which only the centre can set"
        )
        if local.ident in self._once:
            self._once.discard(local.ident)
            return os_error(errno.EIO, path, text)
        self._once.add(local.ident)
        return OverranError(errno.EAGAIN, text, path, transient=True)

    def landed(self, local: LocalFile) -> None:
        """Note that *local* has landed."""
        self._once.discard(local.ident)
