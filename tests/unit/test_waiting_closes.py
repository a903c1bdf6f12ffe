"""Closing and syncing that wait for the cluster: for as long as a large file takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.mount import build
from firecrestfs.vfs import stores

from .large import blob
from .tools import Remote
from .wired import BINDING, Files, make_config


@pytest.mark.parametrize("how", ["write_through", "fsync"])
def test_it_waits_until_a_large_file_has_landed(
    emulator: Emulator,
    there: Remote,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    monkeypatch.setattr(stores, "_IDLE_S", 1.0)
    emulator.knobs.put("queue_seconds", 3.0)
    emulator.knobs.put("poll_interval", 0.2)
    changes = {"write_through": True} if how == "write_through" else {"fsync": "remote"}
    mount = build(make_config(emulator, tmp_path, **changes), BINDING, "/mnt/hpc")
    files = Files(mount, there)
    files.stat("")
    info = files.created("f")
    files.ops.write(files.path("f"), blob(), 0, info)
    if how == "fsync":
        files.ops.fsync(files.path("f"), 0, info)
        assert (there.local / "f").read_bytes() == blob()
    files.close("f", info)
    assert (there.local / "f").read_bytes() == blob()
    mount.stop()
    mount.journal.close()
