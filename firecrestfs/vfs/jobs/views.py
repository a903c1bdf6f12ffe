"""What the files of `.jobs` say: the help, the queue as a table and as JSON, one job in full."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from firecrestfs.cache.submissions import Submission
from firecrestfs.model import Job

README = """\
.jobs: the scheduler as a directory

  cp run.sh .jobs/             submits run.sh when the copy is closed
  ln -s ../HOME/run.sh .jobs/  submits a script of the cluster in place, in its own directory
  cat .jobs/run.sh.jobid       the job's id; run.sh.error: why there is none; run.sh.status: what
                               it waits for
  cat .jobs/queue              all jobs, as squeue shows them, at most 10 s old; queue.json
  cat .jobs/4211/status        RUNNING; info.json: all that is known
  tail -F .jobs/4211/stdout    follows its output (a link to the file)
  cat .jobs/4211/wait          returns when it has ended: COMPLETED 0
  echo cancel > .jobs/4211/ctl cancels it. Nothing else does: not rm, not rmdir, not a trash can
  ls .jobs/active              active/, recent/, by-name/ and last lead to the jobs' directories

A job runs in the directory whose .jobs took its script (every remote directory has one, unlisted).
Here at the system's root that is SCRATCH, else HOME, unless defaults.toml says otherwise. What is
pending is stored first. rm removes our copy of a script only; rmdir 4211 puts an ended job out of
sight. wait, ctl and NAME.ctl ("cancel" takes back what isn't submitted yet) answer by name, and so
do script, stdout, stderr and tasks of jobs that were not submitted here until they are known: to
learn them costs a request.
"""


def queue_table(jobs: Sequence[Job]) -> str:
    """Return *jobs* as a table like squeue's."""
    rows = [("JOBID", "PARTITION", "NAME", "USER", "STATE", "TIME", "NODES", "NODELIST(REASON)")]
    rows += [
        (
            job.job_id,
            job.partition,
            job.name,
            job.user,
            job.state,
            _clock(job.elapsed or 0),
            str(job.node_count),
            job.nodes or (f"({job.reason})" if job.reason not in ("", "None") else ""),
        )
        for job in jobs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def queue_json(jobs: Iterable[Job]) -> str:
    """Return *jobs* as JSON."""
    return json.dumps([_table_of(job) for job in jobs], indent=2) + "\n"


def info_json(
    job: Job, submission: Submission | None, files: tuple[str, str, str], tasks: Sequence[str]
) -> str:
    """Return all that is known of *job*; *files* are its script, output and errors, or empty."""
    told: dict[str, Any] = {
        "jobid": job.job_id,
        "result": "Job submitted" if submission is not None else "",
        "job_file": files[0] if files[0].startswith("/") else "",
        "job_file_out": files[1],
        "job_file_err": files[2],
    }
    if submission is not None:
        told |= {"submitted_as": submission.name, "submitted": submission.sent}
    told |= _table_of(job)
    if tasks:
        told["tasks"] = list(tasks)
    return json.dumps(told, indent=2) + "\n"


def _table_of(job: Job) -> dict[str, Any]:
    return {
        "job_id": job.job_id,
        "name": job.name,
        "state": job.state,
        "exit_code": job.exit_code,
        "user": job.user,
        "partition": job.partition,
        "nodes": job.nodes,
        "node_count": job.node_count,
        "reason": job.reason,
        "working_directory": job.working_directory,
        "start": job.start,
        "end": job.end,
        "elapsed": job.elapsed,
        "limit": job.limit,
    }


def outcome(job: Job) -> str:
    """Return how *job* has ended, as `wait` tells it."""
    return f"{job.state} {job.exit_code or 0}\n"


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text
