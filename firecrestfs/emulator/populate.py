"""Fills a cluster for the demo: projects, inputs, run output, a growing log, jobs old and new."""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from .accounts import Account
from .cluster import Cluster
from .jobs import Job, State, Submission

_DAY = 86400.0

_README = """\
This is a make-believe cluster. What you see here lives in a directory on your machine.

    heat/       a small simulation: input, source, job scripts, results
    notes.txt   your own notes
    scratch     a link to /scratch/{user}, where runs write

Try:  cat heat/submit.sh | less;  cp heat/submit.sh .jobs/   and look into scratch/runs.
"""

_SUBMIT = """\
#!/bin/bash
#SBATCH --job-name=heat
#SBATCH --time=00:05:00
#SBATCH --ntasks=4
#SBATCH --output=heat-%j.out

cd "$SCRATCH/runs" || exit 1
mkdir -p "run_$SLURM_JOB_ID"
cd "run_$SLURM_JOB_ID" || exit 1
cp /home/{user}/heat/input/heat.nml .

steps=$(awk -F= '/steps/ {{ print $2 + 0 }}' heat.nml)
echo "job $SLURM_JOB_ID on $(hostname): $steps steps"
for step in $(seq 1 "$steps"); do
    awk -v s="$step" 'BEGIN {{ printf "step %5d  residual %.6e\\n", s, exp(-s / 7) }}'
    sleep 0.2
done | tee residuals.txt
echo "done"
"""

_ARRAY = """\
#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=0-3
#SBATCH --time=00:01:00

echo "task $SLURM_ARRAY_TASK_ID: kappa = 0.$SLURM_ARRAY_TASK_ID"
"""

_FAILING = """\
#!/bin/bash
#SBATCH --job-name=broken
#SBATCH --time=1

echo "reading restart.h5"
echo "heat: cannot open restart.h5: No such file or directory" >&2
exit 2
"""

_INPUT = """\
&heat
  nx = 64
  ny = 64
  kappa = 0.1
  steps = 25
/
"""

_SOURCE = """\
\"\"\"Explicit heat equation in two dimensions; the demo only pretends to run it.\"\"\"


def step(field, kappa):
    \"\"\"Return the field after one step.\"\"\"
    inner = field[1:-1, 1:-1]
    lap = field[:-2, 1:-1] + field[2:, 1:-1] + field[1:-1, :-2] + field[1:-1, 2:] - 4 * inner
    return inner + kappa * lap
"""

_WATCH = """\
#!/bin/bash
#SBATCH --job-name=monitor
#SBATCH --time=12:00:00

while true; do date; sleep 30; done
"""


class Population:
    """A populated cluster: `with Population(cluster):` keeps its log growing and its job running.

    Files that are there already are left alone, so a demo on the same directory goes on where it
    was.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Population:
        log = populate(self._cluster)
        self._thread = threading.Thread(
            target=_grow, args=(log, self._ended.wait), name="demo-log", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)


def populate(cluster: Cluster) -> Path:
    """Fill the home and scratch of the first account, and the job history. Returns the live log."""
    account = cluster.account
    home, scratch = cluster.home(account), cluster.path_of("scratch", account)
    _fill_home(cluster.local(home), account, scratch)
    runs = cluster.local(scratch) / "runs"
    _fill_runs(runs)
    _seed_jobs(cluster, account, scratch)
    return runs / "live" / "solver.log"


def _fill_home(home: Path, account: Account, scratch: str) -> None:
    heat = home / "heat"
    texts = {
        home / "README.txt": _README,
        home / "notes.txt": "- ask for more node hours\n- compare runs 1 and 2\n",
        home / ".bashrc": "export EDITOR=vim\n",
        heat / "submit.sh": _SUBMIT,
        heat / "sweep.sh": _ARRAY,
        heat / "input" / "heat.nml": _INPUT,
        heat / "src" / "heat.py": _SOURCE,
    }
    for path, text in texts.items():
        _write(path, text.format(user=account.name) if "{user}" in text else text)
    for script in (heat / "submit.sh", heat / "sweep.sh"):
        script.chmod(0o755)
    table = "".join(f"{x},{math.sin(x / 10):.6f}\n" for x in range(500))
    _write(home / "thesis" / "data" / "sine.csv", "x,y\n" + table)
    _write(home / "thesis" / "thesis.tex", "\\documentclass{book}\n\\begin{document}\n")
    link = home / "scratch"
    if not os.path.lexists(link):
        link.symlink_to(scratch)


def _fill_runs(runs: Path) -> None:
    rng = random.Random(7)
    for number in (1, 2):
        run = runs / f"run_{number:03d}"
        residuals = (f"step {i:5d}  residual {math.exp(-i / 40):.6e}\n" for i in range(400))
        _write(run / "residuals.txt", "".join(residuals))
        for frame in range(8):
            _write_bytes(run / f"field_{frame:04d}.bin", rng.randbytes(64 * 1024))
    _write_bytes(runs / "run_002" / "checkpoint.bin", rng.randbytes(12 * 1024 * 1024))
    _write(runs / "live" / "solver.log", "")


def _grow(log: Path, ended: Callable[[float], bool]) -> None:
    """Append a line a second until *ended* says so."""
    started = time.monotonic()
    with open(log, "a", buffering=1) as file:
        while not ended(1.0):
            seconds = time.monotonic() - started
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            file.write(f"{stamp}  t = {seconds:8.1f}  residual {math.exp(-seconds / 600):.6e}\n")


def _seed_jobs(cluster: Cluster, account: Account, scratch: str) -> None:
    home = cluster.home(account)
    heat = f"{home}/heat"
    submit = _SUBMIT.format(user=account.name)
    past = [
        ("heat", submit, State.COMPLETED, 0, 22.0, 340.0),
        ("broken", _FAILING, State.FAILED, 2, 5.0, 1.0),
        ("heat", submit, State.TIMEOUT, 0, 2.0, 300.0),
    ]
    for number, (name, script, state, code, hours_ago, seconds) in enumerate(past, 900):
        job = _past_job(account, str(number), name, script, heat)
        job.state, job.exit_code = state, code
        job.submitted = time.time() - hours_ago * 3600
        job.started = job.submitted + 12
        job.ended = job.started + seconds
        cluster.scheduler.seed(job)
        _write(cluster.local(job.stdout), _past_output(job))
    login = cluster.login(account.name)
    assert login is not None
    request = Submission(working_directory=f"{scratch}/runs/live", script=_WATCH, name="monitor")
    cluster.scheduler.submit(login, request)


def _past_job(account: Account, number: str, name: str, script: str, folder: str) -> Job:
    output = f"{folder}/{name}-{number}.out"
    return Job(
        id=number,
        name=name,
        account=account,
        project=account.projects[0],
        partition="part01",
        node="nid001",
        script=script,
        working_directory=folder,
        stdin="/dev/null",
        stdout=output,
        stderr=output,
        env={},
        time_limit=300,
        submitted=0,
    )


def _past_output(job: Job) -> str:
    if job.state is State.FAILED:
        return "reading restart.h5\nheat: cannot open restart.h5: No such file or directory\n"
    lines = "".join(f"step {i:5d}  residual {math.exp(-i / 7):.6e}\n" for i in range(1, 26))
    if job.state is State.TIMEOUT:
        return f"{lines}slurmstepd: error: *** JOB {job.id} ON nid001 CANCELLED DUE TO TIME LIMIT\n"
    return f"job {job.id} on nid001: 25 steps\n{lines}done\n"


def _write(path: Path, text: str) -> None:
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, data: bytes) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    age = time.time() - _DAY * (1 + len(path.name) % 9)
    os.utime(path, (age, age))
