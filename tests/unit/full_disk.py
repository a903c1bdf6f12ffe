"""A program: what a mount does whose disk somebody else has filled.

    unshare -m python -m tests.unit.full_disk DIRECTORY

It mounts a small tmpfs in DIRECTORY, in the mount namespace that it must have of its own.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ..fs.drivers import VfsDriver, build_in_process
from ..harness import EmulatorThreads, local_home

MIB = 1 << 20


def refused(call: Callable[[], object]) -> int | None:
    """Return the errno with which *call* fails."""
    try:
        call()
    except OSError as exc:
        return exc.errno
    return None


def fill(path: Path) -> None:
    """Write until the disk is full to the last byte."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def main() -> None:
    """Raise AssertionError where something isn't as it should be."""
    top = Path(sys.argv[1])
    home = top / "home"
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "none", str(home)], check=True)
    with EmulatorThreads(top / "clusters") as server:
        there = local_home(server) / "d"
        there.mkdir()
        for name in ("gone", "old", "read"):
            (there / name).write_text(name)
        mount = build_in_process(server, home, write_back=0.1)
        try:
            info = server.info["systems"][0]
            work(VfsDriver(mount).at(f"/{info['name']}{info['home']}/d"), there, home)
        finally:
            mount.stop()


def work(fs: VfsDriver, there: Path, home: Path) -> None:
    """Work while the disk is full, and after."""
    reserve = home / "state" / "journal.sqlite-reserve"
    reserves = list((home / "state").rglob("*-reserve"))
    assert reserves, sorted((home / "state").rglob("*"))
    reserve = reserves[0]
    fs.write_file("before", b"closed before")
    junk = home / "junk"
    fill(junk)
    # Names go on: that is how one makes room.
    fs.unlink("gone")
    fs.rename("old", "new")
    fs.mkdir("made")
    fs.symlink("new", "link")
    # Bytes are refused before they are taken.
    assert refused(lambda: fs.write_file("refused", b"x")) == errno.ENOSPC
    assert "refused" not in fs.listdir()
    assert fs.sync() == {}
    assert sorted(each.name for each in there.iterdir()) == [
        "before",
        "link",
        "made",
        "new",
        "read",
    ]
    assert (there / "before").read_bytes() == b"closed before"
    assert (there / "new").read_text() == "old"
    assert not reserve.exists()
    junk.unlink()
    fs.write_file("after", b"room again")
    fd = fs.open("after")
    fs.fsync(fd)
    fs.close(fd)
    assert fs.sync() == {}
    assert (there / "after").read_bytes() == b"room again"
    assert fs.read_file("read") == b"read"
    assert reserve.exists()
    print("all is well")


if __name__ == "__main__":
    main()
