"""Staged transfers as each version has them, in one vocabulary: v1's codes.

A stage is what the cluster's side of one transfer looks like. v1 keeps it in a task; on v2 it is
a batch job and what the object store and the files show, and the codes are made of that:

    111  the links are there              112  sent and put together; the job has yet to see it
    114  the job has ended, file proven   115  it has ended without the file
    116  the job waits or runs            117  it has ended, the object is whole
                                          118  it has ended without the object
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from ..errors import FirecrestException
from .decode import pick
from .faults import NotFound, TimedOut, refusal
from .multipart import File
from .object_moves import Progress
from .objects import ObjectStore
from .transferjobs import UNKNOWN_S, TransferJob, read_log, remove_logs, state_of
from .upload_links import form_of, links_of, message_of
from .v1 import ServerV1
from .v2 import ServerV2
from .wire import clock

#: Seconds between two looks at a job whose object is looked for more often: the first, the most.
_FIRST_S, _LONGEST_S = 0.2, 5.0
#: States of a job that has yet to begin.
_QUEUED = frozenset({"PENDING", "CONFIGURING", "REQUEUED"})


class Look(NamedTuple):
    """How a transfer stands: a code as text, and what belongs to it (may hold links)."""

    status: str
    data: Any


class Stage(Protocol):
    """The cluster's side of one transfer.

    `phase` is a word for how far it is, `leftovers` what it may leave on the cluster.
    """

    task_id: str
    phase: str
    leftovers: tuple[str, ...]

    def look(self) -> Look:
        """Return how it stands: one or a few requests."""
        ...

    def give_up(self) -> None:
        """Have the server forget it, as far as it can."""
        ...

    def tidy(self) -> bool:
        """Remove what it left on the cluster; return whether nothing more can come."""
        ...


class UploadStage(Stage, Protocol):
    """The cluster's side of an upload."""

    def send(
        self,
        store: ObjectStore,
        message: Mapping[str, Any],
        source: File,
        size: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> None:
        """Send *size* bytes of *source* to where *message* (of code 111) says."""
        ...


class TaskV1:
    """A transfer by API v1: the task knows everything."""

    phase = "staging"
    leftovers: tuple[str, ...] = ()

    def __init__(self, server: ServerV1, task_id: str) -> None:
        self._server = server
        self.task_id = task_id

    def look(self) -> Look:
        """Return the task's code and data."""
        task = self._server.task(self.task_id)
        return Look(str(task.get("status", "")), task.get("data"))

    def give_up(self) -> None:
        """Invalidate the link; some servers keep the object nevertheless.

        A 500 is how v1 says that nothing is staged.
        """
        try:
            self._server.invalidate(self.task_id)
        except FirecrestException as exc:
            if not exc.responses or exc.responses[-1].status_code != 500:
                raise

    def tidy(self) -> bool:
        """Do nothing: tasks leave nothing on the cluster."""
        return True

    def send(
        self,
        store: ObjectStore,
        message: Mapping[str, Any],
        source: File,
        size: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> None:
        """Send the form, or the bare bytes to stores of the older kind. May be done again."""
        url, fields, name = form_of(message)
        if fields is None:
            store.put(url, source, size, timeout=timeout, progress=progress)
        else:
            store.post(url, fields, name, source, size, timeout=timeout, progress=progress)


class DownloadV2:
    """A download by API v2: a job fills the object behind a link that is known from the start."""

    def __init__(
        self,
        server: ServerV2,
        store: ObjectStore,
        system: str,
        path: str,
        account: str | None,
        eager: bool = False,
    ) -> None:
        """*eager*: don't wait for the job's end; `tidy` is for the caller to call then."""
        self._server, self._store, self._eager = server, store, eager
        self._size = _size_of(server, system, path)
        self._shown = {"source": path, "system_name": system}
        directives: dict[str, Any] = {"transferMethod": "s3"}
        body = {"sourcePath": path, "transferDirectives": directives}
        body |= {"account": account} if account else {}
        told = server.transfer(system, "download", body)
        self._job = TransferJob.of(system, told)
        self._url = str(pick(pick(told, "transferDirectives", {}), "downloadUrl", ""))
        self.task_id = self._job.job_id
        self.phase, self.leftovers = "queued", self._job.logs
        self._known = clock()  # when the scheduler last knew the job
        self._pause, self._not_before = _FIRST_S, 0.0  # until the next look at the job

    def look(self) -> Look:
        """Return 116 until the job has ended, then 117 where the object is whole, else 118.

        The object appears at once and whole, a moment before that. To look for it costs FirecREST
        nothing, so who is eager may do so as often as they like; the job is asked for less often.
        """
        if self._eager:
            if self._staged_size() == self._size:
                return Look("117", {**self._shown, "url": self._url})
            if clock() < self._not_before:
                return Look("116", dict(self._shown))
            self._not_before = clock() + self._pause
            self._pause = min(self._pause * 1.5, _LONGEST_S)
        if not self._is_over():
            return Look("116", dict(self._shown))
        found = self._verdict()
        remove_logs(self._server, self._job)
        return found

    def tidy(self) -> bool:
        """Remove the job's logs once it has ended; return whether that is done."""
        over = self._is_over()
        if over:
            remove_logs(self._server, self._job)
        return over

    def _is_over(self) -> bool:
        job = state_of(self._server, self._job)
        if job is not None:
            self._known = clock()
            self.phase = "queued" if job.state in _QUEUED else "staging"
            return job.ended
        # New ones are unknown for a while; one that stays so was forgotten.
        return clock() - self._known > UNKNOWN_S

    def _staged_size(self) -> int | None:
        try:
            return self._store.size(self._url)
        except FirecrestException as exc:
            if exc.errno in (errno.ENOENT, errno.EACCES):
                return None
            raise

    def _verdict(self) -> Look:
        size = self._staged_size()
        if size is None:
            words = read_log(self._server, self._job, self._job.error_log).strip()
            words = words or "the job has ended, and nothing is in the object store"
            return Look("118", {"error": words, **self._shown})
        now = _size_of(self._server, self._job.system, self._shown["source"])
        if size not in (self._size, now):
            text = f"{size} of {now} bytes were staged"
            return Look("118", {"error": text, **self._shown})
        return Look("117", {**self._shown, "url": self._url})

    def give_up(self) -> None:
        """End the job. The server has nothing to remove the object with; it expires."""
        cancel(self._server, self._job)


class NothingV2:
    """A download of an empty file: v2's jobs can't stage one, and there is nothing to stage."""

    task_id = ""
    phase = "staging"
    leftovers: tuple[str, ...] = ()

    def __init__(self, system: str, path: str) -> None:
        self._shown = {"source": path, "system_name": system}

    def look(self) -> Look:
        """Return 117, with no link."""
        return Look("117", {**self._shown, "url": ""})

    def give_up(self) -> None:
        """Do nothing."""

    def tidy(self) -> bool:
        """Do nothing."""
        return True


class UploadV2:
    """An upload by API v2: parts, an end to them, and a job that looks for the object."""

    def __init__(
        self,
        server: ServerV2,
        system: str,
        path: str,
        local: str,
        size: int,
        account: str | None,
    ) -> None:
        self._server, self._path, self._size = server, path, size
        self._shown = {"source": local, "system_name": system, "target": path}
        directives: dict[str, Any] = {"transferMethod": "s3", "fileSize": size}
        body = {"sourcePath": path, "transferDirectives": directives}
        body |= {"account": account} if account else {}
        told = server.transfer(system, "upload", body)
        self._job = TransferJob.of(system, told)
        self._links = links_of(told)
        self.task_id = self._job.job_id
        self.phase, self.leftovers = "queued", self._job.logs
        self._message = message_of(self._links, local, size)
        self._sent = False

    def look(self) -> Look:
        """Return 111, 112 once everything has been sent, 114 once the job has ended."""
        job = state_of(self._server, self._job)
        if job is not None and job.ended:
            words = read_log(self._server, self._job, self._job.error_log).strip()
            remove_logs(self._server, self._job)
            return Look("114", {**self._shown, **({"error": words} if words else {})})
        status = "112" if self._sent else "111"
        return Look(status, {**self._shown, "status": status, "msg": self._message})

    def send(
        self,
        store: ObjectStore,
        message: Mapping[str, Any],
        source: File,
        size: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> None:
        """Send all parts and put them together."""
        if size != self._size:
            text = f"the local file has {size} bytes now; {self._size} were announced"
            raise refusal(errno.ESTALE, text, self._path)
        parts, whole, part_size = self._links
        etags = store.send_parts(parts, source, size, part_size, timeout=timeout, progress=progress)
        store.complete(whole, etags, timeout=timeout)
        self._sent = True

    def give_up(self) -> None:
        """End the job, which would look for the object for a day."""
        cancel(self._server, self._job)

    def tidy(self) -> bool:
        """Do nothing: the last look has done it."""
        return True


class EmptyUpload:
    """An upload of an empty file, done directly.

    v2 announces no parts for one, and v1 never notices one in an object store of the kind Swift.
    """

    task_id = ""
    phase = "moving"
    leftovers: tuple[str, ...] = ()

    def __init__(self, server: ServerV1 | ServerV2, system: str, path: str, local: str) -> None:
        self._server, self._system, self._path = server, system, path
        self._shown = {"source": local, "system_name": system, "target": path}
        self._sent = False

    def look(self) -> Look:
        """Return 111, and 114 once it has been sent."""
        if self._sent:
            return Look("114", dict(self._shown))
        message = {"command": "", "parameters": {}}
        return Look("111", {**self._shown, "status": "111", "msg": message})

    def send(
        self,
        store: ObjectStore,
        message: Mapping[str, Any],
        source: File,
        size: int,
        timeout: float | None,
        progress: Progress | None,
    ) -> None:
        """Make the file empty; v2 takes its time limit for that."""
        with suppress(TimedOut):
            self._server.empty(self._system, self._path)
        self._sent = True

    def give_up(self) -> None:
        """Do nothing."""

    def tidy(self) -> bool:
        """Do nothing."""
        return True


def cancel(server: ServerV2, job: TransferJob) -> None:
    """End *job* if it hasn't ended, and remove its logs."""
    with suppress(NotFound):
        try:
            server.cancel(job.system, job.job_id)
        except FirecrestException as exc:
            if exc.errno != errno.EALREADY:
                raise
    remove_logs(server, job)


def _size_of(server: ServerV2, system: str, path: str) -> int:
    return int(server.stat(system, path, dereference=True).get("size", 0))
