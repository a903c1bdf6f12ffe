"""A login session: one account on one cluster, as every remote command runs in it."""

from __future__ import annotations

import os
import zoneinfo
from typing import NoReturn

from .accounts import Account, Directory
from .knobs import Knobs
from .quoting import shell_quoted, shell_quoted_if_needed, typographic
from .shell import CommandFailed
from .tree import Place, Tree


class Login:
    """What the command modules (`listing`, `reading`, `writing`, `archives`) work in."""

    def __init__(self, account: Account, home: str, tree: Tree, directory: Directory, knobs: Knobs):
        self.account = account
        self.home = home
        self.tree = tree
        self.directory = directory
        self.knobs = knobs

    @property
    def zone(self) -> zoneinfo.ZoneInfo:
        """The time zone of the cluster."""
        return zoneinfo.ZoneInfo(self.knobs.zone)

    def place(self, path: str, *, follow: bool = True) -> Place:
        """Resolve *path* as the kernel would for this user. Raises OSError."""
        return self.tree.resolve(path, self.account, follow=follow, cwd=self.home)

    def quoted(self, name: str) -> str:
        """*name* as most tools put it into an error message."""
        return shell_quoted(name, self.knobs.locale)

    def quoted_if_needed(self, name: str) -> str:
        """*name* as the tools with terse messages put it."""
        return shell_quoted_if_needed(name, self.knobs.locale)

    def typographic(self, name: str) -> str:
        """*name* as mkdir, chmod and chown put it when they complain about a word."""
        return typographic(name, self.knobs.locale)

    def user_gids(self) -> set[int]:
        """The groups the user is a member of."""
        return {group.gid for group in self.account.groups}


def fail(what: str, exc: OSError | None = None, status: int = 1) -> NoReturn:
    """End a remote command with a complaint, the system's words behind it."""
    words = f": {os.strerror(exc.errno or 0)}" if exc is not None else ""
    raise CommandFailed(status, f"{what}{words}\n") from exc
