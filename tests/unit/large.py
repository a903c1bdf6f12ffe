"""Large files on wired mounts: what tests do to them, and what there is of them then."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable
from contextlib import suppress

from firecrestfs.emulator import Emulator

from .tools import Remote
from .wired import Files

Start = Callable[..., Files]

OLD = b"".join(b"line %06d of a log\n" % number for number in range(10_000))
MORE = b"appended here\n"
THEIRS = b"and by somebody else, who had more to say\n"


def blob(size: int = 300_000, seed: int = 1) -> bytes:
    """Return bytes that no tar makes smaller."""
    return random.Random(seed).randbytes(size)


def edit(files: Files, name: str, data: bytes, at: int = 0, flags: int = 0) -> None:
    """Write *data* at *at* as one open, write and close."""
    info = files.open(name, os.O_RDWR | flags)
    files.ops.write(files.path(name), data, at, info)
    files.close(name, info)


def append(files: Files, name: str, data: bytes = MORE) -> None:
    edit(files, name, data, flags=os.O_APPEND)


def sync(files: Files) -> None:
    """Return when all has landed and is tidied up."""
    assert files.mount.drain(60.0) == {}
    for each in files.mount.files().values():
        each.sweep()


def ours(there: Remote) -> list[str]:
    """Return what there is of ours in and beside the test's directory."""
    paths = [*there.local.rglob("*"), *there.local.parent.iterdir()]
    return [str(path) for path in paths if ".fcfs-" in path.name]


def sizes(paths: Iterable[str]) -> list[int]:
    """Return the sizes of those of *paths* that are there: what is ours comes and goes."""
    found = []
    for path in paths:
        with suppress(FileNotFoundError):
            found.append(os.stat(path).st_size)
    return found


def ask(emulator: Emulator, endpoint: str) -> int:
    return emulator.requests.count(endpoint)


def jobs(emulator: Emulator) -> list[str]:
    """Return the ids of the jobs that have not ended."""
    rows = emulator.clusters["cluster"].scheduler.jobs()
    return [each.id for each in rows if each.ended is None]
