"""JobsFilesystem: what is where in `.jobs`, at a system's root and in every remote directory.

At the root it lists all jobs. In a directory it is unlisted itself, takes scripts that run there,
and lists what it took; all else answers by name.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firecrestfs.cache.submissions import SubmissionLog
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Job, Kind
from firecrestfs.paths import join

from ..base import Filesystem, OpenFile
from ..flights import Flights, never_interrupted
from ..handles import MemoryHandle
from ..namespace import JOBS_NAME, directory_attr
from . import defaults, holders, nodes, views
from .cluster import Cluster
from .directories import JobDirectories
from .nodes import Node
from .places import RemoteScripts
from .scripts import SCRIPT_BYTES, TELLING, Key, Script, Scripts, Surroundings
from .submissions import SETTLE_S, Flush, Submissions
from .table import JobTable

_DEFAULTS = "defaults.toml"
_VIEWS = ("active", "recent", "by-name")
_OWN_NAMES = frozenset({"README", "queue", "queue.json", _DEFAULTS, "last", *_VIEWS})
#: close(2) of a script returns at the latest after so long (seconds); then the job is owed.
CLOSE_S = 20.0


@dataclass(frozen=True, slots=True)
class JobsParts:
    """What `.jobs` of one system is made of.

    *files* is the system's tree, *flush* stores what is pending there, *default_directory* is where
    jobs run whose scripts are dropped at the root, *report* tells the user of a path's trouble.
    """

    cluster: Cluster
    flights: Flights
    files: Filesystem
    flush: Flush
    journal: SubmissionLog
    default_directory: str
    uid: int
    gid: int
    mountpoint: str = ""
    report: Callable[[str, str], None] = lambda path, text: None
    interrupted: Callable[[], bool] = never_interrupted
    close_s: float = CLOSE_S
    settle_s: float = SETTLE_S


class JobsFilesystem(Filesystem):
    """The jobs of one system. Thread-safe as far as a script isn't written by two at once."""

    def __init__(self, parts: JobsParts) -> None:
        self._parts = parts
        self._files = parts.files
        self._system = parts.cluster.system
        self._directory = directory_attr(parts.uid, parts.gid, mode=0o700)
        self._table = JobTable(parts.cluster.client, self._system, parts.flights, self._ended)
        self.submissions = Submissions(
            parts.cluster,
            parts.journal,
            parts.flush,
            parts.report,
            self._table,
            parts.settle_s,
        )
        self._jobs = JobDirectories(
            parts.cluster,
            parts.flights,
            self._table,
            self.submissions,
            parts.journal,
            parts.files.refresh,
            parts.interrupted,
        )
        text = parts.journal.defaults(self._system)
        self._defaults = bytearray((defaults.TEMPLATE if text is None else text).encode())
        self._remote = RemoteScripts(parts.files, self._system, parts.mountpoint)
        around = Surroundings(
            self._system,
            parts.default_directory,
            self._is_held,
            self._remote.read,
            lambda: defaults.parse(self._defaults.decode("utf-8", "replace")),
            parts.report,
            parts.interrupted,
            parts.close_s,
        )
        self._scripts = Scripts(around, self.submissions)

    # -- looking -------------------------------------------------------------------------------

    def getattr(self, path: str) -> Attr:
        """Return the attributes of `.jobs` itself or of something in it."""
        return self._node(path).attr(self._directory)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the entries; at the root of the jobs by at most one request for all of them."""
        node = self._node(path)
        if node.names is None:
            raise os_error(errno.ENOTDIR, path)
        return [DirEntry(name, each.attr(self._directory)) for name, each in node.names()]

    def readlink(self, path: str) -> str:
        """Return the text of a link."""
        return self._node(path).readlink(path)

    def getxattr(self, path: str, name: str) -> bytes:
        """Answer `user.firecrest.jobid` and `.error` of a script."""
        script = self._scripts.get(self._key(path))
        told = {} if script is None else self._scripts.told(script)
        text = told.get(name.removeprefix("user.firecrest."))
        if text is None:
            raise os_error(errno.ENODATA, path)
        return text.strip().encode("utf-8", "surrogateescape")

    # -- opening -------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a script, or what there is to be read."""
        key = self._key(path)
        script = self._scripts.get(key)
        if script is not None and not script.link:
            return self._scripts.open(key, script, flags)
        if key[1] == _DEFAULTS:
            return self._open_defaults(flags)
        return self._node(path).open(path, flags)

    def create(self, path: str, flags: int, mode: int) -> OpenFile:
        """Take a new script."""
        key = self._key(path)
        self._refuse_own(key, path)
        return self._scripts.create(key, flags, mode)

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend a script; accept `> ctl`."""
        script = self._scripts.get(self._key(path))
        if script is not None:
            self._scripts.truncate(script, size)
        elif self._key(path)[1] == _DEFAULTS:
            self._open_defaults(os.O_WRONLY).truncate(size)
        elif self._node(path).opener is None:
            raise os_error(errno.EACCES, path)

    def _open_defaults(self, flags: int) -> OpenFile:
        if flags & os.O_TRUNC:
            self._defaults.clear()

        def flushed() -> None:
            self._keep_defaults(bytes(self._defaults))

        return MemoryHandle(self._defaults, flags, SCRIPT_BYTES, flushed)

    def _keep_defaults(self, content: bytes) -> None:
        """Keep what was written. Raises EINVAL where it can't be read as settings."""
        text = content.decode("utf-8", "replace")
        self._parts.journal.put_defaults(self._system, text)
        defaults.parse(text)

    # -- names ---------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        """Forget our copy of a script, or why it was refused. Jobs go on."""
        key = self._key(path)
        if self._scripts.get(key) is not None:
            self._scripts.remove(key)
            return
        self._node(path)
        stem, _, kind = key[1].rpartition(".")
        if kind == "error" and self._scripts.get((key[0], stem)) is not None:
            self._scripts.dismiss((key[0], stem))
            return
        raise os_error(errno.EPERM, path)

    def mkdir(self, path: str, mode: int) -> None:
        """Refuse: scripts are files."""
        raise os_error(errno.EPERM, path, "directories in here are jobs; scripts are files")

    def rmdir(self, path: str) -> None:
        """Put an ended job out of sight, whatever its directory holds. EBUSY for any other."""
        _, inside = self._split(path)
        if len(inside) != 1 or inside[0] in _VIEWS or self._node(path).kind is not Kind.DIRECTORY:
            raise os_error(errno.EPERM, path)
        self._jobs.put_away(inside[0])

    def rename(self, old: str, new: str) -> None:
        """Give a script its final name: an editor's temporary one is submitted now."""
        source, target = self._key(old), self._key(new)
        script = self._scripts.get(source)
        if source[0] != target[0]:
            raise os_error(errno.EXDEV, new)
        if script is None:
            self._move_defaults(source, target, old)
        elif target[1] == _DEFAULTS:
            self._defaults[:] = script.content
            self._scripts.remove(source)
            self._keep_defaults(bytes(self._defaults))
        else:
            self._refuse_own(target, new)
            self._scripts.rename(source, target)

    def _move_defaults(self, source: Key, target: Key, path: str) -> None:
        """Let an editor keep a copy of the defaults under another name."""
        if source[1] != _DEFAULTS:
            self._node(path)
            raise os_error(errno.EPERM, path)
        self._refuse_own(target, path)
        handle = self._scripts.create(target, os.O_RDONLY, 0o600)
        script = self._scripts.get(target)
        if script is not None:
            script.content[:] = self._defaults
        handle.release()

    def moved_in(self, path: str) -> None:
        """Refuse what programs would turn into a copy and a removal of the original."""
        hint = "moving a script here would remove the original: copy it, or ln -s it to submit it"
        raise os_error(errno.EPERM, path, f"{hint} in place")

    def symlink(self, target: str, path: str) -> None:
        """Submit the script of this system that *target* leads to, in place."""
        key = self._key(path)
        self._refuse_own(key, path)
        self._scripts.link(key, target, self._remote.resolve(path, target))

    def chmod(self, path: str, mode: int) -> None:
        """Accept what copying programs do after the copy."""
        script = self._attributed(path)
        if script is not None:
            script.mode = mode & 0o777

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Accept what copying programs do after the copy."""
        self._attributed(path)

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Accept what copying programs do after the copy."""
        script = self._attributed(path)
        if script is not None and mtime_ns is not None:
            script.mtime_ns = mtime_ns

    def refresh(self, path: str) -> None:
        """Ask the scheduler again at the next look."""
        self._table.expire()

    # -- inside --------------------------------------------------------------------------------

    def _split(self, path: str) -> tuple[str, list[str]]:
        """Return the directory that has this `.jobs`, and the way to *path* from there."""
        parts = path.split("/")
        at = parts.index(JOBS_NAME)
        return "/".join(parts[:at]) or "/", parts[at + 1 :]

    def _key(self, path: str) -> Key:
        """Return the directory, and the name in its `.jobs`; empty where that isn't a script's."""
        directory, inside = self._split(path)
        return directory, inside[0] if len(inside) == 1 else ""

    def _node(self, path: str) -> Node:
        """Return what is at *path*. Raises ENOENT."""
        directory, inside = self._split(path)
        where = join(directory, JOBS_NAME)
        if not inside:
            if directory != "/":
                self._files.getattr(directory)
            return Node(Kind.DIRECTORY, 0o700, names=lambda: self._names(directory, where))
        if len(inside) == 1:
            script = self._scripts.get((directory, inside[0]))
            if script is not None:
                return _script_node(script)
        found = self._fixed(inside[0]) if len(inside) == 1 else None
        if found is None and inside[0] in _VIEWS and len(inside) == 2:
            found = self._jobs.link(inside[0], inside[1])
        found = found or self._told(directory, inside)
        # Names of jobs begin with a digit: others cost no question.
        if found is None and inside[0][:1].isdigit() and self._jobs.has(inside[0]):
            found = self._jobs.node(f"{where}/{inside[0]}", inside[0], inside[1:])
        if found is None:
            raise os_error(errno.ENOENT, path)
        return found

    def _fixed(self, name: str) -> Node | None:
        if name == "README":
            return nodes.text(views.README)
        if name == "queue":
            return nodes.text(views.queue_table(self._jobs.jobs()))
        if name == "queue.json":
            return nodes.text(views.queue_json(self._jobs.jobs()))
        if name == _DEFAULTS:
            return Node(mode=0o600, content=bytes(self._defaults))
        if name == "last":
            last = self._jobs.last()
            return nodes.link(last) if last else None
        return self._jobs.view(name) if name in _VIEWS else None

    def _told(self, directory: str, inside: list[str]) -> Node | None:
        """Return what tells of a script: NAME.jobid and so on, and NAME.ctl."""
        stem, _, kind = inside[0].rpartition(".")
        script = self._scripts.get((directory, stem))
        if script is None or len(inside) > 1:
            return None
        if kind == "ctl":

            def take_back() -> None:
                self._scripts.take_back((directory, stem))

            return Node(mode=0o200, opener=lambda _: nodes.CommandHandle("cancel", take_back))
        told = self._scripts.told(script).get(kind)
        return None if told is None else nodes.text(told, script.mtime_ns)

    def _names(self, directory: str, where: str) -> list[tuple[str, Node]]:
        at_root = directory == "/"
        # In a directory the queue answers by name: to list it would cost a question.
        all_jobs = ("queue", "queue.json", "last", _DEFAULTS, *_VIEWS)
        fixed = (*(all_jobs if at_root else ()), "README")
        found = {name: node for name in fixed if (node := self._fixed(name)) is not None}
        ids = list(self._jobs.entries()) if at_root else self._jobs.own(directory)
        for job_id in ids:
            found[job_id] = self._jobs.directory(f"{where}/{job_id}", job_id)
        for name in self._scripts.names(directory):
            script = self._scripts.get((directory, name))
            if script is not None:
                found[name] = _script_node(script)
                for kind, text in self._scripts.told(script).items():
                    found[f"{name}.{kind}"] = nodes.text(text, script.mtime_ns)
        return list(found.items())

    def _refuse_own(self, key: Key, path: str) -> None:
        """Raise EACCES for a name that isn't a script's."""
        stem, _, kind = key[1].rpartition(".")
        told = kind in (*TELLING, "ctl") and bool(stem)
        if not key[1] or key[1] in _OWN_NAMES - {_DEFAULTS} or told:
            raise os_error(errno.EACCES, path, "this name tells what became of a script or a job")

    def _attributed(self, path: str) -> Script | None:
        """Return the script at *path*, None for what else may be touched. Raises EPERM, ENOENT."""
        script = self._scripts.get(self._key(path))
        if script is None:
            self._node(path)
            if len(self._split(path)[1]) > 1:
                raise os_error(errno.EPERM, path)
        return script

    def _is_held(self, key: Key) -> bool:
        where = join(join(key[0], JOBS_NAME), key[1])
        return holders.has_writers(f"{self._parts.mountpoint}/{self._system}{where}")

    def _ended(self, job: Job, lately: bool) -> None:
        """Drop what is believed of what a job wrote: before anybody is told that it ended."""
        own = self.submissions.of_job(job.job_id)
        paths = {job.working_directory} if lately else set()
        if own is not None and not own.state:
            paths |= {job.working_directory, own.workdir, own.stdout, own.stderr}
            self.submissions.amend(own.ident, state=job.state, exit_code=job.exit_code)
        for path in paths:
            if path.startswith("/"):
                self._files.refresh(path)


def _script_node(script: Script) -> Node:
    if script.link:
        return nodes.link(script.link, script.mtime_ns)
    return Node(mode=script.mode, content=bytes(script.content), mtime_ns=script.mtime_ns)
