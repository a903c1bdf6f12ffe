"""What commands are given: paths in a mount or `SYSTEM:/path`, and how they talk to a mount."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import mountpoints
from ..kept import StateDirectory, state_directories

_SERVER_OPTIONS = [
    click.option("--profile", help="Table of config.toml to use (default: [default])."),
    click.option("--url", help="FirecREST's base URL (FIRECREST_URL)."),
]


def with_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give *command* the options that say which server is meant."""
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


def readable(exc: OSError) -> str:
    """Return *exc* as one line."""
    text = exc.strerror or str(exc)
    return f"{exc.filename}: {text}" if exc.filename else text


# -- mounted ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A path inside the mount at `mountpoint`; `inside` begins with the system."""

    mountpoint: str
    inside: str


def places(paths: Sequence[str]) -> list[Place]:
    """Return where *paths* are; without any, the whole of the only mount. Raises `OSError`."""
    return [_place(each) for each in paths] or [Place(mountpoints.the_mount(), "/")]


def _place(path: str) -> Place:
    remote = remote_path(path)
    if remote is not None:
        return Place(mountpoints.the_mount(), remote)
    mountpoint = mountpoints.mount_of(path)
    return Place(mountpoint, mountpoints.resolved(path)[len(mountpoint) :] or "/")


def remote_path(path: str) -> str | None:
    """Return `/SYSTEM/remote/path` for `SYSTEM:/remote/path`, None for any other path."""
    match = re.fullmatch(r"([\w.-]+):(/.*)", path, re.DOTALL)
    if match is None or os.path.lexists(path):
        return None
    return posixpath.normpath(f"/{match[1]}{match[2]}")


def control_file(mountpoint: str, name: str) -> str:
    """Return the path of a control file."""
    return os.path.join(mountpoint, ".firecrestfs", name)


def read_status(mountpoint: str) -> dict[str, Any]:
    """Return what the mount says of itself."""
    found: dict[str, Any] = json.loads(Path(control_file(mountpoint, "status.json")).read_text())
    return found


def tell(mountpoint: str, verb: str, text: str = "") -> dict[str, Any]:
    """Let the mount carry out a command and return its answer. Raises what it refuses with."""
    fd = os.open(control_file(mountpoint, "ctl"), os.O_RDWR)
    try:
        os.write(fd, order(verb, text))
        answer = b""
        while piece := os.pread(fd, 65536, len(answer)):
            answer += piece
    finally:
        os.close(fd)
    found: dict[str, Any] = json.loads(answer)
    return found


def order(verb: str, text: str) -> bytes:
    """Return the line that orders *verb*; a *text* with a line break in it goes as JSON."""
    return os.fsencode(f"{verb} {json.dumps(text) if chr(10) in text else text}\n")


def refresh_at(mountpoint: str, inside: str) -> None:
    """Have the mount forget what it remembers at and below the path *inside* it."""
    with open(control_file(mountpoint, "refresh"), "wb", buffering=0) as file:
        file.write(os.fsencode(inside + "\n"))


# -- not mounted -----------------------------------------------------------------------------------


def is_served(path: str | None) -> bool:
    """Tell whether a running mount answers for *path*; None: whether there is any."""
    if path is None or remote_path(path) is not None:
        inside = mountpoints.here()
        recorded = (mountpoints.read_record(each) for each in mountpoints.ours())
        return bool(inside and _answers(inside)) or any(recorded)
    try:
        return _answers(mountpoints.mount_of(path))
    except OSError:
        return False


def _answers(mountpoint: str) -> bool:
    """Tell whether a process serves *mountpoint*: a demo keeps its records for itself."""
    known = mountpoints.read_record(mountpoint) is not None
    return known or os.path.exists(os.path.join(mountpoint, ".firecrestfs", "status.json"))


def left_by(mountpoint: str | None, state_dir: str | None = None) -> list[StateDirectory]:
    """Return the state directories of mounts at or above *mountpoint* (None: of all)."""
    where = None if mountpoint is None else mountpoints.resolved(mountpoint)
    return [
        each
        for each in state_directories(state_dir)
        if where is None or _contains(each.origin().mountpoint, where)
    ]


def kept_path(directory: StateDirectory, path: str) -> str | None:
    """Return *path* as rows of *directory* have it, None where it isn't of that mount."""
    remote = remote_path(path)
    if remote is not None:
        return remote
    mountpoint = directory.origin().mountpoint
    where = mountpoints.resolved(path)
    return (where[len(mountpoint) :] or "/") if _contains(mountpoint, where) else None


def _contains(mountpoint: str, path: str) -> bool:
    return bool(mountpoint) and (path == mountpoint or path.startswith(f"{mountpoint}/"))
