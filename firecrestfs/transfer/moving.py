"""Mover: renames on the cluster, proven, whichever way the server offers.

API v1 renames at once. On v2 files go by a hard link in a tar, and what can't go that way (a
directory, another owner's file, another file system) by a batch job. A failure never costs what
was there under the new name.
"""

from __future__ import annotations

import errno
import logging
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from firecrestfs.api.transferjobs import checked_for_job
from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import is_transient, os_error
from firecrestfs.model import Attr, Features, Kind
from firecrestfs.paths import directory_of

from .bundle import OUR_PREFIX, Bundler
from .engine import TransferEngine

log = logging.getLogger(__name__)


class Expected(NamedTuple):
    """What a move may replace: what was known of it, and stores of ours whose end isn't known."""

    base: Attr | None
    sent: Sequence[tuple[int, str]] = ()
    torn: bytes = b""


class OneFileError(OSError):
    """Both names are links to one file: as rename(2) has it, nothing is to be done."""


class Mover:
    """Renames entries of one system. Thread-safe; waits for the network."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        bundler: Bundler,
        engine: TransferEngine,
        features: Features,
    ) -> None:
        self._client = client
        self._system = system
        self._bundler = bundler
        self._engine = engine
        self._features = features

    def aside(self, path: str) -> str:
        """Return a hidden name beside *path*, for one of two that take each other's."""
        return f"{directory_of(path).rstrip('/')}/{OUR_PREFIX}{uuid.uuid4().hex}"

    def can_move_tree(self, old: str, new: str) -> bool:
        """Tell whether a directory can be renamed at all: a job's script can't carry any name."""
        if self._features.rename:
            return True
        try:
            for path in (old, new):
                checked_for_job(path)
        except OSError:
            return False
        return True

    def move(
        self,
        old: str,
        new: str,
        kind: Kind,
        expected: Expected | None,
        begun: tuple[str, int, int] | None,
        begin: Callable[[Attr], None],
    ) -> Attr:
        """Rename *old* to *new* and return the attributes of *new*.

        *expected* is what may be replaced there, None: nothing at all. *begun* tells of an earlier
        try whose outcome isn't known; *begin* is called before the first change. Raises ENOENT
        where *old* is no more, EEXIST where something else has the name, `OneFileError`.
        """
        for path in (old, new):
            self._engine.large.given_up.require_over(path)
        source = self._stat_or_none(old)
        target = self._stat_or_none(new)
        if begun is not None and _is(target, begun):
            # An earlier try got so far; of a hard link the old name may be left.
            assert target is not None
            if source is not None and (source.dev, source.ino) == (target.dev, target.ino):
                # Or not: a job of ours that runs late may have ended between the two looks.
                with suppress(FileNotFoundError):
                    self._client.remove(self._system, old, source.kind)
                return self._client.stat(self._system, new)
            return target
        if source is None:
            raise os_error(errno.ENOENT, old, "it is no more on the cluster")
        if target is not None and (target.dev, target.ino) == (source.dev, source.ino):
            raise OneFileError(errno.EEXIST, "both names are one file on the cluster", new)
        if target is not None and kind is Kind.DIRECTORY:
            # It would go into what is there, even through a link.
            raise os_error(errno.EEXIST, new)
        if target is not None and not self._may_go(new, target, expected, begun is not None):
            raise os_error(errno.EEXIST, new, "something else has this name on the cluster")
        if kind is Kind.DIRECTORY:
            self._engine.large.given_up.leave(old)
        begin(source)
        try:
            return self._run(old, new, kind, source, target)
        except OSError as exc:
            if is_transient(exc) or isinstance(exc, OneFileError):
                raise
            return self._proven(old, new, source, exc)

    def _proven(self, old: str, new: str, source: Attr, refusal: OSError) -> Attr:
        """Return what is at *new* if it is *source*: a try whose answer was lost may end late."""
        after = self._stat_or_none(new)
        renamed = after is not None and (after.dev, after.ino) == (source.dev, source.ino)
        if after is None or not renamed or self._stat_or_none(old) is not None:
            raise refusal
        return after

    def call_off(self, old: str, new: str) -> None:
        """Let no job rename the directory *old* to *new*, late, that is still in the queue.

        Raises where that can't be told now. What runs already is found by a look after this.
        """
        if self._features.rename:
            return
        try:
            self._client.cancel_moves(self._system, old, new)
        except OSError as exc:
            if is_transient(exc):
                raise
            log.info("jobs that rename %s are left alone: %s", old, exc)

    def find(self, old: str, begun: tuple[str, int, int]) -> tuple[str, Attr | None]:
        """Return where a file is whose move from *old* was *begun*, and what is there.

        Where both names are its, that of *old* is removed.
        """
        target, source = self._stat_or_none(begun[0]), self._stat_or_none(old)
        if target is None or not _is(target, begun):
            return old, source
        if source is not None and _is(source, begun):
            self._client.remove_proven(self._system, old)
            target = self._client.stat(self._system, begun[0])
        return begun[0], target

    def _may_go(self, path: str, now: Attr, expected: Expected | None, tried: bool) -> bool:
        """Tell whether *now*, at *path*, is what may be replaced there."""
        if expected is None or now.kind is Kind.DIRECTORY:
            return False
        base = expected.base
        if base is not None and base.kind is not now.kind:
            return False
        if now.kind is not Kind.FILE:
            return base is not None
        if base is not None and tried:
            # The links that an earlier try made have changed its ctime.
            base = replace(base, ctime_ns=now.ctime_ns if now.ino == base.ino else base.ctime_ns)
        if base is not None and self._engine.is_same_version(path, base, now):
            return True
        return bool(expected.sent) and self._engine.holds(path, now, expected.sent, expected.torn)

    def _run(self, old: str, new: str, kind: Kind, source: Attr, target: Attr | None) -> Attr:
        if self._features.rename:
            after = self._client.rename(self._system, old, new, source=source)
        elif kind is Kind.DIRECTORY:
            after = self._by_job(old, new)
        else:
            try:
                after = self._bundler.rename(old, new, source, target)
            except OSError as exc:
                if exc.errno != errno.EXDEV:
                    raise
                after = self._by_job(old, new)
        if after is None:
            raise OneFileError(errno.EEXIST, "both names are one file on the cluster", new)
        return after

    def _by_job(self, old: str, new: str) -> Attr:
        """Run `mv` as a batch job: into *new* if that had become a directory, so it is proven."""
        self._client.move_by_job(self._system, old, new)
        return self._client.stat(self._system, new)

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None


def _is(attr: Attr | None, begun: tuple[str, int, int]) -> bool:
    return attr is not None and bool(begun[2]) and (attr.dev, attr.ino) == (begun[1], begun[2])
