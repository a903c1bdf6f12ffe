"""Entry: one name of a system of which something is known or changed here."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from firecrestfs.cache.cached_file import CachedFile
from firecrestfs.cache.file_attributes import State
from firecrestfs.model import Attr, Kind


class Change(enum.Enum):
    """What the cluster is still to be told of an entry; carried out in this order."""

    REMOVE = "remove"  # it was unlinked here and is still there
    MAKE = "make"  # a directory or a link that only exists here
    MOVE = "move"  # it is there under another name
    STORE = "store"  # its content was written here
    SET = "set"  # its mode was changed here, not its content
    TOUCH = "touch"  # it was given a time here
    LINK = "link"  # a second name of a file, which the cluster doesn't have yet


class Sent(NamedTuple):
    """What one store that was begun carried."""

    size: int
    sha256: str


class Moving(NamedTuple):
    """A move that was begun: where to, and the file's identity on the cluster."""

    target: str
    dev: int
    ino: int


@dataclass(slots=True, eq=False)
class Entry:
    """What the mount shows at `path`, and what of it the cluster has at `origin`.

    `path` is empty once it was unlinked here, `origin` until the cluster has it. For files the
    local copy knows attributes and base, for other kinds `shown` and `remote` do. A hard link that
    was made here is an entry of its own until the cluster has made it: it has no copy, whoever
    opens it opens that of `link_of`. Everything but the copy is guarded by the lock of the overlay.
    """

    ident: str
    kind: Kind
    path: str
    origin: str
    file: CachedFile | None = None
    shown: Attr | None = None  # directories and links: attributes as they are here
    remote: Attr | None = None  # the same: what the cluster has at `origin`
    wanted_mode: int | None = None  # directories: to be given
    exact_mode: bool = False  # directories: someone asked for that very mode
    times_given: bool = False  # directories: times were set here, and are shown
    inherits: bool = False  # the parent passes on an ACL or, to directories, its group
    text: str = ""  # links: the text that the cluster shall have
    made_text: str = ""  # links: the text that was given here, shown as it was
    closed: bool = True  # files: what was written is whole, somebody closed it
    anew: bool = False  # files: to take the place of what is at `origin`, not to be written into it
    busy: bool = False  # the cluster is being told of it right now
    heading: str = ""  # where it will be then
    held: bool = False  # unlinked while open: to be removed once it is closed
    yielding: bool = False  # the same, not all here: to step aside, for now, for what has its name
    replacing: Entry | None = None  # an unlinked file that this one was renamed over
    replaced_by: Entry | None = None  # the other way round
    sent: tuple[Sent, ...] = ()  # stores that were begun since the last one that is proven
    torn: bytes = b""  # what the last store carried whose end isn't known; not kept over a death
    attempted: str = ""  # where such a store may have left a new file
    moving: Moving | None = None  # a move that was begun on the cluster
    unheard: Moving | None = None  # one before it that seemed to have failed; a job may run late
    link_of: Entry | None = None  # a second name: the file that it is of
    links: list[Entry] = field(default_factory=list)  # files: second names that are to be made

    @property
    def where(self) -> str:
        """The path by which to speak of it: where it is, or was before it was unlinked."""
        return self.path or self.origin or self.attempted

    @property
    def attr(self) -> Attr:
        """The attributes as they are here and now."""
        if self.file is not None:
            return self.file.attr
        if self.link_of is not None:
            return self.link_of.attr
        assert self.shown is not None
        return self.shown

    @property
    def base(self) -> Attr | None:
        """What the cluster has at `origin`, as far as known here; None where it has nothing."""
        return self.file.base if self.file is not None else self.remote

    @property
    def content_differs(self) -> bool:
        """Whether the bytes here are not those of the cluster."""
        file = self.file
        return file is not None and (file.state is not State.CLEAN or file.base is None)

    @property
    def mode_differs(self) -> bool:
        """Whether a mode is still to be given to what the cluster has."""
        if self.file is not None:
            return self.file.state is State.CLEAN and self.file.wanted[0] is not None
        return self.wanted_mode is not None and self.remote is not None

    @property
    def time_differs(self) -> bool:
        """Whether a time is still to be given to what the cluster has."""
        file = self.file
        return file is not None and file.state is State.CLEAN and file.wanted[2] is not None

    def landed(self, remote: Attr) -> None:
        """Note that the cluster has it as *remote* now (for kinds other than files).

        A mode that it is still to be given is shown already.
        """
        self.remote = remote
        if self.shown is not None:
            mode = remote.mode if self.wanted_mode is None else self.wanted_mode
            self.shown = replace(self.shown, mode=mode, nlink=remote.nlink)
