"""Batch jobs on FirecREST v1: tasks around Slurm's tools, in v2's shapes.

v1 submits a script as it is, in the script's own directory. Everything else that v2 offers (a
name, a partition, a directory, files for output) becomes directives in the script, which then is
written next to where it shall run, for the moment of its submission.
"""

from __future__ import annotations

import errno
import json
import logging
import re
import threading
import uuid
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, BinaryIO

from ..errors import FirecrestException
from ..paths import directory_of
from . import v1_shapes as shapes
from .faults import JobNotFound, NotFound, refusal
from .jobfiles import UNKNOWN, is_cut, options_of, whole
from .multipart import Multipart
from .newjobs import NewJobs
from .session import Answer
from .v1_http import fit, fit_path
from .v1_tasks import Tasks

log = logging.getLogger("firecrestfs.api")

#: v2's fields of a job as sbatch's options.
_DIRECTIVES = {
    "name": "job-name",
    "partition": "partition",
    "reservation": "reservation",
    "constraints": "constraint",
    "standardInput": "input",
    "standardOutput": "output",
    "standardError": "error",
}
#: Ended jobs are looked for this long, as v2 does.
_DAYS = 7
_REMEMBERED = 1000
_MEGABYTES = 5 * 1024 * 1024


class JobsV1(Tasks, ABC):
    """The compute endpoints, and transfers by jobs."""

    def __init__(self, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self._jobs_lock = threading.Lock()  # guards _files
        self._files: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()
        self._new_jobs = NewJobs()

    @abstractmethod
    def upload(
        self,
        system: str,
        directory: str,
        name: str,
        content: bytes | BinaryIO,
        *,
        limit: int,
        new: bool = False,
    ) -> None:
        """Write a file; `ServerV1` can."""

    @abstractmethod
    def download(self, system: str, path: str, *, limit: int = 1 << 30) -> bytes:
        """Read a file; `ServerV1` can."""

    @abstractmethod
    def rm(self, system: str, path: str) -> None:
        """Remove a file; `ServerV1` can."""

    # -- submitting ---------------------------------------------------------------------------

    def submit(self, system: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a job given in v2's fields, never twice; return its `jobId` and v1's own words.

        Without a `workingDirectory` a script's text runs in a directory that the server makes.
        """
        told = self._submit(system, job, self._fields(job))
        self._new_jobs.remember(system, str(told["jobId"]), job)
        return told

    def _submit(
        self, system: str, job: Mapping[str, Any], fields: Mapping[str, str]
    ) -> dict[str, Any]:
        if "script" not in job and _runs_as_it_is(job):
            return self._submit_path(system, str(job["scriptPath"]), fields)
        text = job.get("script")
        if text is None:
            text = self.download(system, str(job["scriptPath"])).decode("utf-8", "surrogateescape")
        script = _with_directives(str(text), job).encode("utf-8", "surrogateescape")
        directory = job.get("workingDirectory")
        if directory is None:
            return self._submit_text(system, script, fields)
        marker = str(job.get("marker") or uuid.uuid4().hex)
        return self._submit_in(system, str(directory), script, fields, marker)

    def _fields(self, job: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        if job.get("account"):
            found["account"] = fit(str(job["account"]), "the account")
        if job.get("env"):
            found["env"] = json.dumps(job["env"])
        return found

    def _submit_in(
        self,
        system: str,
        directory: str,
        script: bytes,
        fields: Mapping[str, str],
        marker: str,
    ) -> dict[str, Any]:
        """Submit *script* from a file in *directory*, which is removed as soon as it is read."""
        path = _marked_path(directory, marker)
        name = path.rpartition("/")[2]
        try:
            self.upload(system, directory, name, script, limit=_MEGABYTES, new=True)
            found = self._submit_path(system, path, fields, script)
        except FirecrestException as exc:
            if not exc.ambiguous:
                self._tidy(system, path)
            # Else the scheduler may be about to read it.
            raise
        self._tidy(system, path)
        return found

    def drop_script(self, system: str, directory: str, marker: str) -> None:
        """Remove the file that a submission with *marker* was to be made from, if it is there."""
        self._tidy(system, _marked_path(directory, marker))

    def _tidy(self, system: str, path: str) -> None:
        try:
            self.rm(system, path)
        except NotFound:
            return
        except FirecrestException as exc:
            log.warning("%s:%s is left behind: %s", system, path, exc)

    def _submit_path(
        self, system: str, path: str, fields: Mapping[str, str], script: bytes | None = None
    ) -> dict[str, Any]:
        clean = fit_path(path)
        form = {"targetPath": clean, **fields}
        answer = self._change("POST", "/compute/jobs/path", system, form, path=clean)

        return self._submitted(
            system, answer, lambda raw: self._with_whole_paths(system, raw, clean, script)
        )

    def _with_whole_paths(
        self, system: str, raw: dict[str, Any], path: str, script: bytes | None
    ) -> dict[str, Any]:
        """Return *raw* with the paths that v1 has cut; the script at *path* is read if need be."""
        directory = directory_of(path)
        output, error = (str(raw.get(key) or "") for key in ("job_file_out", "job_file_err"))
        if script is None and (is_cut(output, f"{directory}/") or is_cut(error, f"{directory}/")):
            with suppress(FirecrestException):
                script = self.download(system, path)
        text = "#SBATCH -o %%" if script is None else script.decode("utf-8", "surrogateescape")
        files = whole((output, error), directory, str(raw["jobid"]), options_of(text))
        found = {**raw, "job_file_out": files[0], "job_file_err": files[1]}
        if is_cut(str(raw.get("job_file") or ""), path):
            found["job_file"] = path
        return found

    def _submit_text(
        self, system: str, script: bytes, fields: Mapping[str, str], name: str = "script.sh"
    ) -> dict[str, Any]:
        body = Multipart(name, script, len(script), fields)
        return self._submitted(system, self._change("POST", "/compute/jobs/upload", system, body))

    def _submitted(
        self, system: str, answer: Answer, mended: Callable[[dict[str, Any]], dict[str, Any]] = dict
    ) -> dict[str, Any]:
        data = self._outcome(answer, mutating=True)
        raw = data if isinstance(data, dict) else {}
        job_id = str(raw.get("jobid") or "")
        raw = mended(raw) if job_id else raw
        with self._jobs_lock:
            self._keep_locked(system, job_id, raw)
        task = str(answer.json()["task_id"])
        return {**raw, "jobId": job_id or None, "firecrest_taskid": task}

    # -- watching -----------------------------------------------------------------------------

    def jobs(self, system: str, *, all_users: bool = False) -> list[dict[str, Any]]:
        """Return the jobs of the last days, ended and active: two tasks, polled together."""
        since = (datetime.now() - timedelta(days=_DAYS)).strftime("%Y-%m-%d")
        active = {"userJobs": "false"} if all_users else {}
        return self._both(system, active, {"starttime": since})

    def job(self, system: str, job_id: str) -> list[dict[str, Any]]:
        """Return the job, as the queue shows it or else as accounting does; empty for none."""
        wanted = {"jobs": _job_id(job_id)}
        return self._both(system, wanted, wanted)

    def _both(
        self, system: str, active: Mapping[str, str], ended: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        # GET /compute/jobs/{id} makes a task that never ends; the list with one id does.
        made = [
            self._ask("/compute/jobs", system, active),
            self._ask("/compute/acct", system, ended),
        ]
        queued, accounted = (
            self._entries_of(task)
            # With hundreds of jobs it takes seconds; few looks do.
            for task in self._outcomes(made, pause=0.3, growth=2.5)
        )
        for raw in queued:
            self._remember(system, raw)
        jobs = {job["jobId"]: job for job in (self._shaped(system, raw) for raw in accounted)}
        for raw in queued:
            now = self._shaped(system, raw)
            known = jobs.get(now["jobId"])
            # What the queue still shows as over is told in full by accounting.
            if known is None or known["status"]["exitCode"] is None or not _is_over(known):
                jobs[now["jobId"]] = now
        return list(jobs.values())

    def _shaped(self, system: str, raw: dict[str, Any]) -> dict[str, Any]:
        job = self._new_jobs.completed(system, shapes.job(raw))
        with self._jobs_lock:
            known = self._files.get((system, job["jobId"]), {})
        # v1 runs every script in its own directory.
        script = str(known.get("job_file") or "")
        if script.startswith("/"):
            job["workingDirectory"] = directory_of(script)
        return job

    def _entries_of(self, task: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the entries of a task: a list, an object of numbered entries, or none."""
        try:
            data = self._settled(task, mutating=False)
        except JobNotFound:
            return []
        entries = data.values() if isinstance(data, dict) else data or ()
        return [item for item in entries if isinstance(item, dict)]

    def _remember(self, system: str, raw: dict[str, Any]) -> None:
        if raw.get("job_file"):
            with self._jobs_lock:
                # What we have submitted ourselves we know better.
                job_id = str(raw.get("jobid"))
                self._keep_locked(system, job_id, self._files.get((system, job_id), raw))

    def _keep_locked(self, system: str, job_id: str, raw: dict[str, Any]) -> None:
        self._files[system, job_id] = raw
        while len(self._files) > _REMEMBERED:
            self._files.popitem(last=False)

    def job_metadata(self, system: str, job_id: str) -> list[dict[str, Any]]:
        """Return where the job's files are, as its submission or the queue told; empty for none."""
        wanted = _job_id(job_id)
        remembered = self.known_metadata(system, wanted)
        if remembered is not None:
            return [remembered]
        answer = self._ask("/compute/jobs", system, {"jobs": wanted})
        (task,) = self._outcomes([answer])
        known = next(iter(self._entries_of(task)), None)
        return [] if known is None else [_metadata(wanted, known)]

    def known_metadata(self, system: str, job_id: str) -> dict[str, Any] | None:
        """Return where the job's files are as far as that has been told already."""
        with self._jobs_lock:
            known = self._files.get((system, job_id))
        return None if known is None else _metadata(job_id, known)

    def cancel(self, system: str, job_id: str) -> None:
        """Cancel a job. Raises EALREADY for one that has ended."""
        self._cancelled(system, job_id)

    def _cancelled(self, system: str, job_id: str) -> Any:
        wanted = _job_id(job_id)
        endpoint = f"/compute/jobs/{wanted}"
        answer = self._change(
            "DELETE", "/compute/jobs/{id}", system, {}, endpoint=endpoint, again=True
        )
        return self._outcome(answer, mutating=True)

    # -- the machine --------------------------------------------------------------------------

    def nodes(self, system: str) -> list[dict[str, Any]]:
        """Return the nodes."""
        return self._described(system, "nodes", shapes.NODE_V1)

    def partitions(self, system: str) -> list[dict[str, Any]]:
        """Return the partitions."""
        return self._described(system, "partitions", shapes.PARTITION_V1)

    def reservations(self, system: str) -> list[dict[str, Any]]:
        """Return the reservations."""
        return self._described(system, "reservations", shapes.RESERVATION_V1)

    def _described(self, system: str, what: str, names: Mapping[str, str]) -> list[dict[str, Any]]:
        (task,) = self._outcomes([self._ask("/compute/" + what, system, {})])
        return [shapes.renamed(raw, names) for raw in self._entries_of(task)]

    # -- transfers by jobs --------------------------------------------------------------------

    def transfer(self, system: str, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Submit a job that copies, moves, packs or removes; never sent twice. v2's fields."""
        form = {
            key: fit_path(str(body[key])) for key in ("sourcePath", "targetPath") if key in body
        }
        if "path" in body:
            form["targetPath"] = fit_path(str(body["path"]))
        if body.get("account"):
            form["account"] = fit(str(body["account"]), "the account")
        if operation not in ("cp", "mv", "rm", "rsync", "compress", "extract"):
            text = f"FirecREST v1 has no job for {operation!r}"
            raise refusal(errno.EOPNOTSUPP, text, form.get("sourcePath"))
        template = f"/storage/xfer-internal/{operation}"
        answer = self._change("POST", template, system, form, path=form.get("targetPath"))
        data = self._outcome(answer, mutating=True)
        raw = data if isinstance(data, dict) else {}
        logs = {"outputLog": raw.get("job_file_out"), "errorLog": raw.get("job_file_err")}
        return {"transferJob": {"jobId": str(raw.get("jobid")), "system": system, "logs": logs}}

    def transfer_rm(self, system: str, path: str, account: str | None = None) -> dict[str, Any]:
        """Submit a job that removes *path*; never sent twice."""
        return self.transfer(system, "rm", {"path": path, "account": account})


def _metadata(job_id: str, known: Mapping[str, Any]) -> dict[str, Any]:
    told = {key: None if value == UNKNOWN else value for key, value in known.items()}
    return {"jobId": job_id, **shapes.renamed(told, shapes.METADATA)}


def _marked_path(directory: str, marker: str) -> str:
    return f"{fit_path(directory).rstrip('/')}/.fcfs-{marker}.sh"


def _job_id(job_id: str) -> str:
    if not re.fullmatch(r"\d+(?:[+_]\d+)?", job_id):
        raise refusal(errno.EINVAL, f"not a job id that FirecREST v1 takes: {job_id!r}")
    return job_id


def _is_over(job: Mapping[str, Any]) -> bool:
    state = str(job["status"]["state"])
    return not state.startswith(("PENDING", "RUNNING", "CONFIG", "COMPLETING", "SUSPENDED"))


def _runs_as_it_is(job: Mapping[str, Any]) -> bool:
    """Tell whether v1's own way, in the script's directory, is what *job* asks for."""
    directory = job.get("workingDirectory")
    own = directory_of(str(job["scriptPath"]))
    return directory in (None, own) and not any(job.get(key) for key in _DIRECTIVES)


def _with_directives(script: str, job: Mapping[str, Any]) -> str:
    """Return *script* with what *job* asks for behind its own directives: the last one wins."""
    lines = script.splitlines(keepends=True)
    wanted = [
        f"#SBATCH --{option}={_quoted(str(job[key]))}\n"
        for key, option in _DIRECTIVES.items()
        if job.get(key)
    ]
    at = next(
        (i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines)
    )
    if wanted and at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join([*lines[:at], *wanted, *lines[at:]])


def _quoted(text: str) -> str:
    if re.fullmatch(r"[\w./%:+,=@\[\]&|*-]+", text):
        return text
    if '"' in text or "\\" in text:
        raise refusal(errno.EINVAL, "a job's option with quotes or backslashes can't travel", text)
    return f'"{text}"'
