"""FirecREST v1's answers in v2's shapes: the one map of fields, and what v1 publishes about itself.

Everything above `ServerV1` knows v2's camelCase only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .shapes import NODE, PARTITION, RESERVATION

#: v1's names on the left, v2's on the right.
ENTRY = {"link_target": "linkTarget", "last_modified": "lastModified"}
NODE_V1 = {v1: v2 for v2, v1 in NODE.items()}
PARTITION_V1 = {v1: v2 for v2, v1 in PARTITION.items()}
RESERVATION_V1 = {v1: v2 for v2, v1 in RESERVATION.items()}
METADATA = {"job_file": "script", "job_file_out": "standardOutput", "job_file_err": "standardError"}

#: Bytes of an upload's body that aren't content: the framing, and the directory's path.
FRAMING = 1024 + 4096
_DEFAULT_MB = 5.0
_NEWEST = (1, 16, 6)
#: What a file system's name tells about its purpose, in v2's words.
_DATA_TYPES = {
    "home": "users",
    "homes": "users",
    "users": "users",
    "scratch": "scratch",
    "scratches": "scratch",
    "store": "store",
    "project": "project",
    "projects": "project",
    "archive": "archive",
    "apps": "apps",
}


def renamed(raw: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return *raw* with the keys that *names* lists renamed."""
    return {names.get(key, key): value for key, value in raw.items()}


@dataclass(frozen=True, slots=True)
class Parameters:
    """What `/status/parameters` tells. `max_bytes` is the most that one request may carry.

    `storage` is the kind of object store: empty where the site has none, None where it isn't told.
    """

    version: tuple[int, ...]
    max_bytes: int
    command_seconds: float = 5.0
    storage: str | None = None
    scheduler: str = ""
    mounted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict)


def parameters(out: Any) -> Parameters:
    """Return the parameters; what is missing, or makes no sense, becomes v1's default."""
    sections = out if isinstance(out, dict) else {}
    values = {
        str(item.get("name")): item.get("value")
        for section in sections.values()
        for item in (section if isinstance(section, list) else [])
        if isinstance(item, dict)
    }
    megabytes = _float(values.get("UTILITIES_MAX_FILE_SIZE"), _DEFAULT_MB)
    return Parameters(
        version=_version(values.get("FIRECREST_VERSION"), "general" in sections),
        max_bytes=int(megabytes * 1024 * 1024),
        command_seconds=_float(values.get("UTILITIES_TIMEOUT"), 5.0),
        storage=None if values.get("OBJECT_STORAGE") is None else str(values["OBJECT_STORAGE"]),
        scheduler=str(values.get("WORKLOAD_MANAGER") or "slurm").lower(),
        mounted=_mounted(values.get("FILESYSTEMS")),
        raw=sections,
    )


def _version(text: Any, general: bool) -> tuple[int, ...]:
    """Return the version; sites may leave it empty, and servers before 1.16.1 tell none."""
    numbers = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", str(text or "").strip().lstrip("v"))
    if numbers:
        return tuple(int(number or 0) for number in numbers.groups())
    return _NEWEST if general else (1, 15, 0)


def _float(text: Any, default: float) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return default


def _mounted(value: Any) -> dict[str, tuple[str, ...]]:
    return {
        str(item.get("system")): tuple(str(path) for path in item.get("mounted") or ())
        for item in (value if isinstance(value, list) else [])
        if isinstance(item, dict)
    }


def system(
    name: str, state: Mapping[str, Any], disks: Iterable[Any] | None, known: Parameters
) -> dict[str, Any]:
    """Return one element of v2's `systems`; *disks* is None where the server lists none.

    Where nobody tells what is mounted, the whole tree is the one file system: v1 refuses no path.
    """
    found = [_disk(raw) for raw in disks or () if isinstance(raw, dict) and raw.get("path")]
    if not found:
        found = [_disk({"path": path}) for path in known.mounted.get(name, ()) if path]
    if not found:
        found = [_disk({"path": "/"})]
    return {
        "name": name,
        "fileSystems": found,
        "dataOperation": {
            "maxOpsFileSize": known.max_bytes,
            "framing": FRAMING,
            "dataTransfer": {"serviceType": known.storage or ""},
        },
        "ssh": {"timeout": {"commandExecution": known.command_seconds}},
        "scheduler": {"type": known.scheduler},
        "servicesHealth": [*_ssh_health(state), *(_disk_health(disk) for disk in found)],
    }


def _disk(raw: Mapping[str, Any]) -> dict[str, Any]:
    path = str(raw["path"])
    name = str(raw.get("name") or path.strip("/").rpartition("/")[2])
    return {
        "path": path,
        "name": name.upper(),
        "dataType": _DATA_TYPES.get(name.lower(), name.lower()),
        "description": str(raw.get("description") or ""),
        "healthy": raw.get("status") != "not available",
    }


def _disk_health(disk: Mapping[str, Any]) -> dict[str, Any]:
    message = f"{disk['path']} is not available"
    return {
        "serviceType": "filesystem",
        "path": disk["path"],
        "healthy": disk["healthy"],
        "message": message,
    }


def _ssh_health(state: Mapping[str, Any]) -> list[dict[str, Any]]:
    healthy = state.get("status") != "not available"
    message = str(state.get("description") or "no reason given")
    return [{"serviceType": "ssh", "healthy": healthy, "message": message}]


# -- jobs ------------------------------------------------------------------------------------


def job(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return one job, active or ended, in v2's shape; times stay local text without a zone.

    v1 mixes up two columns of its active jobs (`start_time` holds the elapsed time and `time` the
    start), so the form of a value decides what it is.
    """
    nodes = str(raw.get("nodelist") or "")
    reason = nodes.strip("()") if nodes.startswith("(") else ""
    both = (raw.get("start_time"), raw.get("time"))
    elapsed = seconds(raw.get("elapsed_time"))
    if elapsed is None and "exit_code" not in raw:
        elapsed = next((found for text in both if (found := seconds(text)) is not None), None)
    left = seconds(raw.get("time_left"))
    return {
        "jobId": str(raw.get("jobid") or ""),
        "name": str(raw.get("name") or ""),
        "status": {
            "state": str(raw.get("state") or ""),
            "stateReason": reason or None,
            "exitCode": _exit_code(raw.get("exit_code")),
        },
        "time": {
            "elapsed": elapsed,
            "start": next((text for text in both if _is_time(text)), None),
            "end": raw.get("termination_time") if _is_time(raw.get("termination_time")) else None,
            "limit": None if left is None or elapsed is None else elapsed + left,
        },
        "user": str(raw.get("user") or ""),
        "partition": str(raw.get("partition") or ""),
        "nodes": "" if reason or nodes == "None assigned" else nodes,
        "allocationNodes": str(raw.get("nodes") or "0"),
    }


_DURATION = re.compile(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d+)(?:\.\d+)?")


def seconds(text: Any) -> int | None:
    """Return a duration of Slurm's (`1-02:03:04`, `6:38`), or None for anything else."""
    match = _DURATION.fullmatch(str(text or ""))
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def _is_time(text: Any) -> bool:
    return bool(re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+", str(text or "")))


def _exit_code(text: Any) -> int | None:
    match = re.match(r"\d+", str(text or ""))
    return int(match[0]) if match else None
