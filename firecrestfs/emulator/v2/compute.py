"""`/compute/{system}/jobs*`: batch jobs."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask, Response

from ..jobs import Job, State, Submission
from ..shell import CommandFailed, CommandTimeout
from ..site import Site
from .answers import ApiError, Invalid, field_error, reply
from .entry import TIMEOUT, Call, enter
from .fields import Body, Query, read_json

_WINDOWS = {"1h": 3600, "8h": 28800, "24h": 86400, "3d": 259200, "7d": 604800}
_JOB_ID = re.compile(r"[a-zA-Z0-9]+\Z")
_DEFAULT_ENV = {"F7T_version": "v2.0.0"}


class Compute:
    """The handlers."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        base = "/compute/<system>/jobs"
        one = f"{base}/<job_id>"
        app.add_url_rule(base, "jobs/submit", self.submit, methods=["POST"])
        app.add_url_rule(base, "jobs/list", self.listing, methods=["GET"])
        app.add_url_rule(one, "jobs/get", self.get, methods=["GET"])
        app.add_url_rule(one, "jobs/cancel", self.cancel, methods=["DELETE"])
        app.add_url_rule(f"{one}/metadata", "jobs/metadata", self.metadata, methods=["GET"])
        app.add_url_rule(f"{one}/attach", "jobs/attach", self.attach, methods=["PUT"])

    def submit(self, system: str) -> Response:
        """Submit a job."""
        json_body = read_json()
        call = self._enter(system)
        job = Body(Body(json_body).required("job"), parent="job")
        env = job.raw("env", _DEFAULT_ENV)
        request = Submission(
            working_directory=job.text("workingDirectory"),
            script=job.optional("script") or "",
            script_path=job.optional("scriptPath") or "",
            name=job.optional("name") or "",
            account=job.optional("account") or "",
            partition=job.optional("partition") or "",
            constraints=job.optional("constraints") or "",
            stdin=job.optional("standardInput") or "",
            stdout=job.optional("standardOutput") or "",
            stderr=job.optional("standardError") or "",
            env=env if isinstance(env, dict) else {},
        )
        job.done()
        if not isinstance(env, dict):
            kind = type(env).__name__
            words = f"'{kind}' object has no attribute 'items'"
            raise ApiError(500, str((words,)), unhandled=True)
        with slurm_command():
            job_id = call.cluster.scheduler.submit(call.login, request)
        return reply({"jobId": job_id}, 201)

    def listing(self, system: str) -> Response:
        """List the jobs of the user, or of all."""
        call = self._enter(system)
        query = Query()
        everybody = query.boolean("allusers")
        account = query.optional("account")
        name = query.optional("name", longest=235)
        window = query.choice("time_window", tuple(_WINDOWS)) or "24h"
        query.done()
        oldest = time.time() - _WINDOWS.get(window, 0)
        jobs = [
            job
            for job in call.cluster.scheduler.jobs()
            if (everybody or job.account == call.login.account)
            and account in (None, job.project)
            and name in (None, job.name)
            and (job.ended is None or job.ended >= oldest)
            and not (job.held and job.state.final)  # it was never eligible: sacct leaves it out
            and not self._is_half_known(job)  # nor has it a time yet
        ]
        return reply({"jobs": [self._job(job, call.cluster.name) for job in jobs]})

    def get(self, system: str, job_id: str) -> Response:
        """Describe one job."""
        call = self._enter_job(system, job_id)
        if job_id.strip("0") == "":
            raise _broken(f"squeue: error: Invalid job id: {job_id}\n")
        if not job_id.isdigit():
            raise _broken(f"sacct: fatal: Bad job/step specified: {job_id}\n")
        jobs = self._find(call, job_id)
        return reply({"jobs": [self._job(job, call.cluster.name) for job in jobs]})

    def metadata(self, system: str, job_id: str) -> Response:
        """Return script and files of one job."""
        call = self._enter_job(system, job_id)
        rows = [
            {
                "jobId": job.id,
                "script": job.script,
                "standardInput": _word(job.stdin),
                "standardOutput": _word(job.stdout),
                "standardError": _word(job.stderr),
            }
            for job in self._find(call, job_id)
        ]
        return reply({"jobs": rows})

    def cancel(self, system: str, job_id: str) -> Response:
        """End a job."""
        call = self._enter_job(system, job_id)
        with slurm_command():
            call.cluster.scheduler.cancel(call.login, job_id)
        return reply(None, 204)

    def attach(self, system: str, job_id: str) -> Response:
        """Run a command beside a job."""
        json_body = read_json()
        call = self._enter_job(system, job_id)
        body = Body(json_body)
        command = body.text("command")
        body.done()
        with slurm_command():
            call.cluster.scheduler.attach(call.login, job_id, command)
        return reply(None, 204)

    def _enter(self, system: str) -> Call:
        call = enter(self._site, system)
        call.check_scheduler()
        return call

    def _enter_job(self, system: str, job_id: str) -> Call:
        call = self._enter(system)
        if not _JOB_ID.match(job_id):
            words = "String should match pattern '^[a-zA-Z0-9]+$'"
            raise Invalid([field_error("path", "job_id", words)])
        return call

    def _job(self, job: Job, cluster: str) -> dict[str, Any]:
        known = _job(job, cluster)
        return {**known, **_half_known(known)} if self._is_half_known(job) else known

    def _is_half_known(self, job: Job) -> bool:
        half_known = self._site.knobs.half_known
        return job.started is not None and time.time() < job.started + half_known

    @staticmethod
    def _find(call: Call, job_id: str) -> list[Job]:
        _ = call.login
        jobs = call.cluster.scheduler.find(job_id)
        if not jobs:
            raise ApiError(404, "Job not found.")
        return jobs


def _word(path: str) -> str:
    """Cut a path where the reader of `key=value` pairs does."""
    return re.split(r"\s", path)[0]


def _broken(stderr: str) -> ApiError:
    words = f"Unexpected Slurm command response. exit_status:1 std_err:{stderr}"
    return ApiError(500, "Error executing Slurm command.", caused_by=[words])


@contextmanager
def slurm_command() -> Iterator[None]:
    """Turn the failures of Slurm's commands into the server's answers."""
    try:
        yield
    except CommandTimeout as exc:
        raise ApiError(408, TIMEOUT) from exc
    except CommandFailed as exc:
        words = f"exit_status:{exc.status} std_err:{exc.stderr}"
        raise ApiError(500, f"Unexpected Slurm command response. {words}") from exc


def _job(job: Job, cluster: str) -> dict[str, Any]:
    pending = job.state is State.PENDING
    ran = job.was_run and job.ended != job.started
    state = job.state.value
    if job.state.final and job.ended is None:
        state = "COMPLETING"
    elif job.cancelled_by is not None:
        state = f"CANCELLED by {job.cancelled_by}"
    code = None if pending else job.exit_code
    return {
        "jobId": job.id,
        "name": job.name,
        "status": {
            "state": state,
            "stateReason": job.reason,
            "exitCode": code,
            "interruptSignal": None if pending else job.signal,
        },
        "tasks": [_batch_step(job)] if ran else [],
        "time": _times(job, int(job.time_limit)),
        "account": job.project,
        "allocationNodes": 1 if pending or ran else 0,
        "cluster": cluster,
        "group": job.account.group.name,
        "nodes": job.node if ran else "" if pending else "None assigned",
        "partition": job.partition,
        "killRequestUser": None,
        "user": job.account.name,
        "workingDirectory": job.working_directory,
        "priority": job.priority,
    }


def _half_known(known: dict[str, Any]) -> dict[str, Any]:
    """Return what accounting tells before the record of the job has reached it."""
    status = {**known["status"], "exitCode": known["status"]["exitCode"] or 0, "interruptSignal": 0}
    if known["time"]["end"] is None:
        status["state"] = "PENDING"
    return {
        "name": "allocation",
        "status": status,
        "time": {**known["time"], "elapsed": 0, "limit": None},
        "allocationNodes": 0,
        "group": "root",
        "partition": "",
        "workingDirectory": "",
        "priority": 0,
    }


def _batch_step(job: Job) -> dict[str, Any]:
    stopped = job.state in (State.CANCELLED, State.TIMEOUT)
    unusual = job.spool_failed or job.state is State.TIMEOUT
    return {
        "id": f"{job.id}.batch",
        "name": "batch",
        "status": {
            "state": "CANCELLED" if unusual else job.state.value,
            "stateReason": None,
            "exitCode": job.exit_code,
            "interruptSignal": signal.SIGTERM if stopped else job.signal,
        },
        "time": _times(job, None),
    }


def _times(job: Job, limit: int | None) -> dict[str, Any]:
    pending = job.state is State.PENDING
    return {
        "elapsed": job.elapsed,
        "start": None if job.started is None else int(job.started),
        "end": None if job.ended is None else int(job.ended),
        "suspended": None if pending else 0,
        "limit": limit,
    }
