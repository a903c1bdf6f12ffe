"""How much may still be written: the quota and the full disk of the emulated cluster."""

from __future__ import annotations

import errno
import os

from .login import Login


def allowance(login: Login, size: int) -> tuple[int, int]:
    """Return how many of *size* bytes may be written, and the errno for the rest."""
    if login.knobs.disk_full:
        return 0, errno.ENOSPC
    if login.knobs.quota < 0:
        return size, 0
    left = login.knobs.quota - used_bytes(login)
    return max(0, min(size, left)), errno.EDQUOT


def used_bytes(login: Login) -> int:
    """Return the bytes in the regular files that the account holds."""
    total = 0
    for root in login.directory.roots:
        for folder, _, files in os.walk(login.tree.local((*root, login.account.name))):
            total += sum(os.lstat(os.path.join(folder, name)).st_size for name in files)
    return total
