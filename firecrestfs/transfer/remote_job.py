"""Our own scripts as batch jobs: for what FirecREST has no request for.

Unlike FirecREST's own jobs they fail where something failed, and every path is quoted.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from firecrestfs.api.faults import JobNotFound
from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import JobCutShortError, is_transient, os_error
from firecrestfs.model import System, UserInfo

from .bundle import OUR_PREFIX
from .leftovers import Leftovers

log = logging.getLogger(__name__)

_FIRST_S, _LONGEST_S = 0.3, 10.0
#: A new job may be unknown to the scheduler's accounting for so long.
_UNKNOWN_S = 60.0
_MOST_WORDS = 400
#: What tools say, and what it means.
_MEANING = (
    ("No such file or directory", errno.ENOENT),
    ("Permission denied", errno.EACCES),
    ("Operation not permitted", errno.EPERM),
    ("No space left on device", errno.ENOSPC),
    ("Disk quota exceeded", errno.EDQUOT),
    ("Not a directory", errno.ENOTDIR),
    ("Is a directory", errno.EISDIR),
    ("Directory not empty", errno.ENOTEMPTY),
    ("Read-only file system", errno.EROFS),
)


def quoted(path: str) -> str:
    """Return *path* as one word of a script, which is UTF-8 whatever *path* is."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + "'"
    return shlex.quote(path)


@dataclass(slots=True, eq=False)
class Begun:
    """A job that was submitted; `words` is the file on the cluster with what it says.

    `since` is when, and `known` when the scheduler knew of it last, by the monotonic clock.
    """

    job_id: str
    words: str
    since: float
    known: float

    @property
    def pause_s(self) -> float:
        """After how many seconds it is worth another look."""
        return min(_LONGEST_S, max(_FIRST_S, (time.monotonic() - self.since) / 2))


class RemoteJobs:
    """Runs scripts of ours on one system. Thread-safe; `run` waits for the job."""

    def __init__(
        self,
        client: TypedClient,
        system: System,
        user: UserInfo,
        leftovers: Leftovers,
        homes: list[str],
        stopped: threading.Event,
    ) -> None:
        self._client = client
        self._system = system
        self._account = user.accounts[0] if system.needs_account and user.accounts else None
        self._leftovers = leftovers
        self._homes = homes
        self._stopped = stopped

    @property
    def folder(self) -> str:
        """The directory of the user's own where jobs begin; empty where none is known."""
        return self._homes[0].rstrip("/") if self._homes else ""

    def run(self, what: str, commands: str, check: Callable[[], None] = lambda: None) -> None:
        """Run *commands* by bash, with `set -e`; return when they are done.

        *what* is a word for the job's name. Raises what their words mean where they failed, and
        what *check* raises, which is called again and again.
        """
        begun = self.begin(what, commands)
        try:
            self.wait(begun, check)
        finally:
            self.clear(begun)

    def wait(self, begun: Begun, check: Callable[[], None] = lambda: None) -> None:
        """Return when *begun* has ended well. Raises as `look` and *check* do."""
        pause = _FIRST_S
        check()
        while not self.look(begun):
            if self._stopped.wait(pause):
                raise os_error(errno.ESHUTDOWN, None, "the mount is being taken down")
            pause = min(pause * 1.5, _LONGEST_S)
            check()

    def begin(self, what: str, commands: str) -> Begun:
        """Submit *commands*, as for `run`; return at once. `clear` it in the end."""
        if not self._homes:
            raise os_error(errno.EIO, None, "no directory of yours for a job is known: set home")
        marker = f"{what}-{uuid.uuid4().hex[:12]}"
        mark = f"{OUR_PREFIX}{marker}"
        # On v1 the script is a file there until it has been read.
        words, file = f"{self.folder}/{mark}.log", f"{self.folder}/{mark}.sh"
        self._leftovers.expect(words, file)
        directives = "\n".join(self._system.directives)
        if self._account:
            directives = directives.replace("{account}", self._account)
        # One that begins after we are gone, and all is tidied up, leaves nothing where it succeeds.
        tidy = "trap '[[ $? != 0 ]] || rm -f -- \"$words\"' EXIT"
        script = f"#!/bin/bash\n{directives}\nset -e\nexec 2>&1\nwords={quoted(words)}\n{tidy}\n"
        script += f"{commands}\n"
        try:
            job_id = self._client.submit(
                self._system.name,
                script=script,
                working_directory=self._homes[0],
                name=mark,
                account=self._account,
                standard_output=words,
                standard_error="/dev/null",
                marker=marker,
            )
        except BaseException:
            self._leftovers.remove(words)
            # The scheduler may be about to read it: it goes with the next sweep.
            self._leftovers.abandon(file)
            raise
        self._leftovers.gone(file)
        now = time.monotonic()
        return Begun(job_id, words, now, now)

    def look(self, begun: Begun) -> bool:
        """Tell whether *begun* has ended well. Raises what its words mean where it failed.

        `JobCutShortError`: it was ended, or forgotten; one that we have ended isn't looked at.
        """
        try:
            job = self._client.job(self._system.name, begun.job_id)
        except JobNotFound as exc:
            if time.monotonic() - begun.known > _UNKNOWN_S:
                text = f"the scheduler of the cluster knows nothing of job {begun.job_id} any more"
                raise JobCutShortError(text) from exc
            return False
        begun.known = time.monotonic()
        if job.cut_short:
            text = f"the scheduler of the cluster has ended job {begun.job_id} ({job.state})"
            raise JobCutShortError(text)
        if job.ended and (job.state != "COMPLETED" or job.exit_code):
            said = self._read(begun.words) or f"state {job.state}"
            code = next((each for words, each in _MEANING if words in said), errno.EIO)
            raise os_error(code, None, f"a job on the cluster failed: {said}")
        return job.ended

    def end(self, begun: Begun) -> None:
        """Cancel *begun* unless it has ended, and remove what it leaves."""
        try:
            if not self.look(begun):
                self._client.cancel(self._system.name, begun.job_id)
        except JobCutShortError as exc:
            log.info("%s", exc.strerror)
        except OSError as exc:
            if is_transient(exc):
                raise
            log.info("job %s: %s", begun.job_id, exc)
        self.clear(begun)

    def clear(self, begun: Begun) -> None:
        """Remove what *begun* leaves on the cluster."""
        self._leftovers.remove(begun.words)

    def _read(self, path: str) -> str:
        try:
            return self._client.tail(self._system.name, path, lines=3).strip()[:_MOST_WORDS]
        except OSError as exc:
            log.info("what the job said can't be read: %s", exc)
            return ""
