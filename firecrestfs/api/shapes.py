"""The tutorial's shapes of v2's answers: dictionaries with the keys that users' scripts know."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from ..model import Job
from .decode import pick, system_of
from .faults import refusal

_ENTRY = {"linkTarget": "link_target", "lastModified": "last_modified"}
NODE = {
    "name": "NodeName",
    "features": "ActiveFeatures",
    "partitions": "Partitions",
    "state": "State",
}
PARTITION = {
    "name": "PartitionName",
    "partition": "State",
    "cpus": "TotalCPUs",
    "totalNodes": "TotalNodes",
}
RESERVATION = {
    "name": "ReservationName",
    "state": "State",
    "nodeList": "Nodes",
    "startTime": "StartTime",
    "endTime": "EndTime",
    "features": "Features",
}


def renamed(raw: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Return *raw* with the keys that *names* lists renamed."""
    return {names.get(key, key): value for key, value in raw.items()}


def entry(raw: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of a listing."""
    entry = renamed(raw, _ENTRY)
    entry["link_target"] = entry.get("link_target") or ""
    entry.pop("exactName", None)
    entry.pop("epoch", None)
    return entry


def only(
    found: list[dict[str, Any]], key: str, wanted: Iterable[str] | None
) -> list[dict[str, Any]]:
    """Return those of *found* whose *key* is among *wanted*; all for None."""
    names = None if wanted is None else set(wanted)
    return [raw for raw in found if names is None or raw.get(key) in names]


def system(raw: dict[str, Any]) -> dict[str, Any]:
    """Return an element of `all_systems`, the server's own fields included."""
    problem = system_of(raw).problem
    status = "not available" if problem else "available"
    return {
        **raw,
        "system": str(raw.get("name", "")),
        "status": status,
        "description": problem or "System ready",
    }


def services(systems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the elements of `all_services`: each kind of health check, over all *systems*."""
    found: dict[str, dict[str, Any]] = {}
    for raw in systems:
        for item in pick(raw, "servicesHealth", []) or []:
            name, healthy = str(pick(item, "serviceType", "")), pick(item, "healthy") is not False
            known = found.setdefault(name, _service(name, "available", "service ready"))
            if not healthy:
                known |= _service(name, "not available", str(pick(item, "message", "")))
    return list(found.values())


def _service(name: str, status: str, description: str) -> dict[str, Any]:
    code = 200 if status == "available" else 503
    return {"service": name, "status": status, "status_code": code, "description": description}


def disks(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the file systems of a system, each with whether it is `sick`."""
    sick = {
        pick(item, "path")
        for item in pick(raw, "servicesHealth", [])
        if pick(item, "serviceType") == "filesystem" and pick(item, "healthy") is False
    }
    return [{**disk, "sick": pick(disk, "path") in sick} for disk in pick(raw, "fileSystems", [])]


def disk(raw: dict[str, Any]) -> dict[str, Any]:
    """Return an element of `filesystems`."""
    kind = str(pick(raw, "dataType", ""))
    return {
        "name": pick(raw, "name") or kind.upper(),
        "path": pick(raw, "path", ""),
        "status": "not available" if raw["sick"] else "available",
        "description": pick(raw, "description") or f"{kind} filesystem".strip(),
    }


def mounted(raw: dict[str, Any]) -> list[str]:
    """Return the paths of a system's file systems."""
    return [str(pick(disk, "path", "")) for disk in pick(raw, "fileSystems", [])]


def max_ops(raw: dict[str, Any]) -> int:
    """Return the most bytes that one request may carry."""
    return system_of(raw).limits.upload


def submitted(
    system_name: str, job_id: str, metadata: dict[str, Any], job_file: str = ""
) -> dict[str, Any]:
    """Return the result of a submission; *metadata* is empty while the scheduler knows none.

    *job_file* is the script's path on the cluster; v2 keeps none of a script that was sent.
    """
    told = "Job info returned successfully" if metadata else "Not available"
    return {
        "jobid": job_id,
        "job_data_err": "",
        "job_data_out": "",
        "job_file": job_file,
        "result": "Job submitted",
        "system": system_name,
        "job_file_out": pick(metadata, "standardOutput", "Not available"),
        "job_file_err": pick(metadata, "standardError", "Not available"),
        "job_info_extra": told,
    }


def accounted(job: Job) -> dict[str, str]:
    """Return an element of `poll`: everything is text, times as the scheduler writes them."""
    return {
        "jobid": job.job_id,
        "name": job.name,
        "user": job.user,
        "state": job.state,
        "partition": job.partition,
        "nodelist": job.nodes,
        "nodes": str(job.node_count),
        "exit_code": "" if job.exit_code is None else f"{job.exit_code}:0",
        "start_time": _time(job.start),
        "termination_time": _time(job.end),
        "elapsed_time": _duration(job.elapsed),
        "cpu_time": _duration(job.elapsed),
        "time": _duration(job.elapsed),
        "time_left": _duration(None if job.limit is None else job.limit - (job.elapsed or 0)),
    }


def _time(epoch: int | None) -> str:
    return "Unknown" if epoch is None else datetime.fromtimestamp(epoch).isoformat()


def _duration(seconds: int | None) -> str:
    if seconds is None:
        return "Unknown"
    days, rest = divmod(max(seconds, 0), 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days}-{clock}" if days else clock


def page(found: list[dict[str, str]], size: int | None, number: int | None) -> list[dict[str, str]]:
    """Return one page of *found*, counted from 0; all of it without a *size*."""
    if not size:
        return found
    start = size * (number or 0)
    return found[start : start + size]


def compression_of(name: str) -> str:
    """Return FirecREST's word for the compression that a file name's ending tells."""
    for endings, word in _ENDINGS:
        if name.lower().endswith(endings):
            return word
    raise refusal(errno.EINVAL, "the name tells no kind of archive that FirecREST unpacks", name)


_ENDINGS = (
    ((".tar.gz", ".tgz", ".gz"), "gzip"),
    ((".tar.bz2", ".tbz2", ".tbz", ".bz2"), "bzip2"),
    ((".tar.xz", ".txz", ".xz"), "xz"),
    ((".tar",), "none"),
)
