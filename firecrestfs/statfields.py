"""What FUSE is told of an entry, and of the space there is: `st_*` and `f_*` fields."""

from __future__ import annotations

import hashlib

from firecrestfs.model import Attr

_BLOCK, _BLOCKS = 4096, (1 << 50) // 4096
#: What a cluster has free can't be asked for.
SPACE = {
    "f_bsize": _BLOCK,
    "f_frsize": _BLOCK,
    "f_blocks": _BLOCKS,
    "f_bfree": _BLOCKS // 2,
    "f_bavail": _BLOCKS // 2,
    "f_files": 1 << 32,
    "f_ffree": 1 << 31,
    "f_favail": 1 << 31,
    "f_namemax": 255,
}


def inode_of(*path: str) -> int:
    """Return a number for an entry that has none: readdir(3) leaves out entries with inode 0."""
    text = "/".join(path).replace("//", "/")
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little") | 1


def stat_of(path: str, attr: Attr) -> dict[str, int]:
    """Return the fields of the entry *attr* at *path*."""
    return {
        "st_mode": attr.kind.type_bits | attr.mode,
        "st_ino": attr.inode or inode_of(path),
        "st_nlink": attr.nlink,
        "st_uid": attr.uid,
        "st_gid": attr.gid,
        "st_size": attr.size,
        "st_blocks": (attr.size + 511) // 512,
        "st_blksize": 131072,
        "st_atime": attr.atime_ns or attr.mtime_ns,
        "st_mtime": attr.mtime_ns,
        "st_ctime": attr.ctime_ns or attr.mtime_ns,
    }
