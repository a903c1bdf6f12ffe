"""Batch jobs as model values: submitted with a mark, so that one whose answer got lost is found."""

from __future__ import annotations

import errno
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any

from ..errors import FirecrestException
from ..model import Job
from .decode import job_of, pick
from .faults import JobNotFound, refusal
from .reading import Reader
from .submission import job_body, marked
from .v1 import ServerV1

#: What the accounting calls a job for its first second, when it knows its first step alone.
UNNAMED = frozenset({"", "allocation", "batch"})
#: A job that started so long before its request (seconds) is not the one that was asked for. v1
#: tells local times, of a zone that may not be known yet.
_CLOCKS_S, _ZONES_S = 300.0, 26 * 3600.0
#: What FirecREST calls a job that renames.
_MOVE_JOB = "MoveFiles"
#: A lost job is looked for among so many of the newest that may be it.
_CANDIDATES = 20


class TypedJobs(Reader):
    """The part of the typed client that is about jobs."""

    def submit(
        self,
        system: str,
        *,
        script: bytes | str | None = None,
        script_path: str | None = None,
        working_directory: str,
        name: str | None = None,
        account: str | None = None,
        env: Mapping[str, str] | None = None,
        partition: str | None = None,
        reservation: str | None = None,
        constraints: str | None = None,
        standard_output: str | None = None,
        standard_error: str | None = None,
        standard_input: str | None = None,
        marker: str = "",
    ) -> str:
        """Submit a batch script, or one on the cluster, and return the job's id. Never sent twice.

        ENOEXEC for a script without a `#!` line. After an ambiguous failure the job may exist:
        `find_submission` looks for it, by the *marker* that is then in the script, or (v1) in its
        name on the cluster.
        """
        job = job_body(
            script=script,
            script_path=script_path,
            working_directory=working_directory,
            env=env,
            name=name,
            account=account,
            partition=partition,
            reservation=reservation,
            constraints=constraints,
            standard_output=standard_output,
            standard_error=standard_error,
            standard_input=standard_input,
        )
        if marker and isinstance(self._client.server(), ServerV1):
            job["marker"] = marker
        elif marker and "script" in job:
            job["script"] = marked(job["script"], marker)
        job_id = pick(self._client.server().submit(system, job), "jobId")
        if job_id is None:
            text = "the scheduler took the job but told no id"
            raise refusal(errno.EIO, text, script_path, ambiguous=True)
        return str(job_id)

    def find_submission(
        self,
        system: str,
        marker: str,
        *,
        name: str,
        directory: str,
        since: float,
        after: int = 0,
        others: Collection[str] = (),
        in_place: bool = False,
    ) -> str | None:
        """Return the id of the job that a request with *marker* made, None where none is known.

        *others* are jobs that are known to be of other requests, *in_place* a script of the
        cluster, which carries no mark on v2. Where the server doesn't tell what a job runs, name
        and directory decide, among the jobs since the request was sent (*since*, epoch seconds) and
        with greater numbers than the one that was known then (*after*).
        """
        local = isinstance(self._client.server(), ServerV1) and not self.zone(system).observed
        earliest = since - (_ZONES_S if local else _CLOCKS_S)
        likely = [
            job
            for job in self.jobs(system)
            if job.job_id not in others and job.name in UNNAMED | {name}
        ]
        # By the cluster's own clock; numbers may begin anew.
        likely.sort(key=lambda job: (job.start is None, job.start or 0, _number(job.job_id)))
        guess = None
        for job in likely[: -_CANDIDATES - 1 : -1]:
            told = self._script_of(system, job.job_id)
            if told and marker in told:
                return job.job_id
            fits = job.name == name and job.working_directory.rstrip("/") in ("", directory)
            recent = _number(job.job_id) > after and (job.start or since) > earliest
            if guess is None and fits and recent and (in_place or not told):
                guess = job.job_id
        return guess

    def _script_of(self, system: str, job_id: str) -> str:
        """Return the text of a job's script, or its path (v1); empty where that isn't told."""
        try:
            return self.job_metadata(system, job_id)["script"] or ""
        except FirecrestException as exc:
            if exc.transient:
                raise
            return ""

    def cancel_moves(self, system: str, old: str, new: str) -> None:
        """Cancel the jobs of `move_by_job` from *old* to *new* that have not ended.

        One whose answer got lost has no id: it is known by its script. One request, and two for
        each such job at all.
        """
        words = rf"""\bmv\s.*['"\s]{re.escape(old)}['"]?\s+['"]?{re.escape(new)}(?![^'"\s);])"""
        for job in self.jobs(system):
            if job.ended or job.name not in UNNAMED | {_MOVE_JOB}:
                continue
            if re.search(words, self._script_of(system, job.job_id)):
                with suppress(JobNotFound):  # it has ended meanwhile
                    self.cancel(system, job.job_id)

    def forget_submission(self, system: str, directory: str, marker: str) -> None:
        """Remove the script that a request whose answer got lost may have left (v1)."""
        server = self._client.server()
        if isinstance(server, ServerV1):
            server.drop_script(system, directory, marker)

    def jobs(self, system: str) -> list[Job]:
        """Return the user's recent jobs, in the server's order, each id once (its latest run)."""
        return self._latest_runs(system, self._client.server().jobs(system))

    def job(self, system: str, job_id: str) -> Job:
        """Return one job. Raises `JobNotFound`, also for some seconds after the submission."""
        return self.job_tasks(system, job_id)[-1]

    def job_tasks(self, system: str, job_id: str) -> list[Job]:
        """Return one job, or all tasks of the array *job_id* that are known by ids of their own.

        Raises `JobNotFound`.
        """
        found = self._latest_runs(system, self._client.server().job(system, job_id))
        if not found:
            raise JobNotFound(errno.ENOENT, f"no such job: {job_id}")
        return found

    def _latest_runs(self, system: str, raw: Iterable[dict[str, Any]]) -> list[Job]:
        """Decode; of the runs of a requeued job the one that hasn't ended counts, else the last."""
        to_epoch = self.zone(system).to_epoch
        found: dict[str, Job] = {}
        for job in (job_of(item, to_epoch) for item in raw):
            known = found.get(job.job_id)
            if known is None or known.ended or not job.ended:
                found[job.job_id] = job
        return list(found.values())

    def job_metadata(self, system: str, job_id: str) -> dict[str, str | None]:
        """Return `script`, `standardInput`, `standardOutput`, `standardError`; each may be None.

        On v1 `script` is the path of the script.
        """
        found = self._client.server().job_metadata(system, job_id)
        if not found:
            raise JobNotFound(errno.ENOENT, f"no such job: {job_id}")
        # An array is told of with all its tasks.
        same = [raw for raw in found if str(pick(raw, "jobId")) == job_id]
        told = self._metadata((same or found)[-1])
        if self.system(system).scheduler.lower().startswith("pbs"):
            # FirecREST mixes up the two of PBS.
            out, error = told["standardOutput"], told["standardError"]
            told |= {"standardOutput": error, "standardError": out}
        return told

    def known_metadata(self, system: str, job_id: str) -> dict[str, str | None] | None:
        """Return what `job_metadata` would where nobody must be asked (v1), else None."""
        server = self._client.server()
        found = server.known_metadata(system, job_id) if isinstance(server, ServerV1) else None
        return None if found is None else self._metadata(found)

    @staticmethod
    def _metadata(raw: dict[str, Any]) -> dict[str, str | None]:
        keys = ("script", "standardInput", "standardOutput", "standardError")
        return {key: pick(raw, key) for key in keys}

    def cancel(self, system: str, job_id: str) -> None:
        """Cancel a job; one that has ended already is fine. Raises `JobNotFound`."""
        try:
            self._client.server().cancel(system, job_id)
        except FirecrestException as exc:
            if exc.errno != errno.EALREADY:
                raise


def _number(job_id: str) -> int:
    """Return the number in a job's id: schedulers count upwards."""
    digits = re.match(r"\d+", job_id)
    return int(digits[0]) if digits else 0
