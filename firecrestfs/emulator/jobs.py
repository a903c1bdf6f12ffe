"""Batch jobs as the scheduler knows them: values, and who may see what of them."""

from __future__ import annotations

import dataclasses
import enum
import time

from .accounts import Account


class State(str, enum.Enum):
    """Where a job stands."""

    PENDING = "PENDING"  # waits for a slot, or held
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"  # exit code 0
    FAILED = "FAILED"  # any other end of its own, or it could not start
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"  # ran into its time limit
    NODE_FAIL = "NODE_FAIL"
    PREEMPTED = "PREEMPTED"
    BOOT_FAIL = "BOOT_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"

    @property
    def final(self) -> bool:
        """Whether the job has ended."""
        return self not in (State.PENDING, State.RUNNING)


@dataclasses.dataclass
class Submission:
    """A request to run a job, from an API or a test. Empty strings: the default."""

    working_directory: str
    script: str = ""
    script_path: str = ""
    name: str = ""
    account: str = ""
    partition: str = ""
    constraints: str = ""
    stdin: str = ""
    stdout: str = ""
    stderr: str = ""
    env: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Job:
    """One job. The scheduler changes it under its lock; others read copies."""

    id: str
    name: str
    account: Account
    project: str
    partition: str
    node: str
    script: str
    working_directory: str
    stdin: str
    stdout: str
    stderr: str
    env: dict[str, str]
    time_limit: float
    submitted: float
    state: State = State.PENDING
    reason: str = "None"
    started: float | None = None
    ended: float | None = None
    exit_code: int = 0
    signal: int = 0
    priority: int = 4294901760
    cancelled_by: int | None = None
    array_id: str = ""  # of the job array that it belongs to
    spool_failed: bool = False  # it never ran: its files could not be opened
    command: str = ""  # the path of the script, where it was submitted by path
    after: str = ""  # id of the job that must have succeeded before

    @property
    def was_run(self) -> bool:
        """Whether it got a node."""
        return self.started is not None and self.state is not State.PENDING

    @property
    def held(self) -> bool:
        """Whether somebody has to release it before it may start."""
        return self.priority == 0

    @property
    def elapsed(self) -> int:
        """Seconds that it has run."""
        if self.started is None:
            return 0
        return int((self.ended or time.time()) - self.started)

    def answers_to(self, job_id: str) -> bool:
        """Whether *job_id* names it or its array."""
        return job_id in (self.id, self.array_id)
