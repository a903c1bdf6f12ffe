"""Moments: when entries were last changed from here.

The cluster tells of our changes with its next listing, in whole seconds. Here they show at once:
programs that remember a directory's names look at nothing but its time.
"""

from __future__ import annotations

import time
from dataclasses import replace

from firecrestfs.model import Attr

#: Paths remembered before the oldest are forgotten.
_MAX_PATHS = 20_000


class Moments(dict[str, tuple[int, int]]):
    """For a path when its names, as a directory's, and when its attributes were changed (ns).

    Thread-safe: what two threads note of one path at once is of one time. A dict itself because
    it is looked into at every `stat`.
    """

    def names_changed(self, directory: str) -> None:
        """Note that an entry of *directory* came, went or got another name."""
        now = time.time_ns()
        self._put(directory, (now, now))

    def attributes_changed(self, path: str) -> None:
        """Note that *path* got another mode, another name or one more of them."""
        self._put(path, (self.get(path, (0, 0))[0], time.time_ns()))

    def times_set(self, path: str) -> None:
        """Note that *path* was given times: they are shown, not when its names changed."""
        self._put(path, (0, time.time_ns()))

    def shown(self, path: str, attr: Attr) -> Attr:
        """Return *attr* of *path*, no older than what was changed here."""
        if path not in self:
            return attr
        names, attributes = self.get(path, (0, 0))
        return replace(
            attr,
            mtime_ns=max(attr.mtime_ns, names),
            ctime_ns=max(attr.ctime_ns or attr.mtime_ns, attributes),
        )

    def _put(self, path: str, value: tuple[int, int]) -> None:
        self.pop(path, None)
        self[path] = value
        if len(self) > _MAX_PATHS:
            for oldest in list(self)[: _MAX_PATHS // 10]:
                self.pop(oldest, None)
