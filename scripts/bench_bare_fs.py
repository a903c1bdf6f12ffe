"""The least a file system can be: a dictionary of attributes, mounted as firecrestfs mounts itself.

    python scripts/bench_bare_fs.py MOUNTPOINT DIRECTORY COUNT

shows COUNT files in DIRECTORY (an absolute path within the mount) until it is told to end. The
binding is chosen by FIRECRESTFS_FUSE, as for a mount.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from pathlib import PurePosixPath
from typing import Any

from firecrestfs.binding import fuse_settings, load_binding


def file_name(number: int) -> str:
    """Return the name of a file of the benchmark."""
    return f"file-{number:05d}.dat"


def make_tree(directory: str, count: int) -> dict[str, dict[str, int]]:
    """Return the attributes of *count* files in *directory*, and of all directories above."""
    tree = {
        str(each): _attributes(stat.S_IFDIR | 0o755, at)
        for at, each in enumerate(reversed([PurePosixPath(directory), *_above(directory)]), 1)
    }
    for number in range(count):
        path = f"{directory}/{file_name(number)}"
        tree[path] = _attributes(stat.S_IFREG | 0o644, 1000 + number)
    return tree


def _above(directory: str) -> list[PurePosixPath]:
    return list(PurePosixPath(directory).parents)


def _attributes(mode: int, inode: int) -> dict[str, int]:
    now = time.time_ns()
    return {
        "st_mode": mode,
        "st_ino": inode,
        "st_nlink": 1,
        "st_uid": os.getuid(),
        "st_gid": os.getgid(),
        "st_size": 0,
        "st_blocks": 0,
        "st_blksize": 131072,
        "st_atime": now,
        "st_mtime": now,
        "st_ctime": now,
    }


def make_operations(binding: Any, tree: dict[str, dict[str, int]]) -> Any:
    """Return a file system of *tree* on the base class of *binding*."""

    class BareOperations(binding.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fh: Any = None) -> dict[str, int]:
            try:
                return tree[path]
            except KeyError:
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None

        def readdir(self, path: str, fh: Any) -> list[str]:
            above = path.rstrip("/") + "/"
            names = [each[len(above) :] for each in tree if each.startswith(above)]
            return [".", "..", *(name for name in names if name and "/" not in name)]

    return BareOperations()


def main() -> None:
    """Mount, and serve until unmounted or told to end."""
    mountpoint, directory, count = sys.argv[1:]
    binding = load_binding(os.environ.get("FIRECRESTFS_FUSE", ""))
    settings = fuse_settings(binding, "bare") | {"subtype": "bare"}
    operations = make_operations(binding, make_tree(directory, int(count)))
    binding.FUSE(operations, mountpoint, raw_fi=True, **settings)


if __name__ == "__main__":
    main()
