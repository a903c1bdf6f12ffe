"""What the server doesn't tell of jobs that we have submitted, or doesn't tell yet.

For some seconds Slurm's accounting may have nothing of a new job but its first step. Its record is
called `allocation` then, and has neither partition nor directory; v2 says PENDING beside a step
that runs, and the group `root`. v1 shows the same name.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from ..paths import name_of
from .decode import pick
from .jobfiles import UNKNOWN, options_of, whole

_REMEMBERED = 1000


class NewJobs:
    """Remembers submissions, the latest thousand of them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _known
        self._known: OrderedDict[tuple[str, str], dict[str, str]] = OrderedDict()

    def remember(self, system: str, job_id: str, job: Mapping[str, Any]) -> None:
        """Keep what the body of a submission says of the job that it became."""
        script = str(job.get("scriptPath") or "")
        keys = ("name", "partition", "workingDirectory", "standardOutput", "standardError")
        known = {key: str(job.get(key) or "") for key in keys}
        known["given name"] = known["name"]
        known["name"] = known["name"] or (name_of(script) if script else "")
        with self._lock:
            self._known[system.lower(), job_id] = known
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)

    def completed(self, system: str, raw: dict[str, Any]) -> dict[str, Any]:
        """Return the record of a job with what is missing, or has no meaning yet, put right.

        What nobody told is empty then, never `allocation`.
        """
        if pick(raw, "name") != "allocation" or pick(raw, "partition"):
            return raw
        known = self._of(system, raw)
        keys = ("name", "partition", "workingDirectory")
        told: dict[str, Any] = {key: known.get(key, "") for key in keys}
        if pick(raw, "tasks") and pick(pick(raw, "status", {}), "state") == "PENDING":
            status = {"state": "RUNNING", "exitCode": None, "interruptSignal": None}
            told |= {"group": "", "status": {**pick(raw, "status", {}), **status}}
        return {**raw, **told}

    def with_whole_paths(self, system: str, raw: dict[str, Any]) -> dict[str, Any]:
        """Return a job's metadata with the paths that the server has cut; None for an unknown one.

        Of jobs that others have submitted they stay as they are.
        """
        known = self._of(system, raw)
        if not known:
            return raw
        options = options_of(str(pick(raw, "script", "") or ""))
        given = {"output": "standardOutput", "error": "standardError", "name": "given name"}
        options |= {name: known[key] for name, key in given.items() if known[key]}
        keys = ("standardOutput", "standardError")
        output, error = (str(pick(raw, key) or "") for key in keys)
        directory = known["workingDirectory"].rstrip("/")
        files = whole((output, error), directory, str(pick(raw, "jobId")), options)
        paths = (None if path in ("", UNKNOWN) else path for path in files)
        return {**raw, **dict(zip(keys, paths, strict=True))}

    def _of(self, system: str, raw: Mapping[str, Any]) -> dict[str, str]:
        with self._lock:
            return self._known.get((system.lower(), str(pick(raw, "jobId", ""))), {})
