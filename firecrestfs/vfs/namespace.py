"""Namespace: the mount table.

/                       the systems
/.firecrestfs/…         control files; found by name, never listed
/SYSTEM/…               that system's tree
…/.jobs/…               below a system: the first component of this name leads to its jobs
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind, Source

from .base import Filesystem
from .flights import Flights

CONTROL_NAME = ".firecrestfs"
JOBS_NAME = ".jobs"


@dataclass(slots=True)
class Mounted:
    """One system: its file systems once someone has looked into it."""

    connect: Callable[[], tuple[Filesystem, Filesystem]]
    parts: tuple[Filesystem, Filesystem] | None = None


class RootFilesystem(Filesystem):
    """The directory of the systems."""

    def __init__(self, names: Sequence[str], uid: int, gid: int) -> None:
        self._attr = directory_attr(uid, gid, inode=1)
        self._names = {
            name: directory_attr(uid, gid, inode=2 + at) for at, name in enumerate(sorted(names))
        }

    def getattr(self, path: str) -> Attr:
        """Return the attributes of the root; the systems answer for themselves."""
        if path != "/":
            raise os_error(
                errno.ENOENT, path, f"no such system; there are: {', '.join(self._names)}"
            )
        return self._attr

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return a directory for each system."""
        return [DirEntry(name, attr) for name, attr in self._names.items()]


class Namespace:
    """Finds the file system of a path. Thread-safe."""

    def __init__(
        self,
        root: RootFilesystem,
        control: Filesystem,
        systems: dict[str, Mounted],
        flights: Flights,
    ) -> None:
        self._root = root
        self._control = control
        self._systems = systems
        self._flights = flights

    def route(self, path: str) -> tuple[Filesystem, str]:
        """Return the file system that answers for *path*, and the path within it."""
        slash = path.find("/", 1)
        name, rest = (path[1:], "/") if slash < 0 else (path[1:slash], path[slash:])
        mounted = self._systems.get(name)
        if mounted is not None:
            files, jobs = mounted.parts or self._connect(name, mounted)
            if "/.jobs" in rest and JOBS_NAME in rest.split("/"):
                return jobs, rest
            return files, rest
        if name == CONTROL_NAME:
            return self._control, rest
        return self._root, path

    def names(self) -> list[str]:
        """Return the names of all systems."""
        return list(self._systems)

    def connected(self) -> dict[str, tuple[Filesystem, Filesystem]]:
        """Return the systems that someone has looked into: their files and their jobs."""
        return {name: each.parts for name, each in self._systems.items() if each.parts}

    def _connect(self, name: str, mounted: Mounted) -> tuple[Filesystem, Filesystem]:
        def connect() -> tuple[Filesystem, Filesystem]:
            if mounted.parts is None:
                mounted.parts = mounted.connect()
            return mounted.parts

        return self._flights.run(connect, ("connect", name))


def directory_attr(uid: int, gid: int, *, mode: int = 0o555, inode: int = 0) -> Attr:
    """Return attributes for a directory that only the mount knows."""
    now = time.time_ns()
    return Attr(
        Kind.DIRECTORY,
        mode,
        0,
        now,
        uid=uid,
        gid=gid,
        atime_ns=now,
        ctime_ns=now,
        source=Source.LOCAL,
        inode=inode,
    )
