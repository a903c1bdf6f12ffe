"""Own changes show in the times and link counts of what they touch, at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .drivers import Driver

CHANGES: dict[str, Callable[[Driver], object]] = {
    "create": lambda fs: fs.write_file("d/new", b"x"),
    "unlink": lambda fs: fs.unlink("d/stored"),
    "mkdir": lambda fs: fs.mkdir("d/new"),
    "rmdir": lambda fs: fs.rmdir("d/sub"),
    "symlink": lambda fs: fs.symlink("stored", "d/new"),
    "link": lambda fs: fs.link("d/stored", "d/new"),
    "rename": lambda fs: fs.rename("d/stored", "d/new"),
    "rename from": lambda fs: fs.rename("d/stored", "new"),
    "rename to": lambda fs: fs.rename("stored", "d/new"),
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_a_directory_shows_that_its_names_changed(fs: Driver, there: Path, change: str) -> None:
    # Python's imports, build tools and file managers look at nothing else.
    (there / "d" / "sub").mkdir(parents=True)
    (there / "d" / "stored").write_bytes(b"x")
    (there / "stored").write_bytes(b"x")
    before = fs.stat("d")
    CHANGES[change](fs)
    after = fs.stat("d")
    assert after.st_mtime_ns > before.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns
    fs.land()
    fs.refresh()
    assert fs.stat("d").st_mtime_ns >= after.st_mtime_ns


def test_a_time_given_to_a_directory_is_shown_until_its_names_change(fs: Driver) -> None:
    # As rsync does: first the content of a directory, then its time.
    fs.mkdir("d")
    fs.mkdir("d/sub")
    fs.utime("d", 5, 6)
    assert fs.stat("d").st_mtime_ns == 6
    fs.rmdir("d/sub")
    assert fs.stat("d").st_mtime_ns > time.time_ns() - 60 * 10**9


@pytest.mark.parametrize("stored", [False, True])
def test_the_time_of_change(fs: Driver, there: Path, stored: bool) -> None:
    fs.write_file("f", b"content")
    if stored:
        fs.land()
    seen = [fs.stat("f").st_ctime_ns]
    for change in (
        lambda: fs.chmod("f", 0o600),
        lambda: fs.utime("f", 5, 6),
        lambda: fs.append("f", b"!"),
        lambda: fs.truncate("f", 1),
        lambda: fs.link("f", "g"),
        lambda: fs.rename("f", "h"),
        lambda: fs.rename("h", "f"),
    ):
        change()
        seen.append(fs.stat("f" if fs.exists("f") else "h").st_ctime_ns)
    assert seen == sorted(set(seen))


def test_links_of_a_directory(fs: Driver, there: Path) -> None:
    # Programs take two links for a directory without subdirectories; one for "not counted".
    (there / "d" / "sub").mkdir(parents=True)
    fs.mkdir("new")
    fs.mkdir("new/sub")
    system, synthetic = ("/".join(fs.base.split("/")[:count]) for count in (2, 3))
    for path in ("d", "new", "", "/", system, synthetic):
        assert fs.stat(path).st_nlink == 1


def test_links_of_a_file(fs: Driver) -> None:
    fs.write_file("one", b"x")
    fs.link("one", "two")
    assert (fs.stat("one").st_nlink, fs.stat("two").st_nlink) == (2, 2)
