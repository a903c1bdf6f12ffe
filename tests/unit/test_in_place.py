"""API v1 writes into a file that must keep its inode, and nothing stops it: what comes next."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator

from .conftest import SETTINGS
from .large import ask, blob, edit, sync
from .tools import Remote, in_thread, wait_until
from .wired import Files, restarting

Begin = Callable[..., Files]


@pytest.fixture(scope="module")
def on_v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("v1"), settings=SETTINGS, api="v1") as emulator:
        yield emulator


@pytest.fixture
def there(on_v1: Emulator, tmp_path: Path) -> Remote:
    """A directory with a file that has two names."""
    system = on_v1.systems[0]
    there = Remote(f"{system['home']}/{tmp_path.name}", Path(system["local_home"]) / tmp_path.name)
    there.local.mkdir()
    (there.local / "f").write_bytes(blob())
    (there.local / "same").hardlink_to(there.local / "f")
    return there


@pytest.fixture
def begin(on_v1: Emulator, there: Remote, tmp_path: Path) -> Iterator[Begin]:
    """Start a mount over the test's state; the one before is gone then."""
    with restarting(on_v1, there, tmp_path, api_version="1") as restart:

        def begin(write_back: float = 0.01) -> Files:
            files = restart(write_back)
            files.mount.recover()
            files.stat("")
            return files

        on_v1.knobs.put("poll_interval", 0.2)
        on_v1.requests.clear()
        yield begin
    on_v1.faults.clear()
    on_v1.knobs.put("disk_full", False)


def sent(files: Files, emulator: Emulator, data: bytes, name: str = "f") -> None:
    """Store *data* as *name*; return when all of it has been sent, and none has landed."""
    emulator.knobs.put("poll_interval", 600.0)
    before = ask(emulator, "store/form")
    files.stat(name)
    edit(files, name, data, flags=os.O_TRUNC)
    wait_until(lambda: ask(emulator, "store/form") > before, 20)
    time.sleep(0.3)


def swept(files: Files, on_v1: Emulator) -> None:
    """Let all be stored; whatever was sent before has been copied by then."""
    time.sleep(1.0)
    on_v1.knobs.put("poll_interval", 0.2)
    sync(files)
    time.sleep(1.0)


def test_the_server_forgets_its_task(begin: Begin, on_v1: Emulator, there: Remote) -> None:
    """What is there still has the size of what was sent."""
    files = begin()
    sent(files, on_v1, blob(seed=2))
    gone = {"error": "Task 0 does not exist"}
    on_v1.faults.add("status", "tasks/get", status=404, body=gone, count=1)
    wait_until(lambda: on_v1.faults.rules()[0]["count"] == 0, 20)
    on_v1.knobs.put("poll_interval", 0.2)
    sync(files)
    assert (there.local / "f").read_bytes() == blob(seed=2)


@pytest.mark.parametrize("size", [10, 200_000])
def test_the_server_forgets_its_task_for_good(
    begin: Begin, on_v1: Emulator, there: Remote, size: int
) -> None:
    files = begin()
    sent(files, on_v1, blob(seed=2))
    gone = {"error": "Task 0 does not exist"}
    on_v1.faults.add("status", "tasks/get", status=404, body=gone, count=4)
    files = begin()
    edit(files, "f", blob(size, seed=3), flags=os.O_TRUNC)
    if size == 10:
        wait_until(lambda: (there.local / "f").read_bytes() == blob(size, seed=3), 20)
    else:
        wait_until(lambda: ask(on_v1, "store/form") == 2, 20)


def test_rewritten_while_the_first_version_lands(
    begin: Begin, on_v1: Emulator, there: Remote
) -> None:
    """The second one takes long to be sent, and the first one's task has ended by then."""
    files = begin()
    sent(files, on_v1, blob(seed=2))
    files = begin(write_back=1000.0)
    on_v1.faults.add("stall", "store/form", seconds=3.0)
    edit(files, "f", blob(seed=3), flags=os.O_TRUNC)
    thread, _ = in_thread(lambda: files.mount.drain(60.0))
    wait_until(lambda: on_v1.faults.rules()[0]["count"] == 0, 20)
    on_v1.knobs.put("poll_interval", 0.2)
    thread.join(60)
    assert (there.local / "f").read_bytes() == blob(seed=3)


def test_no_room_for_a_version_that_is_rewritten(
    begin: Begin, on_v1: Emulator, there: Remote
) -> None:
    """What could not be copied is tried again for ever."""
    files = begin()
    sent(files, on_v1, blob(seed=2))
    on_v1.knobs.put("disk_full", True)
    on_v1.knobs.put("poll_interval", 0.2)
    wait_until(files.mount.errors.lines, 20)
    on_v1.knobs.put("poll_interval", 600.0)
    time.sleep(0.5)
    on_v1.knobs.put("disk_full", False)
    edit(files, "f", b"small", flags=os.O_TRUNC)
    swept(files, on_v1)
    assert (there.local / "f").read_bytes() == b"small"


def test_replaced_before_it_is_copied(begin: Begin, on_v1: Emulator, there: Remote) -> None:
    files = begin()
    sent(files, on_v1, blob(seed=2))
    files.create("new", b"new")
    files.ops.rename(files.path("new"), files.path("f"))
    swept(files, on_v1)
    assert (there.local / "f").read_bytes() == b"new"
    assert there.names() == ["f", "same"]


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_another_has_the_name_before_it_is_copied(
    begin: Begin, on_v1: Emulator, there: Remote, dies: bool
) -> None:
    files = begin()
    sent(files, on_v1, blob(seed=2))
    if dies:
        files = begin()
    files.ops.rename(files.path("f"), files.path("g"))
    files.create("f", b"new")
    swept(files, on_v1)
    assert (there.local / "f").read_bytes() == b"new"
    assert (there.local / "g").read_bytes() == blob(seed=2)
    assert there.names() == ["f", "g", "same"]


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_unlinked_before_it_is_copied(
    begin: Begin, on_v1: Emulator, there: Remote, dies: bool
) -> None:
    files = begin()
    sent(files, on_v1, blob(seed=2))
    if dies:
        files = begin()
    files.ops.unlink(files.path("f"))
    swept(files, on_v1)
    assert there.names() == ["same"]
    assert (there.local / "same").read_bytes() == blob(seed=2)
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_renamed_before_it_is_copied(
    begin: Begin, on_v1: Emulator, there: Remote, dies: bool
) -> None:
    files = begin()
    sent(files, on_v1, blob(seed=2))
    if dies:
        files = begin()
    files.ops.rename(files.path("f"), files.path("g"))
    swept(files, on_v1)
    assert there.names() == ["g", "same"]
    assert (there.local / "g").read_bytes() == blob(seed=2)
    assert (there.local / "same").read_bytes() == blob(seed=2)
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("size", [10, 300_000])
def test_it_has_one_name_by_the_time_it_is_rewritten(
    begin: Begin, on_v1: Emulator, there: Remote, size: int
) -> None:
    files = begin()
    sent(files, on_v1, blob(seed=2))
    (there.local / "same").unlink()
    edit(files, "f", blob(size, seed=3), flags=os.O_TRUNC)
    swept(files, on_v1)
    assert there.names() == ["f"]
    assert (there.local / "f").read_bytes() == blob(size, seed=3)
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_its_directory_goes_before_it_is_copied(
    begin: Begin, on_v1: Emulator, there: Remote, how: str
) -> None:
    (there.local / "d").mkdir()
    (there.local / "f").rename(there.local / "d" / "f")
    files = begin()
    sent(files, on_v1, blob(seed=2), "d/f")
    if how == "removed":
        files.ops.unlink(files.path("d/f"))
        files.ops.rmdir(files.path("d"))
    else:
        files.ops.rename(files.path("d"), files.path("e"))
    time.sleep(1.0)
    on_v1.knobs.put("poll_interval", 0.2)
    sync(files)
    assert there.names() == (["same"] if how == "removed" else ["e", "same"])
    assert {path.read_bytes() for path in there.local.rglob("*") if path.is_file()} == {
        blob(seed=2)
    }
    assert files.mount.errors.lines() == []


@pytest.mark.parametrize("names", [["same"], []], ids=["one of two names", "the only name"])
def test_no_room_for_a_version_that_is_unlinked(
    begin: Begin, on_v1: Emulator, there: Remote, names: list[str]
) -> None:
    """It may be what takes the room; but what was sent belongs to its other name, too."""
    files = begin()
    sent(files, on_v1, blob(seed=2))
    if not names:
        (there.local / "same").unlink()
    on_v1.knobs.put("disk_full", True)
    on_v1.knobs.put("poll_interval", 0.2)
    wait_until(files.mount.errors.lines, 20)
    files.ops.unlink(files.path("f"))
    if names:
        time.sleep(1.0)
        on_v1.knobs.put("disk_full", False)
    sync(files)
    time.sleep(1.0)
    assert there.names() == names
    assert all((there.local / name).read_bytes() == blob(seed=2) for name in names)
