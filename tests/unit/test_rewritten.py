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


# -- what is too large to be copied ----------------------------------------------------------------


@pytest.fixture
def uncopied(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are large for these tests are too large to be copied."""
    monkeypatch.setattr(copying, "_COPY_BYTES", 1000)


@pytest.mark.usefixtures("uncopied")
@pytest.mark.parametrize("flags", [0, os.O_TRUNC], ids=["in-place", "anew"])
def test_the_first_write_waits_until_it_is_stored(
    start: Start, emulator: Emulator, there: Remote, flags: int
) -> None:
    emulator.faults.replace([SLOW | {"count": 1}])
    files = start(write_back=600.0)
    files.create("f", blob())
    info = files.open("f", os.O_RDWR | flags)
    if not flags:
        files.ops.write(files.path("f"), b"second", 0, info)
    # Whatever happens now, what was closed is there.
    assert (there.local / "f").read_bytes() == blob()
    # Once is enough.
    emulator.requests.clear()
    files.ops.write(files.path("f"), b"third!", 0, info)
    files.close("f", info)
    assert list(emulator.requests) == []
    sync(files)
    assert (there.local / "f").read_bytes()[:6] == b"third!"
    assert files.mount.errors.lines() == []


@pytest.mark.usefixtures("uncopied")
@pytest.mark.parametrize("new", [True, False])
def test_commands_that_write_into_one_file_do_not_wait(
    start: Start, emulator: Emulator, there: Remote, new: bool
) -> None:
    """`{ one; two; } > f`: each of them closes it as it ends."""
    files = start(write_back=600.0)
    if new:
        info = files.created("f")
    else:
        (there.local / "f").write_bytes(b"old")
        info = files.open("f", os.O_RDWR | os.O_TRUNC)
    emulator.requests.clear()
    for number in range(3):
        files.ops.write(files.path("f"), blob(seed=number), number * len(blob()), info)
        files.ops.flush(files.path("f"), info)
    assert list(emulator.requests) == []
    files.close("f", info)
    sync(files)
    assert (there.local / "f").read_bytes() == b"".join(blob(seed=each) for each in range(3))
    assert files.mount.errors.lines() == []


@pytest.mark.usefixtures("uncopied")
def test_a_write_goes_on_where_it_can_not_be_stored(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    files = start(write_back=600.0)
    files.create("f", blob())
    emulator.faults.replace([{"kind": "status", "match": "*", "status": 503, "count": -1}])
    edit(files, "f", b"second")
    [line] = [line for line in files.mount.errors.lines() if "written on" in line]
    assert "lost+found" in line
    emulator.faults.clear()
    sync(files)
    assert (there.local / "f").read_bytes() == b"second" + blob()[6:]


@pytest.mark.usefixtures("uncopied")
def test_what_is_written_on_is_not_stored_before_its_close(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    files = start(write_back=600.0)
    files.create("f", blob())
    emulator.faults.replace([{"kind": "status", "match": "*", "status": 503, "count": -1}])
    info = files.open("f", os.O_RDWR)
    files.ops.write(files.path("f"), b"second", 0, info)
    # The tries in vain were for what was closed: no other follows.
    [row] = files.mount.pending()
    assert row["error"] == "a program has it open for writing"
    emulator.faults.clear()
    files.ops.write(files.path("f"), b" third", 6, info)
    files.close("f", info)
    sync(files)
    assert (there.local / "f").read_bytes() == b"second third" + blob()[12:]


@pytest.mark.usefixtures("uncopied")
def test_the_wait_can_be_interrupted(start: Start, emulator: Emulator, there: Remote) -> None:
    emulator.faults.replace([SLOW])
    files = start(write_back=600.0)
    files.create("f", blob())
    info = files.open("f", os.O_RDWR)
    files.ops.check_interrupted = lambda: 1
    with pytest.raises(InterruptedError):
        files.ops.write(files.path("f"), b"second", 0, info)
    files.ops.check_interrupted = lambda: 0
    files.close("f", info)
    emulator.faults.clear()
    sync(files)
    assert (there.local / "f").read_bytes() == blob()
