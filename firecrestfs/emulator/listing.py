"""`ls -l --quoting-style=c`: directory listings, in the words and with the failures of GNU ls."""

from __future__ import annotations

import dataclasses
import datetime
import functools
import os
import stat
import zoneinfo
from collections.abc import Iterable
from typing import NamedTuple

from .login import Login
from .quoting import escape
from .shell import CommandFailed
from .tree import Place

_LINE_FIXED = len("-rwxr-xr-x  user group size 2024-01-01T00:00:00 \n") - len("usergroupsize")


class Entry(NamedTuple):
    """One line of a listing. `name` and `target` still carry the backslash escapes of C quoting."""

    name: str
    kind: str
    target: str | None
    user: str
    group: str
    permissions: str
    modified: str
    size: int
    links: int
    printed: int  # bytes that ls prints for name and target
    raw: str  # the name as it is
    raw_target: str | None
    blocks: int  # allocated, of 512 bytes


class Block(NamedTuple):
    """What ls prints for one directory. `path`: as it stands above it, None for a lone file."""

    path: str | None
    entries: list[Entry]


class Listing(NamedTuple):
    """A listing, the number of bytes that ls would have printed for it, and its parts."""

    entries: list[Entry]
    text_size: int
    directories: list[Block]


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of ls that the servers use."""

    hidden: bool = False
    numeric: bool = False
    recursive: bool = False
    dereference: bool = False
    names_only: bool = False  # no -l: nothing but names, and nothing is asked about the files
    unsorted: bool = False  # -f: in the order of the directory, with . and ..


def ls(login: Login, path: str, options: Options) -> Listing:
    """List *path*. Raises CommandFailed when anything at all could not be listed."""
    return _Lister(login, options).run(path)


def ls_itself(login: Login, path: str) -> Entry:
    """`ls -d`: the entry of *path* itself, named as given."""
    return _Lister(login, Options()).itself(path)


class _Lister:
    """One run of ls. Like ls it goes on after an error and fails at the end."""

    def __init__(self, login: Login, options: Options) -> None:
        self._login = login
        self._options = options
        self._locale = login.knobs.locale
        self._zone = login.zone
        self._complaints: list[str] = []
        self._status = 0
        self._entries: list[Entry] = []
        self._blocks: list[Block] = []
        self._text_size = 0

    def run(self, path: str) -> Listing:
        try:
            place = self._login.place(path, follow=self._options.dereference)
            info = os.lstat(place.local)
        except OSError as exc:
            raise self._failure(f"cannot access {self._login.quoted(path)}", exc, 2) from exc
        if stat.S_ISDIR(info.st_mode):
            self._list(path, place, [], "")
        else:
            self._add(None, [self._entry(path, info, place)], "")
        if self._complaints:
            raise CommandFailed(self._status, "".join(self._complaints))
        return Listing(self._entries, self._text_size, self._blocks)

    def itself(self, path: str) -> Entry:
        try:
            place = self._login.place(path, follow=False)
            return self._entry(path, os.lstat(place.local), place)
        except OSError as exc:
            raise self._failure(f"cannot access {self._login.quoted(path)}", exc, 2) from exc

    def _list(self, path: str, place: Place, above: list[tuple[int, int]], top: str) -> None:
        """List a directory and, as asked, what lies below. `top`: header of the first."""
        here = os.stat(place.local)
        identity = (here.st_dev, here.st_ino)
        if identity in above:
            self._complain(
                f"{self._login.quoted_if_needed(path)}: not listing already-listed directory"
            )
            self._status = 2
            return
        try:
            found = self._scan(path, place)
        except OSError as exc:
            words = f"cannot open directory {self._login.quoted(path)}"
            self._complain(words, exc)
            self._status = max(self._status, 1 if above else 2)
            return
        header = escape(path, self._locale, specials='\\":').rstrip("/") + "/"
        entries = [entry for _, _, entry in found]
        self._add(path, entries, header.removeprefix(top or header))
        if self._options.recursive:
            self._text_size += len(header) + 4
            for name, below, entry in found:
                if entry.kind == "d" and name not in (".", ".."):
                    joined = path + name if path.endswith("/") else f"{path}/{name}"
                    self._list(joined, below, [*above, identity], top or header)

    def _scan(self, path: str, place: Place) -> list[tuple[str, Place, Entry]]:
        """Return what *place* holds, sorted. Raises OSError for the directory itself only."""
        self._login.tree.check_door((*place.remote, "*"), self._login.account)
        hidden = self._options.hidden or self._options.unsorted
        found = [self._dot(name, place) for name in (".", "..") if self._options.unsorted]
        with os.scandir(place.local) as entries:
            for item in entries:
                if not hidden and item.name.startswith("."):
                    continue
                below = Place(item.path, (*place.remote, item.name))
                try:
                    if self._options.names_only and not self._follows(item):
                        found.append((item.name, below, self._name_only(item)))
                        continue
                    info = item.stat(follow_symlinks=False)
                    if self._options.dereference and stat.S_ISLNK(info.st_mode):
                        below = self._login.place("/" + "/".join(below.remote))
                        info = os.stat(below.local)
                    found.append((item.name, below, self._entry(item.name, info, below)))
                except OSError as exc:
                    joined = f"{path.rstrip('/')}/{item.name}"
                    self._complain(f"cannot access {self._login.quoted(joined)}", exc)
                    self._status = max(self._status, 1)
        if not self._options.unsorted:
            found.sort(key=lambda row: os.fsencode(row[0]))
        return found

    def _follows(self, item: os.DirEntry[str]) -> bool:
        """Tell whether even a bare list of names needs to know what a link leads to."""
        options = self._options
        return options.dereference and options.recursive and item.is_symlink()

    def _dot(self, name: str, place: Place) -> tuple[str, Place, Entry]:
        return name, place, self._entry(name, os.stat(place.local), place)

    def _name_only(self, item: os.DirEntry[str]) -> Entry:
        kind = "d" if item.is_dir(follow_symlinks=False) else "-"
        shown, printed = self._shown(item.name)
        return Entry(shown, kind, None, "", "", "", "", 0, 0, printed, item.name, None, 0)

    def _entry(self, name: str, info: os.stat_result, place: Place) -> Entry:
        kind, permissions = _mode_text(info.st_mode)
        if kind in "-d" and _has_acl(place.local):
            permissions += "+"
        target = os.readlink(place.local) if kind == "l" else None
        user, group = self._owner(info, place)
        shown, printed = self._shown(name)
        shown_target, printed_target = (None, 0) if target is None else self._shown(target)
        return Entry(
            shown,
            kind,
            shown_target,
            user,
            group,
            permissions,
            local_time(int(info.st_mtime), self._zone),
            info.st_size,
            info.st_nlink,
            printed + (len(" -> ") + printed_target if target is not None else 0),
            name,
            target,
            info.st_blocks,
        )

    def _shown(self, name: str) -> tuple[str, int]:
        """Return a name as it comes out of the servers' parser, and the size of what went in."""
        quoted = escape(name, self._locale, '\\"')
        size = len(quoted.encode("utf-8", "surrogateescape")) + len('""')
        return (name if quoted == name else escape(name, self._locale, "")), size

    def _owner(self, info: os.stat_result, place: Place) -> tuple[str, str]:
        directory = self._login.directory
        uid, gid = directory.owner(info, place.remote)
        if self._options.numeric:
            return str(uid), str(gid)
        return directory.user_name(uid), directory.group_name(gid)

    def _add(self, path: str | None, entries: list[Entry], prefix: str) -> None:
        self._blocks.append(Block(path, entries))
        self._text_size += _text_size(entries)
        if prefix:
            entries = [entry._replace(name=prefix + entry.name) for entry in entries]
        self._entries += entries

    def _complain(self, words: str, exc: OSError | None = None) -> None:
        reason = f": {os.strerror(exc.errno or 0)}" if exc is not None else ""
        self._complaints.append(f"ls: {words}{reason}\n")

    def _failure(self, words: str, exc: OSError, status: int) -> CommandFailed:
        self._complain(words, exc)
        return CommandFailed(status, "".join(self._complaints))


@functools.cache
def _mode_text(mode: int) -> tuple[str, str]:
    text = stat.filemode(mode)
    return text[0], text[1:]


def _has_acl(local: str | os.PathLike[str]) -> bool:
    """Tell whether more than the mode says who may do what."""
    try:
        names = os.listxattr(local, follow_symlinks=False)
    except OSError:
        return False
    return any(name.startswith("system.posix_acl_") for name in names)


@functools.lru_cache(maxsize=65536)
def local_time(seconds: int, zone: zoneinfo.ZoneInfo) -> str:
    """Return a time as the cluster's clock showed it, without zone."""
    return datetime.datetime.fromtimestamp(seconds, zone).strftime("%Y-%m-%dT%H:%M:%S")


def _text_size(entries: Iterable[Entry]) -> int:
    """Return how many bytes ls prints for a directory: columns fit their widest cell."""
    rows = list(entries)
    if not rows:
        return len("total 0\n")
    widths = (
        max(len(str(row.links)) for row in rows)
        + max(len(row.user) for row in rows)
        + max(len(row.group) for row in rows)
        + max(len(str(row.size)) for row in rows)
    )
    return len("total 0\n") + len(rows) * (_LINE_FIXED + widths) + sum(row.printed for row in rows)
