"""Who else has a file open: the kernel tells a file system of each close, not which is the last."""

from __future__ import annotations

import os
from contextlib import suppress


def has_writers(path: str) -> bool:
    """Tell whether a process of ours has the local *path* open for writing.

    A descriptor that is being closed is no longer there when the kernel tells of its close.
    """
    for pid in os.listdir("/proc"):
        if pid.isdigit():
            with suppress(OSError):
                if any(_writes(pid, fd, path) for fd in os.listdir(f"/proc/{pid}/fd")):
                    return True
    return False


def _writes(pid: str, fd: str, path: str) -> bool:
    try:
        # Not stat(2): that would ask us.
        if os.readlink(f"/proc/{pid}/fd/{fd}") != path:
            return False
        with open(f"/proc/{pid}/fdinfo/{fd}") as file:
            rows = dict(line.split(":", 1) for line in file.read().splitlines() if ":" in line)
    except OSError:
        return False
    return int(rows.get("flags", "0").strip() or "0", 8) & os.O_ACCMODE != os.O_RDONLY
