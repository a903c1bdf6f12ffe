"""`ExternalDownload` and `ExternalUpload`: the tutorial's objects for files of any size.

A file travels by way of an object store: the cluster puts it there and we fetch it, or the other
way round. Both objects work with either API version (see `stages`) and stream, so memory doesn't
grow with the file. What has arrived is proven by its size, and that it is new.

Codes of `status`:

    110  waiting for the links           116  being staged
    111  links received                  117  staged: it can be fetched
    112  the object store has the file   118  staging failed
    113  being copied to the cluster     302  invalidated
    114  there, and proven               400  failed
    115  copying failed (v1 tries again)
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from ..errors import FirecrestException
from ..model import Response
from ..paths import directory_of
from .fault_tools import quote
from .faults import NotFound, StorageDownloadException, StorageUploadException, refusal
from .multipart import File
from .object_moves import Progress
from .objects import ObjectStore
from .session import ApiSession
from .stages import Look, Stage, UploadStage
from .v1 import ServerV1
from .v2 import ServerV2
from .wire import Call

log = logging.getLogger("firecrestfs.api")

Local = str | os.PathLike[str] | BinaryIO
#: Seconds between two looks: the first, and the most, to which it grows by half at a time.
_FIRST, _LONGEST = 0.3, 5.0
#: A wait without a limit would be one for ever where the server was restarted (seconds).
DAY = 86_400.0
_OVER = frozenset({"302", "400"})


class ExternalTransfer(ABC):
    """What both directions have in common. Raises `FirecrestException`; one thread at a time."""

    _final: frozenset[str] = frozenset()
    _links_at = ""

    def __init__(self, client: Any, stage: Stage, session: ApiSession, store: ObjectStore) -> None:
        self._client, self._stage = client, stage
        self._session, self._store = session, store
        self._last: Look | None = None
        self._links: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(task_id={self.task_id!r})"

    @property
    def client(self) -> Any:
        """The `Firecrest` that this transfer belongs to."""
        return self._client

    @property
    def task_id(self) -> str:
        """The task on v1, the job on v2; "" where it takes neither."""
        return self._stage.task_id

    @property
    def phase(self) -> str:
        """A word for how far the cluster is: queued, staging. No request."""
        return self._stage.phase

    @property
    def leftovers(self) -> tuple[str, ...]:
        """What the cluster's side may leave there if nobody tidies up."""
        return self._stage.leftovers

    @property
    def status(self) -> str:
        """How it stands, as a code of the table above. One look, unless it is settled."""
        return self._look().status

    @property
    def in_progress(self) -> bool:
        """Whether there is something to wait for. One look, unless it is settled."""
        return self.status not in self._final | _OVER

    @property
    def data(self) -> Any:
        """What the server tells with `status`; may hold links, which are secrets. One look."""
        return self._look().data

    @property
    def object_storage_data(self) -> Any:
        """The links, as soon as they exist: waits for that. They are secrets until they expire."""
        return self._await_links(self._patience(None))

    def _look(self) -> Look:
        if self._last is None or not self._is_settled(self._last):
            found = self._checked(self._stage.look())
            if self._last is None or found.status != self._last.status:
                log.info(
                    "transfer %s has status %s", self.task_id or "without a task", found.status
                )
            self._last = found
            if found.status == self._links_at:
                self._links = self._links_of(found.data)
        return self._last

    def _is_settled(self, look: Look) -> bool:
        return look.status in self._final | _OVER

    def _checked(self, look: Look) -> Look:
        return look

    def _links_of(self, data: Any) -> Any:
        return data

    def _patience(self, timeout: float | None) -> Call:
        return self._session.patience(DAY if timeout is None else timeout)

    def _await_links(self, call: Call) -> Any:
        pause = _FIRST
        while self._links is None:
            look = self._look()
            if self._links is None:
                self._refuse_failed(look)
                call.sleep(pause)
                pause = min(pause * 1.5, _LONGEST)
        return self._links

    def _refuse_failed(self, look: Look) -> None:
        """Raise what went wrong, if something did."""
        if look.status in self._final | _OVER:
            raise self._failure(look)

    @abstractmethod
    def _failure(self, look: Look) -> FirecrestException:
        """Return what went wrong, as *look* tells."""


class ExternalDownload(ExternalTransfer):
    """A file on its way from the cluster."""

    _final = frozenset({"117", "118"})
    _links_at = "117"

    @property
    def object_storage_link(self) -> str:
        """The link to the staged file; waits until it is staged. Anybody who has it can use it."""
        return self._link(self._patience(None))

    def _link(self, call: Call) -> str:
        found = self._await_links(call)
        # Servers up to 1.13 tell the link only.
        return str(found.get("url", "")) if isinstance(found, dict) else str(found)

    def finish_download(
        self,
        target_path: Local,
        *,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Fetch the file into a local one, or into a binary stream, as often as wanted.

        Waits until it is staged. A local file appears complete or not at all. *progress* is called
        with the bytes so far and in all; after *timeout* seconds: ETIMEDOUT. Raises
        `StorageDownloadException` where staging failed, EACCES once the link has expired.
        """
        call = self._patience(timeout)
        url = self._link(call)
        with _writing(target_path) as sink:
            if url:
                self._store.fetch(url, sink, timeout=max(call.remaining(), 0.1), progress=progress)

    def invalidate_object_storage_link(self) -> None:
        """Have the server drop the staged file. v2 can't: there the link only is forgotten here.

        On either version the object may stay until the store removes it.
        """
        self._stage.give_up()
        self._links = None
        self._last = Look("302", "")

    def tidy(self) -> bool:
        """Remove what staging has left on the cluster; return whether there is nothing to wait for.

        v2's job may still be writing its logs when the file can be fetched already.
        """
        return self._stage.tidy()

    def _failure(self, look: Look) -> FirecrestException:
        if look.status == "302":
            return refusal(errno.ESTALE, "the staged file has been invalidated: stage it again")
        words = _words(look.data, "the cluster could not stage the file")
        return StorageDownloadException(errno.EIO, words, responses=(_evidence(look, words),))


class ExternalUpload(ExternalTransfer):
    """A file on its way to the cluster."""

    _final = frozenset({"114", "115"})
    _links_at = "111"
    _stage: UploadStage

    def __init__(
        self,
        client: Any,
        stage: UploadStage,
        session: ApiSession,
        store: ObjectStore,
        landing: Landing,
        source: Local,
    ) -> None:
        super().__init__(client, stage, session, store)
        self._landing, self._source = landing, source

    def finish_upload(
        self, *, timeout: float | None = None, progress: Progress | None = None
    ) -> None:
        """Send the file to the object store; waits for the links first.

        The cluster fetches it from there afterwards, which takes up to a minute and the time for
        the copy: see `status`, or call `wait`. May be called again after a failure. *progress* is
        called with the bytes so far and in all; after *timeout* seconds: ETIMEDOUT.
        """
        call = self._patience(timeout)
        message = self._await_links(call)
        with _reading(self._source) as (file, size):
            left = max(call.remaining(), 0.1)
            self._landing.size = size
            self._stage.send(self._store, message, file, size, left, progress)

    def wait(self, *, timeout: float | None = None) -> None:
        """Return when the file is on the cluster, proven by its size there.

        Raises `StorageUploadException` where it failed, ETIMEDOUT after *timeout* seconds.
        """
        call, pause = self._patience(timeout), _FIRST
        while (look := self._look()).status != "114":
            self._refuse_failed(look)
            call.sleep(pause)
            pause = min(pause * 1.5, _LONGEST)

    def cancel(self) -> None:
        """Give the upload up. v1 has no way to: a form that has been sent is copied some day."""
        self._stage.give_up()
        self._last = Look("302", "")

    def _is_settled(self, look: Look) -> bool:
        # v1 goes on trying after 115.
        return look.status == "114" or look.status in _OVER

    def _checked(self, look: Look) -> Look:
        if look.status != "114" or self._landing.is_there():
            return look
        data = look.data if isinstance(look.data, dict) else {}
        text = "the cluster reports success, but the file there is not the one that was sent"
        return Look("115", {"error": text, **data})

    def _links_of(self, data: Any) -> Any:
        return data.get("msg") if isinstance(data, dict) else None

    def _failure(self, look: Look) -> FirecrestException:
        words = _words(look.data, "the cluster could not fetch the file from the object store")
        return StorageUploadException(
            errno.EIO, words, self._landing.path, responses=(_evidence(look, words),)
        )


class Landing:
    """Where an upload is to arrive, and what was there before."""

    def __init__(
        self, server: ServerV1 | ServerV2, system: str, remote: str, name: str, size: int
    ) -> None:
        self._server, self._system = server, system
        self.size = size
        self.path = remote.rstrip("/") or "/"
        found = self._stat()
        if found is not None and int(found.get("mode", 0)) & 0o170000 == 0o040000:
            self.path = f"{self.path.rstrip('/')}/{name}"
            found = self._stat()
        elif found is None:
            # Neither version says so later.
            parent = directory_of(self.path)
            server.stat(system, parent, dereference=True)
        # What is seconds old may look the same after it was replaced.
        old = found is not None and int(found.get("ctime", 0)) < time.time() - 5
        self._before = found if old else None

    def is_there(self) -> bool:
        """Tell whether a file of the right size is there that wasn't before. One request."""
        now = self._stat()
        return now is not None and int(now.get("size", -1)) == self.size and now != self._before

    def _stat(self) -> dict[str, Any] | None:
        with suppress(NotFound):
            found = dict(self._server.stat(self._system, self.path, dereference=True))
            found.pop("atime", None)
            return found
        return None


def _words(data: Any, default: str) -> str:
    told = data.get("error") if isinstance(data, dict) else data
    return quote(str(told)) if isinstance(told, str) and told else default


def _evidence(look: Look, words: str) -> Response:
    status = int(look.status) if look.status.isdecimal() else 0
    return Response(status, {}, words, "GET", "the transfer's task")


# -- local files --------------------------------------------------------------------------------


@contextmanager
def _writing(target: Local) -> Iterator[BinaryIO]:
    """Open *target* for writing; a file by that name is replaced when everything is in it."""
    if not isinstance(target, str | os.PathLike):
        yield target
        return
    path = os.fspath(target)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            yield device
        return
    path = os.path.realpath(path)
    part = f"{path}.{secrets.token_hex(4)}.part"
    try:
        with open(part, "xb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


@contextmanager
def _reading(source: Local) -> Iterator[tuple[File, int]]:
    """Open *source*; tell its size in bytes as well."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as file:
            yield file, os.fstat(file.fileno()).st_size
    else:
        yield source, source.seek(0, os.SEEK_END)


def size_and_name(source: Local) -> tuple[int, str]:
    """Return the size of a local file in bytes, and its name. Raises `OSError` where it's gone."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb"):
            return os.stat(source).st_size, os.fspath(source)
    return source.seek(0, os.SEEK_END), str(getattr(source, "name", "upload.bin"))
