"""OnSite: copying, moving and removing on the cluster itself; no byte crosses this machine.

What is pending below the paths is stored first. A job of ours does the work, whose exit code is
true; one file is removed at once.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import os_error
from firecrestfs.model import Kind
from firecrestfs.paths import directory_of
from firecrestfs.transfer.remote_job import RemoteJobs, quoted

from .tree import RemoteTree

#: What is pending is waited for so long (seconds).
_PENDING_S = 3600.0


class OnSite:
    """The commands for one system. Thread-safe; methods wait for the cluster."""

    def __init__(
        self,
        client: TypedClient,
        tree: RemoteTree,
        jobs: RemoteJobs,
        flush: Callable[[str, float, Callable[[], bool]], dict[str, OSError | None]],
        interrupted: Callable[[], bool],
    ) -> None:
        """*flush* stores what is pending at and below a path; returns what did not land."""
        self._client = client
        self._tree = tree
        self._jobs = jobs
        self._flush = flush
        self._interrupted = interrupted

    def run(self, verb: str, arguments: Sequence[str]) -> None:
        """Carry out `cp SOURCE… TARGET`, `mv SOURCE… TARGET`, `rm PATH…` or `rmtree PATH…`.

        Into a target that is a directory, else over it, as the tools do. Raises EINTR where the
        caller was interrupted: a job that has begun goes on.
        """
        for path in arguments:
            self._tree.require_sendable(path)
            self._store(path)
        try:
            if verb in ("cp", "mv"):
                tool = "cp -a" if verb == "cp" else "mv -f"
                words = " ".join(quoted(path) for path in arguments)
                self._jobs.run(verb, f"{tool} -- {words}", self._check)
            else:
                for path in arguments:
                    self._remove(path, tree=verb == "rmtree")
        finally:
            for path in arguments:
                self._tree.refresh(path)
                self._tree.refresh(directory_of(path))

    def _remove(self, path: str, *, tree: bool) -> None:
        system = self._tree.system.name
        kind = self._client.stat(system, path).kind
        if kind is not Kind.DIRECTORY:
            self._client.remove(system, path, kind)
        elif not tree:
            raise os_error(errno.EISDIR, path, "a directory: rm -r removes it with all in it")
        elif self._tree.is_root(path) or self._tree.is_synthetic(path):
            raise os_error(errno.EBUSY, path)
        else:
            self._jobs.run("rm", f"rm -rf -- {quoted(path)}", self._check)

    def _store(self, path: str) -> None:
        failed = self._flush(path, _PENDING_S, self._interrupted)
        for name, reason in failed.items():
            raise reason or os_error(errno.ETIMEDOUT, name, "not stored yet")

    def _check(self) -> None:
        if self._interrupted():
            raise os_error(errno.EINTR, None, "interrupted; the job on the cluster goes on")
