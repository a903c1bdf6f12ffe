"""Runs one batch job so that it sees the cluster's paths. Not a module but a program.

Reads a JSON object (`Spec`) from stdin, writes one JSON object about the end to stdout. In between:

    this process    mount and PID namespaces of its own; a new root on tmpfs with the host's
    directories,
                    except those that the cluster's file systems cover; then it waits
     └ init         PID 1 in there: takes the user's uid, reaps, and takes everything with it when
     it ends
        └ script    the job

Each of them dies with its parent, so nothing outlives the server, however that ends.
It is run by path with the standard library alone, hence imports nothing of the package.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any, NoReturn

_libc = ctypes.CDLL(None, use_errno=True)

_NEWNS, _NEWUTS, _NEWUSER, _NEWPID = 0x20000, 0x4000000, 0x10000000, 0x20000000
_MS_RDONLY, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_UNBINDABLE = 1, 4096, 16384, 1 << 18, 1 << 17
_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_MOUNT_SETATTR = 442
_AT_RECURSIVE = 0x8000

_SPOOL = "/slurmd"  # in the new root only
#: A stand-in for the launcher that job scripts call: drops the options, runs the command here.
_SRUN = """#!/bin/sh
while :; do
    case "$1" in
        -[nNctpAJGwmdq]) shift 2 ;;
        -*) shift ;;
        *) exec "$@" ;;
    esac
done
"""
#: How the scheduler reports that a job's files could not be opened.
OPEN_FAILED = 53


class SetupError(Exception):
    """The machine does not allow what is needed."""


def _check(result: int, what: str) -> None:
    if result != 0:
        raise SetupError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(source: str, target: str, kind: str | None, flags: int) -> None:
    encoded = kind.encode() if kind else None
    result = _libc.mount(os.fsencode(source), os.fsencode(target), encoded, flags, None)
    _check(result, f"mount {source} on {target}")


def _unshare(flags: int, what: str) -> None:
    _check(_libc.unshare(flags), f"unshare ({what})")


def _die_with_parent() -> None:
    # To be repeated after each change of identity: the kernel forgets it then.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _make_read_only(path: str) -> None:
    """Protect the host: a job is not to change what isn't its user's."""
    attributes = (ctypes.c_uint64 * 4)(_MS_RDONLY, 0, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    result = _libc.syscall(
        _SYS_MOUNT_SETATTR, -100, os.fsencode(path), _AT_RECURSIVE, ctypes.byref(attributes), size
    )
    _check(result, f"make {path} read-only")


def _write_maps(proc: int, process: str, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """Say who *inside* is *outside*, for the new user namespace of *process*."""
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{inside[0]} {outside[0]} 1"),
        ("gid_map", f"{inside[1]} {outside[1]} 1"),
    ):
        fd = os.open(f"{process}/{name}", os.O_WRONLY, dir_fd=proc)
        os.write(fd, text.encode())
        os.close(fd)


def _enter_namespaces(proc: int) -> None:
    me = (os.geteuid(), os.getegid())
    if me[0] != 0:
        _unshare(_NEWUSER, "users")
        _write_maps(proc, "self", (0, 0), me)
    _unshare(_NEWNS | _NEWPID | _NEWUTS, "mounts, processes")
    _die_with_parent()
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _leave_fuse_mounts()


def _leave_fuse_mounts() -> None:
    """Let go of this namespace's copies of FUSE mounts: a job would keep them from ending."""
    with open("/proc/self/mountinfo", "rb") as file:
        lines = file.read().split(b"\n")
    for before, _, after in (line.partition(b" - ") for line in lines):
        if after.startswith(b"fuse"):
            path = before.split(b" ")[4].decode("unicode_escape").encode("latin-1")
            _libc.umount2(path, _MNT_DETACH)


def _build_root(spec: dict[str, Any]) -> None:
    root = spec["mountpoint"]
    _mount("tmpfs", root, "tmpfs", 0)
    os.chmod(root, 0o755)
    _mount("none", root, None, _MS_UNBINDABLE)  # or it would turn up inside itself
    for name in os.listdir("/"):
        if name not in spec["tops"]:
            _take_over(f"/{name}", f"{root}/{name}")
    _mount("none", root, None, _MS_PRIVATE)
    for name in spec["tops"]:
        os.mkdir(f"{root}/{name}")
        _mount(f"{spec['tree']}/{name}", f"{root}/{name}", None, _MS_BIND | _MS_REC)
    _spool(root, spec)
    for path, text in spec["etc"].items():
        _cover(root, path, text)
    os.mkdir(f"{root}/.host")
    _make_read_only(root)
    for path in spec["own"]:
        _mount(f"{spec['tree']}{path}", root + path, None, _MS_BIND | _MS_REC)
    for path in ("/tmp", "/dev/shm", "/run"):
        if os.path.isdir(root + path) and not os.path.islink(root + path):
            _mount("tmpfs", root + path, "tmpfs", 0)
            os.chmod(root + path, 0o1777)


def _take_over(source: str, target: str) -> None:
    """Let one entry of the host's root appear in the new one."""
    if os.path.islink(source):
        os.symlink(os.readlink(source), target)
        return
    if os.path.isdir(source):
        os.mkdir(target)
    else:
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY))
    _mount(source, target, None, _MS_BIND | _MS_REC)


def _spool(root: str, spec: dict[str, Any]) -> None:
    os.makedirs(f"{root}{_SPOOL}/bin", 0o755)
    for path, text in (("bin/srun", _SRUN), ("slurm_script", spec["script"])):
        with open(
            f"{root}{_SPOOL}/{path}", "w", encoding="utf-8", errors="surrogateescape"
        ) as file:
            file.write(text)
        os.chmod(file.name, 0o755)


def _cover(root: str, path: str, text: str) -> None:
    """Lay a file of the cluster over one of the host's, if the host has it."""
    if os.path.isfile(root + path):
        copy = f"{root}{_SPOOL}/{path.strip('/').replace('/', '_')}"
        with open(copy, "w") as file:
            file.write(text)
        _mount(copy, root + path, None, _MS_BIND)


def _pivot(root: str) -> None:
    """Make *root* the root. Not chroot: below one, no user namespace can be made."""
    os.chdir(root)
    number = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if number is None:
        raise SetupError(f"pivot_root on {os.uname().machine}")
    _check(_libc.syscall(number, b".", b".host"), "pivot_root")
    os.chdir("/")
    _check(_libc.umount2(b"/.host", _MNT_DETACH), "umount")


class _Turns:
    """Lets two processes wait for each other: each may pass the turn once."""

    def __init__(self) -> None:
        self._ends = os.pipe(), os.pipe()

    def pass_on(self, side: int) -> None:
        """Tell the other side to go on."""
        os.write(self._ends[side][1], b".")

    def wait(self, side: int) -> None:
        """Wait until the other side passes the turn, or ends."""
        os.close(self._ends[1 - side][1])
        os.read(self._ends[1 - side][0], 1)


def _init(spec: dict[str, Any], report: int, turns: _Turns) -> NoReturn:
    """Be PID 1 of the job."""
    _die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: os.kill(-1, signal.SIGTERM))
    _libc.sethostname(spec["node"].encode(), len(spec["node"]))
    with contextlib.suppress(SetupError):  # an unprivileged one has to do with the host's view
        _mount("proc", "/proc", "proc", _MS_RDONLY)
    with contextlib.suppress(SetupError):  # else the job is the user who runs the server
        _unshare(_NEWUSER, "users")
    turns.pass_on(0)
    turns.wait(0)
    _die_with_parent()
    script = os.fork()
    if script == 0:
        _run_script(spec, report)
    os.write(report, json.dumps({"status": _reap(script)}).encode())
    os._exit(0)


def _reap(script: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == script:
            return status


def _run_script(spec: dict[str, Any], report: int) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.setsid()
    os.umask(spec["umask"])
    try:
        try:
            os.chdir(spec["cwd"])
        except OSError:
            os.chdir("/tmp")  # as Slurm does
        _redirect(spec)
    except OSError as exc:
        os.write(report, json.dumps({"open_failed": str(exc)}).encode() + b"\n")
        os._exit(1)
    if spec["room"] is not None:
        # Writes beyond it fail, as on a full disk; Python ignores SIGXFSZ, and so does the script.
        resource.setrlimit(resource.RLIMIT_FSIZE, (spec["room"], spec["room"]))
    script = f"{_SPOOL}/slurm_script"
    try:
        os.execve(script, [script], spec["env"])
    except OSError as exc:
        os.write(2, f"slurmstepd: error: execve(): {script}: {exc.strerror}\n".encode())
        os._exit(127 if isinstance(exc, FileNotFoundError) else 126)


def _redirect(spec: dict[str, Any]) -> None:
    stdin = os.open(spec["stdin"], os.O_RDONLY)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND
    stdout = os.open(spec["stdout"], flags, 0o666)
    same = spec["stderr"] == spec["stdout"]
    stderr = stdout if same else os.open(spec["stderr"], flags, 0o666)
    for number, fd in enumerate((stdin, stdout, stderr)):
        os.dup2(fd, number)


def main() -> None:
    """Run the job that stdin describes."""
    _die_with_parent()
    spec = json.load(sys.stdin)
    if os.getppid() != spec["parent"]:
        sys.exit(1)  # the server is gone already
    report = os.dup(1)  # close-on-exec, so the script doesn't inherit it
    proc = os.open("/proc", os.O_PATH)
    try:
        _enter_namespaces(proc)
        _build_root(spec)
        _pivot(spec["mountpoint"])
    except (SetupError, OSError) as exc:
        os.write(report, json.dumps({"error": str(exc)}).encode())
        sys.exit(1)
    turns = _Turns()
    init = os.fork()
    if init == 0:
        _init(spec, report, turns)
    turns.wait(1)
    with contextlib.suppress(OSError):
        _write_maps(proc, str(init), (spec["uid"], spec["gid"]), (os.geteuid(), os.getegid()))
    turns.pass_on(1)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(init, signal.SIGTERM))
    os.waitpid(init, 0)


if __name__ == "__main__":
    main()
