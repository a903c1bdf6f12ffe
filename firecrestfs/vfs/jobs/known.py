"""What is known of a job without asking anybody."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping
from dataclasses import replace

from firecrestfs.api.typed_jobs import UNNAMED
from firecrestfs.cache.submissions import Submission
from firecrestfs.model import Job

from . import nodes
from .nodes import Node
from .table import Entry

#: The script, or its path on the cluster; where output and errors are. Empty: unknown.
Files = tuple[str, str, str]
#: A new job may be unknown to the accounting for so long (seconds).
_UNSEEN_S = 60.0


def files_of(told: Mapping[str, str | None]) -> Files:
    """Return the files of a job as its metadata tell them."""
    stdout, stderr = told["standardOutput"] or "", told["standardError"] or ""
    script = told["script"] or ""
    return script, stdout if stdout[:1] == "/" else "", stderr if stderr[:1] == "/" else ""


def own_entry(submission: Submission, known: Entry | None) -> Entry:
    """Return a job of ours, with what the scheduler doesn't tell of it."""
    if known is not None:
        job = known.job
        name = submission.job_name if job.name in UNNAMED else job.name
        workdir = job.working_directory or submission.workdir
        return replace(known, job=replace(job, name=name, working_directory=workdir))
    new = time.time() - submission.sent < _UNSEEN_S
    return Entry(
        Job(
            submission.job_id,
            submission.job_name,
            submission.state or ("PENDING" if new else "UNKNOWN"),
            working_directory=submission.workdir,
            exit_code=submission.exit_code,
        )
    )


def when(job: Job) -> int:
    """Return the time (ns) that the files of a job show: its end, else its start."""
    return (job.end or job.start or 0) * 1_000_000_000


def into(where: str, path: str, mtime_ns: int) -> Node:
    """Return a link from the directory *where* to *path*, both in the tree of one system."""
    target = posixpath.relpath(posixpath.normpath("/" + path.lstrip("/")), where)
    return nodes.link(target, mtime_ns)
