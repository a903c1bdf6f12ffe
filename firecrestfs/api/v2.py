"""FirecREST v2: one method an endpoint, in the server's own shapes.

Every method takes the system first, checks what it sends before it sends it (see `names`), and
returns the decoded JSON of the answer, unwrapped from its outermost key. Raises
`FirecrestException` only; thread-safe. Answers of all 2.x versions are understood: use
`decode.pick` for keys whose spelling changed.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

from ..errors import FirecrestException
from ..model import Features
from .archives import archive_body, checked_source
from .decode import pick
from .faults import refusal
from .multipart import Multipart
from .names import checked_path, checked_text, upload_name
from .newjobs import NewJobs
from .session import ApiSession, Request
from .v2_http import SLOWEST, SenderV2, amount, dict_of, flag, list_of, odd, text_of

_DIGEST_LINE = re.compile(r'"message": ?"Invalid output: (?:\\\\)?([0-9a-f]{64}) ')


class ServerV2(SenderV2):
    """The endpoints of one FirecREST v2 server."""

    def __init__(self, session: ApiSession) -> None:
        super().__init__(session)
        self._new_jobs = NewJobs()

    def features(self, system: str) -> Features:
        """Return what this version can do."""
        return Features()

    # -- status -------------------------------------------------------------------------------

    def systems(self) -> list[dict[str, Any]]:
        """`GET /status/systems`: all systems with their health and limits."""
        return list_of(self._get("/status/systems"), "systems")

    def userinfo(self, system: str) -> dict[str, Any]:
        """`GET /status/{system}/userinfo`: who the token's user is there."""
        return dict_of(self._get("/status/{system}/userinfo", system))

    def nodes(self, system: str) -> list[dict[str, Any]]:
        """`GET /status/{system}/nodes`."""
        return list_of(self._get("/status/{system}/nodes", system), "nodes")

    def partitions(self, system: str) -> list[dict[str, Any]]:
        """`GET /status/{system}/partitions`; the state is in the key `partition`."""
        return list_of(self._get("/status/{system}/partitions", system), "partitions")

    def reservations(self, system: str) -> list[dict[str, Any]]:
        """`GET /status/{system}/reservations`."""
        return list_of(self._get("/status/{system}/reservations", system), "reservations")

    # -- reading ------------------------------------------------------------------------------

    def ls(
        self,
        system: str,
        path: str,
        *,
        hidden: bool = True,
        numeric: bool = True,
        recursive: bool = False,
        dereference: bool = False,
    ) -> list[dict[str, Any]]:
        """`GET ops/ls`. A trailing slash is sent: it expands a link to a directory."""
        params = {
            "showHidden": flag(hidden),
            "numericUid": flag(numeric),
            "recursive": flag(recursive),
            "dereference": flag(dereference),
        }
        clean = checked_path(path, slash=True)
        return list_of(self._read("ls", system, clean, params), "output")

    def stat(self, system: str, path: str, *, dereference: bool = False) -> dict[str, Any]:
        """`GET ops/stat`: numbers only, times as epoch seconds; lstat unless *dereference*."""
        params = {"dereference": flag(dereference)}
        return dict_of(self._read("stat", system, checked_path(path), params), "output")

    def file(self, system: str, path: str) -> str:
        """`GET ops/file`: what `file` says; a missing file is described, not refused."""
        return text_of(self._read("file", system, checked_path(path)), "output")

    def checksum(self, system: str, path: str) -> dict[str, Any]:
        """`GET ops/checksum`: `algorithm` and `checksum`, SHA-256 in hex."""
        try:
            answer = self._read("checksum", system, checked_path(path))
            found = dict_of(answer, "output")
        except FirecrestException as exc:
            # The server splits the tool's line at white space, so a path that has some is refused
            # with the whole line in the message: the digest is at its start.
            line = _DIGEST_LINE.search(exc.responses[-1].text) if exc.responses else None
            if line is None:
                raise
            return {"algorithm": "SHA256", "checksum": line[1]}
        # The tool marks escaped names with a backslash before the digest.
        digest = str(found.get("checksum", "")).lstrip("\\").lower()
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise odd(answer)
        return {**found, "checksum": digest}

    def head(
        self, system: str, path: str, *, size: int = 0, lines: int = 0, skip: bool = False
    ) -> dict[str, Any]:
        """`GET ops/head`: *size* bytes or *lines*; ten lines where both are 0."""
        params = amount(size, lines) | ({"skipTrailing": "true"} if skip else {})
        return dict_of(self._read("head", system, checked_path(path), params), "output")

    def tail(
        self, system: str, path: str, *, size: int = 0, lines: int = 0, skip: bool = False
    ) -> dict[str, Any]:
        """`GET ops/tail`: as `head`; *skip*: from the given byte or line on."""
        params = amount(size, lines) | ({"skipHeading": "true"} if skip else {})
        return dict_of(self._read("tail", system, checked_path(path), params), "output")

    def view(self, system: str, path: str, *, size: int, offset: int = 0) -> str:
        """`GET ops/view`: text, sliced by characters: see `TypedClient.view` for exact bytes."""
        params = {"size": str(size), "offset": str(offset)}
        return text_of(self._read("view", system, checked_path(path), params), "output")

    def read_range(
        self, system: str, path: str, offset: int, size: int, total: int | None = None
    ) -> bytes:
        """v2 has no byte ranges. Raises EOPNOTSUPP."""
        raise refusal(errno.EOPNOTSUPP, "FirecREST v2 has no byte ranges", path)

    def is_empty(self, system: str, path: str) -> bool:
        """Tell whether a directory has no entries."""
        return not self.ls(system, path)

    def download(self, system: str, path: str, *, limit: int = 1 << 30) -> bytes:
        """`GET ops/download`: the whole file. Raises EFBIG above *limit* bytes."""
        request = Request(
            "GET",
            self._endpoint("/filesystem/{system}/ops/download", system),
            "/filesystem/{system}/ops/download",
            {"path": checked_path(path)},
            idempotent=True,
            mutating=False,
            path=path,
            limit=limit,
            deadline_s=self._session.deadline_s + min(limit, 16 << 20) / SLOWEST,
        )
        return self._session.request(request).body

    # -- changing -----------------------------------------------------------------------------

    def upload(
        self,
        system: str,
        directory: str,
        name: str,
        content: bytes | BinaryIO,
        *,
        limit: int,
        new: bool = False,
    ) -> None:
        """`POST ops/upload`: write the file *name* in *directory*, in place. Not atomic.

        *new* (nothing of that name is there) makes no difference here.
        *content* is bytes or a seekable binary file. Raises EINVAL where it is empty (the server
        hangs on that) or the name can't travel in a header: archives can do both. EFBIG above
        *limit* bytes.
        """
        size = len(content) if isinstance(content, bytes) else content.seek(0, os.SEEK_END)
        path = checked_path(directory).rstrip("/") + "/" + upload_name(name)
        if size == 0:
            raise refusal(errno.EINVAL, "an empty file can't be uploaded directly", path)
        if size > limit:
            raise refusal(errno.EFBIG, f"more than the {limit} bytes of a direct upload", path)
        self._change(
            "POST",
            "upload",
            system,
            path,
            params={"path": checked_path(directory)},
            body=Multipart(name, content, size),
            deadline_s=self._session.deadline_s + size / SLOWEST,
        )

    def empty(self, system: str, path: str) -> None:
        """`POST ops/upload` of no bytes: cuts the file at once, then answers 408 in any case.

        The server waits for the end of an input that it never closes. Look at the file afterwards.
        """
        directory, _, name = checked_path(path).rpartition("/")
        self._change(
            "POST",
            "upload",
            system,
            path,
            params={"path": directory or "/"},
            body=Multipart(upload_name(name), b"", 0),
        )

    def mkdir(self, system: str, path: str, *, parents: bool = False) -> dict[str, Any]:
        """`POST ops/mkdir`. Raises EEXIST, except for a directory with *parents*."""
        clean = checked_path(path)
        body = {"sourcePath": clean, "parent": parents}
        return dict_of(self._change("POST", "mkdir", system, clean, json=body), "output")

    def rm(self, system: str, path: str) -> None:
        """`DELETE ops/rm`: delete *path* and everything below it, without asking."""
        clean = checked_path(path)
        if clean == "/":
            raise refusal(errno.EBUSY, "the root directory can't be removed", path)
        self._change("DELETE", "rm", system, clean, params={"path": clean})

    def rename(self, system: str, old: str, new: str) -> None:
        """v2 renames by jobs only. Raises EOPNOTSUPP."""
        raise refusal(errno.EOPNOTSUPP, "FirecREST v2 has no synchronous rename", old)

    def symlink(self, system: str, target: str, link: str) -> dict[str, Any]:
        """`POST ops/symlink`: *target* is the text, absolute and inside the file systems."""
        clean = checked_path(link)
        checked_path(target)
        body = {"sourcePath": target, "linkPath": clean}
        return dict_of(self._change("POST", "symlink", system, clean, json=body), "output")

    def chmod(self, system: str, path: str, mode: str) -> dict[str, Any]:
        """`PUT ops/chmod` with what the tool understands; follows links."""
        clean = checked_path(path)
        body = {"sourcePath": clean, "mode": checked_text(mode, "the mode")}
        return dict_of(self._change("PUT", "chmod", system, clean, json=body, again=True), "output")

    def chown(self, system: str, path: str, owner: str = "", group: str = "") -> dict[str, Any]:
        """`PUT ops/chown`; empty: unchanged, but an owner alone brings its login group along."""
        clean = checked_path(path)
        body = {
            "sourcePath": clean,
            "owner": checked_text(owner, "the owner"),
            "group": checked_text(group, "the group"),
        }
        return dict_of(self._change("PUT", "chown", system, clean, json=body, again=True), "output")

    def compress(
        self,
        system: str,
        source: str,
        target: str,
        *,
        compression: str = "gzip",
        pattern: str | None = None,
        dereference: bool = False,
    ) -> None:
        """`POST ops/compress`: archive *source*, named relative to its parent, as *target*.

        Raises EINVAL for what the server would paste unquoted: a name that starts with `-`, and
        with *pattern* anything but plain characters.
        """
        body = archive_body(source, target, compression)
        checked_source(body["sourcePath"], body["targetPath"], pattern)
        body["dereference"] = dereference
        if pattern is not None:
            body["matchPattern"] = pattern
        self._change("POST", "compress", system, body["targetPath"], json=body)

    def extract(self, system: str, archive: str, target: str, *, compression: str = "gzip") -> None:
        """`POST ops/extract`: unpack *archive* into the existing directory *target*."""
        body = archive_body(archive, target, compression)
        self._change("POST", "extract", system, body["targetPath"], json=body)

    # -- jobs ---------------------------------------------------------------------------------

    def submit(self, system: str, job: Mapping[str, Any]) -> dict[str, Any]:
        """`POST jobs`: never sent twice. *job* in the server's own (camelCase) fields."""
        template = "/compute/{system}/jobs"
        told = dict_of(self._send("POST", template, system, json={"job": dict(job)}))
        self._new_jobs.remember(system, str(pick(told, "jobId", "")), job)
        return told

    def jobs(self, system: str, *, all_users: bool = False) -> list[dict[str, Any]]:
        """`GET jobs`: the user's jobs of the last day or week."""
        params = {"allusers": "true"} if all_users else {}
        found = list_of(self._get("/compute/{system}/jobs", system, params=params), "jobs")
        return [self._new_jobs.completed(system, raw) for raw in found]

    def job(self, system: str, job_id: str) -> list[dict[str, Any]]:
        """`GET jobs/{id}`: may have several entries for one id (requeued)."""
        template = "/compute/{system}/jobs/{id}"
        found = list_of(self._get(template, system, job_id), "jobs")
        return [self._new_jobs.completed(system, raw) for raw in found]

    def job_metadata(self, system: str, job_id: str) -> list[dict[str, Any]]:
        """`GET jobs/{id}/metadata`: script and output paths; fields may be null."""
        template = "/compute/{system}/jobs/{id}/metadata"
        found = list_of(self._get(template, system, job_id), "jobs")
        return [self._new_jobs.with_whole_paths(system, raw) for raw in found]

    def cancel(self, system: str, job_id: str) -> None:
        """`DELETE jobs/{id}`. Raises EALREADY for one that has ended."""
        self._send("DELETE", "/compute/{system}/jobs/{id}", system, job_id, again=True)

    # -- transfer jobs ------------------------------------------------------------------------

    def transfer(self, system: str, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """`POST transfer/{operation}`: never sent twice. Returns job and directives.

        Paths in *body* are checked here; whether they survive the job's template is the caller's
        to know (`& < > " '` don't).
        """
        for key in ("sourcePath", "targetPath"):
            if key in body:
                checked_path(body[key])
        template = "/filesystem/{system}/transfer/" + operation
        return dict_of(self._send("POST", template, system, json=dict(body)))

    def transfer_rm(self, system: str, path: str, account: str | None = None) -> dict[str, Any]:
        """`DELETE transfer/rm`: never sent twice."""
        params = {"path": checked_path(path)} | ({"account": account} if account else {})
        template = "/filesystem/{system}/transfer/rm"
        return dict_of(self._send("DELETE", template, system, params=params))
