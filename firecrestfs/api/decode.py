"""The server's JSON as values of `model`. Pure functions; they never fail on odd optional fields.

What is missing becomes the field's default; what is malformed in a listing drops that one entry.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from ..model import Attr, Job, Kind, Limits, RemoteRoot, Source, System, UserInfo
from .names import candidates

_DEFAULT_LIMIT = 5 * 1024 * 1024
_NS = 1_000_000_000


def pick(found: Any, name: str, default: Any = None) -> Any:
    """Return the value of camelCase key *name* in either spelling, or *default*.

    2.x answers mix camelCase and snake_case, and did so differently in each version.
    """
    if not isinstance(found, Mapping):
        return default
    value = found.get(name)
    if value is None:
        value = found.get(_snake(name))
    return default if value is None else value


@lru_cache
def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


# -- systems and users -----------------------------------------------------------------------


def limits_of(max_ops: int, framing: int = 0) -> Limits:
    """Return what direct requests may carry where `max_ops_file_size` is *max_ops* bytes.

    Downloads travel as base64, which must stay below the limit; views read two blocks. *framing*:
    the bytes of an upload that aren't content count, too, and so many may be needed (v1, where a
    view is a part of a download).
    """
    download = 3 * ((max_ops - 1) // 4)
    if framing:
        return Limits(max_ops - min(framing, max_ops // 2), download, download)
    return Limits(max_ops, download, (max_ops - 1) // 2)


def system_of(raw: dict[str, Any]) -> System:
    """Return one element of `/status/systems`."""
    operation = pick(raw, "dataOperation", {})
    directives = pick(operation, "datatransferJobsDirectives") or pick(
        raw, "datatransferJobsDirectives", []
    )
    lines = tuple(str(line) for line in directives)
    # Servers before 2.5 don't tell, and know S3 only.
    method = pick(pick(operation, "dataTransfer"), "serviceType", "" if operation else "s3")
    timeout = pick(pick(pick(raw, "ssh"), "timeout"), "commandExecution", 5)
    return System(
        name=str(raw.get("name", "")),
        roots=tuple(_root(item) for item in pick(raw, "fileSystems", []) if pick(item, "path")),
        limits=limits_of(
            number(pick(operation, "maxOpsFileSize"), _DEFAULT_LIMIT),
            number(pick(operation, "framing"), 0),
        ),
        command_seconds=float(number(timeout, 5)),
        scheduler=str(pick(pick(raw, "scheduler"), "type", "")),
        transfer_method=str(method),
        needs_account=any("{account}" in line for line in lines),
        directives=lines,
        problem=_problem(pick(raw, "servicesHealth", [])),
    )


def _root(raw: dict[str, Any]) -> RemoteRoot:
    path = "/" + "/".join(part for part in str(pick(raw, "path")).split("/") if part)
    return RemoteRoot(path, str(pick(raw, "dataType", "")), bool(pick(raw, "defaultWorkDir")))


def _problem(health: list[dict[str, Any]]) -> str:
    """Return why nothing works on the system, or "" where something still may."""
    sick = [item for item in health if pick(item, "healthy") is False]
    for item in sick:
        if pick(item, "serviceType") == "ssh":
            return f"login to the system fails: {pick(item, 'message', 'no reason given')}"
    disks = [item for item in health if pick(item, "serviceType") == "filesystem"]
    if disks and all(item in sick for item in disks):
        return f"its file systems don't answer: {pick(disks[0], 'message', 'no reason given')}"
    return ""


def user_of(raw: dict[str, Any]) -> UserInfo:
    """Return the answer of `userinfo`; the default account comes first."""
    user, group = pick(raw, "user", {}), pick(raw, "group", {})
    groups = {
        number(pick(item, "id"), -1): str(pick(item, "name", ""))
        for item in [group, *pick(raw, "groups", [])]
        if number(pick(item, "id"), -1) >= 0
    }
    accounts = sorted(pick(raw, "accounts", []), key=lambda item: not pick(item, "default", False))
    return UserInfo(
        name=str(pick(user, "name", "")),
        uid=number(pick(user, "id"), -1),
        gid=number(pick(group, "id"), -1),
        groups=groups,
        accounts=tuple(str(pick(item, "name", "")) for item in accounts),
    )


def number(value: Any, default: int) -> int:
    """Return *value* as an integer; servers send numbers as strings in places."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return default


# -- files -----------------------------------------------------------------------------------

_MODE = re.compile(r"([r-])([w-])([xsS-])([r-])([w-])([xsS-])([r-])([w-])([xtT-])(.?)")


def mode_of(permissions: str) -> tuple[int, bool] | None:
    """Return the twelve permission bits of `ls`'s column, and whether an ACL adds to them.

    None where the text is no such column. A `.` in the tenth place is SELinux, no ACL.
    """
    match = _MODE.fullmatch(permissions)
    if match is None:
        return None
    mode = 0
    for place, letter in enumerate(match.groups()[:9]):
        if letter in "rwxst":
            mode |= 0o400 >> place
        if letter in "sStT":
            mode |= 0o4000 >> place // 3
    return mode, match[10] in ("+", "@")


def listed_attr(raw: dict[str, Any], mtime_ns: int) -> Attr | None:
    """Return one entry of a listing with numeric ids, or None where it makes no sense."""
    permissions = mode_of(str(raw.get("permissions", "")))
    size = number(raw.get("size"), -1)
    try:
        kind = Kind(raw.get("type"))
    except ValueError:
        return None
    if permissions is None or size < 0:
        return None
    owner, group = str(raw.get("user") or ""), str(raw.get("group") or "")
    target = pick(raw, "linkTarget")
    return Attr(
        kind=kind,
        mode=permissions[0],
        size=size,
        mtime_ns=mtime_ns,
        uid=number(owner, -1),
        gid=number(group, -1),
        owner=owner,
        group=group,
        target=target_of(str(target), size) if kind is Kind.SYMLINK and target else None,
        acl=permissions[1],
        source=Source.LS,
        listed=str(pick(raw, "lastModified", "")),
    )


def target_of(listed: str, size: int) -> str:
    """Return the text of a link: a link's size is the length of its text, which settles doubts."""
    names = (*candidates(listed), listed)
    fitting = [name for name in names if len(name.encode("utf-8", "surrogateescape")) == size]
    return (fitting or names)[0]


def stat_attr(raw: dict[str, Any]) -> Attr:
    """Return the answer of `stat`. Raises `ValueError` where it isn't one."""
    try:
        mode = int(raw["mode"])
        uid, gid = int(raw["uid"]), int(raw["gid"])
        return Attr(
            kind=Kind.of_mode(mode),
            mode=mode & 0o7777,
            size=int(raw["size"]),
            mtime_ns=int(raw["mtime"]) * _NS,
            uid=uid,
            gid=gid,
            owner=str(uid),
            group=str(gid),
            nlink=number(raw.get("nlink"), 1),
            ino=number(raw.get("ino"), 0),
            dev=number(raw.get("dev"), 0),
            atime_ns=number(raw.get("atime"), 0) * _NS,
            ctime_ns=number(raw.get("ctime"), 0) * _NS,
            source=Source.STAT,
        )
    except (KeyError, TypeError) as exc:
        raise ValueError(f"not a stat: {exc}") from None


# -- jobs ------------------------------------------------------------------------------------

#: PBS has letters for states; `F` is decided by the exit code.
_PBS = {
    "Q": "PENDING",
    "H": "PENDING",
    "W": "PENDING",
    "T": "PENDING",
    "R": "RUNNING",
    "S": "SUSPENDED",
    "E": "COMPLETING",
    "X": "COMPLETED",
}


def _local_epoch(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def job_of(raw: dict[str, Any], to_epoch: Callable[[str], int] = _local_epoch) -> Job:
    """Return one element of a job list, of Slurm or PBS, of any server.

    *to_epoch* reads times that come as local text; it may raise `ValueError`.
    """
    status, time = pick(raw, "status", {}), pick(raw, "time", {})
    code = pick(status, "exitCode")
    state = _state(pick(status, "state") or pick(raw, "state", ""), number(code, 0))
    nodes = str(pick(raw, "nodes", ""))
    job = Job(
        job_id=str(pick(raw, "jobId", "")),
        name=str(pick(raw, "name", "")),
        state=state,
        user=str(pick(raw, "user", "")),
        partition=str(pick(raw, "partition", "")),
        nodes="" if nodes == "None assigned" else nodes,
        node_count=number(pick(raw, "allocationNodes"), 0),
        working_directory=str(pick(raw, "workingDirectory", "")),
        reason=_reason(pick(status, "stateReason")),
        start=_instant(pick(time, "start"), to_epoch),
        end=_instant(pick(time, "end"), to_epoch),
        elapsed=_optional(pick(time, "elapsed")),
        limit=_optional(pick(time, "limit")),
    )
    if not job.ended:
        return job
    return dataclasses.replace(job, exit_code=_optional(code))


def _state(raw: Any, code: int) -> str:
    """Return one upper-case word: `CANCELLED`, not `CANCELLED by 1001` or `CANCELLED+`."""
    if isinstance(raw, list):
        raw = raw[0] if raw else ""
    if isinstance(raw, dict):
        return _state(raw.get("current", ""), code)
    words = str(raw).upper().split()
    word = words[0].rstrip("+") if words else "UNKNOWN"
    if word == "F":
        return "FAILED" if code else "COMPLETED"
    return _PBS.get(word, word)


def _reason(raw: Any) -> str:
    return "" if raw in (None, "None") else str(raw)


def _instant(raw: Any, to_epoch: Callable[[str], int]) -> int | None:
    if not isinstance(raw, str) or "T" not in raw:
        return _optional(raw)
    try:
        return to_epoch(raw)
    except (ValueError, OverflowError, OSError):
        return None


def _optional(raw: Any) -> int | None:
    value = number(raw, -1)
    return value if value >= 0 else None
