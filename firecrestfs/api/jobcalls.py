"""The tutorial's calls about batch jobs."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from ..errors import FirecrestException
from ..model import Job
from ..paths import directory_of
from . import shapes
from .decode import job_of, pick, system_of
from .names import checked_path
from .submission import job_body
from .v1 import ServerV1
from .v1_plain import paged
from .v2 import ServerV2


class JobCalls(ABC):
    """The part of `Firecrest` that submits, watches and cancels jobs."""

    @abstractmethod
    def server(self) -> ServerV1 | ServerV2:
        """Return the server's endpoints."""

    def submit(
        self,
        system_name: str,
        job_script: str | os.PathLike[str] | None = None,
        local_file: bool = True,
        script_str: str | None = None,
        script_local_path: str | os.PathLike[str] | None = None,
        script_remote_path: str | None = None,
        account: str | None = None,
        env_vars: Mapping[str, str] | None = None,
        working_dir: str | None = None,
    ) -> dict[str, Any]:
        """Submit a batch script: its text, a local file, or one on the cluster. Never sent twice.

        Returns `jobid`, `result`, and where its files are once the scheduler knows. *working_dir*
        is the directory of a script on the cluster, else the user's in the default work directory;
        on v1, one that the server makes (`firecrest/` and the task's id), besides
        `firecrest_taskid`. `ValueError` unless exactly one script is given.
        """
        if job_script is not None and local_file:
            script_local_path = script_local_path or job_script
        elif job_script is not None:
            script_remote_path = script_remote_path or os.fspath(job_script)
        given = (script_str, script_local_path, script_remote_path)
        if sum(source is not None for source in given) != 1:
            raise ValueError("give exactly one script: as text, as a local or as a remote path")
        if isinstance(self.server(), ServerV1) and script_remote_path is None and not working_dir:
            # In a directory that the server makes, under the script's own name.
            return self._submit_plain(system_name, script_str, script_local_path, account, env_vars)
        if script_local_path is not None:
            script_str = _text_of(script_local_path)
        body = job_body(
            script=script_str,
            script_path=script_remote_path,
            working_directory=working_dir or self._work_dir(system_name, script_remote_path),
            account=account,
            env=env_vars,
        )
        told = self.server().submit(system_name, body)
        return self._submitted(system_name, told, script_remote_path or "")

    def _submit_plain(
        self,
        system: str,
        text: str | None,
        path: str | os.PathLike[str] | None,
        account: str | None,
        env: Mapping[str, str] | None,
    ) -> dict[str, Any]:
        server = self.server()
        assert isinstance(server, ServerV1)
        name = "script.batch" if path is None else os.path.basename(os.fspath(path))
        script = text if path is None else _text_of(path)
        body = job_body(
            script=script, script_path=None, working_directory=None, account=account, env=env
        )
        told = server.plain_submit(system, body["script"].encode(), name, body)
        return _plain(told)

    def _work_dir(self, system_name: str, script_path: str | None) -> str | None:
        if script_path is not None:
            return directory_of(checked_path(script_path))
        if isinstance(self.server(), ServerV1):
            return None
        user = pick(self.server().userinfo(system_name).get("user"), "name", "")
        for raw in self.server().systems():
            if str(raw.get("name")) == system_name.lower():
                roots = system_of(raw).roots
                found = [root for root in roots if root.default_work_dir] or list(roots)
                return f"{found[0].path}/{user}" if found else f"/{user}"
        return f"/{user}"

    def _submitted(self, system_name: str, told: dict[str, Any], job_file: str) -> dict[str, Any]:
        if isinstance(self.server(), ServerV1):
            return _plain(told)
        job_id = str(pick(told, "jobId"))
        try:
            found = self.server().job_metadata(system_name, job_id)
        except FirecrestException:
            found = []
        metadata = found[-1] if found else {}
        return {**told, **shapes.submitted(system_name, job_id, metadata, job_file)}

    def poll(
        self,
        system_name: str,
        jobs: Sequence[str | int] | None = None,
        start_time: str | None = None,
        end_time: str | None = None,
        page_size: int | None = None,
        page_number: int | None = None,
    ) -> list[dict[str, str]]:
        """Return the recent jobs, all or those named, as accounting shows them; all values text.

        *start_time* and *end_time* (`YYYY-MM-DD`, local) limit when a job started. Pages from 0.
        """
        server = self.server()
        if isinstance(server, ServerV1):
            query = _listed(jobs) | paged(page_size, page_number)
            query |= {"starttime": start_time} if start_time else {}
            query |= {"endtime": end_time} if end_time else {}
            return server.plain_acct(system_name, query)
        decoded = map(job_of, self._raw_jobs(system_name, jobs))
        found = [shapes.accounted(job) for job in decoded if _within(job, start_time, end_time)]
        return shapes.page(found, page_size, page_number)

    def poll_active(
        self,
        system_name: str,
        jobs: Sequence[str | int] | None = None,
        page_size: int | None = None,
        page_number: int | None = None,
    ) -> list[dict[str, str]]:
        """Return the jobs that haven't ended, all or those named. Pages from 0."""
        server = self.server()
        if isinstance(server, ServerV1):
            query = _listed(jobs) | paged(page_size, page_number)
            return server.plain_queue(system_name, query)
        decoded = map(job_of, self._raw_jobs(system_name, jobs))
        found = [shapes.accounted(job) for job in decoded if not job.ended]
        return shapes.page(found, page_size, page_number)

    def _raw_jobs(self, system_name: str, jobs: Iterable[str | int] | None) -> list[dict[str, Any]]:
        wanted = None if jobs is None else [str(job) for job in jobs]
        if wanted is not None and len(wanted) == 1:
            return self.server().job(system_name, wanted[0])
        found = self.server().jobs(system_name)
        return [raw for raw in found if wanted is None or str(pick(raw, "jobId")) in wanted]

    def cancel(self, system_name: str, job_id: str | int) -> str:
        """Cancel a job; return a line that says so."""
        server = self.server()
        if isinstance(server, ServerV1):
            return server.plain_cancel(system_name, str(job_id))
        server.cancel(system_name, str(job_id))
        return f"scancel: Terminating job {job_id}"


def _text_of(path: str | os.PathLike[str]) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    """Return what v1 told of a submission, without our own name for the job's id."""
    return {key: value for key, value in told.items() if key != "jobId"}


def _listed(jobs: Sequence[str | int] | None) -> dict[str, str]:
    return {"jobs": ",".join(str(job) for job in jobs)} if jobs else {}


def _within(job: Job, start_time: str | None, end_time: str | None) -> bool:
    """Tell whether *job* started in that time; one that has not starts now at the earliest."""
    started = time.time() if job.start is None else job.start
    after = datetime.fromisoformat(start_time).timestamp() if start_time else started
    before = datetime.fromisoformat(end_time).timestamp() if end_time else started + 1
    return after <= started < before
