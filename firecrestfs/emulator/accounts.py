"""Who is who on a cluster: users, groups, and whose a file is.

The server runs as one local user, whose files play the files of every account: those below the
home or scratch directory of an account are that account's, the directories above them root's. A
file that belongs to any other local uid or gid is shown as it is.
"""

from __future__ import annotations

import dataclasses
import os

#: A path without links and dots, by components.
Canonical = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """A group of the cluster."""

    name: str
    gid: int


@dataclasses.dataclass(frozen=True)
class Account:
    """A user of the cluster; `groups` starts with the primary one."""

    name: str
    uid: int
    groups: tuple[Group, ...]
    projects: tuple[str, ...] = (
        "staff",
        "users",
    )  # the scheduler's accounts; the first is the default

    @property
    def group(self) -> Group:
        """The primary group."""
        return self.groups[0]


ROOT = Account("root", 0, (Group("root", 0),))
STAFF = Group("staff", 1000)
PROJECT = Group("proj1", 2044)


def default_accounts(names: tuple[str, ...]) -> dict[str, Account]:
    """Make accounts for *names*; the first is also a member of a project group."""
    out = {}
    for number, name in enumerate(names):
        groups = (STAFF, PROJECT) if number == 0 else (STAFF,)
        out[name] = Account(name, 1000 + number, groups)
    return out


class Directory:
    """The user database of a cluster, and the rule of whose a file is."""

    def __init__(self, accounts: dict[str, Account], roots: list[Canonical]) -> None:
        self.accounts = accounts
        self.roots = roots  # of the file systems; an account's directory is <root>/<name>
        self._uid, self._gid = os.geteuid(), os.getegid()
        everyone = [ROOT, *accounts.values()]
        self._user_names = {account.uid: account.name for account in everyone}
        self._group_names = {group.gid: group.name for one in everyone for group in one.groups}

    def account_directory(self, remote: Canonical) -> Canonical | None:
        """Return the account's directory that *remote* is or lies in, None above those."""
        for root in self.roots:
            depth = len(root)
            if remote[:depth] == root and len(remote) > depth and remote[depth] in self.accounts:
                return remote[: depth + 1]
        return None

    def holder(self, remote: Canonical) -> Account:
        """Return the account in whose directory *remote* lies; root above those directories."""
        mine = self.account_directory(remote)
        return ROOT if mine is None else self.accounts[mine[-1]]

    def owner(self, stat: os.stat_result, remote: Canonical) -> tuple[int, int]:
        """Return uid and gid as the cluster shows them for the file at *remote*."""
        account = self.holder(remote)
        uid = account.uid if stat.st_uid == self._uid else stat.st_uid
        gid = account.group.gid if stat.st_gid == self._gid else stat.st_gid
        return uid, gid

    def user_name(self, uid: int) -> str:
        """Return the name for *uid*, or the number as text."""
        return self._user_names.get(uid, str(uid))

    def group_name(self, gid: int) -> str:
        """Return the name for *gid*, or the number as text."""
        return self._group_names.get(gid, str(gid))

    def find_user(self, text: str) -> int | None:
        """Return the uid that *text* (a name or a number) stands for."""
        by_name = {name: uid for uid, name in self._user_names.items()}
        return by_name.get(text, int(text) if text.isdigit() else None)

    def find_group(self, text: str) -> int | None:
        """Return the gid that *text* (a name or a number) stands for."""
        by_name = {name: gid for gid, name in self._group_names.items()}
        return by_name.get(text, int(text) if text.isdigit() else None)

    def local_gid(self, gid: int, account: Account) -> int:
        """Return the local gid behind the cluster's *gid*, as *account*'s files have it."""
        return self._gid if gid == account.group.gid else gid
