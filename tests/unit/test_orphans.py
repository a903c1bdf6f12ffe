"""Large files that are unlinked while open, not all of them being here, and what takes their name.

The cluster keeps their bytes: they step aside there until they are closed.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from firecrestfs.emulator import Emulator

from .large import Start, blob, ours, sync
from .tools import Remote
from .wired import Files

HIDDEN = ".fuse_hidden0000000100000001"


def taken(files: Files, there: Remote) -> Any:
    """Have a large file open whose name is a directory's by now, on the cluster too."""
    (there.local / "f").write_bytes(blob())
    info = files.open("f", os.O_RDONLY)
    files.ops.rename(files.path("f"), files.path(HIDDEN))
    files.ops.mkdir(files.path("f"), 0o755)
    sync(files)
    assert (there.local / "f").is_dir()
    return info


def test_it_is_read_to_the_end(start: Start, there: Remote) -> None:
    files = start()
    info = taken(files, there)
    assert len(ours(there)) == 1
    assert files.stat(HIDDEN)["st_size"] == len(blob())
    data = b"".join(
        files.ops.read(files.path(HIDDEN), 100_000, at, info) for at in (0, 100_000, 200_000)
    )
    assert data == blob()
    files.close(HIDDEN, info)
    files.ops.unlink(files.path(HIDDEN))
    sync(files)
    assert there.names() == ["f"]
    assert files.mount.errors.lines() == []


def test_a_mount_that_died_removes_it(start: Start, there: Remote) -> None:
    taken(start(), there)
    files = start()
    sync(files)
    assert there.names() == ["f"]
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("closed", [False, True])
def test_the_cluster_says_no(start: Start, emulator: Emulator, there: Remote, closed: bool) -> None:
    """What waits for it says so; once it is closed it is removed."""
    (there.local / "f").write_bytes(blob())
    files = start()
    info = files.open("f", os.O_RDONLY)
    files.ops.rename(files.path("f"), files.path(HIDDEN))
    emulator.faults.add("status", "ops/extract", status=403, body="no", count=-1)
    emulator.faults.add("status", "transfer/mv", status=403, body="no", count=-1)
    files.ops.symlink(files.path("f"), "elsewhere")
    failed = files.mount.drain(20.0)
    assert set(failed) == {files.path("f")}
    if closed:
        files.close(HIDDEN, info)
        files.ops.unlink(files.path(HIDDEN))
    emulator.faults.clear()
    sync(files)
    assert os.readlink(there.local / "f") == "elsewhere"
    assert len(ours(there)) == (not closed)
    if not closed:
        files.close(HIDDEN, info)
        files.ops.unlink(files.path(HIDDEN))
        sync(files)
        assert ours(there) == []


@pytest.mark.parametrize("size", [10, len(blob())])
def test_what_has_its_name_already_lands(start: Start, there: Remote, size: int) -> None:
    """It was renamed first, then something else got its name, and it was unlinked only then."""
    (there.local / "f").write_bytes(blob(size))
    files = start(write_back=600.0)
    info = files.open("f", os.O_RDONLY)
    files.ops.rename(files.path("f"), files.path("g"))
    files.ops.symlink(files.path("f"), "elsewhere")
    files.ops.rename(files.path("g"), files.path(HIDDEN))
    sync(files)
    assert os.readlink(there.local / "f") == "elsewhere"
    assert files.ops.read(files.path(HIDDEN), 10, size - 10, info) == blob(size)[-10:]
    files.close(HIDDEN, info)
    files.ops.unlink(files.path(HIDDEN))
    sync(files)
    assert there.names() == ["f"]
    assert ours(there) == []
    assert files.mount.errors.lines() == []
