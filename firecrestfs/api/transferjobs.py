"""FirecREST v2's jobs that move and copy: waited for, read, proven, tidied up.

Such a job ends well whatever became of its work. What it did is in its log; what is true is what
a look at the files tells. The server never removes the logs, so we do.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import FirecrestException, JobCutShortError
from ..model import Job, Response
from .decode import job_of, pick
from .fault_tools import of_stderr, quote
from .faults import JobNotFound, NotFound, TimedOut, refusal
from .names import checked_path
from .v1 import ServerV1
from .v2 import ServerV2
from .wire import Call

log = logging.getLogger("firecrestfs.api")

#: Seconds between two looks: the first, and the most, to which it grows by half at a time.
_FIRST, _LONGEST = 0.3, 15.0
#: A new job may be unknown to accounting, and an ended one's log unwritten, for so many seconds.
UNKNOWN_S, _FLUSH = 60.0, 5.0
_MOST_LOG = 1 << 20
_LINK = re.compile(r"https?://[^\s'\"]+")
_DONE = re.compile(r"^Files were successfully \w+\.", re.MULTILINE)
#: What the template of such a job turns into something else.
_MANGLED = frozenset("&<>\"'")


@dataclass(frozen=True, slots=True)
class TransferJob:
    """One job, as the answer that announced it tells."""

    system: str
    job_id: str
    output_log: str
    error_log: str

    @property
    def logs(self) -> tuple[str, ...]:
        """The files that it leaves in the working directory."""
        return tuple(path for path in (self.output_log, self.error_log) if path)

    @staticmethod
    def of(system: str, told: dict[str, Any]) -> TransferJob:
        """Return the job that an answer announces. Raises EBADMSG."""
        raw = pick(told, "transferJob", {})
        logs = pick(raw, "logs", {})
        job_id = pick(raw, "jobId")
        if job_id is None:
            raise refusal(errno.EBADMSG, "the server told no job for the transfer", ambiguous=True)
        return TransferJob(
            system, str(job_id), str(pick(logs, "outputLog", "")), str(pick(logs, "errorLog", ""))
        )


def checked_for_job(path: str) -> str:
    """Return *path* if a transfer job gets it unchanged. Raises EINVAL."""
    clean = checked_path(path)
    if _MANGLED & set(clean):
        text = "the path holds one of & < > \" ', which FirecREST's transfer jobs alter"
        raise refusal(errno.EINVAL, text, path)
    return clean


def state_of(server: ServerV1 | ServerV2, job: TransferJob) -> Job | None:
    """Return the job as it is now, or None while nobody knows it. One request."""
    try:
        found = server.job(job.system, job.job_id)
    except JobNotFound:
        return None
    return job_of(found[-1]) if found else None


def await_end(server: ServerV1 | ServerV2, job: TransferJob, call: Call) -> Job:
    """Return the job once it has ended. Raises as `Call.check` does; ENOENT for an unknown one."""
    pause, unknown = _FIRST, 0.0
    while True:
        found = state_of(server, job)
        if found is not None and found.ended:
            return found
        if found is None and unknown > UNKNOWN_S:
            raise JobNotFound(errno.ENOENT, f"the scheduler doesn't know job {job.job_id}")
        unknown = unknown + pause if found is None else 0.0
        _sleep(call, pause, job)
        pause = min(pause * 1.5, _LONGEST)


def _sleep(call: Call, pause: float, job: TransferJob) -> None:
    try:
        call.sleep(pause)
    except TimedOut:
        text = f"job {job.job_id} on {job.system} takes longer than the time limit; it goes on"
        raise TimedOut(errno.ETIMEDOUT, text, transient=True, ambiguous=True) from None


def read_log(
    server: ServerV1 | ServerV2, job: TransferJob, path: str, *, patience: float = 0.0
) -> str:
    """Return a log, without links; "" where it isn't there, for which *patience* seconds wait."""
    call = Call(patience)
    while path:
        try:
            data = server.download(job.system, path, limit=_MOST_LOG)
            return _LINK.sub("<link>", data.decode("utf-8", "replace"))
        except NotFound:
            if call.remaining() <= 0:
                break
            call.sleep(min(0.5, call.remaining()))
        except FirecrestException as exc:
            log.debug("the log of job %s can't be read: %s", job.job_id, exc.strerror)
            break
    return ""


def remove_logs(server: ServerV2, job: TransferJob) -> None:
    """Remove both logs; what can't be removed stays."""
    for path in job.logs:
        try:
            server.rm(job.system, path)
        except NotFound:
            continue
        except FirecrestException as exc:
            log.debug("%s:%s is left behind: %s", job.system, path, exc.strerror)


def run(
    server: ServerV2, job: TransferJob, call: Call, path: str, proven: Callable[[], bool]
) -> None:
    """Wait for *job* and prove it: raises what its log tells unless it is *proven*.

    *path* is what an error names. `JobCutShortError`: it was ended, or forgotten, meanwhile.
    """
    ended = "unknown"
    try:
        found = await_end(server, job, call)
        ended = found.state if found.cut_short else ""
    except JobNotFound:
        log.info("the scheduler of %s knows nothing of job %s any more", job.system, job.job_id)
    try:
        said = read_log(server, job, job.output_log, patience=_FLUSH)
        fault = None
        if not _DONE.search(said):
            fault = fault_of(read_log(server, job, job.error_log), job, path)
        if fault is not None and fault.errno != errno.EIO:
            raise fault
        if proven():
            return
        if ended:
            text = f"the scheduler of the cluster has ended job {job.job_id} ({ended})"
            raise JobCutShortError(text, path)
        raise fault or refusal(
            errno.EIO, "the job says it succeeded; the files tell otherwise", path
        )
    finally:
        remove_logs(server, job)


def fault_of(words: str, job: TransferJob, path: str) -> FirecrestException:
    """Return the exception that the *words* of a job's log of errors are, about *path*."""
    evidence = (Response(200, {}, words, "GET", "the job's error log"),) if words else ()
    verdict = of_stderr(words.partition("Unable to")[0])
    if verdict is None:
        shown = f": {quote(words)}" if words else ""
        text = f"job {job.job_id} ended without success{shown}"
        return refusal(errno.EIO, text, path, responses=evidence, ambiguous=True)
    return refusal(
        verdict.code,
        verdict.text,
        path,
        responses=evidence,
        transient=verdict.transient,
        ambiguous=verdict.begun,
        kind=verdict.kind,
    )
