"""What the services read in the output of squeue, sacct and scontrol."""

from __future__ import annotations

import datetime
import re
import time
import zoneinfo
from typing import Any

from .. import reading
from ..jobs import Job, State
from .remote import Failed, Session

_JOB_ID = re.compile(r"\d+(?:\+\d+|_\d+|_\[\d+-\d+\])?")
_UNKNOWN_JOB = "slurm_load_jobs error: Invalid job id specified"
_CPUS = 8
_TAIL = 1000


def is_job_id(text: str) -> bool:
    """Tell whether *text* looks like a job id."""
    return _JOB_ID.fullmatch(text) is not None


def squeue(session: Session, user: str | None, ids: list[str] | None) -> list[dict[str, str]]:
    """Return the unfinished jobs. Raises Failed."""
    _ = session.login
    jobs = session.cluster.scheduler.jobs()
    if ids and len(ids) == 1 and not any(job.answers_to(ids[0]) for job in jobs):
        raise Failed(1, _UNKNOWN_JOB)
    return [
        _queue_row(job, session)
        for job in jobs
        if job.ended is None
        and user in (None, job.account.name)
        and (not ids or any(job.answers_to(one) for one in ids))
    ]


def _queue_row(job: Job, session: Session) -> dict[str, str]:
    pending = job.state is State.PENDING
    left = max(job.time_limit - job.elapsed, 0)
    return {
        "jobid": job.id,
        "partition": job.partition,
        "name": job.name,
        "user": job.account.name,
        "state": "COMPLETING" if job.state.final else job.state.value,
        # These two are mixed up in the order of squeue's columns.
        "start_time": _short(job.elapsed),
        "time": _moment(job.started, session, "N/A"),
        "time_left": _short(int(left)),
        "nodes": "1",
        "nodelist": f"({job.reason})" if pending else job.node,
    }


def sacct(session: Session, ids: list[str], start: str, end: str) -> list[dict[str, str]]:
    """Return the user's jobs in a span of days: today, where nothing is said. Raises Failed."""
    account = session.login.account
    zone = zoneinfo.ZoneInfo(session.site.knobs.zone)
    midnight = datetime.datetime.now(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    first, last = _day(start, zone), _day(end, zone)
    earliest = first if first is not None else 0 if any(ids) else midnight.timestamp()
    return [
        _account_row(job, session)
        for job in session.cluster.scheduler.jobs()
        if job.account == account
        and (not any(ids) or any(job.answers_to(one) for one in ids))
        and (job.ended is None or job.ended >= earliest)
        and (last is None or job.submitted <= last)
        # By time only those are found whose record has come.
        and (any(ids) or not _is_half_known(job, session))
    ]


def _day(text: str, zone: zoneinfo.ZoneInfo) -> float | None:
    """Read YYYY-MM-DD; every other form is dropped on the way to sacct."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=zone).timestamp()
    except ValueError:
        return None


def _is_half_known(job: Job, session: Session) -> bool:
    half_known = session.site.knobs.half_known
    return job.started is not None and time.time() < job.started + half_known


def _account_row(job: Job, session: Session) -> dict[str, str]:
    state = job.state.value
    if job.state.final and job.ended is None:
        state = "COMPLETING"
    elif job.cancelled_by is not None:
        state = f"CANCELLED by {job.cancelled_by}"
    ended = _moment(job.ended, session, "Unknown")
    cpu_time = _long(job.elapsed * _CPUS)
    begun = _is_half_known(job, session)
    return {
        "jobid": job.id,
        "partition": "" if begun else job.partition,
        "name": "allocation" if begun else job.name,
        "user": job.account.name,
        "state": state,
        "start_time": _moment(job.started, session, "Unknown"),
        "time": cpu_time,
        "cpu_time": cpu_time,
        "elapsed_time": _long(job.elapsed),
        "termination_time": ended,
        "time_left": ended,
        "nodes": "1",
        "nodelist": job.node if job.was_run else "None assigned",
        "exit_code": f"{job.exit_code}:{job.signal}",
    }


def describe_files(session: Session, job_id: str, *, output: bool) -> dict[str, str]:
    """Return what `scontrol show job` tells about the files of a job, with *output* their ends."""
    jobs = session.cluster.scheduler.find(job_id)
    if not jobs:
        missing = {"job_file_out": "Not available", "job_file_err": "Not available"}
        return {**missing, "job_info_extra": _UNKNOWN_JOB}
    job = jobs[0]
    read = output and job.state is not State.PENDING
    return {
        "job_data_err": _tail(session, job.stderr) if read else "",
        "job_data_out": _tail(session, job.stdout) if read else "",
        "job_file": _token(job.command or "(null)"),
        "job_file_err": _token(job.stderr),
        "job_file_out": _token(job.stdout),
        "job_info_extra": "Job info returned successfully",
    }


def _tail(session: Session, path: str) -> str:
    path = _token(path)
    try:
        return session.run(lambda login: reading.tail(login, path, "bytes", str(_TAIL)))
    except Failed:
        return ""


def _token(text: str) -> str:
    """Cut a value where the reader of `key=value` pairs does."""
    return text.split(" ")[0].split("=")[0]


def nodes(session: Session, names: list[str] | None) -> list[dict[str, Any]]:
    """Describe all nodes, or some. Raises Failed."""
    _ = session.login
    known = session.cluster.nodes
    for name in names or ():
        if name not in known:
            raise Failed(1, f"Node {name} not found")
    return [
        {
            "ActiveFeatures": ["cpu", "f7t"],
            "NodeName": name,
            "Partitions": list(session.cluster.partitions),
            "State": ["IDLE"],
        }
        for name in known
        if not names or name in names
    ]


def partitions(session: Session, names: list[str] | None) -> list[dict[str, str]]:
    """Describe all partitions, or some. Raises Failed."""
    _ = session.login
    total = len(session.cluster.nodes)
    return [
        {
            "Default": "NO" if number else "YES",
            "PartitionName": name,
            "State": "UP",
            "TotalCPUs": str(total * _CPUS),
            "TotalNodes": str(total),
        }
        for number, name in enumerate(session.cluster.partitions)
        if not names or name in names
    ]


def _moment(when: float | None, session: Session, otherwise: str) -> str:
    if when is None:
        return otherwise
    zone = zoneinfo.ZoneInfo(session.site.knobs.zone)
    return datetime.datetime.fromtimestamp(when, zone).strftime("%Y-%m-%dT%H:%M:%S")


def _split(seconds: int) -> tuple[str, int, int, int]:
    days, rest = divmod(seconds, 86400)
    return f"{days}-" if days else "", rest // 3600, rest // 60 % 60, rest % 60


def _short(seconds: int) -> str:
    """Write a span as squeue does: 0:05, 1:00:05, 1-00:00:05."""
    days, hours, minutes, rest = _split(seconds)
    if days or hours:
        return (
            f"{days}{hours:02}:{minutes:02}:{rest:02}"
            if days
            else f"{hours}:{minutes:02}:{rest:02}"
        )
    return f"{minutes}:{rest:02}"


def _long(seconds: int) -> str:
    """Write a span as sacct does: 00:00:05, 1-00:00:05."""
    days, hours, minutes, rest = _split(seconds)
    return f"{days}{hours:02}:{minutes:02}:{rest:02}"
