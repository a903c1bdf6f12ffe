"""The directories of jobs: `4211/`, and the views `active/`, `recent/`, `by-name/` that lead there.

Nothing in here costs a request for each job: what would, answers by name and is listed once it is
known.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace

from firecrestfs.api.typed_jobs import UNNAMED
from firecrestfs.cache.metadata import boottime
from firecrestfs.cache.submissions import Submission, SubmissionLog
from firecrestfs.errors import FirecrestException, is_transient, os_error
from firecrestfs.model import Job, Kind

from ..flights import Flights
from . import nodes, views
from .cluster import Cluster
from .known import Files, files_of, into, own_entry, when
from .nodes import Node
from .submissions import Submissions
from .table import TTL_S, Entry, JobTable

#: What may have changed just now is looked at on the cluster this often (seconds).
_FRESH_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0


Listing = dict[str, Node]


class JobDirectories:
    """What is known of the jobs of one system, as directories. Thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        flights: Flights,
        table: JobTable,
        submissions: Submissions,
        journal: SubmissionLog,
        refresh: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> None:
        """*refresh* drops what is believed at and below a path of the cluster."""
        self._cluster = cluster
        self._flights = flights
        self._table = table
        self._submissions = submissions
        self._journal = journal
        self._refresh = refresh
        self._interrupted = interrupted
        self._waiters = nodes.Waiters()
        self._away = journal.away(cluster.system)
        self._lock = threading.Lock()  # guards all below
        self._files: dict[str, Files] = {}  # of jobs that were asked for
        self._told: Mapping[str, Entry] = {}
        self._version: tuple[int, ...] = ()  # of what _entries and _made were made of
        self._entries: dict[str, Entry] = {}
        self._made: dict[tuple[str, str], Listing] = {}
        self._looked: dict[str, float] = {}  # when the output of a running job was looked at

    # -- all jobs ------------------------------------------------------------------------------

    def entries(self, max_age_s: float = TTL_S) -> dict[str, Entry]:
        """Return all jobs that are shown, ours that the scheduler doesn't tell of included."""
        told = self._table.entries(max_age_s)
        version = (id(told), self._submissions.version, len(self._away), len(self._files))
        with self._lock:
            if version == self._version:
                return self._entries
        found = dict(told)
        for each in self._submissions.all():
            if each.job_id:
                found[each.job_id] = own_entry(each, found.get(each.job_id))
        for job_id in self._away:
            found.pop(job_id, None)
        with self._lock:
            # The jobs themselves are kept with it: an id() is a thing's own while it lives.
            self._told, self._version, self._entries, self._made = told, version, found, {}
        return found

    def _once(self, key: tuple[str, str], make: Callable[[], Listing]) -> Listing:
        """Return what *make* does, the same while no job changes: walks look again and again."""
        entries = self.entries()
        with self._lock:
            if entries is self._entries and key in self._made:
                return self._made[key]
        made = make()
        with self._lock:
            if entries is self._entries:
                self._made[key] = made
        return made

    def jobs(self) -> list[Job]:
        """Return all jobs as the queue shows them."""
        return [entry.job for entry in self.entries().values()]

    def has(self, job_id: str) -> bool:
        """Tell whether there is a job *job_id*; costs nothing for those submitted here."""
        if job_id in self._away:
            return False
        if self._submissions.of_job(job_id) is not None or job_id in self._table.entries():
            return True
        # Somebody who asks for a job that isn't known has learnt of it elsewhere.
        return job_id in self._table.entries(_FRESH_S)

    def last(self) -> str:
        """Return the latest job that was submitted here, else an empty text."""
        ids = [each.job_id for each in self._submissions.all() if each.job_id]
        return next((each for each in reversed(ids) if each not in self._away), "")

    def own(self, directory: str) -> list[str]:
        """Return the jobs that the `.jobs` of *directory* has taken."""
        taken = (each for each in self._submissions.all() if each.directory == directory)
        return [each.job_id for each in taken if each.job_id and each.job_id not in self._away]

    def view(self, name: str) -> Node:
        """Return the directory of links *name*."""
        return nodes.directory(
            lambda: list(self._once(("", name), lambda: dict(self._links(name))).items())
        )

    def link(self, view: str, name: str) -> Node | None:
        """Return the link *name* of the view *view*."""
        return self._once(("", view), lambda: dict(self._links(view))).get(name)

    def _links(self, name: str) -> list[tuple[str, Node]]:
        entries = self.entries()
        if name == "by-name":
            latest = {
                entry.job.name: job_id
                for job_id, entry in entries.items()
                if entry.job.name not in (*UNNAMED, ".", "..") and "/" not in entry.job.name
            }
            return [(each, nodes.link(f"../{job_id}")) for each, job_id in latest.items()]
        return [
            (job_id, nodes.link(f"../{job_id}", when(entry.job)))
            for job_id, entry in entries.items()
            if entry.job.ended == (name == "recent")
        ]

    # -- one job -------------------------------------------------------------------------------

    def node(self, where: str, job_id: str, rest: list[str]) -> Node:
        """Return what is at *rest* in the directory of *job_id*; *where* is its path."""
        if not rest:
            return self.directory(where, job_id)
        if rest[0] == "tasks":
            return self._in_tasks(where, job_id, rest[1:])
        if len(rest) > 1:
            raise os_error(errno.ENOENT if rest[0] not in _FILES else errno.ENOTDIR, where)
        special = self._by_name(where, job_id, rest[0])
        if special is not None:
            return special
        found = self._inside(where, job_id).get(rest[0])
        return found or self._learnt(where, self._entry(job_id).job, rest[0])

    def directory(self, where: str, job_id: str) -> Node:
        """Return the directory of *job_id*, which is known to be there."""
        known = self._table.known().get(job_id)
        return nodes.directory(
            lambda: list(self._inside(where, job_id).items()), when(known.job) if known else 0
        )

    def _inside(self, where: str, job_id: str) -> Listing:
        return self._once((where, job_id), lambda: dict(self._listed(where, self._entry(job_id))))

    def put_away(self, job_id: str) -> None:
        """Show an ended job no more. Raises EBUSY for any other."""
        if not self._entry(job_id).job.ended:
            text = f"the job has not ended: echo cancel > {job_id}/ctl cancels it"
            raise os_error(errno.EBUSY, job_id, text)
        self._journal.put_away(self._cluster.system, job_id)
        self._away.add(job_id)

    def cancel(self, job_id: str) -> None:
        """Cancel a job; one that has ended is fine."""
        client, system = self._cluster.client, self._cluster.system
        self._flights.commit(lambda: client.cancel(system, job_id))
        self._table.expire()

    def wait(self, job_id: str) -> bytes:
        """Return how the job has ended, once it has. Raises EINTR and EAGAIN."""
        pace = nodes.Pace(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        looked: list[float] = []

        def ready() -> bytes | None:
            # Whoever else waits asks as well: what was learnt since our last look will do.
            job = self._now_if_told(job_id, boottime() - looked[-1] if looked else TTL_S)
            if job is not None and (job.ended or job.state == "UNKNOWN"):
                return views.outcome(job).encode()
            looked[:] = [boottime()]
            pace.sleep(self._interrupted)
            return None

        return self._waiters.wait(ready, self._interrupted)

    # -- inside --------------------------------------------------------------------------------

    def _entry(self, job_id: str) -> Entry:
        entry = self.entries().get(job_id)
        if entry is None:
            raise os_error(errno.ENOENT, job_id)
        return entry

    def _now_if_told(self, job_id: str, max_age_s: float) -> Job | None:
        """Return the job *job_id*, None while the server can't be asked: who waits goes on."""
        try:
            return self._now(job_id, max_age_s)
        except OSError as exc:
            if exc.errno == errno.EINTR or not is_transient(exc):
                raise
            return None

    def _now(self, job_id: str, max_age_s: float) -> Job:
        """Return the job *job_id*; of an array what all its tasks come to."""
        own = self._submissions.of_job(job_id)
        if own is None or not own.array:
            entry = self.entries(max_age_s).get(job_id)
            if entry is None:
                raise os_error(errno.ENOENT, job_id)
            return entry.job
        try:
            return own_entry(own, self._table.tasks(job_id)).job
        except FirecrestException as exc:
            if exc.errno != errno.ENOENT:
                raise
            return own_entry(own, None).job

    def _listed(self, where: str, entry: Entry) -> list[tuple[str, Node]]:
        """Return what is in the directory of a job: nothing of it costs a request."""
        job = entry.job
        own = self._submissions.of_job(job.job_id)
        script, stdout, stderr = files = self._known_files(job.job_id, own)
        shown = when(job)
        found = [
            ("status", nodes.text(f"{job.state}\n", shown)),
            ("info.json", nodes.text(views.info_json(job, own, files, list(entry.tasks)), shown)),
        ]
        if own is not None and not own.script_path:
            found.append(("script", nodes.Node(content=own.script, mtime_ns=shown)))
        elif script.startswith("/"):
            found.append(("script", into(where, script, shown)))
        elif script:
            found.append(("script", nodes.text(script, shown)))
        if job.working_directory.startswith("/"):
            found.append(("workdir", into(where, job.working_directory, shown)))
        for name, path in (("stdout", stdout), ("stderr", stderr)):
            if path:
                found.append((name, self._output(where, job, path)))
        if entry.tasks or (own is not None and own.array):
            found.append(("tasks", self._tasks(where, job.job_id)))
        return found

    def _by_name(self, where: str, job_id: str, name: str) -> Node | None:
        if name == "wait":
            return Node(mode=0o400, opener=lambda _: nodes.WaitHandle(lambda: self.wait(job_id)))
        if name == "ctl":

            def cancel() -> None:
                self.cancel(job_id)

            return Node(mode=0o200, opener=lambda _: nodes.CommandHandle("cancel", cancel))
        return None

    def _learnt(self, where: str, job: Job, name: str) -> Node:
        """Return a file of a job of which nobody has told yet: to open it costs a request."""
        if name == "script":
            return Node(fetch=lambda: self._learn(job.job_id, 0).encode("utf-8", "surrogateescape"))
        own = self._submissions.of_job(job.job_id)
        whole = own is not None and own.array and "/tasks/" not in where
        if name not in ("stdout", "stderr") or whole:
            # Each task of an array writes files of its own.
            raise os_error(errno.ENOENT, f"{where}/{name}")

        def target() -> bytes:
            path = self._learn(job.job_id, 1 if name == "stdout" else 2)
            return self._output(where, job, path).readlink(where).encode("utf-8", "surrogateescape")

        return Node(Kind.SYMLINK, 0o777, fetch=target)

    def _learn(self, job_id: str, which: int) -> str:
        """Ask where the files of a job are. Raises ENOENT where the scheduler doesn't tell."""
        client, system = self._cluster.client, self._cluster.system
        told = self._flights.run(
            lambda: client.job_metadata(system, job_id), ("metadata", system, job_id)
        )
        files = files_of(told)
        with self._lock:
            self._files[job_id] = files
        if not files[which]:
            raise os_error(errno.ENOENT, job_id, "the scheduler doesn't tell")
        return files[which]

    def _known_files(self, job_id: str, own: Submission | None) -> Files:
        """Return script, output and errors of a job as far as they are known, else empty texts."""
        with self._lock:
            known = self._files.get(job_id)
        if own is not None and not (known and known[1]):
            return own.script_path, own.stdout, own.stderr
        if known is not None:
            return known
        told = self._cluster.client.known_metadata(self._cluster.system, job_id)
        return ("", "", "") if told is None else files_of(told)

    def _output(self, where: str, job: Job, path: str) -> Node:
        """Return the link to a file that a job writes; who follows it sees its size of now."""
        link = into(where, path, when(job))

        def target() -> bytes:
            with self._lock:
                due = boottime() - self._looked.get(path, -_FRESH_S) >= _FRESH_S
                if due and not job.ended:
                    self._looked[path] = boottime()
            if due and not job.ended:
                self._refresh(path)
            return link.target.encode("utf-8", "surrogateescape")

        return replace(link, follow=target)

    # -- arrays --------------------------------------------------------------------------------

    def _tasks(self, where: str, job_id: str) -> Node:
        return nodes.directory(lambda: self._task_entries(f"{where}/tasks", job_id))

    def _task_jobs(self, job_id: str) -> Mapping[str, Job]:
        entry = self._entry(job_id)
        if not entry.tasks:
            entry = self._table.tasks(job_id)
        return entry.tasks or {job_id: entry.job}

    def _task_entries(self, where: str, job_id: str) -> list[tuple[str, Node]]:
        return [
            (number, self._task(f"{where}/{number}", job))
            for number, job in self._task_jobs(job_id).items()
        ]

    def _task(self, where: str, job: Job) -> Node:
        return nodes.directory(lambda: self._in_task(where, job), when(job))

    def _in_task(self, where: str, job: Job) -> list[tuple[str, Node]]:
        files = self._known_files(job.job_id, None)
        found = [
            ("status", nodes.text(f"{job.state}\n", when(job))),
            ("info.json", nodes.text(views.info_json(job, None, files, []), when(job))),
        ]
        outputs = zip(("stdout", "stderr"), files[1:], strict=True)
        return found + [(name, self._output(where, job, path)) for name, path in outputs if path]

    def _in_tasks(self, where: str, job_id: str, rest: list[str]) -> Node:
        if not rest:
            return self._tasks(where, job_id)
        job = self._task_jobs(job_id).get(rest[0])
        if job is None or len(rest) > 2:
            raise os_error(errno.ENOENT, f"{where}/tasks/{'/'.join(rest)}")
        inside = f"{where}/tasks/{rest[0]}"
        if len(rest) == 1:
            return self._task(inside, job)
        found = dict(self._in_task(inside, job)).get(rest[1])
        return found or self._learnt(inside, job, rest[1])


_FILES = ("status", "info.json", "script", "workdir", "stdout", "stderr", "wait", "ctl")
