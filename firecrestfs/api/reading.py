"""The reading half of the typed client: systems, listings, attributes, content."""

from __future__ import annotations

import errno
import logging
import threading
from collections import Counter, OrderedDict
from typing import Any

from ..errors import FirecrestException
from ..model import Attr, DirEntry, Features, Limits, System, UserInfo
from ..paths import name_of, split
from .client import Firecrest
from .decode import listed_attr, number, stat_attr, system_of, user_of
from .faults import Inexact, IsADirectory, NotADirectory, NotFound, TooLarge, refusal
from .names import (
    candidates,
    checked_path,
    fit_entry,
    fit_relative,
    sendable,
    unescaped,
)
from .textranges import block_of, is_cut_replacement
from .zone import ClusterZone, telling

log = logging.getLogger("firecrestfs.api")

#: `Reader.list` hides the type's name inside its class.
Entries = list[DirEntry]
RawEntries = list[dict[str, Any]]

_NS = 1_000_000_000
#: Requests that one listing may spend on names that could be read in two ways.
_SETTLED_BY_STAT = 8
#: Settled names that are remembered.
_VERDICTS = 10_000
#: Directories, and entries of each, whose listing times are kept to be compared with stats.
_RECENT, _RECENT_ENTRIES = 16, 20_000


class Reader:
    """Everything of `TypedClient` that changes nothing on the cluster."""

    def __init__(self, client: Firecrest, zones: dict[str, str] | None = None) -> None:
        """Wrap *client*; *zones* are configured time zone names by system."""
        self._client = client
        self._zone_names = dict(zones or {})
        self._lock = threading.Lock()  # guards everything below
        self._known: dict[str, System] = {}
        self._zones: dict[str, ClusterZone] = {}
        self._recent: OrderedDict[tuple[str, str], dict[str, Attr]] = OrderedDict()
        self._verdicts: dict[tuple[str, str, str], str] = {}
        self._quiet: set[str] = set()  # systems whose login shell prints nothing of its own

    # -- systems ------------------------------------------------------------------------------

    def systems(self) -> tuple[System, ...]:
        """Return the systems that the server offers, healthy or not. One request."""
        found = tuple(system_of(raw) for raw in self._client.server().systems())
        with self._lock:
            self._known = {system.name.lower(): system for system in found}
        return found

    def userinfo(self, system: str) -> UserInfo:
        """Return who we are on *system*."""
        return user_of(self._client.server().userinfo(system))

    def system(self, name: str) -> System:
        """Return what is known of a system; asks the server once. Raises ENODEV."""
        with self._lock:
            known = self._known.get(name.lower())
        if known is not None:
            return known
        for found in self.systems():
            if found.name.lower() == name.lower():
                return found
        raise refusal(errno.ENODEV, f"the server offers no system {name}", kind="system")

    def limits(self, system: str) -> Limits:
        """Return what one direct request may carry."""
        return self.system(system).limits

    def features(self, system: str) -> Features:
        """Return what the server's version of FirecREST can do on *system*.

        Asks on v1 only, and only once: for its version and for what the system makes of spaces.
        """
        return self._client.server().features(system)

    # -- time ---------------------------------------------------------------------------------

    def zone(self, system: str) -> ClusterZone:
        """Return what is known of the system's time zone."""
        with self._lock:
            if system not in self._zones:
                self._zones[system] = ClusterZone(self._zone_names.get(system))
            return self._zones[system]

    def mtime_ns(self, system: str, listed: str) -> int:
        """Return the epoch nanoseconds of a listing's time text; 0 where it is no time.

        A zone that was learnt later gives other results: ask again for what was listed before.
        """
        try:
            return self.zone(system).to_epoch(listed) * _NS
        except (ValueError, OverflowError, OSError):
            return 0

    def learn_zone(self, system: str, directory: str) -> bool:
        """Find out the system's time zone from a listing fetched before; at most two requests.

        One entry of winter and one of summer are looked at, old ones rather than fresh ones.
        Returns whether anything was learnt.
        """
        base = checked_path(directory)
        with self._lock:
            entries = dict(self._recent.get((system, base), {}))
        learnt = False
        for name in telling(entries):
            try:
                self.stat(system, base.rstrip("/") + "/" + name)
                learnt = True
            except FirecrestException as exc:
                log.debug("no time zone from %s: %s", name, exc)
        return learnt and self.zone(system).observed

    def _remember(self, system: str, directory: str, entries: Entries) -> None:
        if len(entries) > _RECENT_ENTRIES:
            return
        with self._lock:
            self._recent[system, directory] = {entry.name: entry.attr for entry in entries}
            self._recent.move_to_end((system, directory))
            while len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def _compare(self, system: str, path: str, found: Attr) -> None:
        """Learn from a stat of something that was listed a while ago, for free."""
        directory, name = split(path)
        with self._lock:
            listed = self._recent.get((system, directory), {}).get(name)
        if listed is not None and (listed.size, listed.kind) == (found.size, found.kind):
            self.zone(system).observe(listed.listed, found.mtime_ns // _NS)

    # -- listings -----------------------------------------------------------------------------

    def list(self, system: str, path: str, *, recursive: bool = False) -> Entries:
        """Return the entries of a directory, in the server's order; one request.

        Raises ENOTDIR for anything but a directory; a link to one is followed only where *path*
        ends in a slash. Attributes are of source LS. In a recursive listing names are paths
        relative to *path*. Entries with impossible names are dropped with a logged line.
        """
        raw = self._ls(system, path, recursive=recursive)
        if raw and str(raw[0].get("name", "")).startswith("/"):
            raise NotADirectory(errno.ENOTDIR, "not a directory on the cluster", path)
        base = checked_path(path)
        names = _Names(self, system, base, recursive, raw)
        entries = [entry for item in raw if (entry := self._entry(system, item, names))]
        if not recursive:
            self._remember(system, base, entries)
        return entries

    def lstat_entry(self, system: str, path: str) -> DirEntry:
        """Return one entry as a listing tells it, with a link's text. EISDIR for directories.

        The name of the result is the last part of *path*.
        """
        clean = checked_path(path)
        raw = self._client.server().ls(system, clean)
        name = name_of(clean)
        if len(raw) != 1 or not str(raw[0].get("name", "")).startswith("/"):
            raise IsADirectory(errno.EISDIR, "a directory on the cluster", path)
        attr = listed_attr(raw[0], self._listed_ns(system, raw[0]))
        if attr is None:
            raise refusal(errno.EBADMSG, "the server describes the entry in an odd form", path)
        return DirEntry(name, attr)

    def readlink(self, system: str, path: str) -> str:
        """Return the text of a symbolic link. Raises EINVAL for anything else."""
        try:
            target = self.lstat_entry(system, path).attr.target
        except IsADirectory:
            target = None
        if target is None:
            raise refusal(errno.EINVAL, "not a symbolic link", path)
        return target

    def _ls(self, system: str, path: str, *, recursive: bool) -> RawEntries:
        """Ask for a listing, again where an entry vanished while it was made."""
        server = self._client.server()
        for _ in range(2):
            try:
                return server.ls(system, path, recursive=recursive)
            except NotFound as exc:
                if not _about_an_entry(exc):
                    raise
        server.stat(system, path)
        text = "the directory changes too fast to be listed; try again"
        raise refusal(errno.EAGAIN, text, path, transient=True)

    def _entry(self, system: str, raw: dict[str, Any], names: _Names) -> DirEntry | None:
        name = names.of(raw)
        if name is None:
            log.warning("%s: dropped an entry with an impossible name: %r", system, raw.get("name"))
            return None
        attr = listed_attr(raw, self._listed_ns(system, raw))
        if attr is None:
            log.warning("%s: dropped an entry that makes no sense: %r", system, raw)
            return None
        return DirEntry(name, attr)

    def _listed_ns(self, system: str, raw: dict[str, Any]) -> int:
        # An entry that was described by a stat knows its time exactly.
        if "epoch" in raw:
            return number(raw["epoch"], 0) * _NS
        return self.mtime_ns(system, str(raw.get("lastModified", "")))

    def settle(self, system: str, directory: str, listed: str, *, ask: bool) -> str:
        """Return the real name of *listed*; *ask*: a stat may settle what can be read two ways."""
        options = candidates(listed)
        key = (system, directory, listed)
        with self._lock:
            known = self._verdicts.get(key)
        if known is not None or len(options) == 1:
            return known or options[0]
        if not ask:
            return options[-1]
        try:
            self._client.server().stat(system, f"{directory.rstrip('/')}/{options[0]}")
            verdict = options[0]
        except FirecrestException as exc:
            verdict = options[-1]
            if not isinstance(exc, NotFound):
                return verdict
        with self._lock:
            if len(self._verdicts) >= _VERDICTS:
                self._verdicts.clear()
            self._verdicts[key] = verdict
        return verdict

    # -- attributes and content ---------------------------------------------------------------

    def stat(self, system: str, path: str, *, follow: bool = False) -> Attr:
        """Return the attributes of *path*, of source STAT; of a link's target with *follow*."""
        clean = checked_path(path)
        try:
            found = stat_attr(self._client.server().stat(system, clean, dereference=follow))
        except ValueError as exc:
            raise refusal(errno.EBADMSG, f"the server's answer is odd: {exc}", path) from None
        with self._lock:
            self._quiet.add(system.lower())
        if not follow:
            self._compare(system, clean, found)
        return found

    def _require_quiet(self, system: str, path: str) -> None:
        """Raise EIO where a login shell prints something of its own, before or into any content.

        A stat that was understood has shown that it doesn't; without one, *path* is asked for.
        """
        with self._lock:
            quiet = system.lower() in self._quiet
        if not quiet:
            self.stat(system, path)

    def download(self, system: str, path: str, *, expect: int | None = None) -> bytes:
        """Return the whole content of a file, in one request; links are followed.

        *expect* is the size that a listing told: above the limit it raises EFBIG without a request;
        a file that has become shorter since raises ESTALE. A longer one is returned as it is now.
        """
        limits = self.limits(system)
        if expect is not None and expect > limits.download:
            text = f"more than the {limits.download} bytes of a direct download"
            raise TooLarge(errno.EFBIG, text, path)
        most = max(limits.upload, limits.download)
        data = self._client.server().download(system, path, limit=most)
        if len(data) != expect:
            # What a shell has printed may decode to bytes.
            self._require_quiet(system, path)
        if expect is not None and len(data) < expect:
            text = f"the file has become shorter: {len(data)} bytes, not {expect}"
            raise refusal(errno.ESTALE, text, path, transient=True)
        return data

    def view(
        self, system: str, path: str, offset: int, size: int, *, total: int | None = None
    ) -> bytes:
        """Return exactly the bytes from *offset*, fewer only at the end of the file; one request.

        The first time on a system it may take a `stat` besides.

        The server cuts text by characters, so bytes are exact only from the start of a block and
        where no undecodable byte is near. Raises `Inexact` wherever that can't be proven (binary
        content above all), without a request where it could never be. Where `features` tell of
        `exact_ranges`, any content is exact up to the limit of a download, and text beyond it;
        *total*, the size of such a large file, saves requests then.
        """
        if offset < 0 or size < 0:
            raise refusal(errno.EINVAL, "negative offset or size", path)
        if size == 0:
            return b""
        if self.features(system).exact_ranges:
            return self._client.server().read_range(system, path, offset, size, total)
        block = block_of(offset, size, self.limits(system).view)
        self._require_quiet(system, path)
        start = offset - offset % block
        text = self._client.server().view(system, path, size=block, offset=start)
        data = text.encode("utf-8", "surrogatepass")[:block]
        if b"\xef\xbf\xbd" in data or is_cut_replacement(text, data):
            raise Inexact("not plain UTF-8 text; only a whole download is exact", path)
        return data[offset - start : offset - start + size]

    def head(self, system: str, path: str, *, lines: int = 0, size: int = 0) -> str:
        """Return the first *lines*, or *size* bytes, as text; undecodable bytes are replaced."""
        if not lines and not size:
            return ""
        return _content(self._client.server().head(system, path, lines=lines, size=size))

    def tail(self, system: str, path: str, *, lines: int = 0, size: int = 0) -> str:
        """Return the last *lines*, or *size* bytes, as text; undecodable bytes are replaced."""
        if not lines and not size:
            return ""
        return _content(self._client.server().tail(system, path, lines=lines, size=size))

    def checksum(self, system: str, path: str) -> str:
        """Return the SHA-256 of a file as hex digits. ETIMEDOUT for more than some GB."""
        return str(self._client.server().checksum(system, path)["checksum"])

    def file_type(self, system: str, path: str) -> str:
        """Return what the `file` tool says; a missing file is described, not refused."""
        return self._client.server().file(system, path)


class _Names:
    """Decodes the names of one listing, with a small budget for doubtful ones."""

    def __init__(
        self, reader: Reader, system: str, base: str, recursive: bool, raw: RawEntries
    ) -> None:
        self._reader = reader
        self._listed = Counter(str(item.get("name")) for item in raw)
        self._twins: Counter[str] = Counter()
        self._system = system
        self._base = base
        self._recursive = recursive
        self._budget = _SETTLED_BY_STAT

    def of(self, raw: dict[str, Any]) -> str | None:
        """Return the entry's real name (path, in a recursive listing), None for impossible ones."""
        exact = raw.get("exactName")
        if isinstance(exact, str):
            return exact if fit_relative(exact) else None
        listed = raw.get("name")
        if not isinstance(listed, str):
            return None
        if not self._recursive:
            name = self._twin(listed) or self._settled(self._base, listed)
            return name if fit_entry(name) else None
        # Prefixes are headings of ls, which the server leaves fully escaped: they are exact.
        prefix, slash, last = listed.rpartition("/")
        prefix = unescaped(prefix)
        directory = f"{self._base.rstrip('/')}/{prefix}"
        name = prefix + slash + (self._twin(listed) or self._settled(directory, last))
        return name if fit_relative(name) else None

    def _twin(self, listed: str) -> str | None:
        """Return the last part of a name that is listed twice: both readings are there."""
        options = candidates(listed.rpartition("/")[2])
        if self._listed[listed] < 2 or len(options) < 2:
            return None
        self._twins[listed] += 1
        return options[min(self._twins[listed], len(options)) - 1]

    def _settled(self, directory: str, listed: str) -> str:
        if "\\" not in listed:
            return listed
        ask = self._budget > 0 and sendable(directory)
        if ask and len(candidates(listed)) > 1:
            self._budget -= 1
        return self._reader.settle(self._system, directory, listed, ask=ask)


def _about_an_entry(exc: FirecrestException) -> bool:
    """Tell whether ls complained about an entry (status 1), not about what it was asked for (2)."""
    return bool(exc.responses) and "exit status:1 " in exc.responses[-1].text


def _content(found: dict[str, Any]) -> str:
    return str(found.get("content") or "")
