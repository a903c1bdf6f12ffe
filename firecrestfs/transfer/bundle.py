"""Tars that the cluster unpacks: what FirecREST has no request for.

Empty files, modes, times, odd names, links and many small files at once travel as a tar that is
uploaded under a hidden name, extracted by the cluster's `tar`, and removed. The paths inside the
archive are never seen by a shell.
"""

from __future__ import annotations

import errno
import io
import logging
import tarfile
import threading
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import is_transient, os_error
from firecrestfs.model import Attr, Kind

log = logging.getLogger(__name__)

#: Every name of ours on a cluster begins with this; the mount never shows them.
OUR_PREFIX = ".fcfs-"


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive; `name` and `link` are relative to the directory of extraction.

    `kind` SYMLINK makes a symlink with the text `link`, FILE with a `link` a hard link to it.
    """

    name: str
    kind: Kind = Kind.FILE
    data: bytes = b""
    mode: int = 0o644
    mtime_ns: int | None = None
    link: str = ""


def make_archive(members: Iterable[Member]) -> bytes:
    """Return a PAX tar of *members*: any name, times to the nanosecond."""
    buffer = io.BytesIO()
    with tarfile.open(
        fileobj=buffer,
        mode="w",
        format=tarfile.PAX_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    ) as tar:
        for member in members:
            tar.addfile(_tar_info(member), io.BytesIO(member.data))
    return buffer.getvalue()


def _tar_info(member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo(member.name)
    info.mode = member.mode
    mtime_ns = time.time_ns() if member.mtime_ns is None else member.mtime_ns
    info.mtime = mtime_ns // 1_000_000_000
    fraction = mtime_ns % 1_000_000_000
    if fraction:
        # A float would lose nanoseconds; the header takes the text as it is.
        info.pax_headers = {"mtime": f"{info.mtime}.{fraction:09d}"}
    if member.kind is Kind.SYMLINK:
        info.type, info.linkname = tarfile.SYMTYPE, member.link
    elif member.kind is Kind.DIRECTORY:
        info.type = tarfile.DIRTYPE
    elif member.link:
        info.type, info.linkname = tarfile.LNKTYPE, member.link
    else:
        info.size = len(member.data)
    return info


class Bundler:
    """Places archives' members on one system. Thread-safe."""

    def __init__(self, client: TypedClient, system: str) -> None:
        self._client = client
        self._system = system
        self._lock = threading.Lock()  # guards _leftovers
        self._leftovers: set[str] = set()

    def place(self, members: Iterable[Member], into: str, archive_dir: str) -> None:
        """Extract *members* in the directory *into*; the archive lies in *archive_dir* meanwhile.

        Existing files are replaced by new ones, never written into. Success is for the caller to
        prove.
        """
        name = f"{OUR_PREFIX}{uuid.uuid4().hex}.tar"
        path = f"{archive_dir.rstrip('/')}/{name}"
        with self._lock:
            self._leftovers.add(path)
        try:
            self._client.upload(self._system, archive_dir, name, make_archive(members))
            self._client.extract(self._system, path, into, compression="none")
        finally:
            self._remove(path)

    def sweep(self) -> None:
        """Remove what could not be removed before. Raises the first failure."""
        with self._lock:
            paths = sorted(self._leftovers)
        for path in paths:
            self._remove(path, suppress_errors=False)

    def _remove(self, path: str, *, suppress_errors: bool = True) -> None:
        try:
            self._client.remove(self._system, path, Kind.FILE)
        except FileNotFoundError:
            pass
        except OSError as exc:
            if not suppress_errors:
                raise
            log.warning("%s:%s is left behind for now: %s", self._system, path, exc)
            return
        with self._lock:
            self._leftovers.discard(path)

    # -- links ---------------------------------------------------------------------------------

    def link(self, old: str, new: str) -> Attr:
        """Make *new* a hard link to the existing non-directory *old*; *new* must be absent.

        Returns the attributes of *new*, proven to be the same inode. Raises EXDEV where the
        cluster refuses to link.
        """
        before = self._client.stat(self._system, old)
        top = _common_directory(old, new)
        self._place_link(_relative(old, top), _relative(new, top), top, _parent(new))
        try:
            after = self._client.stat(self._system, new)
        except FileNotFoundError:
            raise os_error(errno.EXDEV, new, "the cluster refused to link it") from None
        if (after.dev, after.ino) != (before.dev, before.ino):
            raise os_error(errno.EIO, new, "something else appeared under this name meanwhile")
        return after

    def rename(self, old: str, new: str) -> Attr | None:
        """Rename the non-directory *old* to *new*, over a non-directory that may be there.

        Returns the attributes of *new*, or None where both were the same file already and so
        nothing happened. A failure never costs the target. Raises EXDEV across file systems and
        where the cluster refuses to link.
        """
        source = self._client.stat(self._system, old)
        if source.kind is Kind.DIRECTORY:
            raise os_error(errno.EXDEV, old, "a stored directory is copied, not renamed, for now")
        target = self._stat_or_none(new)
        if target is not None and target.kind is Kind.DIRECTORY:
            raise os_error(errno.EISDIR, new)
        beside = target or self._client.stat(self._system, _parent(new), follow=True)
        if beside.dev != source.dev:
            raise os_error(errno.EXDEV, new)
        if target is not None and target.ino == source.ino:
            return None
        after = self.link(old, new) if target is None else self._replace(old, new, source)
        self._unlink_source(old, source)
        return after

    def _replace(self, old: str, new: str, source: Attr) -> Attr:
        keep = f"{_parent(new).rstrip('/')}/{OUR_PREFIX}{uuid.uuid4().hex}"
        top = _common_directory(old, new)
        kept_old, kept_new = f"{keep}/old", f"{keep}/new"
        links = [
            Member(_relative(keep, top), Kind.DIRECTORY, mode=0o700),
            Member(_relative(kept_old, top), link=_relative(old, top)),
            Member(_relative(kept_new, top), link=_relative(new, top)),
        ]
        try:
            # Linking both first proves that the cluster lets us, and keeps the target: tar
            # unlinks what is in the way before it learns that a link is refused.
            self._place_all_or_exdev(links, top, _parent(new))
            self._place_link(_relative(old, top), _relative(new, top), top, _parent(new))
            after = self._stat_or_none(new)
            if after is None or after.ino != source.ino:
                self._put_back(kept_new, new)
                raise os_error(errno.EXDEV, new, "the cluster refused to link it")
            return after
        finally:
            with suppress(OSError):
                self._client.remove_tree(self._system, keep)

    def _put_back(self, kept: str, path: str) -> None:
        if self._stat_or_none(path) is None:
            top = _parent(path)
            self._place_link(_relative(kept, top), _relative(path, top), top, top)

    def _place_all_or_exdev(self, members: list[Member], top: str, archive_dir: str) -> None:
        try:
            self.place(members, top, archive_dir)
        except OSError as exc:
            if is_transient(exc) or exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES):
                raise
            raise os_error(errno.EXDEV, archive_dir, "the cluster refused to link it") from exc

    def _place_link(self, old: str, new: str, top: str, archive_dir: str) -> None:
        self._place_all_or_exdev([Member(new, link=old)], top, archive_dir)

    def _unlink_source(self, old: str, source: Attr) -> None:
        now = self._client.stat(self._system, old)
        if now.ino == source.ino:
            self._client.remove(self._system, old, now.kind)

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None


def _parent(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _relative(path: str, top: str) -> str:
    return path[len(top.rstrip("/")) + 1 :]


def _common_directory(first: str, second: str) -> str:
    common = []
    for left, right in zip(_parent(first).split("/"), _parent(second).split("/"), strict=False):
        if left != right:
            break
        common.append(left)
    return "/".join(common) or "/"
