"""A loopback file system on a FUSE binding: every call becomes the same call below a directory.

    python scripts/bench_loopback.py MOUNTPOINT DIRECTORY

It is what the creation of small files on a mount is measured against. The binding is chosen by
FIRECRESTFS_FUSE, as for a mount.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from firecrestfs.binding import fuse_settings, load_binding

_STATUS = ["st_mode", "st_ino", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks"]


def make_operations(binding: Any, top: str) -> Any:
    """Return a file system of what is below *top*."""

    class Loopback(binding.Operations):  # type: ignore[misc]
        use_ns = True

        def getattr(self, path: str, fi: Any = None) -> dict[str, int]:
            status = os.lstat(top + path)
            found = {name: getattr(status, name) for name in _STATUS}
            times = {f"st_{each}time": getattr(status, f"st_{each}time_ns") for each in "amc"}
            return found | times

        def readdir(self, path: str, fi: Any) -> list[str]:
            return [".", "..", *os.listdir(top + path)]

        def create(self, path: str, mode: int, fi: Any) -> int:
            fi.fh = os.open(top + path, fi.flags | os.O_CREAT, mode)
            return 0

        def open(self, path: str, fi: Any) -> int:
            fi.fh = os.open(top + path, fi.flags)
            return 0

        def read(self, path: str, size: int, offset: int, fi: Any) -> bytes:
            return os.pread(fi.fh, size, offset)

        def write(self, path: str, data: bytes, offset: int, fi: Any) -> int:
            return os.pwrite(fi.fh, data, offset)

        def flush(self, path: str, fi: Any) -> int:
            os.close(os.dup(fi.fh))
            return 0

        def release(self, path: str, fi: Any) -> int:
            os.close(fi.fh)
            return 0

        def mkdir(self, path: str, mode: int) -> int:
            os.mkdir(top + path, mode)
            return 0

        def unlink(self, path: str) -> int:
            os.unlink(top + path)
            return 0

    return Loopback()


def main() -> None:
    """Mount, and serve until unmounted or told to end."""
    mountpoint, top = sys.argv[1:]
    binding = load_binding(os.environ.get("FIRECRESTFS_FUSE", ""))
    settings = fuse_settings(binding, "loopback") | {"subtype": "loopback"}
    binding.FUSE(make_operations(binding, top), mountpoint, raw_fi=True, **settings)


if __name__ == "__main__":
    main()
