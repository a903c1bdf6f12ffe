"""Starts batch jobs as processes in a `sandbox` and waits for their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from .accounts import ROOT, Account
from .jobs import Job
from .knobs import Knobs

_SANDBOX = str(Path(__file__).with_name("sandbox.py"))
_LANGUAGES = {"utf8": "C.UTF-8", "c": "C"}


class End(NamedTuple):
    """How a job ended. `error`: it could not be started at all."""

    exit_code: int
    signal: int
    open_failed: bool = False
    error: str = ""


class Place(NamedTuple):
    """Where the jobs of a cluster run: its tree, its file systems, and an empty directory."""

    tree: str
    file_systems: list[str]
    mountpoint: str


class Runner:
    """Runs the jobs of one cluster. Safe from any thread."""

    def __init__(self, place: Place, accounts: dict[str, Account], knobs: Knobs) -> None:
        self._place = place
        self._knobs = knobs
        self._etc = {"/etc/passwd": _passwd(accounts), "/etc/group": _group(accounts)}

    def probe(self, account: Account) -> str:
        """Try whether jobs can run here; return what stands in the way, or nothing."""
        spec = self._spec(account, "/", "#!/bin/sh\n", {"PATH": os.defpath})
        return Process(spec).wait(None).error

    def start(self, job: Job, home: str, scratch: str, room: int | None = None) -> Process:
        """Start *job*. It dies with the calling thread. No file of it gets longer than *room*."""
        spec = self._spec(
            job.account, job.working_directory, job.script, self._env(job, home, scratch)
        )
        files = {"stdin": job.stdin, "stdout": job.stdout, "stderr": job.stderr, "node": job.node}
        return Process({**spec, **files, "room": room})

    def start_beside(self, job: Job, command: str, home: str, scratch: str) -> Process:
        """Start *command* where *job* runs, its output on stderr's way to nowhere."""
        script = f"#!/bin/bash\n{command}\n"
        spec = self._spec(job.account, job.working_directory, script, self._env(job, home, scratch))
        return Process({**spec, "node": job.node})

    def _spec(self, account: Account, cwd: str, script: str, env: dict[str, str]) -> dict[str, Any]:
        return {
            "parent": os.getpid(),
            "tree": self._place.tree,
            "tops": sorted({path.split("/")[1] for path in self._place.file_systems}),
            "own": [f"{path}/{account.name}" for path in self._place.file_systems],
            "mountpoint": self._place.mountpoint,
            "etc": self._etc,
            "uid": account.uid,
            "gid": account.group.gid,
            "node": "localhost",
            "umask": self._knobs.umask_bits,
            "cwd": cwd,
            "script": script,
            "env": env,
            "stdin": "/dev/null",
            "stdout": "/dev/null",
            "stderr": "/dev/null",
            "room": None,
        }

    def _env(self, job: Job, home: str, scratch: str) -> dict[str, str]:
        env = {
            "PATH": "/slurmd/bin:/usr/local/bin:/usr/bin:/bin",
            "HOME": home,
            "SCRATCH": scratch,
            "USER": job.account.name,
            "LOGNAME": job.account.name,
            "SHELL": "/bin/bash",
            "LANG": _LANGUAGES[self._knobs.locale],
            "TZ": self._knobs.zone,
            "HOSTNAME": job.node,
            "PWD": job.working_directory,
            "SLURM_JOB_ID": job.id,
            "SLURM_JOBID": job.id,
            "SLURM_JOB_NAME": job.name,
            "SLURM_JOB_USER": job.account.name,
            "SLURM_JOB_ACCOUNT": job.project,
            "SLURM_JOB_PARTITION": job.partition,
            "SLURM_JOB_NODELIST": job.node,
            "SLURM_NODELIST": job.node,
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_NNODES": "1",
            "SLURM_NTASKS": "1",
            "SLURM_PROCID": "0",
            "SLURM_CPUS_ON_NODE": "8",
            "SLURM_SUBMIT_DIR": job.working_directory,
            "SLURMD_NODENAME": job.node,
        }
        return {**env, **job.env}


class Process:
    """A running sandbox."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _SANDBOX],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        with self._process.stdin as pipe:
            pipe.write(json.dumps(spec).encode())
        self._process.stdin = None
        self._kill_timer: threading.Timer | None = None

    def wait(self, timeout: float | None) -> End:
        """Wait for the end. Raises subprocess.TimeoutExpired; then it may be called again."""
        out, _ = self._process.communicate(timeout=timeout)
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        return _end(out)

    def terminate(self, kill_after: float) -> None:
        """Ask all its processes to end, and end them after *kill_after* seconds."""
        self._process.send_signal(signal.SIGTERM)
        self._kill_timer = threading.Timer(kill_after, self._process.kill)
        self._kill_timer.daemon = True
        self._kill_timer.start()

    def kill(self) -> None:
        """End it now, with all its processes."""
        self._process.kill()


def _end(report: bytes) -> End:
    seen: dict[str, Any] = {}
    for line in report.replace(b"}{", b"}\n{").splitlines():
        seen.update(json.loads(line))
    if "error" in seen:
        return End(1, 0, error=f"jobs can't run on this machine: {seen['error']}")
    if "open_failed" in seen:
        return End(0, 53, open_failed=True)
    if "status" not in seen:
        return End(0, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(seen["status"])
    return End(code, 0) if code >= 0 else End(0, -code)


def _passwd(accounts: dict[str, Account]) -> str:
    rows = [
        f"{one.name}:x:{one.uid}:{one.group.gid}::/home/{one.name}:/bin/bash"
        for one in (ROOT, *accounts.values())
    ]
    return "\n".join(rows) + "\n"


def _group(accounts: dict[str, Account]) -> str:
    groups = {group for one in (ROOT, *accounts.values()) for group in one.groups}
    return "".join(
        f"{group.name}:x:{group.gid}:\n" for group in sorted(groups, key=lambda g: g.gid)
    )
