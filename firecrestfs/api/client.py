"""The tutorial's client: `Firecrest`, with the names and shapes that users know.

It finds out at its first request which version the server speaks, and answers in the same shapes
on each. The mount sees `typed.TypedClient` instead.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from ..errors import FirecrestException
from . import shapes
from .auth import TokenSource
from .decode import limits_of, pick
from .faults import Unauthorized, refusal
from .jobcalls import JobCalls
from .names import checked_path
from .objects import ObjectStore
from .session import ApiSession, Request
from .statuscalls import StatusCalls
from .storagecalls import StorageCalls
from .v1 import ServerV1
from .v2 import ServerV2

#: Both offer the same methods with the same results.
Server = ServerV1 | ServerV2
_PARAMETERS = "/status/parameters"
#: A local file: its name, or an open binary stream.
Local = str | os.PathLike[str] | BinaryIO


class Firecrest(StatusCalls, JobCalls, StorageCalls):
    """A FirecREST server. Thread-safe; every method may raise `FirecrestException`.

    *authorization* is anything with `get_access_token()`. *interrupted*, *deadline_s* and the other
    keywords are `ApiSession`'s; *sa_role* is there for scripts that name it.
    """

    def __init__(
        self,
        firecrest_url: str,
        authorization: TokenSource,
        verify: bool | str | None = None,
        sa_role: str = "firecrest-sa",
        *,
        api_version: str | None = None,
        deadline_s: float = 90.0,
        read_timeout_s: float = 75.0,
        max_requests: int = 6,
        interrupted: Callable[[], bool] | None = None,
        allow_http: bool = False,
        fail_fast: bool = False,
    ) -> None:
        checked = True if verify is None else verify
        self.session = ApiSession(
            firecrest_url,
            authorization,
            deadline_s=deadline_s,
            read_timeout_s=read_timeout_s,
            max_requests=max_requests,
            interrupted=interrupted,
            allow_http=allow_http,
            verify=checked,
            fail_fast=fail_fast,
        )
        self.objects = ObjectStore(interrupted=interrupted, allow_http=allow_http, verify=checked)
        self._lock = threading.Lock()  # guards _server
        self._server: Server | None = None
        self._told: Any = None  # what v1's parameters were when we probed
        self._limits: dict[str, int] = {}
        self._version = ""
        self.set_api_version(api_version or "")

    def set_api_version(self, api_version: str) -> None:
        """Say which version the server speaks (`1.16.0`, `2`), before anything is asked."""
        self._version = str(api_version or "").strip().lstrip("v")[:1]

    @property
    def timeout(self) -> float:
        """How many seconds one call may take, waits and repeats included; can be set."""
        return self.session.deadline_s

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        """Set it, for all later calls."""
        self.session.deadline_s = float(seconds)
        self.session.read_timeout_s = min(self.session.read_timeout_s, float(seconds))

    def server(self) -> Server:
        """Return the server's endpoints; asks once which version it speaks."""
        with self._lock:
            found = self._server
        if found is None:
            # Several threads may ask at the same time; all get the same answer.
            version = self._version or self._probe()
            if version not in ("1", "2"):
                text = f"there is no FirecREST v{version}: 1 or 2 is meant by the API version"
                raise refusal(errno.EINVAL, text)
            one = version == "1"
            found = ServerV1(self.session, self._told) if one else ServerV2(self.session)
            with self._lock:
                self._server = self._server or found
        return found

    def _probe(self) -> str:
        """Return "1" or "2". A v2 server shows its version in each answer, refusals included.

        v1 publishes parameters; the version among them may be empty, so their presence decides.
        """
        liveness = "/status/liveness/"
        found = self._version_of(liveness, with_token=False)
        found = found or self._version_of(_PARAMETERS, with_token=True)
        found = found or self._version_of("/status/systems", with_token=True)
        if not found:
            text = f"nothing at {self.session.url} answers as FirecREST: check FIRECREST_URL"
            raise refusal(errno.EPROTO, text)
        return found

    def _version_of(self, endpoint: str, *, with_token: bool) -> str:
        request = Request(
            "GET", endpoint, endpoint, idempotent=True, mutating=False, with_token=with_token
        )
        try:
            answer = self.session.request(request)
        except FirecrestException as exc:
            if not exc.responses:
                raise
            if "f7t-appversion" in exc.responses[-1].headers:
                return "2"
            if exc.transient and (with_token or not isinstance(exc, Unauthorized)):
                raise
            return ""
        if "f7t-appversion" in answer.headers:
            return "2"
        body = answer.json()
        if endpoint == _PARAMETERS:
            self._told = pick(body, "out")
        two = pick(body, "healthcheckRuns") is not None or pick(body, "systems") is not None
        return "2" if two else "1" if pick(body, "out") is not None else ""

    # -- files --------------------------------------------------------------------------------

    def list_files(
        self,
        system_name: str,
        target_path: str,
        show_hidden: bool = False,
        recursive: bool = False,
        numeric_uid: bool = False,
        dereference: bool = False,
    ) -> list[dict[str, Any]]:
        """Return a directory's entries, names as the server tells them."""
        found = self.server().ls(
            system_name,
            target_path,
            hidden=show_hidden,
            numeric=numeric_uid,
            recursive=recursive,
            dereference=dereference,
        )
        return [shapes.entry(raw) for raw in found]

    def stat(self, system_name: str, target_path: str, dereference: bool = False) -> dict[str, Any]:
        """Return the numbers of `os.stat_result`; a link's own unless *dereference*."""
        return self.server().stat(system_name, target_path, dereference=dereference)

    def file_type(self, system_name: str, target_path: str) -> str:
        """Return what the `file` tool says."""
        return self.server().file(system_name, target_path)

    def checksum(self, system_name: str, target_path: str) -> str:
        """Return the SHA-256 as hex digits."""
        return str(self.server().checksum(system_name, target_path)["checksum"])

    def head(
        self,
        system_name: str,
        target_path: str,
        bytes: int | None = None,
        lines: int | None = None,
        skip_ending: bool = False,
    ) -> str:
        """Return the first bytes or lines as text, ten lines by default."""
        found = self.server().head(
            system_name, target_path, size=bytes or 0, lines=lines or 0, skip=skip_ending
        )
        return str(found.get("content", ""))

    def tail(
        self,
        system_name: str,
        target_path: str,
        bytes: int | None = None,
        lines: int | None = None,
        skip_beginning: bool = False,
    ) -> str:
        """Return the last bytes or lines as text, ten lines by default."""
        found = self.server().tail(
            system_name, target_path, size=bytes or 0, lines=lines or 0, skip=skip_beginning
        )
        return str(found.get("content", ""))

    def view(self, system_name: str, target_path: str) -> str:
        """Return the text of a small file."""
        size = limits_of(self._limit(system_name)).view
        return self.server().view(system_name, target_path, size=size)

    def mkdir(self, system_name: str, target_path: str, p: bool | None = None) -> str:
        """Create a directory, with *p* also its parents; return its path."""
        self.server().mkdir(system_name, target_path, parents=bool(p))
        return target_path

    def symlink(self, system_name: str, target_path: str, link_path: str) -> str:
        """Create the link *link_path* to *target_path*; return the latter."""
        self.server().symlink(system_name, target_path, link_path)
        return target_path

    def chmod(self, system_name: str, target_path: str, mode: str) -> None:
        """Change permissions: octal digits or what the tool takes."""
        self.server().chmod(system_name, target_path, str(mode))

    def chown(
        self, system_name: str, target_path: str, owner: str | None = None, group: str | None = None
    ) -> None:
        """Change owner, group or both."""
        if owner and not group:
            # The server runs `chown OWNER:`, which would set the owner's login group as well.
            group = str(self.stat(system_name, target_path, dereference=True)["gid"])
        self.server().chown(system_name, target_path, owner or "", group or "")

    def simple_delete(self, system_name: str, target_path: str) -> None:
        """Delete a file, or a directory with everything in it."""
        self.server().rm(system_name, target_path)

    def simple_download(self, system_name: str, source_path: str, target_path: Local) -> None:
        """Copy a small remote file to a local one, or into a binary stream."""
        data = self.server().download(system_name, source_path)
        if isinstance(target_path, str | os.PathLike):
            with open(target_path, "wb") as file:
                file.write(data)
        else:
            target_path.write(data)

    def simple_upload(
        self,
        system_name: str,
        source_path: Local,
        target_path: str,
        filename: str | None = None,
    ) -> None:
        """Copy a small local file, or a binary stream, into the remote directory *target_path*."""
        checked_path(target_path)
        limit = self._limit(system_name)
        if isinstance(source_path, str | os.PathLike):
            name = filename or os.path.basename(os.fspath(source_path))
            with open(source_path, "rb") as file:
                self.server().upload(system_name, target_path, name, file, limit=limit)
        else:
            name = filename or os.path.basename(str(getattr(source_path, "name", "")))
            self.server().upload(system_name, target_path, name, source_path, limit=limit)

    def _limit(self, system_name: str) -> int:
        """Return `max_ops_file_size` of the system; asked for once."""
        if system_name.lower() not in self._limits:
            found = {str(raw.get("name")): shapes.max_ops(raw) for raw in self.server().systems()}
            self._limits = found
        return self._limits.get(system_name.lower(), 5 * 1024 * 1024)
