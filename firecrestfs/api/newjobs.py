"""What v2 doesn't tell yet of a job that has just started, as its submission told it.

For about a second Slurm's accounting has nothing of such a job but its first step. Its record is
called `allocation` then, says PENDING beside a step that runs, belongs to the group `root`, and
has neither partition nor directory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from .decode import pick
from .names import parent_and_name

_REMEMBERED = 1000


class NewJobs:
    """Remembers submissions, the latest thousand of them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _known
        self._known: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()

    def remember(self, system: str, job_id: str, job: Mapping[str, Any]) -> None:
        """Keep what the body of a submission says of the job that it became."""
        script = str(job.get("scriptPath") or "")
        known = {
            "name": str(job.get("name") or (parent_and_name(script)[1] if script else "")),
            "partition": str(job.get("partition") or ""),
            "workingDirectory": str(job.get("workingDirectory") or ""),
        }
        with self._lock:
            self._known[system.lower(), job_id] = known
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def completed(self, system: str, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the record of a job with what is missing, or has no meaning yet, put right.

        What nobody told is empty then, never `allocation`.
        """
        if pick(raw, "name") != "allocation" or pick(raw, "workingDirectory"):
            return raw
        with self._lock:
            known = self._known.get((system.lower(), str(pick(raw, "jobId", ""))), {})
        told = {key: known.get(key, "") for key in ("name", "partition", "workingDirectory")}
        status = {**pick(raw, "status", {}), "exitCode": None, "interruptSignal": None}
        if pick(raw, "tasks"):
            status["state"] = "RUNNING"
        return {**raw, **told, "group": "", "status": status}
