"""Submissions: from a closed script to exactly one job.

Each is written down before anything is sent. Its inputs are stored first; then a thread of its own
sends the request. Where the answer gets lost, with the network or with this process, the job is
looked for until the server must have made it, and only then the request is sent again.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from firecrestfs.cache.metadata import boottime
from firecrestfs.cache.submissions import Stage, Submission, SubmissionLog
from firecrestfs.errors import FirecrestException, is_transient, os_error
from firecrestfs.paths import directory_of, is_below

from ..flights import SLICE_S
from .cluster import Cluster
from .table import JobTable

log = logging.getLogger(__name__)

#: Stores what is pending at and below a path within some seconds; returns what did not land.
Flush = Callable[[str, float, Callable[[], bool]], dict[str, OSError | None]]

#: A request may still make a job so long after it was sent (seconds).
SETTLE_S = 30.0
#: A request whose answers get lost is sent so often in all.
_TRIES = 3
#: Inputs are waited for in pieces of so long, between which the status is brought up to date.
_FLUSH_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
#: What its program never learnt of is not submitted after so long a time without a mount.
_STALE_S = 600.0


class Submissions:
    """All submissions of one system. Thread-safe."""

    def __init__(
        self,
        cluster: Cluster,
        journal: SubmissionLog,
        flush: Flush,
        report: Callable[[str, str], None],
        table: JobTable,
        settle_s: float = SETTLE_S,
    ) -> None:
        """*report* tells the user of a path and what is wrong; *table* is told of new jobs."""
        self._cluster = cluster
        self._journal = journal
        self._flush = flush
        self._report = report
        self._table = table
        self._settle_s = settle_s
        self._stopped = threading.Event()
        self._changed = threading.Condition()  # guards all below
        self._known: dict[str, Submission] = {
            each.ident: each for each in journal.submissions(cluster.system)
        }
        self._by_job = {each.job_id: each.ident for each in self._known.values() if each.job_id}
        self.version = 0  # counts what may be seen of them; read without the lock
        self._waits: dict[str, str] = {}  # what those under way wait for
        self._stuck: set[str] = set()  # those whose inputs can't be stored for now
        self._unwanted: set[str] = set()  # to be taken back before they are sent

    # -- looking -------------------------------------------------------------------------------

    def all(self) -> list[Submission]:
        """Return all of the last days, oldest first."""
        with self._changed:
            return list(self._known.values())

    def get(self, ident: str) -> Submission | None:
        """Return the submission *ident*."""
        with self._changed:
            return self._known.get(ident)

    def of_job(self, job_id: str) -> Submission | None:
        """Return the submission that became the job *job_id*."""
        with self._changed:
            return self._known.get(self._by_job.get(job_id, ""))

    def status(self, ident: str) -> str:
        """Return what a submission that is under way waits for, else an empty text."""
        with self._changed:
            found = self._known.get(ident)
            if found is None or not found.under_way:
                return ""
            return self._waits.get(ident, "about to be submitted")

    # -- doing ---------------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on with what an earlier process has left under way."""
        for each in self.all():
            if not each.under_way:
                continue
            stale = not each.accepted and time.time() - each.created > _STALE_S
            if stale and each.stage is Stage.WAITING:
                text = "the mount died before it was submitted, a while ago: write it again"
                self._refuse(each.ident, os_error(errno.ECANCELED, each.name, text))
                continue
            self._report(_path_of(each), "taken up: the mount ended before it was submitted")
            if not stale:
                self._put(each.ident, accepted=True)
            self._start(each.ident)

    def begin(self, submission: Submission) -> None:
        """Write *submission* down and start to carry it out."""
        with self._changed:
            self._journal.put(submission)
            self._known[submission.ident] = submission
        self._start(submission.ident)

    def wait(self, ident: str, seconds: float, interrupted: Callable[[], bool]) -> Submission:
        """Return what became of *ident*; after *seconds* as it stands, and owed from then on.

        Sooner where it waits for what can't be stored for now: somebody has to do something first.
        Raises EINTR where the waiting process was interrupted before anything was sent; it is taken
        back then.
        """
        end = boottime() + seconds
        while True:
            with self._changed:
                found = self._known[ident]
                if not found.under_way:
                    return found
                if boottime() > end or ident in self._stuck:
                    return self._put_locked(ident, accepted=True)
                self._changed.wait(SLICE_S)
            if interrupted() and self.take_back(ident):
                text = "interrupted before it was submitted: write it again"
                raise os_error(errno.EINTR, found.name, text)

    def take_back(self, ident: str) -> bool:
        """Give up a submission of which nothing was sent; return whether that could be done."""
        with self._changed:
            found = self._known.get(ident)
            if found is None or found.stage is not Stage.WAITING:
                return False
            self._unwanted.add(ident)
            text = "taken back before it was submitted"
            self._put_locked(ident, stage=Stage.REFUSED, error=text, code=errno.ECANCELED)
            return True

    def amend(self, ident: str, **changes: object) -> None:
        """Change what is remembered of a submission: fields of `Submission` by name."""
        self._put(ident, **changes)

    def settle(self, timeout_s: float | None, stop: Callable[[], bool]) -> None:
        """Return when nothing goes on by itself any more, after *timeout_s*, or when told to."""
        end = None if timeout_s is None else boottime() + timeout_s
        while not stop() and (end is None or boottime() < end):
            with self._changed:
                left = [each.ident for each in self._known.values() if each.under_way]
                if self._stuck.issuperset(left):
                    return
                self._changed.wait(SLICE_S)

    def stop(self) -> None:
        """Send nothing more; what is under way goes on after the next mount."""
        self._stopped.set()

    # -- a thread for each ---------------------------------------------------------------------

    def _start(self, ident: str) -> None:
        threading.Thread(
            target=self._carry_out, args=(ident,), name=f"submit-{ident[:8]}", daemon=True
        ).start()

    def _carry_out(self, ident: str) -> None:
        try:
            self._to_a_job(ident)
        except OSError as exc:
            self._refuse(ident, exc)
        except Exception as exc:
            log.exception("submission %s: internal error", ident)
            self._refuse(ident, os_error(errno.EIO, None, f"internal error: {exc!r}"))

    def _to_a_job(self, ident: str) -> None:
        """Carry it out. Raises why there will be no job; returns early when stopped."""
        tries, pause = 0, _FIRST_PAUSE_S
        lost: FirecrestException | None = None
        while self._store_inputs(ident):
            found = self._known[ident]
            job_id = self._look_for(found) if found.sent else None
            if self._stopped.is_set():
                return
            if job_id is None:
                self._require_worth_sending(found, tries, lost)
                if not self._may_send(ident):
                    return
                tries += 1
                try:
                    job_id = self._cluster.send(self._known[ident])
                except FirecrestException as exc:
                    if exc.ambiguous:
                        lost = exc
                        self._say(ident, "the answer got lost: looking for the job")
                        continue
                    if not (is_transient(exc) and self._known[ident].accepted):
                        raise
                    tries = 0
                    self._try_later(ident, exc, pause)
                    pause = min(pause * 2, _LONGEST_PAUSE_S)
                    continue
            self._became(ident, job_id)
            return

    @staticmethod
    def _require_worth_sending(
        found: Submission, tries: int, lost: FirecrestException | None
    ) -> None:
        if lost is not None and tries >= _TRIES:
            raise lost
        if found.sent and not tries and not found.accepted:
            text = "the mount died while it was submitted, and there is no such job: write it again"
            raise os_error(errno.ECANCELED, found.name, text)

    def _try_later(self, ident: str, exc: OSError, pause: float) -> None:
        self._put(ident, stage=Stage.WAITING, sent=0.0)
        self._say(ident, f"to be tried again: {exc.strerror}")
        self._stopped.wait(pause)

    def _store_inputs(self, ident: str) -> bool:
        """Return when all that the job may read is stored; whether it shall be submitted then."""
        pause = _FIRST_PAUSE_S
        while not self._given_up(ident):
            found = self._known[ident]
            blocking = {} if found.sent else self._blocking(found)
            if not blocking:
                self._stuck.discard(ident)
                return not self._given_up(ident)
            self._say(ident, _waits_for(found.system, blocking))
            if all(why is not None and not is_transient(why) for why in blocking.values()):
                with self._changed:
                    self._stuck.add(ident)
                    self._changed.notify_all()
            self._stopped.wait(pause if any(blocking.values()) else SLICE_S)
            if any(blocking.values()):
                pause = min(pause * 2, _LONGEST_PAUSE_S)
        return False

    def _blocking(self, found: Submission) -> dict[str, OSError | None]:
        """Store inputs for some seconds; return what is still to be waited for."""
        near = [found.workdir]
        if found.script_path:
            near.append(directory_of(found.script_path))
        tops = {"all": ["/"], "workdir": near, "none": [found.script_path]}[found.wait_for]
        blocking: dict[str, OSError | None] = {}
        for top in filter(None, tops):
            failed = self._flush(top, _FLUSH_S, lambda: self._given_up(found.ident))
            # What can't be stored for now holds up no job that has nothing to do with it.
            blocking |= {
                path: why
                for path, why in failed.items()
                if why is None or any(is_below(path, each) for each in near)
            }
        return blocking

    def _given_up(self, ident: str) -> bool:
        return self._stopped.is_set() or ident in self._unwanted

    def _may_send(self, ident: str) -> bool:
        """Write down that the request is on its way from now on; False: it is wanted no more."""
        with self._changed:
            if self._given_up(ident):
                return False
            after = self._known[ident].after or self._latest()
            self._put_locked(ident, stage=Stage.SENDING, sent=time.time(), after=after)
        self._say(ident, "being submitted")
        return True

    def _latest(self) -> int:
        """Return the greatest number of a job that is known; the next has a greater one."""
        ids = [*self._table.known(), *self._by_job]
        return max((int(each) for each in ids if each.isdecimal()), default=0)

    def _look_for(self, found: Submission) -> str | None:
        """Return the job that the request made, None when it must have made none."""
        pause = _FIRST_PAUSE_S
        while not self._stopped.is_set():
            late = time.time() > found.sent + self._settle_s
            with self._changed:
                others = {each.job_id for each in self._known.values() if each.job_id}
            try:
                job_id = self._cluster.find(found, others)
            except OSError as exc:
                log.info("looking for submission %s: %s", found.ident, exc)
            else:
                if job_id is not None or late:
                    self._cluster.tidy(found)
                    return job_id
            self._stopped.wait(pause)
            pause = min(pause * 2, 4.0)
        return None

    # -- what became of it ---------------------------------------------------------------------

    def _became(self, ident: str, job_id: str) -> None:
        found = self._known[ident]
        stdout, stderr = self._cluster.outputs(found, job_id)
        self._put(
            ident, stage=Stage.SUBMITTED, job_id=job_id, stdout=stdout, stderr=stderr, error=""
        )
        where = (found.system, found.name, job_id, found.workdir)
        log.info("%s: submitted %s as job %s in %s", *where)
        self._table.expire()

    def _refuse(self, ident: str, exc: OSError) -> None:
        with self._changed:
            found = self._known[ident]
            if not found.under_way:
                return
            text = exc.strerror or str(exc)
            code = exc.errno or errno.EIO
            self._put_locked(ident, stage=Stage.REFUSED, error=text, code=code)
        if found.accepted:
            self._report(_path_of(found), f"not submitted: {text}")

    def _say(self, ident: str, text: str) -> None:
        with self._changed:
            self._waits[ident] = text

    def _put(self, ident: str, **changes: object) -> Submission:
        with self._changed:
            return self._put_locked(ident, **changes)

    def _put_locked(self, ident: str, **changes: object) -> Submission:
        found = replace(self._known[ident], **changes)  # type: ignore[arg-type]
        self._journal.put(found)
        self._known[ident] = found
        if found.job_id:
            self._by_job[found.job_id] = ident
        self.version += 1
        if not found.under_way:
            self._waits.pop(ident, None)
        self._changed.notify_all()
        return found


def _path_of(found: Submission) -> str:
    return f"{found.directory.rstrip('/')}/.jobs/{found.name}"


def _waits_for(system: str, blocking: dict[str, OSError | None]) -> str:
    path, why = next(iter(sorted(blocking.items())))
    more = f" and {len(blocking) - 1} more" if len(blocking) > 1 else ""
    reason = f" ({why.strerror})" if why is not None else ""
    return f"waits until /{system}{path}{more} is stored{reason}"
