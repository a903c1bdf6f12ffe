"""JobTable: what the scheduler tells of the user's jobs, by one cached query for all askers."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.metadata import boottime
from firecrestfs.model import Job

from ..flights import Flights

#: An answer is shown for so long (seconds).
TTL_S = 10.0
#: Our own batch jobs, which are none of the user's. (v1 calls a script without a name .fcfs-X.sh.)
_OWN = re.compile(r"\.fcfs-(?!.*\.sh\Z)")
_ID = re.compile(r"\d[^/\0]*")
#: Ids of tasks: `12_3`, `12_[4-9]`, `12[3].server`.
_TASK = re.compile(r"(?P<array>\d+)(?:_(?P<task>\d+|\[.*\])|\[(?P<pbs>\d*)\](?P<rest>.*))\Z")
#: The end of an array is the worst end of its tasks; ends that are not in here are worse still.
_WORST_LAST = (
    "COMPLETED",
    "REVOKED",
    "CANCELLED",
    "PREEMPTED",
    "DEADLINE",
    "TIMEOUT",
    "FAILED",
    "OUT_OF_MEMORY",
)
#: While a task is to come, the array is what its furthest task is.
_FURTHEST_FIRST = ("RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING")


@dataclass(frozen=True, slots=True)
class Entry:
    """One job as it is shown; an array has `tasks`, by number or by their own ids."""

    job: Job
    tasks: Mapping[str, Job] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Snapshot:
    entries: Mapping[str, Entry]
    taken: float  # when it was asked for
    told: float  # when it was answered
    mark: int


class JobTable:
    """The jobs of one system. Thread-safe."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        flights: Flights,
        ended: Callable[[Job, bool], None],
    ) -> None:
        """*ended* is told of each job that has ended, before anybody else is, and whether lately.

        Lately is: after it was seen here before its end, or since this table began.
        """
        self._client = client
        self._system = system
        self._flights = flights
        self._ended = ended
        self._since = time.time()
        self._lock = threading.Lock()  # guards all below
        self._snapshot: _Snapshot | None = None
        self._mark = 0
        self._over: set[str] = set()  # jobs whose end was told
        self._active: set[str] = set()  # jobs that were seen before their end
        self._arrays: dict[str, set[str]] = {}  # array → tasks with ids of their own

    def entries(self, max_age_s: float = TTL_S) -> Mapping[str, Entry]:
        """Return all jobs by id, at most *max_age_s* old. At most one request for all askers.

        Who wants them younger than `TTL_S` wants what was so since then: the time of asking counts.
        """
        while True:
            asked = boottime()
            found = self._fresh(max_age_s)
            if found is not None:
                return found.entries
            snapshot = self._flights.run(self._fetching(asked), ("jobs", self._system))
            with self._lock:
                if snapshot.mark == self._mark or snapshot.taken > asked:
                    return snapshot.entries

    def known(self) -> Mapping[str, Entry]:
        """Return the jobs as they were last told, without a request."""
        with self._lock:
            return self._snapshot.entries if self._snapshot is not None else {}

    def expire(self) -> None:
        """Ask again at the next look: something has changed."""
        with self._lock:
            self._mark += 1

    def tasks(self, job_id: str) -> Entry:
        """Ask for the job *job_id*, or all tasks of that array, now. Raises `JobNotFound`."""
        found = self._flights.run(
            lambda: self._client.job_tasks(self._system, job_id), ("job", self._system, job_id)
        )
        self._see(found)
        with self._lock:
            if len(found) > 1:
                self._arrays[job_id] = {job.job_id for job in found}
            entry = _arranged(found, self._arrays).get(job_id) or Entry(found[-1])
            if self._snapshot is not None:
                entries = {**self._snapshot.entries, **_arranged(found, {}), job_id: entry}
                self._snapshot = replace(self._snapshot, entries=entries)
        return entry

    # -- inside --------------------------------------------------------------------------------

    def _fresh(self, max_age_s: float) -> _Snapshot | None:
        with self._lock:
            found = self._snapshot
            if found is None or found.mark != self._mark:
                return None
            since = found.told if max_age_s >= TTL_S else found.taken
            return found if boottime() - since <= max_age_s else None

    def _fetching(self, asked: float) -> Callable[[], _Snapshot]:
        """Return the call that asks, unless somebody has done so since *asked*."""

        def fetch() -> _Snapshot:
            with self._lock:
                found = self._snapshot
                if found is not None and found.mark == self._mark and found.taken >= asked:
                    return found
            return self._fetch()

        return fetch

    def _fetch(self) -> _Snapshot:
        with self._lock:
            mark, taken = self._mark, boottime()
        jobs = [job for job in self._client.jobs(self._system) if _is_shown(job)]
        self._see(jobs)
        with self._lock:
            snapshot = _Snapshot(_arranged(jobs, self._arrays), taken, boottime(), mark)
            self._snapshot = snapshot
        return snapshot

    def _see(self, jobs: Iterable[Job]) -> None:
        """Tell, once, of each job that has ended."""
        news: list[tuple[Job, bool]] = []
        with self._lock:
            for job in jobs:
                if not job.ended:
                    self._active.add(job.job_id)
                    self._over.discard(job.job_id)
                elif job.job_id not in self._over:
                    self._over.add(job.job_id)
                    # The clocks of two machines differ a little.
                    lately = job.end is None or job.end > self._since - 60
                    news.append((job, lately or job.job_id in self._active))
        for job, lately in news:
            self._ended(job, lately)


def _is_shown(job: Job) -> bool:
    """Tell whether *job* is the user's, and its id a name; what a server tells is not trusted."""
    return not _OWN.match(job.name) and _ID.fullmatch(job.job_id) is not None


def _arranged(jobs: Iterable[Job], arrays: Mapping[str, set[str]]) -> dict[str, Entry]:
    """Return the jobs by id, the tasks of arrays gathered below their array."""
    found: dict[str, Entry] = {}
    tasks: dict[str, dict[str, Job]] = {}
    for job in jobs:
        match = _TASK.match(job.job_id)
        if match is None:
            found[job.job_id] = Entry(job)
            continue
        array = match["array"] + (f"[]{match['rest']}" if match["rest"] is not None else "")
        number = match["task"] if match["pbs"] is None else match["pbs"]
        if number:
            tasks.setdefault(array, {})[number] = job
        else:
            found[array] = Entry(job)
    for array, ids in arrays.items():
        tasks.setdefault(array, {}).update({each: found[each].job for each in ids if each in found})
    for array, each in tasks.items():
        if each:
            found[array] = Entry(_whole(array, list(each.values())), each)
    return found


def _whole(array: str, tasks: list[Job]) -> Job:
    """Return the array *array* as one job."""
    waiting = [job for job in tasks if not job.ended]
    if waiting:
        states = {job.state for job in waiting}
        state = next((each for each in _FURTHEST_FIRST if each in states), waiting[0].state)
        return replace(waiting[0], job_id=array, state=state, exit_code=None, end=None)
    worst = max(tasks, key=lambda job: (_badness(job.state), job.exit_code or 0))
    starts = [job.start for job in tasks if job.start is not None]
    ends = [job.end for job in tasks if job.end is not None]
    return replace(
        worst, job_id=array, start=min(starts, default=None), end=max(ends, default=None)
    )


def _badness(state: str) -> int:
    return _WORST_LAST.index(state) if state in _WORST_LAST else len(_WORST_LAST)
