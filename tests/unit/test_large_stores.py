"""Large stores among other changes, other people and deaths: nothing lost, mixed or left."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.errors import ConflictError
from firecrestfs.model import Attr, LocalFile, StoreItem
from firecrestfs.transfer.engine import TransferEngine

from .large import Start, ask, blob, edit, jobs, ours, sizes, sync
from .tools import Remote, wait_until
from .wired import Files


def landing_ended(
    start: Start, emulator: Emulator, there: Remote, name: str = "f", mode: int = 0o644
) -> Files:
    """Return the mount after one that has sent all of a file, which has yet to land."""
    files = start()
    emulator.knobs.put("queue_seconds", 600.0)
    if not (there.local / name).exists():
        files.create(name, blob(), mode)
    else:
        files.stat(name)
        edit(files, name, blob())
    wait_until(lambda: ask(emulator, "store/complete") == 1, 20)
    time.sleep(0.3)
    return start(write_back=1000.0)


@pytest.mark.parametrize("how", ["renamed", "unlinked", "small"])
def test_another_change_comes_before_a_store_is_taken_up_again(
    start: Start, emulator: Emulator, there: Remote, how: str
) -> None:
    (there.local / "f").write_bytes(b"old")
    files = landing_ended(start, emulator, there)
    emulator.knobs.put("queue_seconds", 0.0)
    if how == "renamed":
        files.ops.rename(files.path("f"), files.path("g"))
    elif how == "unlinked":
        files.ops.unlink(files.path("f"))
    else:
        edit(files, "f", b"small", flags=os.O_TRUNC)
    sync(files)
    assert jobs(emulator) == []
    expected = {"renamed": {"g": blob()}, "unlinked": {}, "small": {"f": b"small"}}[how]
    assert {each.name: each.read_bytes() for each in there.local.iterdir()} == expected
    assert ours(there) == []


def test_a_private_file_goes_on(start: Start, emulator: Emulator, there: Remote) -> None:
    files = landing_ended(start, emulator, there, mode=0o600)
    emulator.knobs.put("queue_seconds", 0.0)
    wait_until(lambda: any(path.name == "file" for path in there.local.rglob("*")), 20)
    time.sleep(0.5)
    sync(files)
    assert ask(emulator, "transfer/upload") == 1
    assert (there.local / "f").read_bytes() == blob()
    assert (there.local / "f").stat().st_mode & 0o777 == 0o600
    assert ours(there) == []


def test_its_directory_is_renamed_before_it_is_taken_up_again(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    (there.local / "d").mkdir()
    files = landing_ended(start, emulator, there, "d/f")
    emulator.knobs.put("queue_seconds", 0.0)
    wait_until(lambda: jobs(emulator) == [], 20)
    files.ops.rename(files.path("d"), files.path("e"))
    sync(files)
    assert there.names() == ["e"]
    assert os.listdir(there.local / "e") == ["f"]
    assert (there.local / "e/f").read_bytes() == blob()


def test_what_is_superseded_and_could_not_be_ended_is_removed(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    files = start()
    emulator.knobs.put("queue_seconds", 600.0)
    files.create("f", blob())
    wait_until(lambda: ask(emulator, "store/complete") == 1, 20)
    emulator.faults.add("status", "jobs/cancel", status=500, count=3)
    edit(files, "f", b"small", flags=os.O_TRUNC)
    wait_until(lambda: there.names() == ["f"] or ask(emulator, "jobs/cancel") > 0, 20)
    emulator.faults.clear()
    sync(files)
    wait_until(lambda: jobs(emulator) == [], 20)
    sync(files)
    assert ours(there) == []


def test_its_group_stays(start: Start, there: Remote) -> None:
    (there.local / "f").write_bytes(b"old")
    os.chown(there.local / "f", -1, 4321)
    (there.local / "f").chmod(0o660)
    files = start()
    files.stat("f")
    edit(files, "f", blob())
    sync(files)
    assert (there.local / "f").read_bytes() == blob()
    found = (there.local / "f").stat()
    assert (found.st_gid, found.st_mode & 0o777) == (4321, 0o660)


@pytest.mark.parametrize("names", [1, 2])
def test_its_time_is_given_while_it_is_stored(
    start: Start, emulator: Emulator, there: Remote, names: int
) -> None:
    """The job that gives it has been waiting since an earlier change: nobody else's, it is."""
    files = start()
    files.create("f", blob())
    sync(files)
    if names == 2:
        (there.local / "same").hardlink_to(there.local / "f")
    files.refresh()
    emulator.knobs.put("queue_seconds", 3.0)
    files.ops.utimens(files.path("f"), (10**18, 10**18))
    wait_until(lambda: ask(emulator, "jobs/submit") == 1, 20)
    edit(files, "f", blob(seed=2), flags=os.O_TRUNC)
    sync(files)
    assert there.names() == ["f", "same"][:names]
    assert {(there.local / name).read_bytes() for name in there.names()} == {blob(seed=2)}
    assert files.mount.errors.lines() == []


# -- what has landed, although nobody heard of it ------------------------------------------------


class Unheard:
    """A large file over a smaller one, stored, and nobody lived to write that down."""

    def __init__(self, engine: TransferEngine, there: Remote, directory: Path) -> None:
        (there.local / "f").write_bytes(b"old")
        self.engine, self.there, self.directory = engine, there, directory
        self.base = engine.files.stat(there / "f")
        self.first = self.item(blob())
        engine.large.send(self.first, self.base, replaces=True)
        assert (there.local / "f").read_bytes() == blob()

    def item(self, data: bytes, ident: str = "id") -> StoreItem:
        """Return what stores *data* as the copy *ident* over what was there at first."""
        path = self.directory / f"{ident}-{len(data)}"
        path.write_bytes(data)
        found = path.stat()
        local = LocalFile(ident, str(path), found.st_size, found.st_mtime_ns)
        small = len(data) <= 64 * 1024
        return StoreItem(
            1,
            self.there / "f",
            data if small else b"",
            base=self.base,
            local=None if small else local,
            ident=ident,
        )

    def store(self, item: StoreItem) -> object:
        """Store *item*; return what became of it."""
        return self.engine.store([item])[1]


@pytest.fixture
def unheard(engine: TransferEngine, there: Remote, tmp_path: Path) -> Unheard:
    return Unheard(engine, there, tmp_path)


@pytest.mark.parametrize("ident", ["id", "another copy"])
@pytest.mark.parametrize("size", [400_000, 10])
def test_another_version_is_no_conflict_with_it(
    unheard: Unheard, there: Remote, size: int, ident: str
) -> None:
    assert isinstance(unheard.store(unheard.item(blob(size, 2), ident)), Attr)
    assert there.names() == ["f"]
    assert (there.local / "f").read_bytes() == blob(size, 2)


def test_somebody_has_written_into_it_since(unheard: Unheard, there: Remote) -> None:
    """Its inode and its size are what they were."""
    inode = (there.local / "f").stat().st_ino
    with (there.local / "f").open("r+b") as file:
        file.write(b"theirs")
    later = time.time() + 5
    os.utime(there.local / "f", (later, later))
    assert (there.local / "f").stat().st_ino == inode
    result = unheard.store(unheard.first)
    assert isinstance(result, ConflictError)
    assert (there.local / "f").read_bytes() == b"theirs" + blob()[6:]


def test_it_is_known_again(unheard: Unheard, there: Remote) -> None:
    assert isinstance(unheard.store(unheard.first), Attr)
    assert there.names() == ["f"]


@pytest.mark.parametrize("how", ["as it is", "renamed", "unlinked", "small", "large"])
def test_what_is_done_next_to_a_file_that_landed_unheard_of(
    start: Start, emulator: Emulator, there: Remote, how: str
) -> None:
    files = start()
    # It has its name, and the other one is still to be removed.
    emulator.faults.add("status", "ops/rm", status=503, count=-1)
    files.create("f", blob())
    wait_until(lambda: (there.local / "f").exists(), 20)
    wait_until(lambda: (there.local / "f").read_bytes() == blob(), 20)
    time.sleep(0.3)
    files = start(write_back=1000.0)
    emulator.faults.clear()
    expected = {"f": blob()}
    if how == "renamed":
        files.ops.rename(files.path("f"), files.path("g"))
        expected = {"g": blob()}
    elif how == "unlinked":
        files.ops.unlink(files.path("f"))
        expected = {}
    elif how in ("small", "large"):
        expected = {"f": b"small" if how == "small" else blob(200_000, 3)}
        edit(files, "f", expected["f"], flags=os.O_TRUNC)
    sync(files)
    assert files.mount.errors.lines() == []
    assert {each.name: each.read_bytes() for each in there.local.iterdir()} == expected


def test_a_directory_is_removed_with_a_file_that_landed_unheard_of(
    start: Start, emulator: Emulator, there: Remote
) -> None:
    (there.local / "d").mkdir()
    (there.local / "d" / "f").write_bytes(b"old")
    files = start()
    files.stat("d/f")
    emulator.faults.add("status", "ops/rm", status=503, count=-1)
    edit(files, "d/f", blob(), flags=os.O_TRUNC)
    wait_until(lambda: len(blob()) in sizes([str(there.local / "d/f")]), 20)
    time.sleep(0.3)
    files = start(write_back=1000.0)
    emulator.faults.clear()
    files.ops.unlink(files.path("d/f"))
    files.ops.rmdir(files.path("d"))
    sync(files)
    assert files.mount.errors.lines() == []
    assert there.names() == []
