"""Cluster: what a submission asks of the server."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.submissions import Submission

from . import directives

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cluster:
    """The system that jobs go to; *user* is the remote name."""

    client: TypedClient
    system: str
    scheduler: str = "slurm"
    user: str = ""

    def send(self, found: Submission) -> str:
        """Ask once for the job, and return its id. After an ambiguous failure it may be there."""
        options = {name: value for name, value in found.options.items() if value}
        return self.client.submit(
            self.system,
            script=None if found.script_path else found.script,
            script_path=found.script_path or None,
            working_directory=found.workdir,
            env=found.env or None,
            marker=found.ident,
            **options,
        )

    def find(self, found: Submission, others: Collection[str]) -> str | None:
        """Return the job that a request for *found* has made, if there is one."""
        return self.client.find_submission(
            self.system,
            found.ident,
            name=found.job_name,
            directory=found.workdir,
            since=found.sent,
            after=found.after,
            others=others,
            in_place=bool(found.script_path),
        )

    def tidy(self, found: Submission) -> None:
        """Remove what a request whose answer got lost may have left."""
        try:
            self.client.forget_submission(self.system, found.workdir, found.ident)
        except OSError as exc:
            log.warning("what submission %s left is not removed: %s", found.ident, exc)

    def outputs(self, found: Submission, job_id: str) -> tuple[str, str]:
        """Return where the job writes output and errors, as far as that is known unasked."""
        if found.array:
            return "", ""
        told = self.client.known_metadata(self.system, job_id)
        if told is not None:
            stdout, stderr = told["standardOutput"] or "", told["standardError"] or ""
            return stdout if stdout[:1] == "/" else "", stderr if stderr[:1] == "/" else ""
        if self.scheduler.lower() != "slurm":
            return "", ""
        return directives.outputs(
            directives.directives(found.script),
            job_id=job_id,
            name=found.job_name,
            workdir=found.workdir,
            user=self.user,
        )
