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
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import is_transient, os_error
from firecrestfs.model import Attr, Kind
from firecrestfs.paths import common_directory, directory_of, name_of, relative

from .swept import Leftovers

log = logging.getLogger(__name__)

#: Every name of ours on a cluster begins with this; the mount never shows them.
OUR_PREFIX = ".fcfs-"
_ARCHIVE = ".tar"


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


def tar_head(member: Member, size: int) -> bytes:
    """Return what stands before the *size* bytes of the file *member* in a PAX tar."""
    info = _tar_info(member)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _tar_info(member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo(member.name)
    info.mode = member.mode
    mtime_ns = time.time_ns() if member.mtime_ns is None else member.mtime_ns
    # A float would lose nanoseconds; the header takes the text as it is, before the epoch as well.
    seconds, fraction = divmod(abs(mtime_ns), 1_000_000_000)
    info.mtime = max(0, mtime_ns // 1_000_000_000)
    info.pax_headers = {"mtime": f"{'-' if mtime_ns < 0 else ''}{seconds}.{fraction:09d}"}
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

    def __init__(
        self, client: TypedClient, system: str, leftovers: Leftovers | None = None
    ) -> None:
        """*leftovers* remembers, over our death too, what of ours is on the cluster."""
        self._client = client
        self._system = system
        self._leftovers = leftovers or Leftovers()

    def place(self, members: Iterable[Member], into: str, archive_dir: str) -> None:
        """Extract *members* in the directory *into*; the archive lies in *archive_dir* meanwhile.

        Existing files are replaced by new ones, never written into. Success is for the caller to
        prove.
        """
        members, into = below_plain(members, into)
        with self.uploaded(make_archive(members), archive_dir) as path:
            self._client.extract(self._system, path, into, compression="none")

    @contextmanager
    def uploaded(self, archive: bytes, archive_dir: str) -> Iterator[str]:
        """Yield the path of *archive*, which lies in *archive_dir* while the body runs."""
        with self.hidden(archive_dir) as path:
            self._client.upload(self._system, archive_dir, name_of(path), archive, new=True)
            yield path

    @contextmanager
    def hidden(self, directory: str) -> Iterator[str]:
        """Yield a hidden name in *directory*; what the body makes there goes, unless `moved`."""
        path = f"{directory.rstrip('/')}/{OUR_PREFIX}{uuid.uuid4().hex}{_ARCHIVE}"
        self._leftovers.add(path)
        try:
            yield path
        finally:
            if self._leftovers.holds(path):
                self._remove(path)

    def moved(self, path: str) -> None:
        """Note that what had the hidden name *path* has another now."""
        self._leftovers.discard(path)

    def is_leftover(self, path: str) -> bool:
        """Tell whether *path* is ours, and nothing that anybody would miss."""
        return self._leftovers.holds(path)

    def sweep(self, *, links: bool = True) -> None:
        """Remove what could not be removed before. Raises the first failure.

        Not *links*: a rename is under way, and what it keeps of its target stays.
        """
        for path in self._leftovers.unused():
            if links or path.endswith(_ARCHIVE):
                self._remove(path, suppress_errors=False)
        for keep, (name, inodes) in self._leftovers.doubtful().items() if links else []:
            now = self._stat_or_none(name)
            if now is not None and now.ino in inodes:
                self._give_up(keep)

    def _remove(self, path: str, *, suppress_errors: bool = True) -> None:
        try:
            if path.endswith(_ARCHIVE):
                self._client.remove_proven(self._system, path)
            else:
                self._client.remove_tree(self._system, path)
        except (FileNotFoundError, NotADirectoryError):
            # It went with its directory, whose name may be another file's by now.
            pass
        except OSError as exc:
            self._leftovers.release(path)
            if not suppress_errors:
                raise
            log.warning("%s:%s is left behind for now: %s", self._system, path, exc)
            return
        self._leftovers.discard(path)

    # -- links ---------------------------------------------------------------------------------

    @contextmanager
    def alias(self, path: str) -> Iterator[str]:
        """Yield a plain name for the file *path* while the body runs: a hard link beside it."""
        directory, _, name = path.rpartition("/")
        with self.hidden(directory) as alias:
            member = Member(alias[len(directory) + 1 :], link=name)
            self.place([member], directory or "/", directory or "/")
            yield alias

    def link(self, old: str, new: str, begin: Callable[[Attr], None] = lambda source: None) -> Attr:
        """Make *new* a hard link to the existing non-directory *old*, unless it is one already.

        *begin* is told what *old* is before anything is changed. Returns the attributes of *new*,
        proven to be the same inode. Raises EEXIST where something else has the name, EXDEV where
        the cluster refuses to link.
        """
        source, there = self._client.stat(self._system, old), self._stat_or_none(new)
        if there is not None:
            if (there.dev, there.ino) == (source.dev, source.ino):
                return there
            raise os_error(errno.EEXIST, new, "something else has this name on the cluster")
        begin(source)
        return self._link(old, new, source)

    def _link(self, old: str, new: str, source: Attr) -> Attr:
        """Make *new* a link to *old*, which *source* describes, over whatever is at *new*."""
        top = common_directory([old, new])
        refusal: OSError | None = None
        try:
            self.place(
                [Member(relative(new, top), link=relative(old, top))], top, directory_of(new)
            )
        except OSError as exc:
            # The answer may have got lost after the work was done: the proof decides.
            refusal = exc
        after = self._stat_or_none(new)
        if after is not None and (after.dev, after.ino) == (source.dev, source.ino):
            return after
        raise _as_exdev(refusal, new)

    def rename(self, old: str, new: str, source: Attr, target: Attr | None) -> Attr | None:
        """Rename the non-directory *old* to *new*, over a non-directory that may be there.

        *source* and *target* (None: absent) describe both as they are now. Returns the attributes
        of *new*, or None where both were the same file already and so nothing happened. A failure
        never costs the target. Raises EXDEV across file systems and where the cluster refuses to
        link.
        """
        if target is not None and target.dev != source.dev:
            raise os_error(errno.EXDEV, new)
        if target is not None and target.ino == source.ino:
            return None
        if target is None:
            after = self._link(old, new, source)
            self._unlink_source(old, source, after.nlink - 1)
        else:
            after = self._replace(old, new, source, target)
        return self._as_it_is_now(new, after)

    def _as_it_is_now(self, path: str, before: Attr) -> Attr:
        """Return the attributes of *path*: each link that was removed since has changed its ctime.

        Else the next store or rename would take our own doing for somebody else's.
        """
        try:
            return self._client.stat(self._system, path)
        except OSError as exc:
            log.info("%s was renamed, but not looked at: %s", path, exc)
            return before

    def _replace(self, old: str, new: str, source: Attr, target: Attr) -> Attr:
        """Rename over *target*, of which a link is kept until all is done."""
        keep = f"{directory_of(new).rstrip('/')}/{OUR_PREFIX}{uuid.uuid4().hex}"
        self._leftovers.add(keep)
        try:
            self._keep_links(old, new, keep, target)
        except OSError:
            self._remove(keep)
            raise
        try:
            after = self._link(old, new, source)
            self._unlink_source(old, source, after.nlink - 2)
        except OSError:
            # Where even this fails, the links are left where they are: nothing is lost.
            self._leftovers.doubt(keep, new, {source.ino, target.ino})
            now = self._stat_or_none(new)
            if now is not None and now.ino == source.ino and self._stat_or_none(old) is None:
                # It was removed after all: the new name is all that is left of the source.
                raise
            self._link_back(f"{keep}/new", new, target)
            self._give_up(keep)
            raise
        self._remove(keep)
        return after

    def _give_up(self, keep: str) -> None:
        """Remove the links in *keep*, now or later: what they were kept for is in place."""
        self._leftovers.settle(keep)
        self._remove(keep)

    def _keep_links(self, old: str, new: str, keep: str, target: Attr) -> None:
        """Link both files in *keep*: it proves that the cluster lets us, and keeps the target.

        tar unlinks what is in the way before it learns that a link is refused. EEXIST where what
        was kept is no longer *target*: somebody has written it, or put another in its place.
        """
        top = common_directory([old, new])
        members = [
            Member(relative(keep, top), Kind.DIRECTORY, mode=0o700),
            Member(relative(f"{keep}/old", top), link=relative(old, top)),
            Member(relative(f"{keep}/new", top), link=relative(new, top)),
        ]
        refusal: OSError | None = None
        try:
            self.place(members, top, directory_of(new))
        except OSError as exc:
            refusal = exc
        kept = self._stat_or_none(f"{keep}/new")
        if kept is None or self._stat_or_none(f"{keep}/old") is None:
            raise _as_exdev(refusal, new)
        # A link made to it leaves these as they are.
        if (kept.ino, kept.size, kept.mtime_ns) != (target.ino, target.size, target.mtime_ns):
            raise os_error(errno.EEXIST, new, "it has changed on the cluster")

    def _link_back(self, kept: str, path: str, target: Attr) -> None:
        now = self._stat_or_none(path)
        if now is None or now.ino != target.ino:
            self._link(kept, path, target)

    def _unlink_source(self, old: str, source: Attr, others: int) -> None:
        """Remove *old* if it still is *source*; *others*: how many links are not our new ones."""
        if others != source.nlink:
            now = self._stat_or_none(old)
            if now is None or now.ino != source.ino:
                # Somebody else has taken the old name away, or has it.
                return
        try:
            self._client.remove_proven(self._system, old)
        except OSError:
            # However often the answer was lost, only a look tells what was done.
            if self._stat_or_none(old) is not None:
                raise

    def _stat_or_none(self, path: str) -> Attr | None:
        try:
            return self._client.stat(self._system, path)
        except FileNotFoundError:
            return None


def below_plain(members: Iterable[Member], into: str) -> tuple[list[Member], str]:
    """Move the place of extraction up to a directory whose path holds no backslash.

    tar reads escapes in the directory that it is told to change to.
    """
    plain = into
    while "\\" in plain:
        plain = directory_of(plain)
    above = relative(into, plain) + "/" if plain != into else ""
    moved = [
        replace(
            each,
            name=above + each.name,
            link=above + each.link if each.link and each.kind is Kind.FILE else each.link,
        )
        for each in members
    ]
    return moved, plain


def _as_exdev(refusal: OSError | None, path: str) -> OSError:
    """Return what to raise where a link didn't come to be: EXDEV lets programs copy instead."""
    known = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
    if refusal is not None and (is_transient(refusal) or refusal.errno in known):
        return refusal
    return os_error(errno.EXDEV, path, "the cluster refused to link it")
