"""How much may still be written: the quota and the full disk of the emulated cluster."""

from __future__ import annotations

import errno
import os

from .login import Login


def room(login: Login) -> tuple[int | None, int]:
    """Return how many bytes may still be written (None: any number), and the errno beyond."""
    if login.knobs.disk_full:
        return 0, errno.ENOSPC
    if login.knobs.quota < 0:
        return None, 0
    return max(0, login.knobs.quota - used_bytes(login)), errno.EDQUOT


def allowance(login: Login, size: int) -> tuple[int, int]:
    """Return how many of *size* bytes may be written, and the errno for the rest."""
    left, code = room(login)
    return (size if left is None else min(size, left)), code


def used_bytes(login: Login) -> int:
    """Return the bytes in the regular files that the account holds."""
    total = 0
    for root in login.directory.roots:
        for folder, _, files in os.walk(login.tree.local((*root, login.account.name))):
            total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return total
