"""Makes the serving threads ordinary users, so that the kernel refuses what it would refuse a user.

Linux keeps capabilities, supplementary groups and (when unshared) the umask per thread. A thread
that calls `become_ordinary` loses the powers to read, write, chmod or chown against the mode
bits, and so do all threads and processes that it starts; the rest of the program is not touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterable

# Bits of linux/capability.h: what root needs to get round the mode bits and owners of files.
_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID = range(5)
_DROPPED = (_CHOWN, _DAC_OVERRIDE, _DAC_READ_SEARCH, _FOWNER, _FSETID)

_VERSION_3 = 0x20080522
_PR_CAPBSET_DROP = 24
_CLONE_FS = 0x200
# setgroups(2) by number: the library function would change every thread of the process.
_SETGROUPS = {"x86_64": 116, "aarch64": 159}

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


def become_ordinary(groups: Iterable[int]) -> None:
    """Turn the calling thread into an ordinary user's with *groups*. Can't be undone.

    What is not allowed (a server that isn't root has nothing to drop) is left as it is.
    """
    if _libc.unshare(_CLONE_FS) == 0:  # a umask of its own
        os.umask(0)
    _set_groups(list(groups))
    for capability in _DROPPED:
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # so that exec doesn't bring it back
    _drop_capabilities()


def _set_groups(groups: list[int]) -> None:
    number = _SETGROUPS.get(platform.machine())
    if number is not None and os.geteuid() == 0:
        array = (ctypes.c_uint32 * len(groups))(*groups)
        _libc.syscall(ctypes.c_long(number), ctypes.c_long(len(groups)), array)


def _drop_capabilities() -> None:
    header = _Header(_VERSION_3, 0)
    data = (_Data * 2)()
    if _libc.capget(ctypes.byref(header), data) != 0:
        return
    mask = ~sum(1 << capability for capability in _DROPPED)
    for field in ("effective", "permitted", "inheritable"):
        setattr(data[0], field, getattr(data[0], field) & mask & 0xFFFFFFFF)
    with contextlib.suppress(OSError):
        _libc.capset(ctypes.byref(header), data)
