"""RemoteTree: what one system's files are, as far as listings and lookups tell.

Answers come from the cache; what isn't there costs one listing of the parent, which then answers
for all siblings. Where nobody can be asked, the newest that was ever heard stands; what was never
heard of stays unknown. Directories above the file systems that a system offers are synthetic.
"""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from firecrestfs.api.typed import TypedClient
from firecrestfs.cache.metadata import MetadataCache, boottime
from firecrestfs.errors import is_transient, os_error, tells_nothing
from firecrestfs.model import Attr, DirEntry, Features, Kind, Source, System
from firecrestfs.paths import directory_of, is_below, join, name_of, split
from firecrestfs.transfer.carrying import is_sendable

from . import guard, links
from .flights import Flights
from .identity import Identity
from .looks import Looks, SmallTrees
from .walks import Walks, by_directory

log = logging.getLogger(__name__)

#: A file system's own directory doesn't come and go: its attributes are believed this long.
_ROOT_TTL_S = 300.0
#: Refusals of a listing after which a single entry may still be had.
_LOOK_SINGLY = frozenset(
    {errno.EACCES, errno.EPERM, errno.EFBIG, errno.EOVERFLOW, errno.ETIMEDOUT, errno.EMSGSIZE}
)


class RemoteTree:
    """The names and attributes of one system. Thread-safe; methods may wait for the network."""

    def __init__(
        self,
        client: TypedClient,
        system: System,
        identity: Identity,
        metadata: MetadataCache,
        flights: Flights,
        features: Features,
        *,
        verbatim_links: bool = False,
    ) -> None:
        self._client = client
        self.system = system
        self.features = features
        self._identity = identity
        self._metadata = metadata
        self._flights = flights
        self._verbatim_links = verbatim_links
        self._roots = [root.path.rstrip("/") or "/" for root in system.roots]
        self._synthetic = _upper_directories(self._roots)
        self._walks = Walks()
        self._looks = Looks(self._roots, metadata.negative_ttl)
        self._small_trees = SmallTrees()
        self._root_attrs: dict[str, tuple[Attr, float]] = {}
        self._born_ns = time.time_ns()

    # -- reading -------------------------------------------------------------------------------

    def require_sendable(self, *paths: str) -> None:
        """Raise EINVAL, with the reason, for paths that no request can carry."""
        for path in paths:
            guard.refuse_unsendable(path, self.features.forbidden)

    def sends(self, path: str) -> bool:
        """Tell whether requests can carry *path*."""
        return is_sendable(path, self.features.forbidden)

    def require_carriable(self, path: str) -> None:
        """Raise EINVAL for a file that neither a request nor a tar can carry."""
        if self.features.archives:
            guard.refuse_uncarriable(path, self.features.forbidden)
        else:
            self.require_sendable(path)

    def is_synthetic(self, path: str) -> bool:
        """Tell whether *path* is a directory above the offered file systems."""
        return path in self._synthetic

    def root_of(self, path: str) -> str:
        """Return the offered file system that *path* is on."""
        above = [root for root in self._roots if is_below(path, root)]
        return max(above, key=len, default="/")

    def is_root(self, path: str) -> bool:
        """Tell whether *path* is the top of an offered file system."""
        return path in self._roots

    def getattr(self, path: str) -> Attr:
        """Return the localised attributes of *path*. Raises ENOENT where it is absent."""
        found = self._metadata.lookup(path)
        if isinstance(found, Attr):
            return found
        # No listing tells of a file that stepped aside: it is asked for alone.
        alone = guard.is_housekeeping(name_of(path))
        if found is False and not alone:
            guard.refuse_too_long(path)
            raise os_error(errno.ENOENT, path)
        try:
            return self.look_again(path) if alone else self._look_up(path)
        except OSError as exc:
            return self._as_it_was(path, exc)

    def _as_it_was(self, path: str, exc: OSError) -> Attr:
        """Return the newest that is known of *path*; *exc* is why it can't be had anew."""
        found = self._metadata.last_lookup(path) if tells_nothing(exc) else None
        if found is None:
            raise exc
        if found is False:
            raise os_error(errno.ENOENT, path)
        return found

    def last_known(self, path: str) -> Attr | None:
        """Return the newest that was heard of *path*, however old; never asks."""
        return self._metadata.last_known(path)

    def look_again(self, path: str) -> Attr:
        """Return the attributes of *path* as the cluster has them now, if it can be asked."""
        try:
            return self._flights.run(lambda: self.fetch_attr(path), ("stat", path))
        except OSError as exc:
            return self._as_it_was(path, exc)

    def listing(self, directory: str) -> Mapping[str, Attr]:
        """Return the entries of *directory*, from the cache or by one request."""
        if directory in self._synthetic:
            return {
                name: self.plain_directory(join(directory, name))
                for name in self._synthetic[directory]
            }
        self._walks.read(directory)
        entries = self._metadata.listing(directory)
        try:
            return self._listed(directory) if entries is None else entries
        except OSError as exc:
            entries = self._metadata.last_listing(directory) if tells_nothing(exc) else None
            if entries is None:
                raise
            return entries

    def _listed(self, directory: str) -> Mapping[str, Attr]:
        """Return the entries of *directory* by one request, which may list its neighbours too."""
        top = self._walks.listed(directory, self._metadata.listing(directory_of(directory)))
        if top is not None and not self._is_outer(top) and self._fetch_tree(top):
            entries = self._metadata.listing(directory)
            if entries is not None:
                return entries
        return self._flights.run(lambda: self.fetch_listing(directory), ("ls", directory))

    def _is_outer(self, path: str) -> bool:
        """Tell whether *path* holds more than a user's own: never to be listed as a whole."""
        return any(is_below(root, path) for root in self._roots)

    def _fetch_tree(self, top: str) -> bool:
        """List *top* with all below it, by one request; return whether that could be done."""
        try:
            return self._flights.run(lambda: self._fetch_recursive(top), ("tree", top))
        except OSError as exc:
            if exc.errno == errno.EINTR or tells_nothing(exc):
                raise
            log.info("%s can't be listed as a whole: %s", top, exc)
            self._walks.refused(top)
            return False

    def _fetch_recursive(self, top: str) -> bool:
        self.require_sendable(top)
        mark = self._metadata.mark()
        found = self._client.list(self.system.name, top, recursive=True)
        for directory, entries in by_directory(top, found).items():
            kept = self._shown(directory, entries)
            self._metadata.put_listing(directory, kept, mark)
        self._small_trees.made(top)
        return True

    def fetch_listing(self, directory: str) -> Mapping[str, Attr]:
        """List *directory* afresh and believe the answer."""
        self.require_sendable(directory)
        entries: list[DirEntry] = []
        for _ in range(3):
            mark = self._metadata.mark()
            raw = self._client.list(self.system.name, directory)
            entries = self._shown(directory, raw)
            if self._metadata.put_listing(directory, entries, mark):
                break
        return {entry.name: entry.attr for entry in entries}

    def freshen(self, directory: str) -> None:
        """List *directory* again unless that was done within the seconds that absence is believed.

        Where the server can't be reached what is known must do.
        """
        if directory in self._synthetic or self._metadata.is_fresh(directory):
            return
        try:
            self._flights.run(lambda: self.fetch_listing(directory), ("ls", directory))
        except OSError as exc:
            if not is_transient(exc) or self._metadata.last_listing(directory) is None:
                raise

    def fetch_attr(self, path: str) -> Attr:
        """Ask for *path* alone, afresh, and believe the answer. Raises ENOENT."""
        if not self.sends(path):
            directory, name = split(path)
            listed = self.fetch_listing(directory)
            if name not in listed:
                raise os_error(errno.ENOENT, path)
            return listed[name]
        mark = self._metadata.mark()
        try:
            attr = self.localised(path, self._client.stat(self.system.name, path))
        except FileNotFoundError:
            self._metadata.put_attr(path, None, mark)
            raise
        if attr.kind is Kind.SYMLINK:
            text = self._client.readlink(self.system.name, path)
            attr = self._with_target(path, replace(attr, target=text))
        self._metadata.put_attr(path, attr, mark)
        return attr

    # -- own changes ---------------------------------------------------------------------------

    def changed(self, path: str, attr: Attr | None) -> None:
        """Note that *path* has the remote attributes *attr* now, or (None) is gone."""
        self._metadata.changed(path, None if attr is None else self.localised(path, attr))

    def keep_inode(self, path: str, number: int) -> None:
        """Let *path*, which the cluster has from us, go on showing *number*."""
        self._identity.keep_inode(path, number)

    def made_directory(self, path: str, attr: Attr) -> None:
        """Note that we made the directory *path*: it is known to be empty."""
        self.changed(path, attr)
        self._metadata.put_listing(path, [], self._metadata.mark())
        self._small_trees.made(path)

    def forget(self, path: str) -> None:
        """Forget what is known of *path* itself."""
        self._metadata.invalidate(path)

    def expire(self) -> None:
        """Ask anew for whatever is looked at next; time has passed that wasn't counted."""
        self._metadata.expire()
        self._looks.refresh("/")
        self._root_attrs = {path: (attr, 0.0) for path, (attr, _) in self._root_attrs.items()}

    def refresh(self, path: str) -> None:
        """Forget attributes, listings and absences at and below *path*."""
        self._small_trees.remember(self._metadata.invalidate_below(path))
        self._looks.refresh(path)
        for key in [key for key in self._root_attrs if is_below(key, path)]:
            self._root_attrs.pop(key, None)

    # -- inside --------------------------------------------------------------------------------

    def _look_up(self, path: str) -> Attr:
        directory, name = split(path)
        guard.refuse_too_long(path)
        if path in self._synthetic:
            return self.plain_directory(path)
        if path in self._roots:
            return self._root_attr(path)
        if directory in self._synthetic:
            raise os_error(errno.ENOENT, path)
        if guard.is_probe(name) and self._metadata.last_known(path) is None:
            raise os_error(errno.ENOENT, path)
        if not self._looks.singly(directory):
            try:
                listed = self._listed_for(directory)
            except OSError as exc:
                self._may_ask_singly(directory, exc)
            else:
                self._looks.listed(directory, len(listed))
                if name in listed:
                    return listed[name]
                raise os_error(errno.ENOENT, path)
        try:
            return self._flights.run(lambda: self.fetch_attr(path), ("stat", path))
        except FileNotFoundError:
            self._looks.missed(directory)
            raise

    def _listed_for(self, directory: str) -> Mapping[str, Attr]:
        """List *directory* for a look-up in it, or the tree that a program looks through."""
        parent = directory_of(directory)
        if self._metadata.listing(parent) is not None:
            # rsync looks for each file that it would send, and lists nothing.
            self._walks.read(parent)
        if self._is_small_tree(directory) and self._fetch_tree(directory):
            entries = self._metadata.listing(directory)
            if entries is not None:
                return entries
        return self._listed(directory)

    def _is_small_tree(self, top: str) -> bool:
        """Tell whether *top* may as well be listed with all below it, where it must be listed."""
        if self._is_outer(top) or self._walks.is_refused(top):
            return False
        if self._metadata.listing(top) is not None:
            # It is believed but for what it doesn't hold: who waits for a name asks often.
            return False
        return self._small_trees.holds(top, self._metadata.last_listing)

    def _may_ask_singly(self, directory: str, exc: OSError) -> None:
        helps = not is_transient(exc) or exc.errno == errno.ETIMEDOUT
        known = exc.errno in _LOOK_SINGLY or self.is_root(directory)
        if not known or not helps or tells_nothing(exc):
            raise exc
        log.info("%s can't be listed (%s): asking for its entries one by one", directory, exc)
        self._looks.refused(directory)

    def _root_attr(self, path: str) -> Attr:
        known = self._root_attrs.get(path)
        if known is not None and known[1] >= boottime():
            return known[0]
        try:
            attr = self._flights.run(
                lambda: self._client.stat(self.system.name, path, follow=True), ("root", path)
            )
        except OSError as exc:
            if known is None or not tells_nothing(exc):
                raise
            return known[0]
        found = self.localised(path, attr)
        self._root_attrs[path] = (found, boottime() + _ROOT_TTL_S)
        return found

    def plain_directory(self, path: str) -> Attr:
        """Return attributes for a directory that only the mount knows."""
        return Attr(
            Kind.DIRECTORY,
            0o555,
            0,
            self._born_ns,
            uid=self._identity.uid,
            gid=self._identity.gid,
            source=Source.LOCAL,
            inode=self._identity.inode(path),
        )

    def _shown(self, directory: str, raw: Sequence[DirEntry]) -> list[DirEntry]:
        return [
            DirEntry(entry.name, self.localised(join(directory, entry.name), entry.attr))
            for entry in raw
            if not guard.is_housekeeping(entry.name)
        ]

    def localised(self, path: str, attr: Attr) -> Attr:
        """Return *attr*, as the cluster tells it of *path*, with what the mount shows for it."""
        attr = self._identity.localise(path, attr)
        return self._with_target(path, attr) if attr.kind is Kind.SYMLINK else attr

    def _with_target(self, path: str, attr: Attr) -> Attr:
        if attr.target is None or self._verbatim_links:
            return attr
        text = links.shown_target(path, attr.target)
        return replace(attr, target=text, size=len(text.encode("utf-8", "surrogateescape")))


def _upper_directories(roots: Sequence[str]) -> dict[str, list[str]]:
    """Return the synthetic directories above *roots*, each with the names in it."""
    upper: dict[str, list[str]] = {"/": []}
    for root in roots:
        path = root
        while path != "/":
            directory, name = split(path)
            names = upper.setdefault(directory, [])
            if name not in names:
                names.append(name)
            path = directory
    # A file system may be mounted inside another: then the outer one is real.
    for directory in list(upper):
        if any(is_below(directory, root) for root in roots):
            del upper[directory]
    return upper
