"""Frozen values that travel between the layers. No behaviour beyond reading themselves."""

from __future__ import annotations

import enum
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Kind(enum.Enum):
    """What an entry is; the value is the first character of `ls -l`."""

    FILE = "-"
    DIRECTORY = "d"
    SYMLINK = "l"
    FIFO = "p"
    SOCKET = "s"
    CHAR = "c"
    BLOCK = "b"

    #: The `S_IFMT` part of `st_mode`. An attribute, for it is asked at every `stat`.
    type_bits: int

    @staticmethod
    def of_mode(mode: int) -> Kind:
        """Return the kind that the type bits of *mode* tell; unknown bits count as a file."""
        return _KINDS.get(stat.S_IFMT(mode), Kind.FILE)


_TYPE_BITS = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
}
_KINDS = {bits: kind for kind, bits in _TYPE_BITS.items()}
for _kind, _bits in _TYPE_BITS.items():
    _kind.type_bits = _bits


class Source(enum.Enum):
    """Where an `Attr` was learnt; facts of different sources are never compared."""

    LS = "ls"
    STAT = "stat"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one version of a remote file from another; equal only within one source.

    `mtime` is the server's own text for `LS` (local time, no zone), epoch seconds for `STAT`.
    """

    source: Source
    size: int
    mtime: str | int
    ino: int = 0
    ctime: int = 0


@dataclass(frozen=True, slots=True)
class Attr:
    """Attributes of one entry.

    `mode` holds the twelve permission bits only; times are epoch nanoseconds; `uid` and `gid` are
    remote numbers (-1: unknown), `owner` and `group` remote names or numbers as text. `target` is
    the text of a symlink where known. `listed` is the raw time text of a listing. `ino`, `dev`
    and `ctime_ns` are 0 where the source doesn't tell. `acl`: the mode is not the whole truth.
    `inode` is the number the mount shows, 0 until the file system has given one.
    """

    kind: Kind
    mode: int
    size: int
    mtime_ns: int
    uid: int = -1
    gid: int = -1
    owner: str = ""
    group: str = ""
    nlink: int = 1
    ino: int = 0
    dev: int = 0
    atime_ns: int = 0
    ctime_ns: int = 0
    target: str | None = None
    acl: bool = False
    source: Source = Source.STAT
    listed: str = ""
    inode: int = 0

    @property
    def fingerprint(self) -> Fingerprint:
        """The version this describes."""
        if self.source is Source.LS:
            return Fingerprint(Source.LS, self.size, self.listed)
        seconds = self.mtime_ns // 1_000_000_000
        return Fingerprint(
            self.source, self.size, seconds, self.ino, self.ctime_ns // 1_000_000_000
        )


def same_version(known: Attr, now: Attr) -> bool:
    """Tell whether two attributes describe one version of a file.

    Exact within one source; across sources by size and whole seconds, which a zone that is not
    yet known can make differ although nothing changed.
    """
    if known.source is now.source:
        return known.fingerprint == now.fingerprint
    second = 1_000_000_000
    return (known.size, known.mtime_ns // second) == (now.size, now.mtime_ns // second)


def same_bytes(known: Attr, now: Attr) -> bool:
    """Tell whether *now* is the version *known* but for what a rename, a link or a mode changes."""
    second = 1_000_000_000
    moved = known.dev != now.dev or not known.ino
    return (known.size, known.mtime_ns // second) == (now.size, now.mtime_ns // second) and (
        moved or known.ino == now.ino
    )


@dataclass(frozen=True, slots=True)
class DirEntry:
    """One name of a listing with its attributes. In a recursive listing the name is a path."""

    name: str
    attr: Attr


@dataclass(frozen=True, slots=True)
class Limits:
    """What one direct request may carry, in bytes.

    `upload` and `download` are file sizes, inclusive; `view` is the largest exact text range.
    """

    upload: int
    download: int
    view: int


@dataclass(frozen=True, slots=True)
class Features:
    """What a version of FirecREST can do; the defaults are v2's.

    `rename`: `TypedClient.rename` works. `empty_upload`: direct uploads may be empty.
    `exact_ranges`: `TypedClient.view` is exact for any content and offset. `any_link`: links may
    hold any text, not only absolute paths inside the roots. `archives`: compress and extract
    exist, `compressions` are those that extract takes, `packings` those that compress makes,
    `patterns`: it can choose members. `job_options`: submissions take a name, a partition, output
    files and a working directory. `forbidden`: characters, and sequences of them, that no path
    may hold.
    """

    version: str = "2"
    rename: bool = False
    empty_upload: bool = False
    exact_ranges: bool = False
    any_link: bool = False
    archives: bool = True
    compressions: frozenset[str] = frozenset({"none", "gzip", "bzip2", "xz"})
    packings: frozenset[str] = frozenset({"none", "gzip", "bzip2", "xz"})
    patterns: bool = True
    job_options: bool = True
    forbidden: frozenset[str] = frozenset("\0'")


@dataclass(frozen=True, slots=True)
class RemoteRoot:
    """One file system that a system offers: an absolute path and FirecREST's `dataType`."""

    path: str
    data_type: str = ""
    default_work_dir: bool = False


@dataclass(frozen=True, slots=True)
class System:
    """One cluster the server offers. `problem` is why it can't be used now, else empty."""

    name: str
    roots: tuple[RemoteRoot, ...]
    limits: Limits
    command_seconds: float = 5.0
    scheduler: str = ""
    transfer_method: str = ""
    needs_account: bool = False
    directives: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class UserInfo:
    """Who we are on a system. `groups` maps gid to name and includes the primary group."""

    name: str
    uid: int
    gid: int
    groups: Mapping[int, str] = field(default_factory=dict)
    accounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One job of the scheduler. Times are epoch seconds, `elapsed` and `limit` seconds.

    `state` is one upper-case word (`CANCELLED`, not `CANCELLED by 1001`); `exit_code` is None
    until the job has ended.
    """

    job_id: str
    name: str
    state: str
    user: str = ""
    partition: str = ""
    nodes: str = ""
    node_count: int = 0
    working_directory: str = ""
    reason: str = ""
    exit_code: int | None = None
    start: int | None = None
    end: int | None = None
    elapsed: int | None = None
    limit: int | None = None

    @property
    def ended(self) -> bool:
        """Whether the state is final."""
        return self.state in _FINAL_STATES

    @property
    def cut_short(self) -> bool:
        """Whether it was ended for a reason that isn't its own: another may come to its end."""
        return self.state in _CUT_SHORT


_FINAL_STATES = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}
    | {"PREEMPTED", "BOOT_FAIL", "DEADLINE", "REVOKED"}
)
_CUT_SHORT = frozenset({"NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "CANCELLED", "REVOKED"})


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer as evidence: headers carry no secrets, `text` is the decoded body."""

    status_code: int
    headers: Mapping[str, str]
    text: str
    method: str = ""
    endpoint: str = ""

    @property
    def body(self) -> str:
        """The same as `text`."""
        return self.text

    def json(self) -> Any:
        """Return the body parsed as JSON. Raises `ValueError` where it isn't JSON."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class LocalFile:
    """Bytes on this machine's disk that are too many for memory.

    `ident` names the local copy they are of; `size` and `mtime_ns` tell whether they still are
    what they were. `path` is good for as long as `held` is.
    """

    ident: str
    path: str
    size: int
    mtime_ns: int
    held: object = None

    @property
    def unchanged(self) -> bool:
        """Whether the file is as it was."""
        try:
            now = os.stat(self.path)
        except FileNotFoundError:
            return False
        return (now.st_size, now.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class StoreItem:
    """One entry to store at the absolute remote `path`: a file with the content `data`, or that of
    `local`, or, by its `kind`, a new directory or a symlink with the text `link`.

    `base` is the remote file that the data is based on, None for a new one. `mode` and `mtime_ns`
    are None where the cluster's defaults will do; unless `exact_mode`, the cluster's umask may
    take bits for group and others from the mode, as it would from a file that was made there.
    `written_ns` is when it was written here: a time for where one must be given. `sent` are size
    and SHA-256 of earlier stores whose outcome isn't known, `torn` the bytes of the last of them.
    `inherits`: the parent passes on an ACL or, to a directory, its group. `ident` names the local
    copy. `tail`: all before that byte is `base`, and `data` is what follows, as far as it can be
    stored alone; unless it is `whole`, `local` holds nothing else. `anew`: it takes the place of
    the file `base`, whose other names keep what they have.
    """

    key: int
    path: str
    data: bytes
    mode: int | None = None
    exact_mode: bool = False
    mtime_ns: int | None = None
    base: Attr | None = None
    kind: Kind = Kind.FILE
    link: str = ""
    written_ns: int | None = None
    sent: tuple[tuple[int, str], ...] = ()
    torn: bytes = b""
    inherits: bool = False
    local: LocalFile | None = None
    ident: str = ""
    tail: int | None = None
    whole: bool = True
    anew: bool = False

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data) if self.local is None else self.local.size
