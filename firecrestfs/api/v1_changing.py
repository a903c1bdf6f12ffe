"""What changes something on the cluster, by FirecREST v1's utilities."""

from __future__ import annotations

import errno
import logging
import os
import stat as modes
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any, BinaryIO

from ..errors import FirecrestException
from ..paths import split
from .archives import archive_body, checked_source, only_warned
from .fault_tools import quote
from .fault_v1 import said
from .faults import NotFound, refusal
from .multipart import Multipart
from .names import upload_name
from .v1_http import SLOWEST, Sender, fit, fit_path, flag

log = logging.getLogger("firecrestfs.api")

#: The archives that extract knows, by v2's word for their compression.
ARCHIVES = {"none": ".tar", "gzip": ".tgz", "bzip2": ".bz2"}


class ChangingV1(Sender, ABC):
    """Writes, makes, renames and removes."""

    @abstractmethod
    def stat(self, system: str, path: str, *, dereference: bool = False) -> dict[str, Any]:
        """Return attributes; `ServerV1` can."""

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
        directory, name = split(fit_path(path))
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
        """Make *link* with any text; return what v2 would of its entry.

        Where a directory of that name is, or a link to one, the new link is inside it instead.
        """
        clean = fit_path(link)
        form = {"targetPath": fit(target, "the link's target"), "linkPath": clean}
        self._change("POST", "/utilities/symlink", system, form, path=clean)
        return {"name": clean, "type": "l", "linkTarget": target}

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
        self._tar("/utilities/compress", system, form)

    def extract(self, system: str, archive: str, target: str, *, compression: str = "gzip") -> None:
        """Unpack *archive* into the existing directory *target*."""
        archive_body(archive, target, compression)
        if compression not in ARCHIVES:
            text = f"FirecREST v1 doesn't unpack {compression} archives"
            raise refusal(errno.EOPNOTSUPP, text, archive)
        form = {
            "sourcePath": fit_path(archive),
            "targetPath": fit_path(target),
            "type": ARCHIVES[compression],
        }
        self._tar("/utilities/extract", system, form)

    def _tar(self, endpoint: str, system: str, form: dict[str, str]) -> None:
        """Run tar, and read 400 as success where it has only warned of something."""
        try:
            self._change("POST", endpoint, system, form, path=form["targetPath"])
        except FirecrestException as exc:
            if not only_warned(said(exc)):
                raise
            log.info("tar on %s: %s", system, quote(said(exc)))
