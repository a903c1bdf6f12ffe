"""Who is who: remote owners as local ones, and what a mode grants us.

Remote me is the mounting user, groups that I am in are my group, everyone else is nobody.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import replace

from firecrestfs.cache.inodes import Inodes
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Kind, UserInfo
from firecrestfs.paths import directory_of, is_below

NOBODY = 65534


class Identity:
    """The mounting user on one system. Immutable but for the inode numbers it keeps."""

    def __init__(
        self, system: str, user: UserInfo, uid: int, gid: int, inodes: Inodes | None = None
    ) -> None:
        """*inodes* keeps numbers from one mount to the next."""
        self.user = user
        self.uid = uid
        self.gid = gid
        self._system = system
        self._inodes = inodes
        self._moved: dict[str, int] = {}  # path → inode, where it isn't the path's own
        self._trees: dict[str, str] = {}  # directory → what its files' numbers are made from
        if inodes is not None:
            self._moved, self._trees = inodes.load()

    def localise(self, path: str, attr: Attr) -> Attr:
        """Return *attr* of *path* with local owners and the inode that the mount shows.

        Directories have one link, as on file systems that don't count them: listings don't tell,
        and a number that is too small makes programs overlook subdirectories.
        """
        return replace(
            attr,
            uid=self.uid if attr.uid == self.user.uid else NOBODY,
            gid=self.gid if attr.gid in self.user.groups else NOBODY,
            owner=attr.owner or str(attr.uid),
            group=attr.group or str(attr.gid),
            inode=self.inode(path),
            nlink=1 if attr.kind is Kind.DIRECTORY else attr.nlink,
        )

    def may(self, attr: Attr, mask: int) -> bool:
        """Tell whether the bits of *mask* are granted on the localised *attr*."""
        if attr.acl or self.user.uid == 0:
            return True
        if attr.uid == self.uid:
            granted = attr.mode >> 6
        elif attr.gid == self.gid:
            granted = attr.mode >> 3
        else:
            granted = attr.mode
        return not mask & ~granted & 7

    def require(self, path: str, attr: Attr, mask: int) -> None:
        """Raise EACCES, with the mode, where *mask* isn't granted."""
        if not self.may(attr, mask):
            raise os_error(
                errno.EACCES,
                path,
                f"not permitted: {stat.filemode(attr.kind.type_bits | attr.mode)} "
                f"{attr.owner}:{attr.group} on the cluster",
            )

    def require_owner(self, path: str, attr: Attr) -> None:
        """Raise EPERM where *attr* isn't ours."""
        if attr.uid != self.uid and self.user.uid != 0:
            raise os_error(errno.EPERM, path, f"it belongs to {attr.owner} on the cluster")

    def require_removable(self, path: str, directory: Attr, attr: Attr) -> None:
        """Raise where the entry *attr* may not be taken out of *directory*."""
        self.require(path, directory, os.W_OK | os.X_OK)
        sticky = directory.mode & stat.S_ISVTX
        if sticky and self.uid not in (attr.uid, directory.uid):
            raise os_error(
                errno.EPERM, path, f"it belongs to {attr.owner}, and its directory is sticky"
            )

    # -- inode numbers -------------------------------------------------------------------------

    def inode(self, path: str) -> int:
        """Return the stable 64-bit number of *path*: the same in every mount."""
        moved = self._moved.get(path)
        if moved is not None:
            return moved
        return self._hash(self._first_path(path) if self._trees else path)

    def move_inode(self, old: str, new: str, *, tree: bool = False) -> None:
        """Let *new* keep the number that *old* had, and give *old* another for its next life.

        With *tree* everything below keeps its number as well, and what is made below *old* later
        gets others.
        """
        number = self.inode(old)
        next_life = f"{old}\0{number}"
        changed = {new: number, old: self._hash(next_life)}
        gone = []
        if tree:
            below = [each for each in list(self._moved) if is_below(each, old) and each != old]
            for path in below:
                changed[new + path[len(old) :]] = self._moved[path]
                if path in self._trees:
                    self._trees[new + path[len(old) :]] = self._trees.pop(path)
            gone = [path for path in below if path not in changed]
            self._trees[new] = self._trees.get(old) or self._first_path(old)
            self._trees[old] = next_life
        self._keep(changed, gone)

    def share_inode(self, path: str, other: str) -> None:
        """Let *other* show the number of *path*: both are names of one file."""
        self.keep_inode(other, self.inode(path))

    def keep_inode(self, path: str, number: int) -> None:
        """Let *path* show *number*: that under which what is there was first seen."""
        if number and self.inode(path) != number:
            self._keep({path: number})

    def _keep(self, changed: dict[str, int], gone: Sequence[str] = ()) -> None:
        for path in gone:
            del self._moved[path]
        self._moved.update(changed)
        if self._inodes is not None:
            self._inodes.put(changed, self._trees, gone)

    def _first_path(self, path: str) -> str:
        """Return where *path* was before the directories above it were renamed."""
        directory = directory_of(path)
        while directory != "/":
            first = self._trees.get(directory)
            if first is not None:
                return f"{first}{path[len(directory) :]}"
            directory = directory_of(directory)
        return path

    def _hash(self, text: str) -> int:
        key = f"{self._system}\0{text}".encode("utf-8", "surrogateescape")
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") | 1


def leaves_mode(parent: Attr, kind: Kind, mode: int) -> bool:
    """Tell whether a new entry of *parent* gets the mode that the cluster gives it, not *mode*.

    Where an ACL is passed on it says who may do what, and no umask counts; to set the mode would
    take from all whom the ACL names. What was meant to be strict, or is a program, gets its mode.
    """
    meant = not mode & stat.S_IRGRP or (kind is Kind.FILE and mode & 0o111)
    return parent.acl and not meant
