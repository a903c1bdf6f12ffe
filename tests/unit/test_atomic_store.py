"""`--atomic-store`: a new file takes the place of the old one, and nothing else stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.mount import build

from .large import edit, sync
from .tools import Remote
from .wired import BINDING, Files, make_config


@pytest.fixture
def files(emulator: Emulator, there: Remote, tmp_path: Path) -> Iterator[Files]:
    (there.local / "f").write_bytes(b"old content")
    mount = build(make_config(emulator, tmp_path, atomic_store=True), BINDING, "/mnt/hpc")
    files = Files(mount, there)
    files.stat("")  # connects
    yield files
    mount.stop()
    mount.journal.close()


def test_a_new_file_takes_the_place(files: Files, there: Remote) -> None:
    before = (there.local / "f").stat().st_ino
    edit(files, "f", b"new")
    sync(files)
    assert (there.local / "f").read_bytes() == b"new content"
    assert (there.local / "f").stat().st_ino != before
    assert there.names() == ["f"]
    assert files.mount.journal.leftovers("cluster") == []


def test_its_hidden_name_is_written_down(
    files: Files, there: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After our death somebody has to remove it: hidden files of every such store stayed."""
    client, seen = files.mount.client, []
    real = client.chmod

    def chmod(system: str, path: str, mode: int, **more: Any) -> None:
        hidden = {there / name for name in there.names() if name != "f"}
        seen.append((hidden, set(files.mount.journal.leftovers("cluster"))))
        real(system, path, mode, **more)

    monkeypatch.setattr(client, "chmod", chmod)
    edit(files, "f", b"new")
    sync(files)
    (hidden, known), *_ = seen
    assert hidden and hidden <= known


@pytest.mark.parametrize("endpoint", ["*/chmod", "*/extract"])
def test_nothing_stays_of_what_failed(
    files: Files, there: Remote, emulator: Emulator, endpoint: str
) -> None:
    emulator.faults.replace([{"match": endpoint, "kind": "status", "status": 503, "count": 4}])
    edit(files, "f", b"new")
    sync(files)
    assert (there.local / "f").read_bytes() == b"new content"
    assert there.names() == ["f"]
