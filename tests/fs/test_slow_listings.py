"""A cluster that takes seconds to list a directory in which something is made or removed just then.

The answer is of before, or of no one knows when. What was done here shows all the same.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .drivers import Driver
from .held import Hold, install
from .sites import WITHOUT_KERNEL, Site, Sites


@pytest.fixture(scope="session", params=WITHOUT_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """No kernel takes part in this."""
    return str(request.param)


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that stores when it is told to."""
    return sites.site(kind, write_back=600.0)


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bool], Hold]]:
    """Hold the next listing, before or after its work."""
    holds: list[Hold] = []

    def make(after: bool) -> Hold:
        holds.append(Hold("*/ls", 0, after))
        install(holds[-1], monkeypatch)
        return holds[-1]

    yield make
    for each in holds:
        each.end()


def listing(fs: Driver) -> tuple[threading.Thread, list[list[str]]]:
    """Begin to list the directory `d`."""
    found: list[list[str]] = []
    thread = threading.Thread(target=lambda: found.append(sorted(fs.listdir("d"))), daemon=True)
    thread.start()
    return thread, found


def done(act: Callable[[], object], seconds: float = 20.0) -> tuple[bool, list[object]]:
    """Do it on another thread; tell whether it ended so soon, and with what."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(act())
        except OSError as exc:
            found.append(errno.errorcode[exc.errno or 0])

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return not thread.is_alive(), found


def make(fs: Driver, name: str) -> str:
    fs.close(fs.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    return "made"


@pytest.mark.parametrize("after", [False, True])
def test_what_is_made_and_removed_meanwhile(
    fs: Driver, there: Path, hold: Callable[[bool], Hold], after: bool
) -> None:
    for name in ("d/old", "d/gone", "other/x"):
        (there / name).parent.mkdir(exist_ok=True)
        (there / name).write_bytes(b"content")
    fs.listdir("d")
    assert not fs.exists("d/new")
    assert fs.read_file("d/gone") == b"content"
    fs.refresh("d")
    fs.stat("d")
    held = hold(after)
    thread, found = listing(fs)
    assert held.reached.wait(20)
    making = threading.Thread(target=lambda: make(fs, "d/new"), daemon=True)
    removing = threading.Thread(target=lambda: fs.unlink("d/gone"), daemon=True)
    for each in (making, removing):
        each.start()
    # Elsewhere nobody waits for it.
    assert done(lambda: fs.listdir("other")) == (True, [["x"]])
    assert done(lambda: make(fs, "other/new")) == (True, ["made"])
    assert found == []
    held.end()
    for each in (thread, making, removing):
        each.join(20)
        assert not each.is_alive()
    assert found[0] in (["gone", "old"], ["new", "old"], ["gone", "new", "old"], ["old"])
    assert sorted(fs.listdir("d")) == ["new", "old"]
    assert done(lambda: make(fs, "d/new")) == (True, ["EEXIST"])
    assert done(lambda: make(fs, "d/old")) == (True, ["EEXIST"])
    fs.land()
    assert sorted(fs.listdir("d")) == sorted(os.listdir(there / "d")) == ["new", "old"]


def test_a_name_that_somebody_has_taken_is_told_when_the_listing_is_here(
    fs: Driver, there: Path, hold: Callable[[bool], Hold]
) -> None:
    """Whoever makes it waits for the listing: its absence is not known before."""
    (there / "d").mkdir()
    (there / "d/theirs").write_bytes(b"content")
    fs.refresh("d")
    fs.stat("d")
    held = hold(False)
    thread, found = listing(fs)
    assert held.reached.wait(20)
    results: list[object] = []
    making = threading.Thread(
        target=lambda: results.extend(done(lambda: make(fs, "d/theirs"))[1]), daemon=True
    )
    making.start()
    making.join(0.3)
    assert results == []
    held.end()
    for each in (thread, making):
        each.join(20)
    assert results == ["EEXIST"]
    assert found == [["theirs"]]
    assert (there / "d/theirs").read_bytes() == b"content"
