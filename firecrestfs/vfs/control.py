"""ControlFilesystem: `.firecrestfs/` at the mount's root, how other programs talk to the mount.

Files answer by name and are never listed from above. Reading makes the content; writing a line
into `refresh` or `ctl` carries it out before the write returns.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind

from .base import Filesystem, OpenFile
from .handles import BytesHandle
from .namespace import directory_attr

log = logging.getLogger(__name__)

#: What a file of unknown length claims to hold, so that tools which look at sizes read it.
_ANY_SIZE = 4096
_LOST = "/lost+found"


class ErrorLog:
    """The latest things that went wrong, a readable line each. Thread-safe (a leaf lock)."""

    def __init__(self, size: int = 1000) -> None:
        self._lock = threading.Lock()  # guards _lines
        self._lines: deque[str] = deque(maxlen=size)

    def report(self, path: str, text: str) -> None:
        """Add the line that *path* had the trouble *text*."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        line = f"{path}: {text}".replace("\n", "\\n")
        with self._lock:
            self._lines.append(f"{stamp} {line}")
        # The log outlives the mount.
        log.warning("%s", line)

    def lines(self) -> list[str]:
        """Return the lines, oldest first."""
        with self._lock:
            return list(self._lines)


class _CommandHandle(OpenFile):
    """Carries out each line that is written; its answer can be read from the same handle."""

    direct_io = True

    def __init__(self, run: Callable[[str], str]) -> None:
        self._run = run
        self._answer = b""

    def read(self, size: int, offset: int) -> bytes:
        """Return the answer to the last command."""
        return self._answer[offset : offset + size]

    def write(self, data: bytes, offset: int) -> int:
        """Carry out each command line in *data*."""
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        # Names may end in blanks.
        answers = [self._run(line.lstrip()) for line in lines if line.strip()]
        self._answer = "".join(answers).encode("utf-8", "surrogateescape")
        return len(data)

    def truncate(self, size: int) -> None:
        """Accept `> file`."""


class ControlFilesystem(Filesystem):
    """Files made on reading (`reads`) and files that carry out what is written (`commands`).

    *lost* is what `lost+found/` shows.
    """

    def __init__(
        self,
        reads: Mapping[str, Callable[[], str]],
        commands: Mapping[str, Callable[[str], str]],
        uid: int,
        gid: int,
        lost: Filesystem | None = None,
    ) -> None:
        self._lost = lost
        self._reads = dict(reads)
        self._commands = dict(commands)
        self._directory = directory_attr(uid, gid, mode=0o700)

    def getattr(self, path: str) -> Attr:
        """Return the attributes of the directory or one of its files."""
        if path == "/":
            return self._directory
        if self._lost is not None and _is_lost(path):
            return self._lost.getattr(_within(path))
        name = path[1:]
        if name in self._reads:
            return self._file_attr(0o400)
        if name in self._commands:
            return self._file_attr(0o600)
        raise os_error(errno.ENOENT, path)

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return all control files."""
        if self._lost is not None and _is_lost(path):
            return self._lost.readdir(_within(path))
        if path != "/":
            raise os_error(errno.ENOTDIR, path)
        names = [*self._reads, *self._commands, *([_LOST[1:]] if self._lost else [])]
        return [DirEntry(name, self.getattr(f"/{name}")) for name in names]

    def readlink(self, path: str) -> str:
        """Return the text of a link in lost+found."""
        if self._lost is not None and _is_lost(path):
            return self._lost.readlink(_within(path))
        return super().readlink(path)

    def open(self, path: str, flags: int) -> OpenFile:
        """Open a control file: what is read is as it was now."""
        if self._lost is not None and _is_lost(path):
            return self._lost.open(_within(path), flags)
        name = path[1:]
        if name in self._reads:
            if flags & os.O_ACCMODE != os.O_RDONLY:
                raise os_error(errno.EACCES, path)
            return BytesHandle(self._reads[name]().encode("utf-8", "surrogateescape"))
        if name in self._commands:
            return _CommandHandle(self._commands[name])
        raise os_error(errno.ENOENT, path)

    def truncate(self, path: str, size: int) -> None:
        """Accept `> file` for files that take commands."""
        if path[1:] not in self._commands:
            raise os_error(errno.EACCES, path)

    def _file_attr(self, mode: int) -> Attr:
        return replace(self._directory, kind=Kind.FILE, mode=mode, size=_ANY_SIZE, nlink=1)


def _is_lost(path: str) -> bool:
    return path == _LOST or path.startswith(f"{_LOST}/")


def _within(path: str) -> str:
    return path[len(_LOST) :] or "/"


def as_json(value: Any) -> str:
    """Return *value* as the JSON text of a control file."""
    return json.dumps(value, indent=2, default=str) + "\n"
