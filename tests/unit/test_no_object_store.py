"""An object store that is away: what needs it waits, what doesn't goes on."""

from __future__ import annotations

from typing import Any

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.transfer import writeback

from .large import Start, blob, jobs, ours, sync
from .tools import Remote, wait_until

AWAY: dict[str, dict[str, Any]] = {
    "down": {"kind": "drop", "match": "store/*", "count": -1},
    "in trouble": {"kind": "status", "match": "store/*", "status": 503, "body": "", "count": -1},
}


@pytest.mark.parametrize("how", AWAY)
def test_large_files_wait_for_it_and_small_ones_do_not(
    start: Start, emulator: Emulator, there: Remote, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writeback, "_FIRST_RETRY_S", 0.1)
    emulator.faults.replace([AWAY[how]])
    files = start()
    for number in range(5):  # more than are sent at the same time
        files.create(f"large {number}", blob(seed=number))
    files.create("small", b"small")
    wait_until(lambda: there.names() == ["small"], 30)
    wait_until(lambda: "object store" in str(files.mount.pending()), 60)
    assert {row["state"] for row in files.mount.pending()}.isdisjoint({"failed", "parked"})
    emulator.faults.clear()
    # By itself.
    wait_until(lambda: files.mount.pending() == [], 60)
    sync(files)
    assert len(there.names()) == 6
    assert ours(there) == []
    wait_until(lambda: jobs(emulator) == [], 20)
