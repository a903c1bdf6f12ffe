"""SubmissionLog: scripts that were given to be submitted, written down before anything is sent."""

from __future__ import annotations

import enum
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .database import Database

_SCHEMA = """
CREATE TABLE IF NOT EXISTS submissions (
    ident TEXT PRIMARY KEY,     -- the mark that its job carries
    system TEXT NOT NULL,
    since REAL NOT NULL,        -- when it was made or, if later, sent: epoch seconds
    stage TEXT NOT NULL,
    record TEXT NOT NULL        -- JSON
);
CREATE TABLE IF NOT EXISTS job_defaults (system TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS jobs_put_away (
    system TEXT NOT NULL, job_id TEXT NOT NULL, since REAL NOT NULL, PRIMARY KEY (system, job_id)
);
"""
#: What is over is remembered this long.
KEPT_S = 7 * 86400.0


class Stage(enum.Enum):
    """How far a submission has come."""

    WAITING = "waiting"  # its inputs are not stored yet; nothing was sent
    SENDING = "sending"  # the request may have reached the server
    SUBMITTED = "submitted"  # the job's id is known
    REFUSED = "refused"  # by the scheduler, by us, or taken back


@dataclass(frozen=True, slots=True)
class Submission:
    """One script on its way to the scheduler, and what became of it.

    `script` is empty where `script_path` names one on the cluster. `directory` is the one whose
    `.jobs` took it, "/" the system's root. `accepted`: close(2) has returned 0 before there was a
    job, so it is owed. Times are epoch seconds; `stdout` and `stderr` are paths, where known.
    `after` is the greatest number of a job that was known when the request was first sent.
    """

    ident: str
    system: str
    directory: str
    name: str
    workdir: str
    script: bytes = b""
    script_path: str = ""
    link: str = ""
    mode: int = 0o644
    job_name: str = ""
    wait_for: str = "all"
    options: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    array: bool = False
    created: float = 0.0
    stage: Stage = Stage.WAITING
    accepted: bool = False
    sent: float = 0.0
    after: int = 0
    job_id: str = ""
    error: str = ""
    code: int = 0
    shown: bool = True
    stdout: str = ""
    stderr: str = ""
    state: str = ""
    exit_code: int | None = None

    @property
    def under_way(self) -> bool:
        """Whether it is still to be decided whether there will be a job."""
        return self.stage in (Stage.WAITING, Stage.SENDING)


class SubmissionLog:
    """The submissions, the defaults and what was put out of sight, by system. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database
        database.make_tables(_SCHEMA)

    def put(self, submission: Submission) -> None:
        """Write down *submission* in place of what was known of it; it survives a power loss.

        Else a request would be sent a second time that had been sent just before, and make a job.
        """
        self._database.execute(
            "INSERT OR REPLACE INTO submissions VALUES (?, ?, ?, ?, ?)",
            (
                submission.ident,
                submission.system,
                max(submission.created, submission.sent),
                submission.stage.value,
                json.dumps(_as_table(submission)),
            ),
        )
        self._database.seal()

    def submissions(self, system: str) -> list[Submission]:
        """Return all of the last days, oldest first; those under way whatever their age."""
        self._database.execute(
            "DELETE FROM submissions WHERE since < ? AND stage IN (?, ?)",
            (time.time() - KEPT_S, Stage.SUBMITTED.value, Stage.REFUSED.value),
        )
        rows = self._database.execute(
            "SELECT record FROM submissions WHERE system = ? ORDER BY since, rowid", (system,)
        )
        return [_submission(json.loads(row[0])) for row in rows]

    def waiting_systems(self) -> list[str]:
        """Return the systems for which a submission is under way."""
        rows = self._database.execute(
            "SELECT DISTINCT system FROM submissions WHERE stage IN (?, ?)",
            (Stage.WAITING.value, Stage.SENDING.value),
        )
        return [str(row[0]) for row in rows]

    def defaults(self, system: str) -> str | None:
        """Return the text of the defaults, None where nobody has written any."""
        rows = self._database.execute("SELECT text FROM job_defaults WHERE system = ?", (system,))
        return str(rows[0][0]) if rows else None

    def put_defaults(self, system: str, text: str) -> None:
        """Keep *text* as the defaults."""
        self._database.execute("INSERT OR REPLACE INTO job_defaults VALUES (?, ?)", (system, text))

    def put_away(self, system: str, job_id: str) -> None:
        """Note that the ended job *job_id* shall be shown no more."""
        self._database.execute(
            "INSERT OR REPLACE INTO jobs_put_away VALUES (?, ?, ?)", (system, job_id, time.time())
        )

    def away(self, system: str) -> set[str]:
        """Return the jobs that shall not be shown."""
        self._database.execute(
            "DELETE FROM jobs_put_away WHERE since < ?", (time.time() - 30 * 86400.0,)
        )
        rows = self._database.execute(
            "SELECT job_id FROM jobs_put_away WHERE system = ?", (system,)
        )
        return {str(row[0]) for row in rows}


def _as_table(submission: Submission) -> dict[str, Any]:
    text = submission.script.decode("utf-8", "surrogateescape")
    return asdict(submission) | {"script": text, "stage": submission.stage.value}


def _submission(table: dict[str, Any]) -> Submission:
    script = table["script"].encode("utf-8", "surrogateescape")
    return Submission(**table | {"script": script, "stage": Stage(table["stage"])})
