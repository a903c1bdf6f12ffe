"""What several unit tests need: a clock that stands still, attributes, a place on the cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.model import Attr, Kind, Source

SECOND = 1_000_000_000


class FakeClock:
    """Seconds that pass when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Remote:
    """A directory on the cluster and the local one that plays it."""

    path: str
    local: Path

    def __truediv__(self, name: str) -> str:
        return f"{self.path}/{name}"

    def names(self) -> list[str]:
        return sorted(each.name for each in self.local.iterdir())


def make_attr(size: int = 0, **changes: Any) -> Attr:
    """Return attributes of a remote file, as a stat tells them."""
    values: dict[str, Any] = {
        "kind": Kind.FILE,
        "mode": 0o644,
        "size": size,
        "mtime_ns": 1_700_000_000 * SECOND,
        "uid": 1000,
        "gid": 1000,
        "source": Source.STAT,
    }
    return Attr(**values | changes)


def wait_until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Return once *condition* holds; fail where it doesn't in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.002)


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Start *call* in a thread; what it returns or raises is appended to the list."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def together(number: int, call: Callable[[int], Any]) -> list[Any]:
    """Run *call* with 0, 1, … in *number* threads; return what each returned or raised."""
    started = [in_thread(lambda each=each: call(each)) for each in range(number)]
    for thread, _ in started:
        thread.join(30)
        assert not thread.is_alive(), "a thread hangs"
    return [outcome[0] for _, outcome in started]


def code_of(call: Callable[..., Any], *args: Any) -> int | None:
    """Return the errno that *call* fails with."""
    with pytest.raises(OSError) as info:
        call(*args)
    return info.value.errno
