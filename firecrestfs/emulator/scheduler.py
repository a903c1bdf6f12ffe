"""The batch system of one cluster: a queue, slots, accounting, and the words of Slurm."""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import os
import subprocess
import threading
import time
import zoneinfo
from collections.abc import Callable, Iterable

from . import sbatch
from .jobs import Job, State, Submission
from .knobs import Knobs
from .login import Login
from .privileges import become_ordinary
from .runner import End, Process, Runner
from .shell import CommandFailed, CommandTimeout
from .storage import room

_NO_INTERPRETER = (
    "sbatch: error: This does not look like a batch script.  The first\n"
    "sbatch: error: line must start with #! followed by the path to an interpreter.\n"
    "sbatch: error: For instance: #!/bin/sh\n"
)
_REFUSED = "sbatch: error: Batch job submission failed: "
_WAIT = 0.02


class Scheduler:
    """Accepts, runs and remembers jobs. Safe from any thread.

    `scratch_of` tells an account's scratch directory. One thread starts what is due; a thread of
    its own accompanies each running job. Both have an ordinary user's powers whoever submits.
    """

    def __init__(
        self,
        name: str,
        nodes: tuple[str, ...],
        partitions: tuple[str, ...],
        knobs: Knobs,
        runner: Runner,
        scratch_of: Callable[[Login], str],
    ) -> None:
        self.name = name
        self._nodes = itertools.cycle(nodes)
        self._partitions = partitions
        self._knobs = knobs
        self._runner = runner
        self._scratch_of = scratch_of
        self._lock = threading.Condition()  # guards all below
        self._numbers = itertools.count(1001)
        self._jobs: dict[str, Job] = {}
        self._logins: dict[str, Login] = {}  # of unfinished jobs
        self._processes: dict[str, Process] = {}  # of running jobs
        self._threads: list[threading.Thread] = []
        self._dispatcher: threading.Thread | None = None
        self._closed = False

    # -- commands -----------------------------------------------------------------------------

    def submit(self, login: Login, request: Submission) -> str:
        """`sbatch`: return the id of the new job. Raises CommandFailed, CommandTimeout."""
        script = self._script(login, request)
        options = sbatch.read_directives(script)
        project = request.account or options["account"] or login.account.projects[0]
        partition = request.partition or options["partition"] or self._partitions[0]
        self._check(login, request, options, project, partition)
        limit = options.time_limit(self._knobs.time_limit)
        with self._lock:
            number = next(self._numbers)
            draft = self._draft(login, request, options, script, str(number))
            draft = dataclasses.replace(
                draft, project=project, partition=partition, time_limit=limit
            )
            self._enqueue(login, self._tasks(draft, options, request))
        return str(number)

    def cancel(self, login: Login, job_id: str) -> None:
        """`scancel`: end a job. Raises CommandFailed."""
        if not job_id.isdigit() or int(job_id) == 0:
            raise CommandFailed(1, f"scancel: error: Invalid job id {job_id}\n")
        with self._lock:
            jobs = [job for job in self._jobs.values() if job.answers_to(job_id)]
            if not jobs:
                raise _kill_error(job_id, "Invalid job id specified")
            if any(job.account != login.account for job in jobs):
                raise _kill_error(job_id, "Access/permission denied")
            active = [job for job in jobs if not job.state.final]
            if not active:
                raise _kill_error(job_id, "Job/step already completing or completed")
            for job in active:
                self._cancel_locked(job)

    def strike(self, job_id: str, state: State | None) -> None:
        """End a job as the site may do, with *state*; None: accounting forgets it as well."""
        with self._lock:
            job = self._jobs[job_id] if state else self._jobs.pop(job_id)
            self._cancel_locked(job)
            job.state, job.cancelled_by = state or job.state, None

    def attach(self, login: Login, job_id: str, command: str) -> None:
        """`srun --overlap`: run *command* beside a job. Raises CommandFailed, CommandTimeout."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.state is not State.RUNNING:
                raise CommandFailed(1, "srun: error: Unable to confirm allocation for job\n")
            job = dataclasses.replace(job)
        process = self._runner.start_beside(job, command, login.home, self._scratch_of(login))
        try:
            end = process.wait(self._knobs.command_seconds)
        except subprocess.TimeoutExpired as exc:
            process.kill()
            process.wait(None)
            raise CommandTimeout from exc
        if end.exit_code:
            task = f"srun: error: {job.node}: task 0: Exited with exit code {end.exit_code}\n"
            raise CommandFailed(end.exit_code, task)

    def jobs(self) -> list[Job]:
        """Return copies of all jobs that accounting knows, oldest first."""
        newest = time.time() - self._knobs.accounting_delay
        with self._lock:
            known = [job for job in self._jobs.values() if job.submitted <= newest]
            return [dataclasses.replace(job) for job in known]

    def find(self, job_id: str) -> list[Job]:
        """Return copies of the job with an id, or of all tasks of an array."""
        return [job for job in self.jobs() if job.answers_to(job_id)]

    def seed(self, job: Job) -> None:
        """Add a job of the past to the accounting; an empty id gets the next number."""
        with self._lock:
            job = dataclasses.replace(job, id=job.id or str(next(self._numbers)))
            self._jobs[job.id] = job

    def close(self) -> None:
        """End all jobs, and with them their processes."""
        with self._lock:
            self._closed = True
            for process in self._processes.values():
                process.kill()
            self._lock.notify_all()
            threads = [*self._threads, *([self._dispatcher] if self._dispatcher else [])]
        for thread in threads:
            thread.join(5)

    # -- submission ---------------------------------------------------------------------------

    def _script(self, login: Login, request: Submission) -> str:
        if request.script_path:
            script = _read_script(login, request.script_path)
        elif request.script:
            script = request.script
        else:
            # sbatch waits for a script on its standard input, which nobody closes.
            time.sleep(self._knobs.command_seconds)
            raise CommandTimeout
        if not script:
            raise CommandFailed(1, "sbatch: error: Batch script is empty!\n")
        if not script.startswith("#!"):
            raise CommandFailed(1, _NO_INTERPRETER)
        return script

    def _check(
        self,
        login: Login,
        request: Submission,
        options: sbatch.Options,
        project: str,
        partition: str,
    ) -> None:
        if partition not in self._partitions:
            words = f"sbatch: error: invalid partition specified: {partition}\n"
            raise CommandFailed(1, f"{words}{_REFUSED}Invalid partition name specified\n")
        if project not in login.account.projects:
            reason = "Invalid account or account/partition combination specified"
            raise CommandFailed(1, f"{_REFUSED}{reason}\n")
        after = options["dependency"].removeprefix("afterok:")
        if after and not self._knows(after):
            raise CommandFailed(1, f"{_REFUSED}Job dependency problem\n")
        if (request.constraints or options["constraint"] or "cpu") != "cpu":
            raise CommandFailed(1, f"{_REFUSED}Invalid feature specification\n")

    def _knows(self, job_id: str) -> bool:
        with self._lock:
            return job_id in self._jobs

    def _draft(
        self,
        login: Login,
        request: Submission,
        options: sbatch.Options,
        script: str,
        number: str,
    ) -> Job:
        """Make the job with all that doesn't depend on its number in an array."""
        path = request.script_path
        name = request.name or options["job-name"] or path.rsplit("/", 1)[-1] or "sbatch"
        return Job(
            id=number,
            name=name,
            account=login.account,
            project="",
            partition="",
            node=next(self._nodes),
            script=script,
            working_directory=request.working_directory or options["chdir"],
            stdin=request.stdin or options["input"] or "/dev/null",
            stdout=request.stdout or options["output"],
            stderr=request.stderr or options["error"],
            env=_exported(request.env),
            time_limit=0,
            submitted=time.time(),
            reason="JobHeldUser" if options.held else "None",
            command=path,
            after=options["dependency"].removeprefix("afterok:"),
            priority=0 if options.held else 4294901760 - int(number) % 1000,
        )

    def _tasks(self, draft: Job, options: sbatch.Options, request: Submission) -> list[Job]:
        """Make one job, or one per task of an array."""
        tasks = options.array
        if not tasks:
            return [self._with_files(draft, {}, "slurm-%j.out")]
        out = []
        for position, task in enumerate(tasks):
            env = {
                **draft.env,
                "SLURM_ARRAY_JOB_ID": draft.id,
                "SLURM_ARRAY_TASK_ID": str(task),
                "SLURM_ARRAY_TASK_COUNT": str(len(tasks)),
            }
            job_id = draft.id if position == 0 else str(next(self._numbers))
            job = dataclasses.replace(draft, id=job_id, array_id=draft.id, env=env)
            out.append(self._with_files(job, {"A": draft.id, "a": str(task)}, "slurm-%A_%a.out"))
        return out

    @staticmethod
    def _with_files(job: Job, array: dict[str, str], default: str) -> Job:
        values = {"j": job.id, "J": job.id, "A": job.id, "a": "0", "x": job.name, "N": job.node}
        values |= {"u": job.account.name, **array}

        def absolute(pattern: str) -> str:
            name = sbatch.fill_pattern(pattern, values)
            return name if name.startswith("/") else f"{job.working_directory.rstrip('/')}/{name}"

        stdout = absolute(job.stdout or default)
        return dataclasses.replace(
            job,
            stdin=absolute(job.stdin),
            stdout=stdout,
            stderr=absolute(job.stderr) if job.stderr else stdout,
        )

    def _enqueue(self, login: Login, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._jobs[job.id] = job
            self._logins[job.id] = login
        if self._dispatcher is None:
            self._dispatcher = threading.Thread(
                target=self._dispatch, name="scheduler", daemon=True
            )
            self._dispatcher.start()
        self._lock.notify_all()

    # -- execution ----------------------------------------------------------------------------

    def _dispatch(self) -> None:
        become_ordinary([])
        with self._lock:
            while not self._closed:
                for job in self._due_locked():
                    self._start_locked(job)
                waiting = any(job.state is State.PENDING for job in self._jobs.values())
                self._lock.wait(_WAIT if waiting else None)

    def _due_locked(self) -> list[Job]:
        free = self._knobs.slots - len(self._threads)
        latest = time.time() - self._knobs.queue_seconds
        due = [
            job
            for job in self._jobs.values()
            if job.state is State.PENDING
            and not job.held
            and job.submitted <= latest
            and not self._waits_locked(job)
        ]
        return due[: max(free, 0)]

    def _waits_locked(self, job: Job) -> bool:
        """Tell whether another job must succeed first."""
        other = self._jobs.get(job.after)
        if other is None or (other.state is State.COMPLETED and other.ended is not None):
            return False
        job.reason = "DependencyNeverSatisfied" if other.state.final else "Dependency"
        return True

    def _start_locked(self, job: Job) -> None:
        job.state = State.RUNNING
        job.started = time.time()
        thread = threading.Thread(target=self._accompany, args=(job,), name=f"job-{job.id}")
        thread.daemon = True
        self._threads.append(thread)
        thread.start()

    def _accompany(self, job: Job) -> None:
        """Run one job to its end."""
        login = self._logins[job.id]
        scratch, left = self._scratch_of(login), room(login)[0]
        process = self._runner.start(job, login.home, scratch, left)
        with self._lock:
            self._processes[job.id] = process
            if self._closed or job.state.final:
                process.kill()  # cancelled while it was being started
        try:
            end = process.wait(job.time_limit)
        except subprocess.TimeoutExpired:
            self._end_locked_later(job)
            process.terminate(self._knobs.kill_seconds)
            end = process.wait(None)
        self._finish(job, end)

    def _end_locked_later(self, job: Job) -> None:
        with self._lock:
            if not job.state.final:
                job.state = State.TIMEOUT
                self._note(job, "DUE TO TIME LIMIT ***")

    def _finish(self, job: Job, end: End) -> None:
        with self._lock:
            job.ended = time.time()
            if not job.state.final:
                job.exit_code, job.signal = end.exit_code, end.signal
                clean = not (end.exit_code or end.signal)
                job.state = State.COMPLETED if clean else State.FAILED
                job.spool_failed = end.open_failed
            if end.error:
                self._write(job, f"slurmstepd: error: {end.error}\n")
            self._processes.pop(job.id, None)
            self._logins.pop(job.id, None)
            self._threads.remove(threading.current_thread())
            self._lock.notify_all()

    def _cancel_locked(self, job: Job) -> None:
        was_running = job.state is State.RUNNING
        job.state = State.CANCELLED
        job.cancelled_by = job.account.uid
        if not was_running:
            job.started = job.ended = time.time()
            return
        self._note(job, "***")
        process = self._processes.get(job.id)
        if process is not None:
            process.terminate(self._knobs.kill_seconds)

    def _note(self, job: Job, why: str) -> None:
        zone = zoneinfo.ZoneInfo(self._knobs.zone)
        now = datetime.datetime.now(zone).strftime("%Y-%m-%dT%H:%M:%S")
        words = f"*** JOB {job.id} ON {job.node} CANCELLED AT {now} {why}"
        self._write(job, f"slurmstepd: error: {words}\n")

    def _write(self, job: Job, text: str) -> None:
        """Append to the job's error output, if that is possible."""
        try:
            place = self._logins[job.id].place(job.stderr)
            with open(place.local, "a") as file:
                file.write(text)
        except OSError:
            pass  # as for the real one: there is nobody to tell


def _kill_error(job_id: str, reason: str) -> CommandFailed:
    # scancel exits with 0 all the same; the server looks for "error:".
    lines = f"scancel: Terminating job {job_id}\n"
    return CommandFailed(0, f"{lines}scancel: error: Kill job error on job id {job_id}: {reason}\n")


def _read_script(login: Login, path: str) -> str:
    try:
        place = login.place(path)
        if os.path.isdir(place.local):
            return ""
        with open(place.local, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as exc:
        raise CommandFailed(1, f"sbatch: error: Unable to open file {path}\n") from exc


def _exported(env: dict[str, str]) -> dict[str, str]:
    """Return what `sbatch --export=ALL,K=V,…` makes of *env*: a comma ends a value."""
    pairs = ",".join(f"{key}={value}" for key, value in env.items()).split(",")
    split = [pair.partition("=") for pair in pairs if "=" in pair]
    return {key: value for key, _, value in split}
