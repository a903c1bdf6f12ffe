"""`/filesystem/{system}/transfer/*`: file operations as batch jobs, and staged transfers."""

from __future__ import annotations

import base64
import json
import math
import os
import secrets
import uuid
from typing import Any, NamedTuple

from flask import Flask, Response

from .. import archives
from ..jobs import Submission
from ..site import Site
from .answers import ApiError, reply
from .compute import slurm_command
from .directives import Directives, read_directives
from .entry import Call, enter
from .fields import Body, Query, read_json
from .jobscripts import (
    COMPRESS,
    COMPRESS_MATCHING,
    COPY,
    DELETE,
    EXTRACT,
    MOVE,
    Operation,
    Scripts,
)
from .ops import COMPRESSIONS, stat_numbers
from .status import STREAMER

_PATH = "/bin:/usr/bin/:/usr/local/bin/"


class _Job(NamedTuple):
    """A job that is about to be submitted."""

    call: Call
    account: str | None

    @property
    def folder(self) -> str:
        """Where it works. Raises ApiError."""
        cluster = self.call.cluster
        if not cluster.work_root:
            words = f"The system {cluster.name} has no filesystem defined as default_work_dir"
            raise ApiError(500, str((words,)), unhandled=True)
        return f"{cluster.work_root}/{self.call.username}"

    @property
    def scripts(self) -> Scripts:
        """What writes its script. Raises ApiError if an account is missing."""
        lines = "\n".join(self.call.cluster.transfer_directives)
        if "{account}" in lines:
            if self.account is None:
                raise ApiError(400, "Account parameter is required on this system.")
            lines = lines.format(account=self.account)
        return Scripts(lines, self.call.site.alarms)

    def submit(self, name: str, script: str) -> dict[str, Any]:
        """Submit it; return how the answer describes it. Raises ApiError."""
        unique, folder = uuid.uuid4(), self.folder
        stdout = f"{folder}/.f7t_file_handling_job_{unique}.log"
        stderr = f"{folder}/.f7t_file_handling_job_error_{unique}.log"
        request = Submission(
            working_directory=folder,
            script=script,
            name=name,
            stdin="/dev/null",
            stdout=stdout,
            stderr=stderr,
            env={"PATH": _PATH},
        )
        with slurm_command():
            job_id = self.call.cluster.scheduler.submit(self.call.login, request)
        return {
            "jobId": job_id,
            "system": self.call.cluster.name,
            "workingDirectory": folder,
            "logs": {"outputLog": stdout, "errorLog": stderr},
        }


class Transfer:
    """The handlers. Flask calls them with the system's name."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def register(self, app: Flask) -> None:
        """Add the routes."""
        for name in ("mv", "cp", "rm", "compress", "extract", "upload", "download"):
            rule = f"/filesystem/<system>/transfer/{name}"
            method = "DELETE" if name == "rm" else "POST"
            app.add_url_rule(rule, f"transfer/{name}", getattr(self, name), methods=[method])

    # -- operations on files ------------------------------------------------------------------

    def mv(self, system: str) -> Response:
        """Move or rename."""
        call, body, source = self._body(system)
        target = body.text("targetPath")
        return self._operate(call, body, MOVE, source=source, target=target)

    def cp(self, system: str) -> Response:
        """Copy, whole trees too."""
        call, body, source = self._body(system)
        target = body.text("targetPath")
        links = "L" if body.boolean("dereference") else "d"
        return self._operate(call, body, COPY, source=source, target=target, links=links)

    def rm(self, system: str) -> Response:
        """Remove a file or a whole tree."""
        json_body = read_json()
        call = enter(self._site, system)
        call.check_path(json_body)
        query = Query()
        path, account = query.text("path"), query.optional("account")
        query.done()
        job = _Job(call, account)
        script = job.scripts.operation(DELETE, source=path)
        return reply({"transferJob": job.submit(DELETE.job_name, script)})

    def compress(self, system: str) -> Response:
        """Make an archive."""
        call, body, source = self._body(system)
        target = body.text("targetPath")
        pattern = body.optional("matchPattern") or ""
        options = "--dereference" if body.boolean("dereference") else ""
        folder, name = os.path.split(source)
        return self._operate(
            call,
            body,
            COMPRESS_MATCHING if pattern else COMPRESS,
            folder=folder,
            name=name,
            target=target,
            pattern=pattern,
            options=options,
            letter=self._letter(body),
        )

    def extract(self, system: str) -> Response:
        """Unpack an archive."""
        call, body, source = self._body(system)
        target, letter = body.text("targetPath"), self._letter(body)
        return self._operate(call, body, EXTRACT, source=source, target=target, letter=letter)

    @staticmethod
    def _letter(body: Body) -> str:
        return archives.COMPRESSIONS.get(body.choice("compression", COMPRESSIONS, "gzip"), "")

    def _body(self, system: str) -> tuple[Call, Body, str]:
        json_body = read_json()
        call = enter(self._site, system)
        call.check_path(json_body)
        call.check_scheduler()
        body = Body(json_body)
        return call, body, body.path()

    @staticmethod
    def _operate(call: Call, body: Body, operation: Operation, **values: str) -> Response:
        job = _Job(call, body.optional("account"))
        body.done()
        script = job.scripts.operation(operation, **values)
        return reply({"transferJob": job.submit(operation.job_name, script)}, 201)

    # -- staged transfers ---------------------------------------------------------------------

    def upload(self, system: str) -> Response:
        """Prepare an upload; a job fetches what will have been sent."""
        job, path, wanted = self._staged(system, upload=True)
        if wanted.method == "wormhole":
            return _announced(job, "Ingress", "magic-wormhole", {"transferMethod": "wormhole"})
        if wanted.method == "streamer":
            self._check_absent(job, path)
            return _announced(job, "Ingress", "firecrest-streamer", _coordinates())
        if wanted.file_size is None:
            words = "unsupported operand type(s) for /: 'NoneType' and 'int'"
            raise ApiError(500, str((words,)), unhandled=True)
        store, largest = self._site.store, job.call.cluster.max_part_size
        key = f"{job.call.username}/{uuid.uuid4()}/{os.path.basename(path)}"
        upload_id = store.create_upload(key)
        numbers = range(1, math.ceil(wanted.file_size / largest) + 1)
        urls = [store.presign("PUT", key, uploadId=upload_id, partNumber=n) for n in numbers]
        script = job.scripts.ingress(
            path,
            head=store.presign("HEAD", key),
            get=store.presign("GET", key),
            largest=largest,
            poll=self._site.knobs.poll_interval,
        )
        directives = {
            "transferMethod": "s3",
            "partsUploadUrls": urls,
            "completeUploadUrl": store.presign("POST", key, uploadId=upload_id),
            "maxPartSize": largest,
        }
        return _answer(job.submit("IngressFileTransfer", script), directives)

    def download(self, system: str) -> Response:
        """Have a job stage a file; say where it will be."""
        job, path, wanted = self._staged(system, upload=False)
        call = job.call
        if wanted.method == "wormhole":
            code = f"{secrets.randbelow(98) + 1}-emulated-{secrets.token_hex(3)}"
            directives: dict[str, Any] = {"transferMethod": "wormhole", "wormholeCode": code}
            return _announced(job, "Outgress", "magic-wormhole", directives)
        size = stat_numbers(self._site, call.login, path, dereference=True)["size"]
        if wanted.method == "streamer":
            return _announced(job, "Outgress", "firecrest-streamer", _coordinates())
        store, largest = self._site.store, call.cluster.max_part_size
        key = f"{call.username}/{uuid.uuid4()}/{os.path.basename(path)}"
        upload_id = store.create_upload(key)
        numbers = range(1, math.ceil(size / largest) + 1)
        script = job.scripts.outgress(
            path,
            urls=[store.presign("PUT", key, uploadId=upload_id, partNumber=n) for n in numbers],
            complete=store.presign("POST", key, uploadId=upload_id),
            largest=largest,
            folder=f"tmp/{uuid.uuid4()}/",
        )
        transfer_job = job.submit("OutgressFileTransfer", script)
        url = store.presign("GET", key)
        return _answer(transfer_job, {"transferMethod": "s3", "downloadUrl": url})

    def _staged(self, system: str, *, upload: bool) -> tuple[_Job, str, Directives]:
        json_body = read_json()
        call = enter(self._site, system)
        call.check_scheduler()
        body = Body(json_body)
        path = body.path()
        wanted = read_directives(body, upload=upload)
        job = _Job(call, body.optional("account"))
        _ = job.folder
        body.done()
        if wanted.method != call.cluster.spec.transfer:
            raise ApiError(400, "Requested transfer method is not available.")
        return job, path, wanted

    def _check_absent(self, job: _Job, path: str) -> None:
        """Refuse a streamed upload over an existing file, as only this method does."""
        try:
            stat_numbers(self._site, job.call.login, path, dereference=True)
        except ApiError as exc:
            if exc.status != 404:
                raise
        else:
            raise ApiError(403, f"Target file '{path}' already exists.")


def _announced(job: _Job, title: str, package: str, directives: dict[str, Any]) -> Response:
    """Answer for a method that is not emulated: its job fails for want of a program."""
    script = job.scripts.absent(title, package)
    return _answer(job.submit(f"{title}FileTransfer", script), directives)


def _coordinates() -> dict[str, Any]:
    where = {
        "ports": STREAMER["portRange"],
        "ips": STREAMER["publicIps"],
        "secret": secrets.token_urlsafe(16),
    }
    encoded = base64.urlsafe_b64encode(json.dumps(where).encode()).decode()
    return {"transferMethod": "streamer", "coordinates": encoded}


def _answer(transfer_job: dict[str, Any], directives: dict[str, Any]) -> Response:
    return reply({"transferJob": transfer_job, "transferDirectives": directives}, 201)
