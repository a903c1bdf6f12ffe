"""Reading large siblings one after the other: the next ones are staged meanwhile."""

from __future__ import annotations

from pathlib import Path

from ..fs.drivers import Driver
from ..harness import Server, wait_for
from .test_reading import MIB, blob, orders


def test_the_next_siblings_are_staged_ahead(fs: Driver, there: Path, server: Server) -> None:
    for number in range(9):
        (there / f"f{number}").write_bytes(blob(MIB, number))
    (there / "f45").write_bytes(b"small")
    assert fs.read_file("f0") == blob(MIB, 0)
    assert orders(server) == 1
    assert fs.read_file("f1") == blob(MIB, 1)
    assert wait_for(lambda: orders(server) == 6)
    for number in range(2, 6):
        assert fs.read_file(f"f{number}") == blob(MIB, number)
    # Two that are already on their way aren't ordered again.
    assert wait_for(lambda: orders(server) == 9)


def test_reading_here_and_there_stages_nothing_ahead(
    fs: Driver, there: Path, server: Server
) -> None:
    for number in range(5):
        (there / f"f{number}").write_bytes(blob(MIB, number))
    for number in (3, 0):
        assert fs.read_file(f"f{number}") == blob(MIB, number)
    assert not wait_for(lambda: orders(server) > 2, 0.5)
