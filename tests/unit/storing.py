"""Stores and what they leave, for the tests of the transfer engine."""

from __future__ import annotations

import os
from typing import Any

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.model import Attr, StoreItem
from firecrestfs.transfer.engine import TransferEngine

from .tools import SECOND, Remote

Counts = dict[str, int]


def counts(emulator: Emulator) -> Counts:
    """Return how often each endpoint was asked, and start anew."""
    found: Counts = {}
    for each in emulator.requests.clear():
        if not each.is_token:
            found[each.endpoint] = found.get(each.endpoint, 0) + 1
    return found


def store(engine: TransferEngine, path: str, data: bytes, **options: Any) -> Attr:
    """Store one file; raise where that failed."""
    result = engine.store([StoreItem(1, path, data, **options)])[1]
    if isinstance(result, OSError):
        raise result
    return result


def existing(client: TypedClient, there: Remote, data: bytes = b"base", mode: int = 0o644) -> Attr:
    """Make a file on the cluster; return its attributes as the mount knows them."""
    (there.local / "f").write_bytes(data)
    (there.local / "f").chmod(mode)
    os.utime(there.local / "f", ns=(SECOND, 1_700_000_000 * SECOND))
    return client.stat("cluster", there / "f")


def mode_of(there: Remote, name: str = "f") -> int:
    return (there.local / name).stat().st_mode & 0o7777


def items(there: Remote, number: int, size: int = 100, **options: Any) -> list[StoreItem]:
    return [
        StoreItem(each, there / f"f{each}", bytes([each % 256]) * size, **options)
        for each in range(number)
    ]


def landed(engine: TransferEngine, there: Remote, batch: list[StoreItem]) -> None:
    """Store *batch*, again where it is told to, and see that each file is there once, whole."""
    results = engine.store(batch)
    for _ in range(3):
        again = [item for item in batch if isinstance(results[item.key], OSError)]
        if again:
            results |= engine.store(again)
    failed = [each for each in results.values() if isinstance(each, OSError)]
    assert failed == []
    assert there.names() == sorted(item.path.rpartition("/")[2] for item in batch)
    for item in batch:
        assert (there.local / item.path.rpartition("/")[2]).read_bytes() == item.data
