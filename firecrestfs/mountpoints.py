"""Mountpoints of this machine: which are ours, which are fit, which are stale.

Nothing in here touches a mount that may hang: facts come from `/proc/self/mountinfo` and from
records that each mount keeps in the state directory.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from .config import state_home
from .errors import os_error

FUSE_TYPE = "fuse.firecrestfs"


@dataclass(frozen=True, slots=True)
class MountRecord:
    """One running mount, as it wrote it down itself."""

    mountpoint: str
    pid: int
    url: str
    state_dir: str
    log: str


def mounted_types() -> dict[str, str]:
    """Return the file system type of each mountpoint (the topmost, where several are stacked)."""
    return {path: kind for path, kind, _ in _mounts()}


def _mounts() -> Iterator[tuple[str, str, str]]:
    """Yield mountpoint, type and options of each mount."""
    # Only a newline ends a line: names may hold whatever else splitlines() splits at.
    text = Path("/proc/self/mountinfo").read_bytes().decode("utf-8", "surrogateescape")
    for line in text.split("\n"):
        before, separator, after = line.partition(" - ")
        if separator:
            kind, _, options = (after + "  ").split(" ")[:3]
            yield _unescaped(before.split(" ")[4]), kind, options


def resolved(path: str) -> str:
    """Return *path* absolute, links above mounts of ours followed; no mount of ours is touched."""
    absolute = os.path.abspath(path)
    for mountpoint in sorted(ours(), key=len, reverse=True):
        if absolute == mountpoint or absolute.startswith(mountpoint + "/"):
            return absolute
    parent, name = os.path.split(absolute)
    while parent != "/" and not os.path.isdir(parent):
        parent, above = os.path.split(parent)
        name = os.path.join(above, name)
    return os.path.normpath(os.path.join(os.path.realpath(parent), name))


def ours() -> list[str]:
    """Return the mountpoints of this user's mounts."""
    user = f"user_id={os.getuid()}"
    topmost = {path: (kind, options.split(",")) for path, kind, options in _mounts()}
    return sorted(
        path for path, (kind, options) in topmost.items() if kind == FUSE_TYPE and user in options
    )


def mount_of(path: str) -> str:
    """Return the mountpoint of ours that *path* lies in. Raises `OSError` where there is none."""
    absolute = resolved(path)
    for mountpoint in sorted(ours(), key=len, reverse=True):
        if absolute == mountpoint or absolute.startswith(mountpoint + "/"):
            return mountpoint
    raise os_error(errno.EINVAL, path, "not in a mount of firecrestfs")


def here() -> str:
    """Return the mountpoint of ours that the current directory is in, empty where it is in none."""
    try:
        return mount_of(os.getcwd())
    except OSError:
        return ""


def the_mount() -> str:
    """Return the mountpoint of ours that we are in, else the only one.

    Raises `OSError` where there is none, or a choice.
    """
    if inside := here():
        return inside
    found = ours()
    recorded = [each for each in found if _record_path(each).exists()]
    if len(recorded) == 1 or len(found) == 1:
        return (recorded or found)[0]
    if not found:
        raise os_error(errno.EINVAL, None, "nothing is mounted; see firecrestfs mount --help")
    raise os_error(errno.EINVAL, None, f"which mount? There are: {', '.join(found)}")


def require_fuse() -> None:
    """Raise ENODEV, with the remedy, where the kernel offers no FUSE."""
    if not os.path.exists("/dev/fuse"):
        raise os_error(
            errno.ENODEV,
            "/dev/fuse",
            "this machine has no FUSE: load the kernel module (modprobe fuse); in a container, "
            "start it with --device /dev/fuse --cap-add SYS_ADMIN",
        )
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise os_error(errno.EACCES, "/dev/fuse", "you may not use it: ask to join its group")


def require_fit(mountpoint: str) -> None:
    """Raise `OSError`, with the remedy, unless *mountpoint* is an empty directory of its own.

    A stale mount of ours ("Transport endpoint is not connected") is taken away first.
    """
    mountpoint = resolved(mountpoint)
    heal(mountpoint)
    try:
        names = os.listdir(mountpoint)
    except FileNotFoundError:
        raise os_error(
            errno.ENOENT, mountpoint, f"the mountpoint doesn't exist: mkdir -p {mountpoint}"
        ) from None
    except NotADirectoryError:
        raise os_error(errno.ENOTDIR, mountpoint, "the mountpoint is not a directory") from None
    if mountpoint in mounted_types():
        kind = mounted_types()[mountpoint]
        remedy = "firecrestfs umount it first" if kind == FUSE_TYPE else "choose another directory"
        raise os_error(errno.EBUSY, mountpoint, f"already mounted ({kind}): {remedy}")
    if names:
        raise os_error(
            errno.ENOTEMPTY, mountpoint, "the mountpoint is not empty: choose an empty directory"
        )


def heal(mountpoint: str) -> bool:
    """Unmount *mountpoint* if it is a mount of ours whose process is gone; return whether."""
    if mounted_types().get(mountpoint) != FUSE_TYPE:
        return False
    try:
        os.stat(mountpoint)
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            unmount(mountpoint, lazy=True)
            return True
    return False


def unmount(mountpoint: str, *, lazy: bool = False) -> None:
    """Take the mount away. Raises EBUSY, with the words of the tool, where it can't be."""
    tool = shutil.which("fusermount3") or shutil.which("fusermount")
    command = [tool, "-uz" if lazy else "-u"] if tool else ["umount", *(["-l"] if lazy else [])]
    done = subprocess.run(
        [*command, "--", mountpoint], capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode != 0 and mountpoint in mounted_types():
        raise os_error(errno.EBUSY, mountpoint, done.stderr.strip() or "can't be unmounted")


# -- records ---------------------------------------------------------------------------------------


def write_record(record: MountRecord) -> None:
    """Write down that *record* is running."""
    path = _record_path(record.mountpoint)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(json.dumps(asdict(record) | {"started": _started(record.pid)}))


def read_record(mountpoint: str) -> MountRecord | None:
    """Return the record of the mount at *mountpoint*, if its process is alive.

    Records outlive their processes where those are killed, and the machine: another process may
    have that id by now.
    """
    try:
        found = json.loads(_record_path(mountpoint).read_text())
        started = found.pop("started", "")
        record = MountRecord(**found)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    same = started in ("", _started(record.pid))
    return record if same and is_alive(record.pid) else None


def remove_record(mountpoint: str) -> None:
    """Forget the record of *mountpoint*."""
    _record_path(mountpoint).unlink(missing_ok=True)


def is_alive(pid: int) -> bool:
    """Tell whether the process *pid* runs (a zombie doesn't)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _started(pid: int) -> str:
    """Return when the process *pid* started, as nothing but it has; empty where there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def _record_path(mountpoint: str) -> Path:
    name = hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()
    return state_home() / "mounts" / f"{name}.json"


def _unescaped(field: str) -> str:
    """Return a path of mountinfo with its octal escapes undone."""
    if "\\" not in field:
        return field
    raw = field.encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
    return raw.decode("utf-8", "surrogateescape")
