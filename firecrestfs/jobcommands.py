"""Jobs through the files of a running mount: what the commands submit, jobs, cancel and wait do."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import mountpoints
from .errors import os_error

_SHELLS = re.compile(r"#!\s*(/usr)?(/local)?/bin/(env\s+)?(ba|da|k|z)?sh\b")
_POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class Place:
    """A `.jobs`: of the directory *directory* of a system, "/" for its root."""

    mountpoint: str
    system: str
    directory: str = "/"

    @property
    def path(self) -> Path:
        """Where it is on this machine."""
        return Path(f"{self.mountpoint}/{self.system}{self.directory.rstrip('/')}/.jobs")


def the_place(system: str, default: str, chdir: str = "", script: str = "") -> Place:
    """Return where a job is to be submitted.

    That is *chdir*, else the current directory where that lies in a mount, else the root of
    *system*, of the system that *script* lies in, of *default*, of the only one there is. Raises
    EINVAL where there is a choice.
    """
    inside = _inside(chdir) or ("" if chdir else _inside(os.getcwd()))
    mountpoint = mountpoints.mount_of(inside) if inside else mountpoints.the_mount()
    found, directory = _within(mountpoint, inside) if inside else ("", "/")
    if system and found != system:
        found, directory = system, "/"
    if chdir and not inside:
        directory = chdir.partition(":")[2] if ":" in chdir else chdir
        found = found or chdir.partition(":")[0] if ":" in chdir else found
        if not directory.startswith("/"):
            raise os_error(errno.EINVAL, chdir, "not a directory of a mount, nor of a cluster")
    if not found and _inside(script):
        found = _within(mountpoint, _inside(script))[0]
    found = found or default or _only_system(mountpoint)
    if found not in systems(mountpoint):
        text = f"no such system; there are: {' '.join(systems(mountpoint))}"
        raise os_error(errno.ENODEV, found, text)
    return Place(mountpoint, found, os.path.normpath(directory))


def systems(mountpoint: str) -> list[str]:
    """Return the systems of a mount."""
    return sorted(name for name in os.listdir(mountpoint) if not name.startswith("."))


def _only_system(mountpoint: str) -> str:
    found = systems(mountpoint)
    if len(found) != 1:
        raise os_error(errno.EINVAL, None, f"which system (--system)? There are: {' '.join(found)}")
    return found[0]


def _inside(path: str) -> str:
    """Return *path* absolute if it lies in a mount of ours, else an empty text."""
    try:
        mountpoints.mount_of(path or "/")
    except OSError:
        return ""
    return mountpoints.resolved(path)


def _within(mountpoint: str, path: str) -> tuple[str, str]:
    """Return system and directory of *path*; what lies in a `.jobs` belongs to its directory."""
    real = os.path.realpath(path)
    name, _, rest = real[len(mountpoint) + 1 :].partition("/")
    return name, f"/{rest}".partition("/.jobs")[0] or "/"


# -- submitting ------------------------------------------------------------------------------------


def build_script(
    script: str, name: str, options: Mapping[str, str | bool], arguments: Sequence[str]
) -> str:
    """Return *script* with sbatch's *options* as directives behind its own: the last one counts.

    Raises EINVAL for arguments, or variables to be exported, of what is no shell script.
    """
    lines = script.splitlines(keepends=True)
    at = next(
        (i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), len(lines)
    )
    given = {key: value for key, value in options.items() if value and key != "export"}
    if "job-name" not in given and not re.search(r"^#SBATCH.*\s(-J|--job-name)", script, re.M):
        given["job-name"] = name
    added = [
        f"#SBATCH --{key}\n" if value is True else f"#SBATCH --{key}={_quoted(str(value))}\n"
        for key, value in given.items()
    ]
    commands = [f"export {each}\n" for each in _variables(str(options.get("export") or ""))]
    if arguments:
        commands.append(f"set -- {shlex.join(arguments)}\n")
    if commands and not _SHELLS.match(script):
        text = "arguments and variables can be given to shell scripts only"
        raise os_error(errno.EINVAL, name, text)
    if at and not lines[at - 1].endswith("\n"):
        lines[at - 1] += "\n"
    return "".join([*lines[:at], *added, *commands, *lines[at:]])


def _variables(export: str) -> list[str]:
    """Return what `--export=ALL,A=1,B=2` adds, as a shell takes it."""
    found = []
    for part in filter(None, export.split(",")):
        name, equals, value = part.partition("=")
        if equals and re.fullmatch(r"[A-Za-z_]\w*", name):
            found.append(f"{name}={shlex.quote(value)}")
        elif part != "ALL":
            text = f"--export takes ALL and NAME=VALUE, not {part!r}: this machine's don't travel"
            raise os_error(errno.EINVAL, None, text)
    return found


def _quoted(text: str) -> str:
    if re.fullmatch(r"[\w./%:+,=@\[\]-]+", text):
        return text
    if '"' in text or "\\" in text or "\n" in text:
        raise os_error(errno.EINVAL, None, f"an option can't hold quotes or backslashes: {text!r}")
    return f'"{text}"'


def submit(place: Place, name: str, script: bytes, told: Callable[[str], None]) -> Path:
    """Submit *script* and return the directory of its job. Raises why there is none.

    *told* is what the submission waits for, where it waits.
    """
    path = _drop(place, name, script)
    status = ""
    while True:
        job_id = _told(path, "jobid")
        if job_id:
            return place.path / job_id
        error = _told(path, "error")
        if error:
            path.unlink(missing_ok=True)
            raise os_error(errno.EINVAL, name, error)
        now = _told(path, "status")
        if now and now != status:
            status = now
            told(status)
        time.sleep(_POLL_S)


def _drop(place: Place, name: str, script: bytes) -> Path:
    plain = re.sub(r"[^\w.+-]", "_", name.lstrip(".")) or "script"
    for number in itertools.count(1):
        path = place.path / (plain if number == 1 else f"{plain}.{number}")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            continue
        break
    try:
        try:
            os.write(fd, script)
        finally:
            os.close(fd)
    except OSError as exc:
        error = _told(path, "error") or exc.strerror
        path.unlink(missing_ok=True)
        raise os_error(exc.errno or errno.EIO, name, error) from None
    return path


def _told(path: Path, kind: str) -> str:
    try:
        return path.with_name(f"{path.name}.{kind}").read_text().strip()
    except FileNotFoundError:
        return ""


# -- jobs that are there ---------------------------------------------------------------------------


def queue(place: Place, *, active: bool) -> str:
    """Return the queue of a system as a table, of *active* jobs alone or of all."""
    head, *rows = (place.path / "queue").read_text().splitlines()
    if active:
        ids = set(os.listdir(place.path / "active"))
        rows = [row for row in rows if row.split()[0] in ids]
    return "\n".join([head, *rows])


def job_directory(target: str, system: str, default: str) -> Path:
    """Return the directory of the job *target*: an id, SYSTEM:ID, or a path in a `.jobs`.

    A script in there stands for its job; one that is no job yet is returned itself.
    """
    if "/" in target:
        path = Path(target)
        job_id = _told(path, "jobid")
        return path.with_name(job_id) if job_id else path
    name, colon, job_id = target.rpartition(":")
    return the_place(name if colon else system, default).path / job_id


def cancel(job: Path) -> None:
    """Cancel a job, or take back a script that is none yet. Raises ENOENT for no such thing."""
    control = job / "ctl" if job.is_dir() else job.with_name(f"{job.name}.ctl")
    if not control.exists():
        raise os_error(errno.ENOENT, job.name, "no such job")
    with open(control, "wb", buffering=0) as file:
        file.write(b"cancel\n")


def wait(job: Path) -> tuple[str, int]:
    """Return state and exit code of a job once it has ended."""
    try:
        state, code = (job / "wait").read_text().split()
    except (FileNotFoundError, NotADirectoryError):
        raise os_error(errno.ENOENT, job.name, "no such job") from None
    return state, int(code)
