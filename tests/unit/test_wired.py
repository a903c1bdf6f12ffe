"""The wired mount without a kernel: what only shows where its parts meet."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from firecrestfs.config import Config
from firecrestfs.emulator import Emulator
from firecrestfs.fuseops import FuseOperations
from firecrestfs.mount import Mount, build
from firecrestfs.vfs import flights

from .tools import SECOND, Remote, in_thread

BINDING: Any = SimpleNamespace(
    __name__="mfusepy", _libfuse=SimpleNamespace(fuse_interrupted=lambda: 0)
)
OMIT = 1073741822


@pytest.fixture
def mount(emulator: Emulator, tmp_path: Path) -> Iterator[Mount]:
    config = Config(
        url=emulator.url,
        client_id=emulator.client_id,
        client_secret=emulator.client_secret,
        token_url=emulator.token_url,
        cache_dir=str(tmp_path / "cache"),
        state_dir=str(tmp_path / "state"),
        write_back=0.01,
        op_timeout=5.0,
    )
    mount = build(config, BINDING, "/mnt/hpc")
    yield mount
    mount.stop()


class Files:
    """System calls on the test's directory through the operations."""

    def __init__(self, mount: Mount, there: Remote) -> None:
        self.mount = mount
        self.ops: FuseOperations = mount.operations
        self.there = there

    def path(self, name: str) -> str:
        return f"/cluster{self.there.path}/{name}".rstrip("/")

    def open(self, name: str, flags: int) -> Any:
        info = SimpleNamespace(fh=0, flags=flags, direct_io=0, keep_cache=0)
        self.ops.open(self.path(name), info)
        return info

    def create(self, name: str, data: bytes = b"", mode: int = 0o644) -> None:
        info = SimpleNamespace(fh=0, flags=os.O_RDWR | os.O_CREAT, direct_io=0, keep_cache=0)
        self.ops.create(self.path(name), mode, info)
        if data:
            self.ops.write(self.path(name), data, 0, info)
        self.close(name, info)

    def close(self, name: str, info: Any) -> None:
        self.ops.flush(self.path(name), info)
        self.ops.release(self.path(name), info)

    def stat(self, name: str) -> Any:
        return self.ops.getattr(self.path(name))

    def sync(self) -> dict[str, str]:
        return self.mount.drain(10.0)

    def refresh(self) -> None:
        for files in self.mount.files().values():
            files.refresh("/")


@pytest.fixture
def files(mount: Mount, there: Remote) -> Files:
    made = Files(mount, there)
    made.stat("")  # connects
    return made


def test_times_can_be_set_again_and_again(files: Files, there: Remote) -> None:
    (there.local / "f").write_text("x")
    for second in (1_000_000_000, 1_100_000_000, 1_200_000_000):
        files.ops.utimens(files.path("f"), (OMIT, second * SECOND))
        assert files.stat("f")["st_mtime"] == second * SECOND


def test_a_rename_changes_no_time(files: Files, there: Remote) -> None:
    (there.local / "f").write_text("x")
    files.ops.utimens(files.path("f"), (OMIT, 1_000_000_000 * SECOND))
    files.ops.rename(files.path("f"), files.path("g"))
    assert files.stat("g")["st_mtime"] == 1_000_000_000 * SECOND


def test_litter_that_gets_a_real_name_is_stored(files: Files, there: Remote) -> None:
    """Some programs write `._NAME` first and rename it when it is whole."""
    files.create("._report", b"content")
    files.ops.rename(files.path("._report"), files.path("report"))
    assert files.sync() == {}
    assert (there.local / "report").read_bytes() == b"content"


def test_a_file_that_changes_while_open_stays_visible(files: Files, there: Remote) -> None:
    """Opened for writing, nothing fetched yet, changed by someone else: it exists all the same."""
    (there.local / "f").write_text("one")
    info = files.open("f", os.O_WRONLY)
    (there.local / "f").write_text("three")
    files.refresh()
    assert files.stat("f")["st_size"] == 5
    files.close("f", info)


def test_an_edit_of_a_file_that_changed_while_open_is_kept_somewhere(
    files: Files, there: Remote
) -> None:
    """Both versions survive, whichever name ours gets; an error on the write would do as well."""
    (there.local / "f").write_text("one")
    info = files.open("f", os.O_RDWR)
    (there.local / "f").write_text("theirs")
    files.refresh()
    files.stat("f")
    try:
        files.ops.write(files.path("f"), b"MINE", 0, info)
    except OSError as exc:
        assert exc.errno == errno.ESTALE
        return
    finally:
        files.close("f", info)
    files.sync()
    assert sorted(each.read_text() for each in there.local.iterdir()) == ["MINE", "theirs"]


def test_a_command_over_its_time_limit_is_an_error_in_time(
    files: Files, there: Remote, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there.local / "d").mkdir()
    files.stat("d")
    emulator.faults.add("status", "ops/*", status=408, count=-1)
    thread, outcome = in_thread(lambda: files.ops.mkdir(files.path("new"), 0o755))
    thread.join(8)
    emulator.faults.clear()
    try:
        assert outcome, "still waiting"
        assert isinstance(outcome[0], OSError)
    finally:
        # See test_flights: the thread would go round for ever.
        monkeypatch.setattr(flights, "FutureTimeout", KeyError, raising=False)
        thread.join(2)


def test_a_private_file_stays_private_through_every_kind_of_save(
    files: Files, there: Remote
) -> None:
    (there.local / "secret").write_text("x")
    (there.local / "secret").chmod(0o600)
    info = files.open("secret", os.O_WRONLY | os.O_TRUNC)
    files.close("secret", info)
    assert files.sync() == {}
    assert (there.local / "secret").stat().st_mode & 0o777 == 0o600
    info = files.open("secret", os.O_WRONLY)
    files.ops.write(files.path("secret"), b"again", 0, info)
    files.ops.utimens(files.path("secret"), (OMIT, 1_000_000_000 * SECOND))
    files.close("secret", info)
    assert files.sync() == {}
    assert (there.local / "secret").read_bytes() == b"again"
    assert (there.local / "secret").stat().st_mode & 0o777 == 0o600


def test_what_was_stored_while_the_network_failed_makes_no_copies(
    files: Files, there: Remote, emulator: Emulator
) -> None:
    emulator.faults.add("lost_answer", "ops/upload", count=1)
    files.create("f", b"content")
    files.sync()
    assert there.names() == ["f"]
