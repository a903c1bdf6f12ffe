"""Staging: a file of the cluster as an object that can be fetched in ranges.

    order ─ queued, staging ─ staged: a link, good for one version until it expires

What was staged is remembered with the version it is of, and not staged again while both hold.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

from firecrestfs.api.external import ExternalDownload
from firecrestfs.api.object_moves import ObjectInfo
from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import FirecrestException, os_error
from firecrestfs.model import Attr, System, UserInfo

from .aliases import Aliases
from .leftovers import Leftovers
from .progress import Row

log = logging.getLogger(__name__)

#: Seconds between two looks: the first, and the most, to which they grow by half at a time.
_FIRST_S, _LONGEST_S = 0.2, 5.0
#: Objects are looked for in the store, which minds less, so that who reads them waits no longer
#: than need be: by this part of the time that it has taken, or by the most, if that is less.
_PART, _LONGEST_OBJECT_S = 0.1, 2.0
#: A job may wait in a queue for a day; a task of v1 begins at once and reads so fast at least.
_QUEUE_S, _TASK_S, _TASK_BYTES_S = 86_400.0, 600.0, 2_000_000
#: A file that changes again and again while it is staged is given up after so many tries.
_TRIES = 3
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Staged:
    """An object that holds the version `version` of a file. `url` is a secret until it expires."""

    url: str
    info: ObjectInfo
    version: Attr


class Staging:
    """Stages files of one system. Thread-safe; `obtain` waits for the cluster."""

    def __init__(
        self,
        client: TypedClient,
        system: System,
        user: UserInfo,
        aliases: Aliases,
        leftovers: Leftovers,
        stopped: threading.Event,
    ) -> None:
        self._client = client
        self._system = system
        self._account = user.accounts[0] if system.needs_account and user.accounts else None
        self._aliases = aliases
        self._leftovers = leftovers
        self._stopped = stopped
        self._lock = threading.Lock()  # guards _known
        self._known: OrderedDict[str, Staged] = OrderedDict()

    def obtain(self, path: str, row: Row, wanted: Callable[[], bool]) -> Staged:
        """Return *path* staged as it is now, by a new order or an old one that still holds.

        Gives up with ECANCELED once it isn't *wanted* any more. EAGAIN where the file changes
        faster than it can be staged.
        """
        before = self._client.stat(self._system.name, path)
        known = self.known(path, before)
        if known is not None:
            return known
        refuse_other_ways(self._system, path, "read")
        text = "%s comes by the object store: its %d bytes are over the %d of one request"
        log.info(text, path, before.size, self._system.limits.download)
        for attempt in range(_TRIES):
            url, info = self._stage(path, before.size, row, wanted)
            after = self._client.stat(self._system.name, path)
            version = _version(before, after, info, lenient=attempt > 0)
            if version is not None:
                staged = Staged(url, info, version)
                self._remember(path, staged)
                return staged
            log.info("%s changed while it was staged: again", path)
            before = after
        raise os_error(errno.EAGAIN, path, "it changes on the cluster faster than it can be staged")

    def known(self, path: str, now: Attr) -> Staged | None:
        """Return what was staged of *path*, if *now* is still the same version."""
        with self._lock:
            staged = self._known.get(path)
        if staged is None or staged.version.fingerprint != now.fingerprint:
            return None
        return staged

    def forget(self, path: str) -> None:
        """Forget what was staged of *path*: its link has expired."""
        with self._lock:
            self._known.pop(path, None)

    def _remember(self, path: str, staged: Staged) -> None:
        with self._lock:
            self._known[path] = staged
            self._known.move_to_end(path)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    # -- one order -----------------------------------------------------------------------------

    def _stage(
        self, path: str, size: int, row: Row, wanted: Callable[[], bool]
    ) -> tuple[str, ObjectInfo]:
        row.begin("queued")
        with self._aliases.of(path) as name:
            for attempt in range(2):
                order = self._client.stage_out(self._system.name, name, account=self._account)
                self._leftovers.expect(*order.leftovers)
                try:
                    self._await(order, path, size, row, wanted)
                    url = order.object_storage_link
                    info = self._client.objects.info(url) if url else ObjectInfo(0, "")
                except FileNotFoundError as exc:
                    # The server has been restarted and knows nothing of it.
                    if attempt:
                        raise os_error(errno.EIO, path, f"staging failed: {exc.strerror}") from exc
                    continue
                except BaseException:
                    self._abandon(order)
                    raise
                threading.Thread(target=self._tidy, args=(order,), name="tidy", daemon=True).start()
                return url, info
        raise os_error(errno.EIO, path, "staging failed")

    def _await(
        self, order: ExternalDownload, path: str, size: int, row: Row, wanted: Callable[[], bool]
    ) -> None:
        v1 = self._client.features(self._system.name).version.startswith("1")
        patience = _TASK_S + size / _TASK_BYTES_S if v1 else _QUEUE_S
        pause, waited = _FIRST_S, 0.0
        while self._in_progress(order):
            row.begin(order.phase)
            if self._stopped.wait(pause):
                raise os_error(errno.ESHUTDOWN, path, "the mount is being taken down")
            if not wanted():
                raise os_error(errno.ECANCELED, path, "nobody waits for it any more")
            waited += pause
            if waited > patience:
                raise os_error(
                    errno.ETIMEDOUT, path, f"not staged within {patience / 60:.0f} minutes"
                )
            if v1:
                pause = min(pause * 1.5, _LONGEST_S)
            else:
                pause = min(max(_FIRST_S, waited * _PART), _LONGEST_OBJECT_S)

    @staticmethod
    def _in_progress(order: ExternalDownload) -> bool:
        try:
            return order.in_progress
        except FirecrestException as exc:
            if exc.ambiguous:
                raise os_error(
                    errno.ENOENT, None, "the server knows nothing of it any more"
                ) from exc
            if not exc.transient:
                raise
            log.info("staging: %s; looking again", exc.strerror)
            return True

    def _abandon(self, order: ExternalDownload) -> None:
        """Have the cluster stop what nobody wants."""
        try:
            order.invalidate_object_storage_link()
        except OSError as exc:
            log.info("a staging could not be ended: %s", exc)
            self._leftovers.abandon(*order.leftovers)
        else:
            self._leftovers.gone(*order.leftovers)

    def _tidy(self, order: ExternalDownload) -> None:
        """Remove the logs of a job once it has ended."""
        pause = _FIRST_S
        while not self._stopped.wait(pause):
            try:
                if order.tidy():
                    self._leftovers.gone(*order.leftovers)
                    return
            except OSError as exc:
                log.debug("the logs of a staging are still there: %s", exc)
            pause = min(pause * 1.5, _LONGEST_S)


def refuse_other_ways(system: System, path: str, verb: str) -> None:
    """Raise EOPNOTSUPP where *system* has no object store to go by."""
    if not system.transfer_method.startswith(("s3", "swift")):
        raise os_error(
            errno.EOPNOTSUPP,
            path,
            f"too large for one request to {verb}, and this cluster moves large files by "
            f"{system.transfer_method or 'nothing'} only, which firecrestfs doesn't do",
        )


def _version(before: Attr, after: Attr, info: ObjectInfo, *, lenient: bool) -> Attr | None:
    """Return the version that was staged, None where nobody can tell.

    *lenient*: a file that goes on growing is taken as far as it was.
    """
    if before.fingerprint == after.fingerprint and info.size == after.size:
        return after
    grown = before.ino == after.ino and before.size <= info.size <= after.size
    if lenient and grown and before.size < after.size:
        return replace(before, size=info.size)
    return None
