"""Local state laid over what the cluster lists: which path has which local copy, what is gone.

This is the tree lock of DESIGN: associations change only in here, one short step at a time.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace

from firecrestfs.cache.cached_file import CachedFile, State
from firecrestfs.cache.metadata import is_below, split
from firecrestfs.model import Attr, DirEntry


@dataclass(frozen=True, slots=True)
class _Times:
    """Times given to a stored entry; shown while the remote one has these size and mtime."""

    size: int
    remote_mtime_ns: int
    atime_ns: int | None
    mtime_ns: int | None


class Overlay:
    """Paths of one system against their local copies. Thread-safe (the tree lock)."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below; reads of single keys go without
        self._files: dict[str, CachedFile] = {}
        self._paths: dict[str, str] = {}  # ident → path
        self._names: defaultdict[str, set[str]] = defaultdict(set)  # directory → names in _files
        self._gone: dict[str, Attr] = {}  # unlinked while open: removed remotely when closed
        self._origins: dict[str, str] = {}  # hidden path → the path it was unlinked at
        self._times: dict[str, _Times] = {}

    # -- looking up ----------------------------------------------------------------------------

    def file(self, path: str) -> CachedFile | None:
        """Return the local copy at *path*."""
        return self._files.get(path)

    def path_of(self, ident: str) -> str:
        """Return the path of the local copy *ident*; empty where it has none any more."""
        return self._paths.get(ident, "")

    def store_path(self, ident: str) -> str:
        """Return where the copy *ident* is to be stored; empty where nowhere: it was unlinked."""
        path = self._paths.get(ident, "")
        return "" if path in self._origins else path

    def gone(self, path: str) -> Attr | None:
        """Return the remote file that is still at *path* although it was unlinked here."""
        return self._gone.get(path)

    def is_gone(self, path: str) -> bool:
        """Tell whether *path* was unlinked here but not yet on the cluster."""
        return path in self._gone

    def files_below(self, path: str) -> list[tuple[str, CachedFile]]:
        """Return the local copies at and below *path* with their paths."""
        prefix = path.rstrip("/") + "/"
        with self._lock:
            return [
                (each, file)
                for each, file in self._files.items()
                if each == path or each.startswith(prefix)
            ]

    def local_entries(self, directory: str) -> list[DirEntry]:
        """Return the entries of *directory* that are new or changed here."""
        with self._lock:
            names = sorted(self._names.get(directory, ()))
            pairs = [(name, self._files[f"{directory.rstrip('/')}/{name}"]) for name in names]
        return [DirEntry(name, file.attr) for name, file in pairs if differs(file)]

    def remote_path(self, ident: str) -> str:
        """Return where the cluster has the file of *ident*: an unlinked one is still there."""
        path = self.path_of(ident)
        return self._origins.get(path, path)

    # -- associations --------------------------------------------------------------------------

    def attach_or_get(self, path: str, make: Callable[[], CachedFile]) -> CachedFile:
        """Return the copy at *path*, made by *make* where there is none."""
        with self._lock:
            file = self._files.get(path)
            if file is None:
                file = make()
                self._attach_locked(path, file)
            return file

    def attach(self, path: str, file: CachedFile) -> Attr | None:
        """Put *file* at *path*; return the remote file that was unlinked there and still is."""
        with self._lock:
            self._detach_locked(path)
            self._attach_locked(path, file)
            return self._gone.pop(path, None)

    def detach(self, path: str, file: CachedFile | None = None) -> CachedFile | None:
        """Take the copy (only *file*, where given) from *path* and return it."""
        with self._lock:
            if file is not None and self._files.get(path) is not file:
                return None
            return self._detach_locked(path)

    def move(self, old: str, new: str) -> CachedFile | None:
        """Move the copy at *old* to *new*; return the one that was there."""
        with self._lock:
            replaced = self._detach_locked(new)
            file = self._detach_locked(old)
            if file is not None:
                self._attach_locked(new, file)
            self._times.pop(new, None)
            if old in self._times:
                self._times[new] = self._times.pop(old)
            return replaced

    # -- unlinked while open -------------------------------------------------------------------

    def orphan(self, path: str, hidden: str) -> CachedFile | None:
        """Unlink *path* here; its copy lives on as *hidden* until that is unlinked too."""
        with self._lock:
            file = self._detach_locked(path)
            if file is not None:
                self._attach_locked(hidden, file)
                self._origins[hidden] = path
                if file.base is not None:
                    self._gone[path] = file.base
            return file

    def end_orphan(self, hidden: str) -> tuple[CachedFile | None, str]:
        """Drop *hidden*: return its copy and the path that it was unlinked at."""
        with self._lock:
            return self._detach_locked(hidden), self._origins.pop(hidden, "")

    def take_gone(self, path: str) -> Attr | None:
        """Return, once, the remote file that is still at *path* although it was unlinked here."""
        with self._lock:
            return self._gone.pop(path, None)

    def gone_below(self, path: str) -> list[str]:
        """Return what was unlinked here below *path* and is still on the cluster."""
        with self._lock:
            return [each for each in self._gone if is_below(each, path)]

    # -- times ---------------------------------------------------------------------------------

    def remember_times(
        self, path: str, attr: Attr, atime_ns: int | None, mtime_ns: int | None
    ) -> None:
        """Show these times for the stored *path* while *attr* describes it."""
        with self._lock:
            old = self._times.get(path)
            if old is not None and (old.size, old.remote_mtime_ns) == (attr.size, attr.mtime_ns):
                atime_ns = old.atime_ns if atime_ns is None else atime_ns
                mtime_ns = old.mtime_ns if mtime_ns is None else mtime_ns
            self._times[path] = _Times(attr.size, attr.mtime_ns, atime_ns, mtime_ns)

    def with_times(self, path: str, attr: Attr) -> Attr:
        """Return the remote *attr* with the times that were given to it here."""
        times = self._times.get(path)
        if times is None or attr.size != times.size or attr.mtime_ns != times.remote_mtime_ns:
            return attr
        return replace(
            attr,
            atime_ns=attr.atime_ns if times.atime_ns is None else times.atime_ns,
            mtime_ns=attr.mtime_ns if times.mtime_ns is None else times.mtime_ns,
        )

    # -- inside --------------------------------------------------------------------------------

    def _attach_locked(self, path: str, file: CachedFile) -> None:
        self._files[path] = file
        self._paths[file.ident] = path
        directory, name = split(path)
        self._names[directory].add(name)

    def _detach_locked(self, path: str) -> CachedFile | None:
        file = self._files.pop(path, None)
        if file is not None:
            self._paths.pop(file.ident, None)
            directory, name = split(path)
            self._names[directory].discard(name)
            if not self._names[directory]:
                del self._names[directory]
        return file


def differs(file: CachedFile) -> bool:
    """Tell whether *file* shows something that the cluster doesn't have."""
    return file.state is not State.CLEAN or file.base is None
