"""RemoteView: what a system's tree looks like now, local changes laid over the cluster's state."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.content import ContentCache
from firecrestfs.cache.metadata import boottime, join, split
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind, Source
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.engine import TransferEngine

from . import guard, links
from .flights import Flights
from .identity import Identity
from .litter import Litter
from .moments import Moments
from .namespace import JOBS_NAME
from .overlay import Overlay, differs
from .stores import Stores
from .tree import RemoteTree

#: A file that someone follows is looked at this often on the cluster (seconds).
_FOLLOW_S = 2.0
#: Links that are followed in one path; more of them are a loop.
_MAX_LINKS = 40


@dataclass(frozen=True)
class RemoteParts:
    """What the file system of one system is made of; wired in `mount`."""

    client: TypedClient
    identity: Identity
    tree: RemoteTree
    overlay: Overlay
    content: ContentCache
    engine: TransferEngine
    bundler: Bundler
    stores: Stores
    flights: Flights


class RemoteView:
    """Answers what is where. Thread-safe; methods may wait for the network."""

    def __init__(self, parts: RemoteParts, home_links: Mapping[str, str]) -> None:
        """*home_links* maps names at the system's root (HOME, SCRATCH) to remote directories."""
        self._identity = parts.identity
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._stores = parts.stores
        self.home_links = dict(home_links)
        self._home_paths = frozenset(f"/{name}" for name in home_links)
        self.litter = Litter()
        self.moments = Moments()
        self.made_links: dict[str, str] = {}  # path → the text that the link was made with

    # -- looking -------------------------------------------------------------------------------

    def getattr(self, path: str) -> Attr:
        """Return the attributes of *path*: local changes first, then what the cluster says."""
        # The call that is made most: what can be looked up in a dict is not asked of a method.
        file = self._overlay.file(path)
        if file is not None and (differs(file) or guard.HIDDEN_PREFIX in path):
            return self.moments.shown(path, file.attr)
        if self._overlay.is_gone(path):
            raise os_error(errno.ENOENT, path)
        if path in self.litter:
            return self.litter.attr(path)
        if path in self._home_paths:
            return self._home_link_attr(path)
        if file is not None and self._is_followed(file):
            attr = self._tree.look_again(path)
        else:
            attr = self._tree.getattr(path)
        if file is not None:
            attr = self._remembered(path, file, attr)
        elif attr.kind is Kind.SYMLINK and path in self.made_links:
            attr = replace(attr, size=len(os.fsencode(self.made_links[path])))
        attr = self._overlay.with_times(path, attr)
        return self.moments.shown(path, attr) if path in self.moments else attr

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the entries of *path* by at most one request."""
        entries = dict(self._tree.listing(path))
        for entry in (*self._overlay.local_entries(path), *self.litter.entries(path)):
            entries[entry.name] = entry.attr
        if path == "/":
            entries.update({name: self._home_link_attr(f"/{name}") for name in self.home_links})
            entries[JOBS_NAME] = self._tree.plain_directory(f"/{JOBS_NAME}")
        return [
            DirEntry(name, attr)
            for name, attr in entries.items()
            if not name.startswith(guard.HIDDEN_PREFIX)
            and not self._overlay.is_gone(join(path, name))
        ]

    def readlink(self, path: str) -> str:
        """Return the text of a link: verbatim where it was made here."""
        attr = self.getattr(path)
        if attr.kind is not Kind.SYMLINK:
            raise os_error(errno.EINVAL, path)
        made = self.made_links.get(path)
        return made if made is not None else attr.target or ""

    def attr_or_none(self, path: str) -> Attr | None:
        """Return the attributes of *path*, None where nothing is there."""
        try:
            return self.getattr(path)
        except FileNotFoundError:
            return None

    def remote_attr_or_none(self, path: str) -> Attr | None:
        """Return what the cluster has at *path*, whatever was changed here."""
        file = self._overlay.file(path)
        if file is not None:
            return file.base
        try:
            return self._tree.getattr(path)
        except FileNotFoundError:
            return None

    def followed(self, path: str, ask: bool = False) -> str:
        """Return *path* with the links in it followed; unless *ask*, as far as they are known.

        Raises only where it asks and isn't answered.
        """
        done, todo, links_left = "", path.split("/"), _MAX_LINKS
        while todo:
            name = todo.pop(0)
            here = f"{done}/{name}" if name not in ("", ".", "..") else done
            text = self._target_of(here, ask) if here != done and links_left else None
            if name == "..":
                done = done.rpartition("/")[0]
            elif text is None:
                done = here
            else:
                links_left -= 1
                done = "" if text.startswith("/") else done
                todo = text.split("/") + todo
        return done or "/"

    def _target_of(self, path: str, ask: bool) -> str | None:
        if path[1:] in self.home_links:
            return self.home_links[path[1:]]
        attr = self.attr_or_none(path) if ask else self._tree.last_known(path)
        return attr.target if attr is not None and attr.kind is Kind.SYMLINK else None

    # -- what changes ask first ----------------------------------------------------------------

    def parent_of(self, path: str) -> Attr:
        """Return the directory of *path*. Raises EACCES above the cluster's file systems."""
        directory = split(path)[0]
        if self._tree.is_synthetic(directory):
            raise os_error(errno.EACCES, path, "only the cluster's file systems can be written")
        attr = self.getattr(directory)
        if attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.ENOTDIR, path)
        return attr

    def require_creatable(self, path: str) -> None:
        """Raise unless a new entry may be made at *path*, where nothing is now."""
        guard.refuse_housekeeping(split(path)[1], path)
        self._tree.require_sendable(path)
        if self.attr_or_none(path) is not None:
            raise os_error(errno.EEXIST, path)
        self._identity.require(path, self.parent_of(path), os.W_OK | os.X_OK)

    def is_fixed(self, path: str) -> bool:
        """Tell whether *path* is a directory that the cluster's administrators made."""
        return self._tree.is_synthetic(path) or self._tree.is_root(path)

    def new_attr(self, path: str, mode: int) -> Attr:
        """Return attributes for a new empty file of ours at *path*."""
        now = time.time_ns()
        user = self._identity.user
        return Attr(
            Kind.FILE,
            mode,
            0,
            now,
            uid=self._identity.uid,
            gid=self._identity.gid,
            owner=user.name,
            group=user.groups.get(user.gid, ""),
            atime_ns=now,
            ctime_ns=now,
            source=Source.LOCAL,
            inode=self._identity.inode(path),
        )

    # -- own changes ---------------------------------------------------------------------------

    def entry_changed(self, path: str) -> None:
        """Note that the name *path* came or went from here."""
        directory, name = split(path)
        if not name.startswith(guard.HIDDEN_PREFIX):
            self.moments.names_changed(directory)

    # -- inside --------------------------------------------------------------------------------

    def _remembered(self, path: str, file: CachedFile, attr: Attr) -> Attr:
        """Return what is shown for a stored file whose copy we have, while it is the same file."""
        if file.describes(attr):
            shown = file.attr
            return shown if shown.nlink == attr.nlink else replace(shown, nlink=attr.nlink)
        if file.writers:
            return file.attr
        if file.opens and file.complete and attr.size > file.attr.size:
            # It may have grown only: those who have it open find out when they read on.
            return attr
        # Someone changed it on the cluster. Who reads it goes on with the version it opened; who
        # writes it shall find out when it is stored, with both versions kept.
        self._stores.give_up(path, file)
        return attr

    @staticmethod
    def _is_followed(file: CachedFile) -> bool:
        """Tell, at most every two seconds, that someone waits at the end of the open *file*."""
        if not file.opens or not file.followed_at or boottime() - file.followed_at < _FOLLOW_S:
            return False
        file.followed_at = boottime()
        return True

    def _home_link_attr(self, path: str) -> Attr:
        text = links.shown_target(path, self.home_links[path[1:]])
        plain = self._tree.plain_directory(path)
        return replace(plain, kind=Kind.SYMLINK, mode=0o777, size=len(text), nlink=1, target=text)
