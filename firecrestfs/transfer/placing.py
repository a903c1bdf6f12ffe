"""Placing: from the name under which a large file has landed to the one it shall have."""

from __future__ import annotations

import errno
import logging
import socket
import time

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import ConflictError, os_error
from firecrestfs.model import Attr, Features, Kind, StoreItem, UserInfo

from .bundle import Bundler
from .remote_job import RemoteJobs, quoted
from .sending import Landing

log = logging.getLogger(__name__)


class Placing:
    """Renames what has landed on one system, or copies it into its target. Thread-safe."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        user: UserInfo,
        features: Features,
        bundler: Bundler,
        jobs: RemoteJobs,
    ) -> None:
        self._client = client
        self._system = system
        self._user = user
        self._features = features
        self._bundler = bundler
        self._jobs = jobs

    def may_replace(self, item: StoreItem, now: Attr) -> bool:
        """Tell whether *item* may take the name of the file *now*: nothing is lost, or it shall."""
        own = now.uid == self._user.uid and now.nlink == 1 and not now.acl
        return now.kind is Kind.FILE and (own or (item.anew and now.nlink > 1))

    def place(self, item: StoreItem, before: Attr | None, landing: Landing) -> None:
        """Make what has landed the file at the item's path, where *before* was what was there.

        Where it isn't any more, ours gets a name of its own: raises the `ConflictError` that tells.
        """
        now = self._stat_or_none(item.path)
        if not _same(before, now):
            raise self._beside(item, landing)
        wanted = item.mode if now is None or item.mode is not None else now.mode
        if wanted is not None and landing.attr is not None and wanted != landing.attr.mode:
            self._client.chmod(self._system, landing.temporary, wanted)
        if now is None or self.may_replace(item, now):
            self._rename(landing.temporary, item.path)
        else:
            self._copy_into(landing.temporary, item.path)

    def _rename(self, old: str, new: str) -> None:
        if self._features.rename:
            self._client.rename(self._system, old, new)
            return
        try:
            source = self._client.stat(self._system, old)
            self._bundler.rename(old, new, source, self._stat_or_none(new))
        except OSError as exc:
            if exc.errno != errno.EXDEV:
                raise
            # The file system makes no hard links.
            log.info("%s is renamed by a job: %s", new, exc)
            self._jobs.run("rename", f"mv -fT -- {quoted(old)} {quoted(new)}")

    def _copy_into(self, source: str, target: str) -> None:
        """Write into *target*, which keeps its inode, names, owner and ACL."""
        commands = f"cat -- {quoted(source)} > {quoted(target)}\nrm -f -- {quoted(source)}"
        self._jobs.run("copy", commands)

    def _beside(self, item: StoreItem, landing: Landing) -> ConflictError:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        path = f"{item.path}.conflict-{socket.gethostname()}-{stamp}"
        if self._stat_or_none(path) is not None:
            raise os_error(errno.EAGAIN, path, "a conflict copy of this very second exists")
        self._rename(landing.temporary, path)
        return ConflictError(item.path, path, self._client.stat(self._system, path))

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None


def _same(before: Attr | None, now: Attr | None) -> bool:
    if before is None or now is None:
        return before is now
    return before.fingerprint == now.fingerprint
