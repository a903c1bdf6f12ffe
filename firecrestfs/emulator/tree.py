"""A cluster's files: remote paths onto a local directory, as if the kernel were rooted there."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from .accounts import ROOT, Account, Canonical, Directory

_PATH_MAX = 4096
_MAX_LINKS = 40


class Place(NamedTuple):
    """Where a remote path leads: the local path, and the remote path without links and dots.

    The last component may not exist. `local` ends in a slash where the remote path demands a
    directory.
    """

    local: str
    remote: Canonical


def error(code: int, path: str = "") -> OSError:
    """Make the OSError of a system call that failed with *code*."""
    return OSError(code, os.strerror(code), path)


class Tree:
    """The file tree of one cluster.

    Modes are the kernel's business. What it can't know is decided here: what lies outside the
    accounts' directories is root's, and another account's directory opens only as far as its mode
    tells. Methods raise OSError as system calls do. No state: safe from any thread.
    """

    def __init__(self, root: str, directory: Directory) -> None:
        self.root = os.path.realpath(root)
        self._directory = directory

    def resolve(self, path: str, account: Account, *, follow: bool = True, cwd: str = "/") -> Place:
        """Find the place of *path*; its last component may be missing. `follow`: a link there."""
        if len(os.fsencode(path)) >= _PATH_MAX:
            raise error(errno.ENAMETOOLONG, path)
        if not path:
            raise error(errno.ENOENT, path)
        walk = _Walk(self, path if path.startswith("/") else f"{cwd}/{path}", follow)
        walk.run()
        remote = tuple(walk.at)
        self.check_door(remote, account)
        return Place(self.local(remote) + ("/" if walk.slash and remote else ""), remote)

    def local(self, remote: Canonical) -> str:
        """Return the local path of a canonical remote one."""
        return "/".join([self.root, *remote])

    def check_door(self, remote: Canonical, account: Account) -> None:
        """Raise EACCES for what lies behind the closed door of another account."""
        door = self._directory.account_directory(remote)
        if door is None or door[-1] == account.name or door == remote:
            return
        if not os.stat(self.local(door)).st_mode & (stat.S_IXGRP | stat.S_IXOTH):
            raise error(errno.EACCES)

    def check_parent_writable(self, place: Place) -> None:
        """Raise EACCES where only root may create or remove entries."""
        if self._directory.holder(place.remote[:-1]) is ROOT:
            raise error(errno.EACCES, place.local)

    def check_owned(self, place: Place, account: Account) -> None:
        """Raise EPERM for what belongs to another account."""
        if self._directory.holder(place.remote) != account:
            raise error(errno.EPERM, place.local)


class _Walk:
    """One walk along a path, component by component, as the kernel's name lookup goes."""

    def __init__(self, tree: Tree, path: str, follow: bool) -> None:
        self.at: list[str] = []
        self.slash = _wants_directory(path)
        self._tree = tree
        self._follow = follow
        self._pending = _components(path)
        self._links = 0

    def run(self) -> None:
        """Leave the result in `at` and `slash`."""
        while self._pending:
            name = self._pending.pop()
            if name == "..":
                # The kernel wants a directory that may be searched before it goes up.
                os.stat(self._tree.local(tuple(self.at)) + "/.")
                del self.at[-1:]
            elif not self._step_through_link(name):
                self.at.append(name)

    def _step_through_link(self, name: str) -> bool:
        last = not self._pending
        if last and not (self._follow or self.slash):
            return False
        try:
            text = os.readlink(self._tree.local((*self.at, name)))
        except OSError as exc:
            if exc.errno == errno.EINVAL or (last and exc.errno == errno.ENOENT):
                return False  # not a link, or a name yet to be made
            raise
        self._links += 1
        if self._links > _MAX_LINKS:
            raise error(errno.ELOOP)
        if text.startswith("/"):
            self.at.clear()
        self.slash = self.slash or (last and _wants_directory(text))
        self._pending += _components(text)
        return True


def _components(path: str) -> list[str]:
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _wants_directory(path: str) -> bool:
    return path.endswith(("/", "/.", "/.."))
