"""`/storage/xfer-external/*`: large files by way of the object store.

Down: the file is put into the store at once. Up: the client gets a form; what it posts is found by
a sweep that comes now and then, and copied to the cluster in place. A copy that fails is tried
again at every sweep, for as long as the object is there.
"""

from __future__ import annotations

import base64
import re
import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from flask import Flask, Response, request

from .. import writing
from ..login import Login, fail
from .answers import Answer, reply, task_created
from .background import Background
from .compute import check_readable
from .entry import checked, cluster_of, crash, form, username
from .remote import Failed, Session
from .tasks import Forbidden
from .verdicts import path_header

_DOWNLOAD, _UPLOAD = "Failed to download file", "Failed to upload file"
_WAITING = "Waiting for Presigned URL to upload file to staging area (Amazon S3 - Signature v4)"
_GONE = "File was deleted from staging area. Start a new upload process"
_CURL = "curl -f --show-error -s -i -X POST             "
_CANT_READ = "curl: (26) Failed to open/read local data from file/application"
# What the shell, or curl, makes something else of in an unquoted path.
_UNSAFE = re.compile(r"[ ,]|\$[\w{@*#?$!-]|\{[^{}]*,[^{}]*\}")
_FIELDS = (
    *("key", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "policy"),
    "x-amz-signature",
)
_BLOCK = 1 << 18
_STEP = 0.1


class External:
    """The handlers, and the sweep."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._site = background.site
        self._board = background.board
        self._store = background.site.store
        self._lock = threading.Lock()  # guards _sweeper
        self._sweeper: threading.Thread | None = None

    def register(self, app: Flask) -> None:
        """Add the routes."""
        for name in ("download", "upload", "invalidate"):
            path = f"storage/xfer-external/{name}"
            app.add_url_rule(f"/{path}", path, getattr(self, name), methods=["POST"])

    def download(self) -> Response:
        """Begin to stage a file, to be fetched by its URL."""
        session = Session(self._site, cluster_of(self._site, "Failed operation"), username())
        path = checked(form(self._site, limited=False).get("sourcePath"), "sourcePath", _DOWNLOAD)
        try:
            check_readable(session, path)
        except Failed as exc:
            header = path_header(exc, path, directory=False)
            raise Answer(400, header, description="sourcePath error") from exc
        task_id = self._board.create(session.username, "storage", session.cluster.name)
        self._background.start(task_id, lambda: self._stage(session, path, task_id))
        return task_created(task_id, 201)

    def _stage(self, session: Session, path: str, task_id: str) -> None:
        data = {"source": path, "system_name": session.cluster.name}
        self._board.update(task_id, "116", data)
        name = path.rsplit("/", 1)[-1]
        key = f"{session.username}/{task_id}/{name}"
        try:
            session.run(lambda login: self._send(login, path, key))
        except Failed as exc:
            words = f"Upload to Staging area has failed. Object: {name}. {exc.text}"
            self._board.update(task_id, "118", {**data, "error": words})
        else:
            self._board.update(task_id, "117", {**data, "url": self._store.presign("GET", key)})

    def _send(self, login: Login, path: str, key: str) -> str:
        if _UNSAFE.search(path):
            fail(_CANT_READ, status=26)
        try:
            with open(login.place(path).local, "rb") as file:
                self._store.put(key, _blocks(file))
        except OSError:
            fail(_CANT_READ, status=26)
        return ""

    def upload(self) -> Response:
        """Begin an upload: the task will hold the form."""
        session = Session(self._site, cluster_of(self._site, "Failed operation"), username())
        fields = form(self._site, limited=False)
        target = checked(fields.get("targetPath"), "targetPath", _UPLOAD)
        source = checked(fields.get("sourcePath"), "sourcePath", _UPLOAD)
        target = _landing_place(session, target, source.rsplit("/", 1)[-1])
        task_id = self._board.create(session.username, "storage", session.cluster.name)
        self._background.start(task_id, lambda: self._offer(session, source, target, task_id))
        self._ensure_sweeper()
        return task_created(task_id, 201)

    def _offer(self, session: Session, source: str, target: str, task_id: str) -> None:
        name = source.rsplit("/", 1)[-1]
        data: dict[str, Any] = {
            "hash_id": task_id,
            "msg": _WAITING,
            "source": name,
            "status": "110",
            "system_addr": "127.0.0.1:22",
            "system_name": session.cluster.name,
            "target": target,
            "trace_id": "",
            "user": session.username,
        }
        self._board.update(task_id, "110", data)
        key = f"{session.username}/{task_id}/{name}"
        url = self._store.presign("GET", key)
        message = {
            **self._form(key, source),
            "download_url": url,
            "action": f"curl -f -s -G -o '{target}' -- '{url}'",
            "cert": _sealed_certificate(),
        }
        self._board.update(task_id, "111", {**data, "status": "111", "msg": message})

    def _form(self, key: str, source: str) -> dict[str, Any]:
        made = self._store.form(key)
        fields = {name: made.fields[name] for name in _FIELDS}
        options = " ".join(f"-F '{name}={value}'" for name, value in fields.items())
        parameters = {
            "data": fields,
            "files": source,
            "headers": {},
            "json": {},
            "method": "POST",
            "params": {},
            "url": made.url,
        }
        return {
            "command": f"{_CURL}{made.url} {options} -F file=@{source}",
            "parameters": parameters,
        }

    def invalidate(self) -> Response:
        """Say that the URL is void; the real server forgets to remove the object."""
        task_id = request.headers.get("X-Task-Id")
        if task_id is None:
            raise Answer(400, error="Header X-Task-Id missing")
        if not task_id.isalnum():
            raise Answer(400, error="Header X-Task-Id is not alphanumeric")
        try:
            self._board.get(task_id, username())
        except (KeyError, Forbidden) as exc:
            raise Answer(400, error="Invalid X-Task-Id") from exc
        prefix = f"{username()}/{task_id}/"
        keys = self._store.keys()
        if not any(key.startswith(prefix) for key in keys):
            crash()
        self._board.delete(task_id, username())
        return reply({"success": "URL invalidated successfully"}, 201)

    # -- the sweep ----------------------------------------------------------------------------

    def _ensure_sweeper(self) -> None:
        with self._lock:
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="sweep", daemon=True)
                self._sweeper.start()

    def _sweep(self) -> None:
        last = time.monotonic()
        while not self._site.closed.wait(min(_STEP, self._site.knobs.poll_interval)):
            if time.monotonic() >= last + self._site.knobs.poll_interval:
                last = time.monotonic()
                for task in self._board.listed().values():
                    if task["service"] == "storage" and task["status"] in ("111", "115"):
                        self._look(task["hash_id"], task["status"], task["data"])

    def _look(self, task_id: str, status: str, data: dict[str, Any]) -> None:
        """See what has become of one upload, and start to copy it if it is there."""
        staged = self._store.exists(f"{data['user']}/{task_id}/{data['source']}")
        if status == "111":
            if not staged:
                return
            self._board.update(task_id, "112", data)
        elif not staged:
            self._board.update(task_id, "400", _GONE)
            return
        else:
            self._board.update(task_id, "113")
        self._background.start(task_id, lambda: self._land(task_id, data))

    def _land(self, task_id: str, data: dict[str, Any]) -> None:
        """Copy an object to its place on the cluster."""
        names = ("source", "system_addr", "system_name", "target")
        shown = {name: data[name] for name in names}
        self._board.update(task_id, "113", shown)
        key = f"{data['user']}/{task_id}/{data['source']}"
        cluster = self._site.clusters[data["system_name"]]
        session = Session(self._site, cluster, data["user"])
        try:
            session.run(lambda login: self._fetch(session, login, data["target"], key))
        except Failed:
            self._board.update(task_id, "115", {**data, "status": "115"})
            return
        self._board.update(task_id, "114", shown)
        self._store.delete(key)

    def _fetch(self, session: Session, login: Login, target: str, key: str) -> str:
        blob = self._store.find(key)
        if blob is None:
            fail("curl: (22) The requested URL returned error: 404", status=22)
        if time.time() > blob.stored + self._site.knobs.url_ttl:
            fail("curl: (22) The requested URL returned error: 403", status=22)
        with blob.open() as stream:
            path = session.word("curl -f -s -G -o '{path}'", target)
            writing.cat(login, path, stream, blob.size)
        return ""


def _landing_place(session: Session, target: str, name: str) -> str:
    """Return the file that *target* stands for: itself, or *name* in that directory."""
    if _probe(session, target) is None:
        return f"{target}/{name}"
    parent = "/".join(target.split("/")[:-1])
    failure = _probe(session, parent)
    if failure is not None:
        header = path_header(failure, parent, directory=True)
        words = "'targetPath' directory not allowed"
        raise Answer(400, header, description=_UPLOAD, error=words)
    return target


def _probe(session: Session, folder: str) -> Failed | None:
    """Make and remove a file in a directory; return what stands in the way."""
    name = f"{folder}/.firecrest.{secrets.token_hex(16)}"

    def command(login: Login) -> str:
        path = session.word("touch -- '{path}'", name)
        writing.touch(login, path)
        writing.rm(login, path)
        return ""

    try:
        session.run(command)
    except Failed as exc:
        return exc
    return None


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _sealed_certificate() -> list[str]:
    """Return what looks like the encrypted certificate, which nobody but the server can read."""
    sealed = base64.urlsafe_b64encode(secrets.token_bytes(96)).decode()
    return [sealed, f"/tmp/dummy{secrets.token_hex(4)}"]
