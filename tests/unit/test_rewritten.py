"""A large file that a program writes again and again, sooner than it can be sent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from firecrestfs.cache import copying
from firecrestfs.emulator import Emulator

from .large import Start, blob, edit, ours, sync
from .tools import Remote
from .wired import Files

#: Each store of it takes longer than its program lets it alone.
SLOW = {"kind": "stall", "match": "store/part", "seconds": 1.5, "count": -1}
PATIENCE_S = 40.0


def rewrite(files: Files, number: int, flags: int) -> bytes:
    """Write `f` as a program does, all of it or a part; return what it begins with then."""
    start = b"version %06d" % number
    edit(files, "f", start + blob(seed=number) if flags else start, flags=flags)
    return start


@pytest.mark.parametrize("flags", [0, os.O_TRUNC], ids=["in-place", "anew"])
def test_it_lands_while_that_goes_on(
    start: Start, emulator: Emulator, there: Remote, tmp_path: Path, flags: int
) -> None:
    emulator.faults.replace([SLOW])
    files = start(write_back=0.1)
    files.create("f", blob())
    end, written, seen = time.monotonic() + PATIENCE_S, [blob()[:14]], set[bytes]()
    while len(seen) < 2:
        assert time.monotonic() < end, "did not land while it was rewritten"
        written.append(rewrite(files, len(written), flags))
        time.sleep(0.3)
        if (there.local / "f").exists():
            seen.add((there.local / "f").read_bytes()[:14])
    # Never one that was half written.
    assert seen <= set(written)
    emulator.faults.clear()
    sync(files)
    assert (there.local / "f").read_bytes().startswith(written[-1])
    assert there.names() == ["f"]
    assert files.mount.errors.lines() == []
    assert ours(there) == []
    assert list((tmp_path / "state").rglob("*.sent")) == []


def test_one_that_cannot_be_copied_lands_once_it_is_left_alone(
    start: Start, emulator: Emulator, there: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "copy_beside", lambda *args: False)
    emulator.faults.replace([SLOW])
    files = start(write_back=0.1)
    files.create("f", blob())
    for number in range(10):
        last = rewrite(files, number, os.O_TRUNC)
        time.sleep(0.3)
    emulator.faults.clear()
    sync(files)
    assert (there.local / "f").read_bytes().startswith(last)
    assert files.mount.errors.lines() == []


def test_a_death_while_it_is_copied_leaves_nothing(start: Start, tmp_path: Path) -> None:
    start()
    left = tmp_path / "state/files/f.sent"
    assert left.parent.is_dir()
    left.write_bytes(b"half of it")
    files = start()
    assert not left.exists()
    assert files.mount.errors.lines() == []
