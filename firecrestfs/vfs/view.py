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
from firecrestfs.cache.journal import Journal
from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, DirEntry, Kind, Source, same_version
from firecrestfs.paths import directory_of, join, name_of, split
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.engine import TransferEngine
from firecrestfs.transfer.leftovers import Leftovers
from firecrestfs.transfer.moving import Mover
from firecrestfs.transfer.progress import Board

from . import guard, links
from .entry import Entry
from .fetching import Fetching
from .flights import Flights
from .identity import Identity
from .litter import Litter
from .moments import Moments
from .namespace import JOBS_NAME
from .onsite import OnSite
from .overlay import Overlay
from .steady import Steady
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
    mover: Mover
    stores: Stores
    steady: Steady
    fetching: Fetching
    board: Board
    leftovers: Leftovers
    onsite: OnSite
    flights: Flights
    journal: Journal


class RemoteView:
    """Answers what is where. Thread-safe; methods may wait for the network."""

    def __init__(self, parts: RemoteParts, home_links: Mapping[str, str]) -> None:
        """*home_links* maps names at the system's root (HOME, SCRATCH) to remote directories."""
        self._identity = parts.identity
        self._tree = parts.tree
        self._overlay = parts.overlay
        self._stores = parts.stores
        self._steady = parts.steady
        self.home_links = dict(home_links)
        self._home_paths = frozenset(f"/{name}" for name in home_links)
        self.litter = Litter()
        self.moments = Moments()

    # -- looking -------------------------------------------------------------------------------

    def getattr(self, path: str) -> Attr:
        """Return the attributes of *path*: local changes first, then what the cluster says."""
        attr = self._found(path)
        return self.moments.shown(path, attr) if path in self.moments else attr

    def _found(self, path: str) -> Attr:
        # The call that is made most: what can be looked up in a dict is not asked of a method.
        entry = self._overlay.entry(path)
        if entry is not None:
            return self._known(path, entry)
        if path in self.litter:
            return self.litter.attr(path)
        if path in self._home_paths:
            return self._home_link_attr(path)
        if guard.is_housekeeping(name_of(path)):
            raise os_error(errno.ENOENT, path)
        return self._steady.ask(lambda: self._require_origin(path), self._tree.getattr)

    def remote_attr(self, path: str, entry: Entry | None) -> Attr | None:
        """Return what the cluster has of *entry*, shown at *path*; None while we change it there.

        Raises ENOENT.
        """
        if entry is None:
            return self._steady.ask(lambda: self._require_origin(path), self._tree.getattr)
        origin, base = entry.origin, entry.base
        attr = self._steady.ask(
            lambda: entry.origin or self._require_origin(path), self._tree.getattr
        )
        return None if self._is_landing(entry, origin, base) else attr

    def readdir(self, path: str) -> Sequence[DirEntry]:
        """Return the entries of *path* by at most one request."""
        # Looked at before as well: what lands meanwhile may be in neither of what comes after.
        before = self._overlay.local_entries(path)
        entries = {each.name: each.attr for each in before} | self._remote_entries(path)
        for entry in (*self._overlay.local_entries(path), *self.litter.entries(path)):
            entries[entry.name] = entry.attr
        if path == "/":
            entries.update({name: self._home_link_attr(f"/{name}") for name in self.home_links})
            entries[JOBS_NAME] = self._tree.plain_directory(f"/{JOBS_NAME}")
        return [
            DirEntry(name, attr)
            for name, attr in entries.items()
            if not name.startswith(guard.HIDDEN_PREFIX)
        ]

    def _remote_entries(self, path: str) -> dict[str, Attr]:
        """Return what the cluster has of the directory *path*, less what was taken away here."""
        self._stores.give_modes(path)
        if self._overlay.locate(path) is None:
            if self.getattr(path).kind is not Kind.DIRECTORY:
                raise os_error(errno.ENOTDIR, path)
            return {}
        return self._steady.ask(lambda: self._require_origin(path), self._listed)

    def _listed(self, origin: str) -> dict[str, Attr]:
        hidden = self._overlay.hidden_names(origin)
        entries = dict(self._tree.listing(origin))
        for name in hidden | self._overlay.hidden_names(origin):
            entries.pop(name, None)
        return entries

    def readlink(self, path: str) -> str:
        """Return the text of a link: verbatim where it was made here."""
        attr = self.getattr(path)
        if attr.kind is not Kind.SYMLINK:
            raise os_error(errno.EINVAL, path)
        entry = self._overlay.entry(path)
        if entry is not None and entry.made_text:
            return entry.made_text
        return attr.target or ""

    def attr_or_none(self, path: str) -> Attr | None:
        """Return the attributes of *path*, None where nothing is there."""
        try:
            return self.getattr(path)
        except FileNotFoundError:
            return None

    def is_litter_here(self, directory: str, name: str) -> bool:
        """Tell whether *name* in *directory* is a desktop's, and known to this machine alone."""
        return join(directory, name) in self.litter

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
        directory = directory_of(path)
        if self._tree.is_synthetic(directory):
            raise os_error(errno.EACCES, path, "only the cluster's file systems can be written")
        attr = self._found(directory)
        if attr.kind is not Kind.DIRECTORY:
            raise os_error(errno.ENOTDIR, path)
        return attr

    def require_creatable(self, path: str, kind: Kind) -> Attr:
        """Return the directory of *path*. Raises unless a new entry may be made there."""
        guard.refuse_housekeeping(name_of(path), path)
        guard.refuse_too_long(path)
        if kind is Kind.DIRECTORY:
            self._tree.require_sendable(path)
        else:
            self._tree.require_carriable(path)
        if self.attr_or_none(path) is not None:
            raise os_error(errno.EEXIST, path)
        parent = self.parent_of(path)
        self._identity.require(path, parent, os.W_OK | os.X_OK)
        return parent

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

    def _require_origin(self, path: str) -> str:
        origin = self._overlay.locate(path)
        if origin is None:
            guard.refuse_too_long(path)
            raise os_error(errno.ENOENT, path)
        return origin

    def _known(self, path: str, entry: Entry) -> Attr:
        """Return what is shown for *entry*, while it is what the cluster has or shall have."""
        attr = self._of_one(path, entry)
        more = len(entry.links)
        return replace(attr, nlink=attr.nlink + more) if more else attr

    def _of_one(self, path: str, entry: Entry) -> Attr:
        """Return the attributes of *entry*, whatever other names are still to be made for it."""
        file, origin, base = entry.file, entry.origin, entry.base
        if self._overlay.is_orphan(path) or not origin or entry.content_differs:
            return entry.attr
        try:
            if file is not None and self._is_followed(file):
                attr = self._tree.look_again(origin)
            else:
                attr = self._tree.getattr(origin)
        except FileNotFoundError:
            if self._is_landing(entry, origin, base):
                return entry.attr
            self._steady.end_moves(origin)
            if entry.origin != origin:
                return self.getattr(path)
            if not self._overlay.is_needed(entry):
                self._stores.give_up(entry)
            raise
        if self._is_landing(entry, origin, base):
            return entry.attr
        if file is not None:
            return self._known_file(entry, file, attr)
        if attr.kind is entry.kind and (self._overlay.differs(entry) or _is_same(entry, attr)):
            shown = entry.attr
            same = shown.mode == attr.mode or entry.wanted_mode is not None
            return shown if same or entry.kind is Kind.SYMLINK else replace(shown, mode=attr.mode)
        self._overlay.forget(entry)
        return attr

    def _known_file(self, entry: Entry, file: CachedFile, attr: Attr) -> Attr:
        if file.describes(attr):
            shown = file.attr
            # Another client may have changed its mode, and by another name we may have.
            mode = attr.mode if file.wanted[0] is None else shown.mode
            if (shown.nlink, shown.mode) == (attr.nlink, mode):
                return shown
            return replace(shown, nlink=attr.nlink, mode=mode)
        if file.writers:
            return file.attr
        known = file.complete or file.partial
        if file.opens and known and attr.size > file.attr.size:
            # It may have grown only: those who have it open find out when they read on.
            return attr
        if self._overlay.is_needed(entry):
            # It is to be renamed, linked or given a mode, whatever it holds.
            return replace(attr, mode=file.attr.mode, inode=file.attr.inode)
        # Someone changed it on the cluster. Who reads it goes on with the version it opened; who
        # writes it shall find out when it is stored, with both versions kept.
        self._stores.give_up(entry)
        return attr

    @staticmethod
    def _is_landing(entry: Entry, origin: str, base: Attr | None) -> bool:
        """Tell whether what was heard of *entry* is changing by our own hand, or has just done so.

        *origin* and *base* are what was known before the cluster was asked.
        """
        if entry.busy or entry.origin != origin or entry.base is not base:
            return True
        return any(each.busy for each in entry.links)

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


def _is_same(entry: Entry, attr: Attr) -> bool:
    """Tell whether *attr* is the directory or link that *entry* remembers something of."""
    if entry.kind is Kind.SYMLINK:
        return attr.target in (entry.text, links.shown_target(entry.origin, entry.text))
    return entry.remote is not None and same_version(entry.remote, attr)
