"""JobsFilesystem: `.jobs/`, where a script that is written becomes a job.

`DIR/.jobs/NAME` is submitted with DIR as working directory when the last descriptor is closed; at
the system's root that is SCRATCH, else HOME. `NAME.jobid` and `NAME.error` tell what became of it,
`queue` shows the scheduler's queue.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Job, Kind

from .base import Filesystem, OpenFile
from .flights import Flights
from .handles import BytesHandle, MemoryHandle
from .namespace import JOBS_NAME, directory_attr

log = logging.getLogger(__name__)

_SCRIPT_BYTES = 1 << 20
_QUEUE_TTL_S = 10.0
_NAMED = re.compile(rb"^#(SBATCH|PBS)\s+(.*\s)?(-J|-N|--job-name)", re.MULTILINE)
#: Names that editors and desktops use on the way to the real one.
_TEMPORARY = re.compile(r"^\.|~$|\.(sw[a-p]|tmp|part|bak)$|^4913$|^#.*#$")


@dataclass(slots=True)
class _Script:
    """One script that was dropped; `submitted` is the content that was, or was refused."""

    content: bytearray = field(default_factory=bytearray)
    mode: int = 0o644
    mtime_ns: int = field(default_factory=time.time_ns)
    submitted: bytes = b""
    job_id: str = ""
    error: str = ""


class JobsFilesystem(Filesystem):
    """The jobs of one system. Thread-safe as far as a script isn't written by two at once."""

    def __init__(
        self,
        client: TypedClient,
        system: str,
        flights: Flights,
        files: Filesystem,
        flush: Callable[[], dict[str, OSError | None]],
        default_directory: str,
        uid: int,
        gid: int,
        mountpoint: str = "",
    ) -> None:
        """*flush* stores everything pending and returns what did not land."""
        self._client = client
        self._system = system
        self._flights = flights
        self._files = files
        self._flush = flush
        self._default_directory = default_directory
        self._mountpoint = mountpoint
        self._directory = directory_attr(uid, gid, mode=0o700)
        self._scripts: dict[tuple[str, str], _Script] = {}
        self._queue: tuple[str, float] = ("", 0.0)

    # -- looking -------------------------------------------------------------------------------

    def getattr(self, path: str) -> Attr:
        """Return the attributes of `.jobs` itself or of a file in it."""
        directory, name = self._split(path)
        if not name:
            if directory != "/":
                self._files.getattr(directory)
            return self._directory
        script = self._scripts.get((directory, name))
        if script is not None:
            return self._file_attr(len(script.content), script.mode, script.mtime_ns)
        content = self._content(directory, name)
        # The queue is asked for when it is read, not when it is looked at.
        return self._file_attr(4096 if content is None else len(content), 0o444)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the queue, the scripts and what became of them."""
        directory, name = self._split(path)
        if name:
            raise os_error(errno.ENOTDIR, path)
        names = ["queue"]
        for (where, script_name), script in list(self._scripts.items()):
            if where == directory:
                names.append(script_name)
                names.extend(f"{script_name}.jobid" for _ in [0] if script.job_id)
                names.extend(f"{script_name}.error" for _ in [0] if script.error)
        return [DirEntry(each, self.getattr(f"{path}/{each}")) for each in names]

    # -- opening -------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a script, or what became of one, or the queue."""
        directory, name = self._split(path)
        if not name:
            raise os_error(errno.EISDIR, path)
        script = self._scripts.get((directory, name))
        if script is not None:
            if flags & os.O_TRUNC:
                script.content.clear()
            return self._handle(path, directory, name, script, flags)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            self.getattr(path)
            raise os_error(errno.EACCES, path)
        if name == "queue":
            return BytesHandle(self._flights.run(self._queue_text, "queue").encode())
        content = self._content(directory, name)
        return BytesHandle(content or b"")

    def create(self, path: str, flags: int, mode: int) -> OpenFile:
        """Take a new script."""
        directory, name = self._split(path)
        self._refuse_own(name, path)
        script = _Script(mode=mode & 0o777)
        self._scripts[directory, name] = script
        return self._handle(path, directory, name, script, flags)

    def truncate(self, path: str, size: int) -> None:
        """Cut or extend a script."""
        script = self._script(path)
        if size > _SCRIPT_BYTES:
            raise os_error(errno.EFBIG, path, f"a script holds {_SCRIPT_BYTES:,} bytes at most")
        del script.content[size:]
        script.content.extend(bytes(size - len(script.content)))

    # -- names ---------------------------------------------------------------------------------

    def unlink(self, path: str) -> None:
        """Forget our copy of a script; its job goes on."""
        self._script(path)
        del self._scripts[self._split(path)]

    def rename(self, old: str, new: str) -> None:
        """Give a script its final name: an editor's temporary one is submitted now."""
        script = self._script(old)
        if JOBS_NAME not in new.split("/") or self._split(old)[0] != self._split(new)[0]:
            raise os_error(errno.EXDEV, new)
        self._refuse_own(self._split(new)[1], new)
        self._scripts[self._split(new)] = script
        del self._scripts[self._split(old)]
        directory, name = self._split(new)
        self._decide(directory, name, script)

    def chmod(self, path: str, mode: int) -> None:
        """Accept what copying programs do after the copy."""
        self._script(path).mode = mode & 0o777

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Accept what copying programs do after the copy."""
        self._script(path)

    def utimens(self, path: str, atime_ns: int | None, mtime_ns: int | None) -> None:
        """Accept what copying programs do after the copy."""
        script = self._script(path)
        if mtime_ns is not None:
            script.mtime_ns = mtime_ns

    def getxattr(self, path: str, name: str) -> bytes:
        """Answer `user.firecrest.jobid` of a script."""
        if name == "user.firecrest.jobid":
            script = self._scripts.get(self._split(path))
            if script is not None and script.job_id:
                return script.job_id.encode()
        raise os_error(errno.ENODATA, path)

    # -- submitting ----------------------------------------------------------------------------

    def _handle(
        self, path: str, directory: str, name: str, script: _Script, flags: int
    ) -> MemoryHandle:
        def flushed() -> None:
            # close(2) of a duplicate comes here too: the script isn't whole before the last.
            if not self._is_held(path):
                self._decide(directory, name, script)

        def released() -> None:
            with suppress(OSError):
                self._decide(directory, name, script)

        return MemoryHandle(script.content, flags, _SCRIPT_BYTES, flushed, released)

    def _decide(self, directory: str, name: str, script: _Script) -> None:
        """Submit *script* if it is whole, new and not under a temporary name."""
        content = bytes(script.content)
        if not content or content == script.submitted or _TEMPORARY.search(name):
            return
        script.submitted = content
        script.job_id = script.error = ""
        try:
            if not content.startswith(b"#!"):
                raise os_error(
                    errno.EINVAL, name, "not a script: its first line must begin with #!"
                )
            script.job_id = self._submit(directory, name, content)
        except OSError as exc:
            script.error = f"{exc.strerror}\n"
            raise

    def _submit(self, directory: str, name: str, content: bytes) -> str:
        failed = self._flush()
        if failed:
            path, reason = next(iter(failed.items()))
            why = reason.strerror if reason else "it takes longer than this call may"
            raise os_error(errno.EAGAIN, name, f"not submitted: {path} is not stored yet: {why}")
        workdir = self._default_directory if directory == "/" else directory
        job_name = None if _NAMED.search(content) else name
        job_id = self._flights.run(
            lambda: self._client.submit(
                self._system,
                script=content,
                script_path=None,
                working_directory=workdir,
                name=job_name,
            ),
            interruptible=False,
        )
        log.info("%s: submitted %s as job %s in %s", self._system, name, job_id, workdir)
        self._queue = ("", 0.0)
        return job_id

    def _is_held(self, path: str) -> bool:
        """Tell whether some process still has the file at *path* open."""
        wanted = f"{self._mountpoint}/{self._system}{path}"
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            with suppress(OSError):
                for fd in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):
                        if os.readlink(f"/proc/{pid}/fd/{fd}") == wanted:
                            return True
        return False

    # -- inside --------------------------------------------------------------------------------

    def _split(self, path: str) -> tuple[str, str]:
        """Return the directory that has this `.jobs`, and the name in it (empty: itself)."""
        parts = path.split("/")
        at = parts.index(JOBS_NAME)
        if len(parts) > at + 2:
            raise os_error(errno.ENOENT, path)
        return "/".join(parts[:at]) or "/", "/".join(parts[at + 1 :])

    @staticmethod
    def _refuse_own(name: str, path: str) -> None:
        if name == "queue" or name.endswith((".jobid", ".error")):
            raise os_error(errno.EACCES, path, "this name tells what became of a script")

    def _script(self, path: str) -> _Script:
        key = self._split(path)
        script = self._scripts.get(key)
        if script is None:
            self.getattr(path)
            raise os_error(errno.EPERM, path)
        return script

    def _content(self, directory: str, name: str) -> bytes | None:
        """Return what a synthetic file holds, None for the queue. Raises ENOENT."""
        if name == "queue":
            return None
        stem, _, suffix = name.rpartition(".")
        script = self._scripts.get((directory, stem))
        if script is not None and suffix == "jobid" and script.job_id:
            return f"{script.job_id}\n".encode()
        if script is not None and suffix == "error" and script.error:
            return script.error.encode()
        raise os_error(errno.ENOENT, name)

    def _file_attr(self, size: int, mode: int, mtime_ns: int | None = None) -> Attr:
        attr = replace(self._directory, kind=Kind.FILE, mode=mode, size=size, nlink=1)
        return attr if mtime_ns is None else replace(attr, mtime_ns=mtime_ns)

    def _queue_text(self) -> str:
        text, until = self._queue
        if boottime() > until:
            text = queue_table(self._client.jobs(self._system))
            self._queue = (text, boottime() + _QUEUE_TTL_S)
        return text


def queue_table(jobs: Sequence[Job]) -> str:
    """Return *jobs* as a table like squeue's."""
    rows = [("JOBID", "PARTITION", "NAME", "USER", "STATE", "TIME", "NODES", "NODELIST(REASON)")]
    rows += [
        (
            job.job_id,
            job.partition,
            job.name,
            job.user,
            job.state,
            _clock(job.elapsed or 0),
            str(job.node_count),
            job.nodes or (f"({job.reason})" if job.reason not in ("", "None") else ""),
        )
        for job in jobs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines) + "\n"


def _clock(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest % 3600 // 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text
