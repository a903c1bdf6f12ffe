"""What is here stays visible, under its one name, while the cluster is told of it."""

from __future__ import annotations

import stat
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .drivers import Driver

SOME = 12


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads of this process change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def new_files(fs: Driver, number: int) -> str:
    """Make a file."""
    fs.write_file(f"new-{number}", b"content")
    return f"new-{number}"


def saved_files(fs: Driver, number: int) -> str:
    """Save over a file of the cluster, in place."""
    fs.write_file(f"old-{number}", b"saved anew")
    return f"old-{number}"


def directories(fs: Driver, number: int) -> str:
    """Make a directory."""
    fs.mkdir(f"new-{number}")
    return f"new-{number}"


def symlinks(fs: Driver, number: int) -> str:
    """Make a symlink."""
    fs.symlink("old-0", f"new-{number}")
    return f"new-{number}"


def renamed(fs: Driver, number: int) -> str:
    """Rename a file of the cluster to a name that isn't there."""
    fs.rename(f"old-{number}", f"new-{number}")
    return f"new-{number}"


def renamed_over(fs: Driver, number: int) -> str:
    """Rename a file of the cluster over another."""
    fs.rename(f"old-{number}", f"other-{number}")
    return f"other-{number}"


def second_names(fs: Driver, number: int) -> str:
    """Give a file of the cluster a second name."""
    fs.link(f"old-{number}", f"new-{number}")
    return f"new-{number}"


def saved_as_git_does(fs: Driver, number: int) -> str:
    """Make a file, link it to its final name, remove the first name."""
    fs.write_file(f"tmp-{number}", b"content")
    fs.link(f"tmp-{number}", f"new-{number}")
    fs.unlink(f"tmp-{number}")
    return f"new-{number}"


def in_a_renamed_directory(fs: Driver, number: int) -> str:
    """Rename a directory of the cluster that holds a file."""
    fs.rename(f"dir-{number}", f"new-{number}")
    return f"new-{number}/inside"


ALL = [
    new_files,
    saved_files,
    directories,
    symlinks,
    renamed,
    renamed_over,
    second_names,
    saved_as_git_does,
    in_a_renamed_directory,
]


@pytest.mark.parametrize("change", ALL, ids=lambda each: each.__name__)
def test_nothing_flickers_while_it_lands(
    fs: Driver, there: Path, restless: None, change: Callable[[Driver, int], str]
) -> None:
    for number in range(SOME):
        (there / f"old-{number}").write_bytes(b"old %d" % number)
        (there / f"other-{number}").write_bytes(b"other %d" % number)
        (there / f"dir-{number}").mkdir()
        (there / f"dir-{number}/inside").write_bytes(b"inside %d" % number)
    fs.listdir()
    paths = [change(fs, number) for number in range(SOME)]
    missed: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for path in paths:
                try:
                    if stat.S_ISREG(fs.lstat(path).st_mode):
                        fs.read_file(path)
                except OSError as exc:
                    missed.append(f"{path}: {exc}")
            tops = {path.partition("/")[0] for path in paths}
            missed.extend(f"{name}: not listed" for name in tops.difference(fs.listdir()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        fs.land()
    finally:
        over.set()
        watcher.join()
    assert missed == []
