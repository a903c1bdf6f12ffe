"""FirecREST v1: the methods of `ServerV2`, with the same results, on v1's endpoints.

Form fields go in, the system travels in a header, and every answer is the parsed output of a
tool. What callers must know about the differences is in `features`.
"""

from __future__ import annotations

import errno
import re
import stat as modes
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from ..errors import FirecrestException
from ..model import Features
from . import v1_listing as listing
from . import v1_shapes as shapes
from .auth import bearer_of
from .fault_v1 import said
from .faults import TimedOut, TooLarge, refusal
from .names import unescaped
from .session import ApiSession
from .tokens import user_of
from .v1_changing import ARCHIVES, ChangingV1
from .v1_http import FORBIDDEN, SPACES, fit_path, flag, odd, text_of, value_of
from .v1_plain import PlainV1
from .v1_reading import ReadingV1

_DIGEST = re.compile(r"\\?([0-9a-f]{64})\b")
#: Directories of one listing whose names may be asked for a second time.
_SETTLED = 8


class ServerV1(ReadingV1, ChangingV1, PlainV1):
    """The endpoints of one FirecREST v1 server."""

    def __init__(self, session: ApiSession, parameters: Any = None) -> None:
        """Use *session*; *parameters* is what `/status/parameters` told, if it was asked."""
        super().__init__(session)
        self._lock = threading.Lock()  # guards _known
        self._known = None if parameters is None else shapes.parameters(parameters)

    def features(self, system: str) -> Features:
        """Return what this version can do on *system*; asks once."""
        try:
            kept = self.keeps_spaces(system)
        except FirecrestException:
            kept = False
        version = self._parameters().version
        return Features(
            version="1",
            rename=True,
            empty_upload=True,
            exact_ranges=True,
            any_link=True,
            archives=version >= (1, 16),
            compressions=frozenset(ARCHIVES),
            packings=frozenset({"gzip"}),
            patterns=False,
            forbidden=FORBIDDEN if kept else FORBIDDEN | {SPACES},
        )

    # -- status -------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Any]:
        """`GET /status/parameters`, as the server tells them."""
        return dict(self._parameters().raw)

    @property
    def stages_empty_files(self) -> bool:
        """Whether the site's object store shows an empty file to the server."""
        return (self._parameters().storage or "").lower() != "swift"

    def require_staging(self, path: str) -> None:
        """Raise EOPNOTSUPP where the site says that it has no object store."""
        if self._parameters().storage == "":
            text = "this site has no object store: files of this size can't be transferred"
            raise refusal(errno.EOPNOTSUPP, text, path)

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
        return self._exact(system, clean, self._found(system, params))

    def _found(self, system: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        try:
            return self._listed(system, params)
        except FirecrestException as exc:
            found = listing.of_words(said(exc))
            if found is not None:
                return found
            if "recursive" in params or "followLinks" in params:
                raise
            return self._listed_despite(exc, system, params)

    def _exact(self, system: str, path: str, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        r"""Tell names apart that v1's listing makes the same of (`a\nb` and a line break).

        They can't be addressed, so only the list of names can settle what they are.
        """
        doubtful = listing.doubtful(found)
        for prefix in sorted(doubtful)[:_SETTLED]:
            with suppress(FirecrestException):
                names = self._names(system, f"{path.rstrip('/')}/{unescaped(prefix)}")
                listing.settle(doubtful[prefix], unescaped(prefix), names)
        return found

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


_KINDS = {
    "d": modes.S_IFDIR,
    "l": modes.S_IFLNK,
    "p": modes.S_IFIFO,
    "s": modes.S_IFSOCK,
    "-": modes.S_IFREG,
}
