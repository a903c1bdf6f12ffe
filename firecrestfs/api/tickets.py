"""Tickets: uploads to the staging area that can be taken up again by another process.

    order ─ send each part ─ complete ─ look, until the cluster is through ─ (the caller proves it)

What a ticket is made of are plain values, links among them, which are secrets until they expire.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from io import BytesIO
from typing import Any, NamedTuple, Protocol

from ..errors import FirecrestException
from .decode import job_of, pick
from .faults import refusal
from .multipart import File
from .object_moves import Progress
from .objects import ObjectStore
from .stages import cancel
from .transferjobs import UNKNOWN_S, TransferJob, fault_of, read_log, remove_logs, state_of
from .upload_links import form_of, links_of
from .v1 import ServerV1
from .v2 import ServerV2
from .wire import Call, clock

#: A form of v1 is there within a second; so long it is waited for.
_FORM_S = 120.0
#: What FirecREST calls the jobs that fetch what was uploaded.
_INGRESS = "IngressFileTransfer"


class Standing(Enum):
    """How far the cluster is with what was sent."""

    WAITING = "waiting"  # it has yet to see it
    COPYING = "copying"  # it is being copied to its place
    OVER = "over"  # nothing more will happen; a look at the file tells how it went
    TRYING = "trying"  # it failed and will be tried again, without an end


class Seen(NamedTuple):
    """What a look has told; `fault` is why it failed, where that is known.

    `overran_s` is the time limit (seconds; 0: not known) of a job that has ended by it.
    """

    standing: Standing
    fault: FirecrestException | None = None
    overran_s: int | None = None


class Ticket(Protocol):
    """One upload. `leftovers` are files that it may leave on the cluster besides its target.

    `undead`: one that was given up lands all the same, with nothing in it: see `look` for when.
    `bound`: it takes exactly the bytes that were announced; else others can be sent instead.
    """

    undead: bool
    bound: bool

    parts: int
    part_size: int
    leftovers: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what `ticket_of` makes it from again."""
        ...

    def send(
        self,
        number: int,
        source: File,
        size: int,
        progress: Progress | None,
        wanted: Callable[[], bool],
    ) -> str:
        """Send part *number* (from 0) of *source*, which has *size* bytes; return its mark."""
        ...

    def complete(self, marks: Sequence[str]) -> None:
        """Put the parts together. May be done again."""
        ...

    def look(self) -> Seen:
        """Return how far the cluster is."""
        ...

    def give_up(self) -> None:
        """Have the cluster stop, as far as it can."""
        ...


class TicketV2:
    """A multipart upload, and the job that fetches the object."""

    undead = False
    bound = True

    def __init__(
        self, server: ServerV2, store: ObjectStore, path: str, values: Mapping[str, Any]
    ) -> None:
        self._server, self._store, self._path = server, store, path
        self._values = dict(values)
        self._job = TransferJob(
            values["system"], values["job"], values["output_log"], values["error_log"]
        )
        self.parts, self.part_size = len(values["urls"]), int(values["part_size"])
        self.leftovers = self._job.logs
        self._known = clock()

    @staticmethod
    def order(
        server: ServerV2, store: ObjectStore, system: str, path: str, size: int, account: str | None
    ) -> TicketV2:
        """Announce *size* bytes (not 0) for *path*, the target's whole path."""
        directives: dict[str, Any] = {"transferMethod": "s3", "fileSize": size}
        body = {"sourcePath": path, "transferDirectives": directives}
        body |= {"account": account} if account else {}
        told = server.transfer(system, "upload", body)
        job = TransferJob.of(system, told)
        try:
            urls, whole, part_size = links_of(told)
        except FirecrestException:
            cancel(server, job)
            raise
        values = {
            "system": system,
            "job": job.job_id,
            "output_log": job.output_log,
            "error_log": job.error_log,
            "urls": list(urls),
            "whole": whole,
            "part_size": part_size,
        }
        return TicketV2(server, store, path, values)

    def as_dict(self) -> dict[str, Any]:
        """Return what it is made of."""
        return dict(self._values)

    def send(
        self,
        number: int,
        source: File,
        size: int,
        progress: Progress | None,
        wanted: Callable[[], bool],
    ) -> str:
        """Send one part."""
        start = number * self.part_size
        length = min(self.part_size, size - start)
        return self._store.send_part(
            self._values["urls"][number],
            number,
            source,
            start,
            length,
            progress=progress,
            wanted=wanted,
        )

    def complete(self, marks: Sequence[str]) -> None:
        """Put the object together."""
        self._store.complete(self._values["whole"], marks)

    def look(self) -> Seen:
        """Return how far the job is."""
        job = state_of(self._server, self._job)
        if job is not None:
            self._known = clock()
            if not job.ended:
                return Seen(Standing.WAITING)
        elif clock() - self._known < UNKNOWN_S:
            return Seen(Standing.WAITING)
        words = read_log(self._server, self._job, self._job.error_log).strip()
        remove_logs(self._server, self._job)
        fault = fault_of(words, self._job, self._path) if words else None
        overran = job is not None and job.state in ("TIMEOUT", "DEADLINE")
        return Seen(Standing.OVER, fault, (job.limit or 0) if job and overran else None)

    def give_up(self) -> None:
        """End the job, which would look for the object for a day."""
        cancel(self._server, self._job)


class TicketV1:
    """A form, and the task that has the object copied."""

    undead = True
    bound = False
    parts = 1
    leftovers: tuple[str, ...] = ()

    def __init__(self, server: ServerV1, store: ObjectStore, values: Mapping[str, Any]) -> None:
        self._server, self._store = server, store
        self._values = dict(values)
        self.part_size = max(int(values["size"]), 1)

    @staticmethod
    def order(server: ServerV1, store: ObjectStore, system: str, path: str, size: int) -> TicketV1:
        """Begin a task for *path*, the target's whole path, and wait for its form."""
        task_id = server.stage_in(system, path, "upload.bin")
        call, pause = Call(_FORM_S, what="the form of the object store"), 0.1
        while True:
            task = server.task(task_id)
            status, data = str(task.get("status", "")), task.get("data")
            message = pick(data, "msg") if isinstance(data, dict) else data
            if status == "111" and isinstance(message, dict):
                values = {"system": system, "task": task_id, "form": message, "size": size}
                return TicketV1(server, store, values)
            if status.isdecimal() and int(status) >= 200:
                words = message if isinstance(message, str) else "the server gives no form"
                raise refusal(errno.EIO, words, path)
            call.sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def as_dict(self) -> dict[str, Any]:
        """Return what it is made of."""
        return dict(self._values)

    def send(
        self,
        number: int,
        source: File,
        size: int,
        progress: Progress | None,
        wanted: Callable[[], bool],
    ) -> str:
        """Post the form. Done again, it replaces what was sent before."""
        target = form_of(self._values["form"])
        if target.fields is None:
            self._store.put(target.url, source, size, progress=progress, wanted=wanted)
        else:
            self._store.post(
                target.url,
                target.fields,
                target.name,
                source,
                size,
                progress=progress,
                wanted=wanted,
            )
        return "sent"

    def complete(self, marks: Sequence[str]) -> None:
        """Do nothing: there is one part."""

    def look(self) -> Seen:
        """Return how far the task is."""
        task = self._server.task(self._values["task"])
        status = str(task.get("status", ""))
        if status == "114":
            return Seen(Standing.OVER)
        if status.isdecimal() and int(status) >= 200:
            text = f"the server ended its task with status {status}"
            return Seen(Standing.OVER, refusal(errno.EIO, text))
        if status == "115":
            return Seen(Standing.TRYING)
        return Seen(Standing.COPYING if status == "113" else Standing.WAITING)

    def give_up(self) -> None:
        """Post an empty file: nothing stops a task, but then it soon lands and comes to its end."""
        self.send(0, BytesIO(b""), 0, None, lambda: True)


def order_ticket(
    server: ServerV1 | ServerV2,
    store: ObjectStore,
    system: str,
    path: str,
    size: int,
    account: str | None,
) -> Ticket:
    """Announce an upload of *size* bytes (not 0) to *path*, the target's whole path."""
    if isinstance(server, ServerV1):
        return TicketV1.order(server, store, system, path, size)
    return TicketV2.order(server, store, system, path, size, account)


def ticket_of(
    server: ServerV1 | ServerV2, store: ObjectStore, path: str, values: Mapping[str, Any]
) -> Ticket:
    """Return the ticket that was made of *values* before."""
    if isinstance(server, ServerV1):
        return TicketV1(server, store, values)
    return TicketV2(server, store, path, values)


def end_order(server: ServerV1 | ServerV2, system: str, path: str) -> bool:
    """End the job of an upload to *path* whose order got no answer; tell whether there was one.

    Its script tells which it is. v1 has none: there a task waits, which costs nobody anything.
    """
    if isinstance(server, ServerV1):
        return False
    for job in map(job_of, server.jobs(system)):
        if job.ended or job.name != _INGRESS:
            continue
        for told in _metadata(server, system, job.job_id):
            if path in str(pick(told, "script") or ""):
                logs = (pick(told, name) for name in ("standardOutput", "standardError"))
                cancel(server, TransferJob(system, job.job_id, *(str(log or "") for log in logs)))
                return True
    return False


def _metadata(server: ServerV2, system: str, job_id: str) -> list[dict[str, Any]]:
    """Return what the server tells of a job; nothing where it never does."""
    try:
        return server.job_metadata(system, job_id)
    except FirecrestException as exc:
        if exc.transient:
            raise
        return []
