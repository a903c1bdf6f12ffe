"""`/storage/xfer-internal/*`: copying, moving and the like as batch jobs.

The last command of the job is an `echo`: it ends COMPLETED whatever became of the files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from flask import Flask, Response

from .answers import Answer, reply
from .background import Background
from .compute import submit
from .entry import checked, cluster_of, crash, form, is_true, username
from .remote import Failed, Session
from .utilities import extraction

_OPERATIONS = ("cp", "mv", "rsync", "rm", "compress", "extract")
_MINUTES = re.compile(r"0*[1-9]\d*|\d+:[0-5]?\d")
_HOURS = re.compile(r"\d+:[0-5]?\d:[0-5]?\d")
_DAYS = re.compile(r"\d+-([01]?\d|2[0-3])(:[0-5]?\d){0,2}")
_SCRIPT = """#!/bin/bash
#SBATCH --job-name='{name}'
#SBATCH --time={time}
#SBATCH --error=job-%j.err
#SBATCH --output=job-%j.out
#SBATCH --ntasks=1
#SBATCH --partition=xfer
{options}
echo Trace ID:
echo "$SLURM_JOB_NAME started on $(date)"
srun -n $SLURM_NTASKS {command}
echo "$SLURM_JOB_NAME finished on $(date)"
"""


class Internal:
    """The handlers."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._site = background.site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        for name in _OPERATIONS:
            path = f"storage/xfer-internal/{name}"
            app.add_url_rule(f"/{path}", path, self._handler(name), methods=["POST"])

    def _handler(self, operation: str) -> Callable[[], Response]:
        return lambda: self.run(operation)

    def run(self, operation: str) -> Response:
        """Submit the job."""
        cluster = cluster_of(self._site, "Failed operation")
        fields = form(self._site, limited=False)
        command = _command(operation, fields)
        script = _script(operation, command, fields)
        session = Session(self._site, cluster, username())
        try:
            _ = session.login
        except Failed:
            crash()
        task_id = submit(self._background, session, "sbatch-job.sh", script.encode())
        return reply({"success": "Task created", "task_id": task_id}, 201)


def _command(operation: str, fields: dict[str, str]) -> str:
    description = f"Error on {operation} operation"
    target = checked(fields.get("targetPath"), "targetPath", description)
    if operation == "rm":
        return f"rm -rf -- '{target}'"
    source = checked(fields.get("sourcePath"), "sourcePath", description)
    if operation == "compress":
        folder, name = os.path.split(source)
        option = "--dereference " if is_true(fields.get("dereference")) else ""
        return f"tar {option}-czf '{target}' -C '{folder}' '{name}'"
    if operation == "extract":
        letter = extraction(source, fields.get("type", "auto"), description)
        if letter is None:
            return f"unzip -o '{source}' -d '{target}'"
        return f"tar -x{letter}f '{source}' -C '{target}'"
    tools = {"cp": "cp --force -dR --preserve=all", "mv": "mv --force", "rsync": "rsync -av"}
    return f"{tools[operation]} -- '{source}' '{target}'"


def _script(operation: str, command: str, fields: dict[str, str]) -> str:
    name = fields.get("jobName") or f"{operation}-job"
    checked(name, "jobName", "Invalid jobName")
    time = fields.get("time", "02:00:00")
    if not any(pattern.fullmatch(time) for pattern in (_MINUTES, _HOURS, _DAYS)):
        raise Answer(400, error="Not supported time format")
    options = ""
    for field, option in (("stageOutJobId", "dependency=afterok:"), ("account", "account=")):
        if field in fields:
            options += f"#SBATCH --{option}{checked(fields[field], field, f'Invalid {field}')}\n"
    return _SCRIPT.format(name=name, time=time, options=options, command=command)
