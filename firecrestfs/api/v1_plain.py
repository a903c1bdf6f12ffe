"""What the tutorial's client shows of FirecREST v1: the server's own shapes, as they come.

The mount needs one shape for all versions, which `ServerV1` gives it; scripts that were written
for v1 look for v1's fields.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .fault_v1 import fault_v1
from .faults import refusal
from .session import Request
from .v1_http import fit, fit_path, value_of
from .v1_jobs import JobsV1

_JOB_FIELDS = {
    "job_name": "jobName",
    "time": "time",
    "stage_out_job_id": "stageOutJobId",
    "account": "account",
}
#: Staging pastes the path into a command without quotes.
_UNSTAGEABLE = re.compile(r"\s|[,$]|\{.*\}")


class PlainV1(JobsV1):
    """Answers that nothing has been done to."""

    # -- status -------------------------------------------------------------------------------

    def plain_services(self) -> list[dict[str, Any]]:
        """`GET /status/services`."""
        return _dicts(self._status("/status/services", fresh=True))

    def plain_service(self, name: str) -> dict[str, Any]:
        """`GET /status/services/{name}`: the whole answer."""
        return self._page(f"/status/services/{_word(name)}")

    def plain_systems(self) -> list[dict[str, Any]]:
        """`GET /status/systems`."""
        return _dicts(self._status("/status/systems", fresh=True))

    def plain_system(self, name: str) -> dict[str, Any]:
        """`GET /status/systems/{name}`."""
        found = self._status(f"/status/systems/{_word(name)}", fresh=True)
        return found if isinstance(found, dict) else {}

    def plain_filesystems(self, name: str | None) -> dict[str, list[dict[str, Any]]]:
        """`GET /status/filesystems`, of all systems or one. Refused by servers before 1.15."""
        if name is not None:
            return {name: _dicts(self._status(f"/status/filesystems/{_word(name)}", fresh=True))}
        found = self._status("/status/filesystems", fresh=True)
        return {str(key): _dicts(value) for key, value in found.items()}

    def _page(self, endpoint: str) -> dict[str, Any]:
        request = Request(
            "GET", endpoint, endpoint, idempotent=True, mutating=False, faults=fault_v1
        )
        found = self._session.request(request).json()
        return found if isinstance(found, dict) else {}

    # -- jobs ---------------------------------------------------------------------------------

    def plain_submit(
        self, system: str, script: bytes, name: str, job: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`POST /compute/jobs/upload`: run *script* in a directory that the server makes."""
        safe = re.sub(r"[^\w.-]", "_", name, flags=re.ASCII) or "script.sh"
        return self._submit_text(system, script, self._fields(job), safe)

    def plain_acct(self, system: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """`GET /compute/acct`: jobs as accounting shows them."""
        return _dicts(self._told("/compute/acct", system, query))

    def plain_queue(self, system: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """`GET /compute/jobs`: jobs as the queue shows them."""
        return _dicts(self._told("/compute/jobs", system, query))

    def plain_cancel(self, system: str, job_id: str) -> str:
        """`DELETE /compute/jobs/{id}`: return scancel's words."""
        return str(self._cancelled(system, job_id) or "")

    def plain_described(
        self, system: str, what: str, names: Iterable[str] | None
    ) -> list[dict[str, Any]]:
        """`GET /compute/{what}`: nodes, partitions or reservations, all or those named."""
        query = {what: fit(",".join(names), "a name")} if names else {}
        return _dicts(self._told(f"/compute/{what}", system, query))

    def _told(self, endpoint: str, system: str, query: Mapping[str, str]) -> Any:
        return self._outcome(self._ask(endpoint, system, query), mutating=False)

    def advance_reservations(self, system: str) -> list[dict[str, Any]]:
        """`GET /reservations`: a service that most sites don't have. Raises ENOSYS there."""
        return _dicts(value_of(self._ask("/reservations", system, {}), "success"))

    def change_reservation(
        self, method: str, system: str, name: str, fields: Mapping[str, str]
    ) -> None:
        """`POST /reservations`, or PUT or DELETE of one. Raises ENOSYS where there is no service.

        *fields*: `account`, `numberOfNodes`, `nodeType`, `starttime`, `endtime`.
        """
        template, endpoint, form = (
            "/reservations/{name}",
            f"/reservations/{_word(name)}",
            dict(fields),
        )
        if method == "POST":
            template = endpoint = "/reservations"
            form["reservation"] = name
        form = {key: fit(value, key) for key, value in form.items()}
        self._change(method, template, system, form, endpoint=endpoint)

    def plain_transfer(
        self, system: str, operation: str, paths: Mapping[str, str], **options: str | None
    ) -> dict[str, Any]:
        """`POST /storage/xfer-internal/{operation}`: returns the job and its `system`."""
        form = {key: fit_path(path) for key, path in paths.items()}
        for key, value in options.items():
            if value:
                form[_JOB_FIELDS.get(key, key)] = fit(str(value), key)
        template = f"/storage/xfer-internal/{operation}"
        answer = self._change("POST", template, system, form, path=form["targetPath"])
        (task,) = self._outcomes([answer])
        data = self._settled(task, mutating=True)
        return {**(data if isinstance(data, dict) else {}), "system": task.get("system", system)}

    # -- files --------------------------------------------------------------------------------

    def copy(self, system: str, source: str, target: str) -> None:
        """`POST /utilities/copy`: *into* *target* where that is a directory; at most 5 s."""
        form = {"sourcePath": fit_path(source), "targetPath": fit_path(target)}
        self._change("POST", "/utilities/copy", system, form, path=form["sourcePath"])

    # -- the staging area ---------------------------------------------------------------------

    def stage_out(self, system: str, path: str) -> str:
        """`POST /storage/xfer-external/download`: return the task's id.

        Raises EINVAL for a path that the cluster's shell, or curl, would take for another.
        """
        clean = fit_path(path)
        found = _UNSTAGEABLE.search(clean)
        if found is not None:
            text = f"FirecREST v1 can't stage a path with {found[0]!r} in it: link to it"
            raise refusal(errno.EINVAL, text, path)
        template = "/storage/xfer-external/download"
        answer = self._change("POST", template, system, {"sourcePath": clean}, path=clean)
        return str(value_of(answer, "task_id"))

    def stage_in(self, system: str, target: str, source: str) -> str:
        """`POST /storage/xfer-external/upload`: return the task's id.

        *target* is the file; of *source* only the last component matters, besides that the command
        for a terminal shows it.
        """
        clean = fit_path(target)
        form = {"targetPath": clean, "sourcePath": fit(source, "the local name")}
        template = "/storage/xfer-external/upload"
        return str(value_of(self._change("POST", template, system, form, path=clean), "task_id"))

    def task(self, task_id: str) -> dict[str, Any]:
        """`GET /tasks/{id}`: holds presigned links: don't show it. EIO where it's lost."""
        return self._task(task_id)

    def invalidate(self, task_id: str) -> None:
        """`POST /storage/xfer-external/invalidate`: forget a staged object."""
        template = "/storage/xfer-external/invalidate"
        headers = {"X-Task-Id": task_id}
        request = Request("POST", template, template, headers=headers, faults=fault_v1)
        self._session.request(request)


def _dicts(found: Any) -> list[dict[str, Any]]:
    """Return the objects of a list, or of an object of numbered entries."""
    items = found.values() if isinstance(found, dict) else found or ()
    return [item for item in items if isinstance(item, dict)]


def _word(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise refusal(errno.ENODEV, f"nothing can have this name: {name!r}", kind="system")
    return name


def paged(size: int | None, number: int | None) -> dict[str, str]:
    """Return the query for one page; v1 counts from 0 and gives 25 entries by default."""
    found = {"pageSize": str(size)} if size is not None else {}
    return found | ({"pageNumber": str(number)} if number is not None else {})
