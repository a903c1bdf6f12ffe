"""FirecREST v1: the methods of `ServerV2`, with the same results, on v1's endpoints.

Form fields go in, the system travels in a header, and every answer is the parsed output of a
tool. What callers must know about the differences is in `features`.
"""

from __future__ import annotations

import errno
import os
import re
import stat as modes
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from ..errors import FirecrestException
from ..model import Features
from . import v1_listing as listing
from . import v1_shapes as shapes
from .archives import archive_body, checked_source
from .auth import bearer_of
from .fault_v1 import said
from .faults import NotFound, TimedOut, TooLarge, refusal
from .multipart import Multipart
from .names import parent_and_name, upload_name
from .session import ApiSession
from .tokens import user_of
from .v1_http import FORBIDDEN, SLOWEST, fit, fit_path, flag, odd, text_of, value_of
from .v1_jobs import JobsV1
from .v1_reading import ReadingV1

_DIGEST = re.compile(r"\\?([0-9a-f]{64})\b")
#: The archives that extract knows, by v2's word for their compression.
_TYPES = {"none": ".tar", "gzip": ".tgz", "bzip2": ".bz2"}


class ServerV1(ReadingV1, JobsV1):
    """The endpoints of one FirecREST v1 server."""

    def __init__(self, session: ApiSession) -> None:
        super().__init__(session)
        self._lock = threading.Lock()  # guards _known
        self._known: shapes.Parameters | None = None

    def features(self) -> Features:
        """Return what this version can do; asks the server once."""
        version = self._parameters().version
        return Features(
            version="1",
            rename=True,
            empty_upload=True,
            exact_ranges=True,
            any_link=True,
            archives=version >= (1, 16),
            compressions=frozenset(_TYPES),
            packings=frozenset({"gzip"}),
            patterns=False,
            forbidden=FORBIDDEN,
        )

    # -- status -------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """`GET /status/parameters`, as the server tells them."""
        return dict(self._parameters().raw)

    def _parameters(self) -> shapes.Parameters:
        with self._lock:
            known = self._known
        if known is None:
            known = shapes.parameters(self._status("/status/parameters"))
            with self._lock:
                self._known = known
        return known

    def _most_output(self) -> int:
        return self._parameters().max_bytes

    def systems(self) -> list[dict[str, Any]]:
        """Return all systems with their health and limits, in v2's shape."""
        known = self._parameters()
        found = self._status("/status/systems", fresh=True)
        states = (
            [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
        )
        disks = self._disks()
        return [
            shapes.system(name, state, disks.get(name), known)
            for state in states
            if (name := str(state.get("system") or ""))
        ]

    def _disks(self) -> dict[str, Any]:
        """Return the file systems by system; empty before 1.15."""
        try:
            found = self._status("/status/filesystems", fresh=True)
        except FirecrestException as exc:
            if exc.transient or exc.errno == errno.EACCES:
                raise
            return {}
        return found if isinstance(found, dict) else {}

    def userinfo(self, system: str) -> dict[str, Any]:
        """Return who the token's user is: from the cluster, else from the token and the home."""
        try:
            found = value_of(self._read("whoami", system, {"groups": "true"}), "output")
        except FirecrestException as exc:
            if exc.errno != errno.ENOSYS:
                raise
            found = user_of(bearer_of(self._session.tokens)) or ""
        if isinstance(found, dict):
            return found
        name = str(found)
        if not re.fullmatch(r"[^\s/:]+", name):
            text = (
                "the cluster tells no user name: silence the output of your shell's start-up files"
            )
            raise refusal(errno.EBADMSG, text)
        return self._guessed(system, name)

    def _guessed(self, system: str, name: str) -> dict[str, Any]:
        """Return a user by the owner of the home directory, for servers before 1.15."""
        uid, gid = -1, -1
        for root in self._parameters().mounted.get(system, ("/home", "/users")):
            with suppress(FirecrestException):
                home = self.stat(system, f"{root.rstrip('/')}/{name}", dereference=True)
                uid, gid = int(home["uid"]), int(home["gid"])
                break
        group = {"id": str(gid), "name": ""}
        return {"user": {"id": str(uid), "name": name}, "group": group, "groups": [group]}

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
        """Return a listing. A trailing slash is sent: it expands a link to a directory.

        Where v1 refuses a directory because of one of its entries, they are looked at one by one,
        up to a number; raises EFBIG beyond.
        """
        clean = fit_path(path, slash=True)
        params = {
            "targetPath": clean,
            "showhidden": flag(hidden),
            "numericUid": flag(numeric),
        }
        params |= {"recursive": "true"} if recursive else {}
        params |= {"followLinks": "true"} if dereference else {}
        try:
            return self._listed(system, params)
        except FirecrestException as exc:
            found = listing.of_words(said(exc))
            if found is not None:
                return found
            if recursive or dereference:
                raise
            return self._listed_despite(exc, system, params)

    def _listed(self, system: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        path = params["targetPath"]
        answer = self._read("ls", system, params, path=path)
        raw = value_of(answer, "output")
        if not isinstance(raw, list):
            raise odd(answer)
        return listing.entries(raw, slash=path.endswith("/"))

    def _listed_despite(
        self, exc: FirecrestException, system: str, params: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        path = params["targetPath"]
        if listing.about_an_entry(said(exc), path):
            # Most likely it vanished while ls looked: once more.
            try:
                return self._listed(system, params)
            except FirecrestException as again:
                exc = again
        elif not isinstance(exc, TooLarge | TimedOut):
            raise exc
        names = self._names(system, path, hidden=params["showhidden"])
        top = path.rstrip("/")
        return listing.described(names, lambda name: self.stat(system, f"{top}/{name}"), exc)

    def _names(self, system: str, path: str, *, hidden: str = "true") -> list[str]:
        """Return the exact names in a directory, which costs v1 no look at any entry."""
        params = {"targetPath": path, "showhidden": hidden, "notListing": "true"}
        try:
            answer = self._read("ls", system, params, path=path)
        except FirecrestException as exc:
            found = listing.names_of_words(said(exc))
            if found is None:
                raise
            return found
        raw = value_of(answer, "output")
        if not isinstance(raw, list):
            raise odd(answer)
        return listing.names_of(raw)

    def is_empty(self, system: str, path: str) -> bool:
        """Tell whether a directory has no entries; v1's listings leave devices out, names don't."""
        return not self._names(system, fit_path(path).rstrip("/") + "/")

    def stat(self, system: str, path: str, *, dereference: bool = False) -> dict[str, Any]:
        """Return numbers only, times as epoch seconds; lstat unless *dereference*."""
        clean = fit_path(path)
        params = {"targetPath": clean, "dereference": flag(dereference)}
        answer = self._read("stat", system, params, path=clean)
        found = value_of(answer, "output")
        if not isinstance(found, dict):
            raise odd(answer)
        mode = found.get("mode")
        if isinstance(mode, int) and not modes.S_IFMT(mode):
            return {**found, "mode": self._old_mode(system, clean, str(mode), dereference)}
        return found

    def _old_mode(self, system: str, path: str, digits: str, dereference: bool) -> int:
        """Return a complete mode: servers before 1.11 tell permission digits, without the kind."""
        listed = self.ls(system, path, dereference=dereference)
        itself = len(listed) == 1 and str(listed[0].get("name", "")).startswith("/")
        letter = str(listed[0]["type"]) if itself else "d"
        return _KINDS.get(letter, modes.S_IFREG) | int(digits, 8)

    def file(self, system: str, path: str) -> str:
        """Return what `file` says; a missing file is described, not refused."""
        clean = fit_path(path)
        try:
            return text_of(self._read("file", system, {"targetPath": clean}, path=clean))
        except FirecrestException as exc:
            words = said(exc)
            if words.startswith("cannot open") or words.endswith("no read permission"):
                return words
            raise

    def checksum(self, system: str, path: str) -> dict[str, Any]:
        """Return `algorithm` and `checksum`, SHA-256 in hex."""
        clean = fit_path(path)
        try:
            answer = self._read("checksum", system, {"targetPath": clean}, path=clean)
            found = _DIGEST.match(text_of(answer))
        except FirecrestException as exc:
            # A name with the words of an error: the tool's line is in the message.
            found = _DIGEST.match(said(exc))
            if found is None:
                raise
        if found is None:
            raise odd(answer)
        return {"algorithm": "SHA256", "checksum": found[1]}

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
        """Write the file *name* in *directory*, in place. Not atomic. May be empty.

        Unless it is *new*, a look goes before it: writing into a FIFO would stop the service for
        all users. Raises EINVAL for what is no file, EFBIG above *limit* bytes.
        """
        size = len(content) if isinstance(content, bytes) else content.seek(0, os.SEEK_END)
        parent = fit_path(directory)
        path = parent.rstrip("/") + "/" + fit(upload_name(name), "the file name")
        if size > limit:
            raise refusal(errno.EFBIG, f"more than the {limit} bytes of a direct upload", path)
        if not new:
            self._refuse_special(system, path)
        self._change(
            "POST",
            "/utilities/upload",
            system,
            Multipart(name, content, size, {"targetPath": parent}),
            path=path,
            deadline_s=self._session.deadline_s + size / SLOWEST,
        )

    def empty(self, system: str, path: str) -> None:
        """Cut the file *path* to no bytes, in place."""
        directory, name = parent_and_name(fit_path(path))
        self.upload(system, directory, name, b"", limit=0)

    def _refuse_special(self, system: str, path: str) -> None:
        with suppress(NotFound):
            mode = int(self.stat(system, path, dereference=True).get("mode", 0))
            if not modes.S_ISREG(mode) and not modes.S_ISDIR(mode):
                raise refusal(errno.EINVAL, "neither a file nor a directory on the cluster", path)

    def mkdir(self, system: str, path: str, *, parents: bool = False) -> dict[str, Any]:
        """Make a directory. Raises EEXIST, except for a directory with *parents*."""
        clean = fit_path(path)
        # Any value of p means yes.
        form = {"targetPath": clean} | ({"p": "true"} if parents else {})
        self._change("POST", "/utilities/mkdir", system, form, path=clean)
        return {}

    def rm(self, system: str, path: str) -> None:
        """Delete *path* and everything below it, without asking."""
        clean = fit_path(path)
        if clean == "/":
            raise refusal(errno.EBUSY, "the root directory can't be removed", path)
        self._change("DELETE", "/utilities/rm", system, {"targetPath": clean}, path=clean)

    def rename(self, system: str, old: str, new: str) -> None:
        """Run `mv --force`: *into* *new* where that is a directory. See `TypedClient.rename`."""
        clean = fit_path(old)
        form = {"sourcePath": clean, "targetPath": fit_path(new)}
        try:
            self._change("PUT", "/utilities/rename", system, form, path=clean)
        except FirecrestException as exc:
            if not said(exc).endswith("' are the same file"):
                raise

    def symlink(self, system: str, target: str, link: str) -> dict[str, Any]:
        """Make *link* with any text; return the entry that is there now.

        Empty where a directory of that name was there: then the link is inside it.
        """
        clean = fit_path(link)
        form = {"targetPath": fit(target, "the link's target"), "linkPath": clean}
        self._change("POST", "/utilities/symlink", system, form, path=clean)
        listed = self.ls(system, clean)
        return listed[0] if len(listed) == 1 and listed[0]["name"].startswith("/") else {}

    def chmod(self, system: str, path: str, mode: str) -> dict[str, Any]:
        """Change permissions, by what the tool understands; follows links."""
        clean = fit_path(path)
        form = {"targetPath": clean, "mode": fit(mode, "the mode")}
        self._change("PUT", "/utilities/chmod", system, form, path=clean, again=True)
        return {}

    def chown(self, system: str, path: str, owner: str = "", group: str = "") -> dict[str, Any]:
        """Change owner and group; empty: unchanged, but an owner brings its login group along."""
        clean = fit_path(path)
        form = {"targetPath": clean}
        form |= {"owner": fit(owner, "the owner")} if owner else {}
        form |= {"group": fit(group, "the group")} if group else {}
        self._change("PUT", "/utilities/chown", system, form, path=clean, again=True)
        return {}

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
        """Archive *source*, named relative to its parent, as *target*: always with gzip."""
        body = archive_body(source, target, compression)
        if compression != "gzip" or pattern is not None:
            text = "FirecREST v1 makes whole gzip archives only"
            raise refusal(errno.EOPNOTSUPP, text, source)
        checked_source(body["sourcePath"], body["targetPath"], None)
        form = {
            "sourcePath": fit_path(source),
            "targetPath": fit_path(target),
            "dereference": flag(dereference),
        }
        self._change("POST", "/utilities/compress", system, form, path=form["targetPath"])

    def extract(self, system: str, archive: str, target: str, *, compression: str = "gzip") -> None:
        """Unpack *archive* into the existing directory *target*."""
        archive_body(archive, target, compression)
        if compression not in _TYPES:
            text = f"FirecREST v1 doesn't unpack {compression} archives"
            raise refusal(errno.EOPNOTSUPP, text, archive)
        form = {
            "sourcePath": fit_path(archive),
            "targetPath": fit_path(target),
            "type": _TYPES[compression],
        }
        self._change("POST", "/utilities/extract", system, form, path=form["targetPath"])


_KINDS = {
    "d": modes.S_IFDIR,
    "l": modes.S_IFLNK,
    "p": modes.S_IFIFO,
    "s": modes.S_IFSOCK,
    "-": modes.S_IFREG,
}
