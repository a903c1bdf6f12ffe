"""Random operations on the mount and on a plain directory: results, errnos and trees are equal.

What differs on purpose, and is left out here: times; hard links to files that aren't stored;
unlinking what is open; modes that would refuse something, since root may do everything in the
plain directory.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..harness import Server
from .drivers import Driver, KernelDriver, mode_of

STEPS = 200
NAMES = ("a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "a b")


class Pair:
    """The same operations on both; `log` tells what led to a difference."""

    def __init__(self, fs: Driver, plain: Path, chance: random.Random) -> None:
        self.fs = fs
        self.plain = KernelDriver(plain)
        self.chance = chance
        self.log: list[str] = []

    def step(self) -> None:
        """Do one thing on both and compare what came of it."""
        kinds: list[Callable[[], tuple[Any, ...]]] = [
            lambda: ("write_file", self._name(), self._data()),
            lambda: ("write_file", self._name(), self._data()),
            lambda: ("append", self._name(), self._data()),
            lambda: ("overwrite", self._name(), self._data(), self.chance.randrange(40)),
            lambda: ("make", self._name(), self._data()),
            lambda: ("truncate", self._name(), self.chance.randrange(60)),
            lambda: ("rename", self._name(), self._name()),
            lambda: ("rename", self._name(), self._name()),
            lambda: ("unlink", self._name()),
            lambda: ("mkdir", self._name()),
            lambda: ("rmdir", self._name()),
            lambda: ("symlink", self.chance.choice(["a", "b", "nowhere", "d"]), self._name()),
            lambda: ("chmod", self._name(), self.chance.choice([0o600, 0o644, 0o755])),
            lambda: ("read_file", self._name()),
            lambda: ("listdir", self.chance.choice(["", "d", "d/e", "a"])),
            lambda: ("stat", self._name()),
            lambda: ("lstat", self._name()),
            lambda: ("readlink", self._name()),
        ]
        what, *arguments = self.chance.choice(kinds)()
        if what == "chmod" and self._is_directory(arguments[0]):
            return
        self.log.append(f"{what} {arguments}")
        ours, theirs = (self._do(each, what, arguments) for each in (self.fs, self.plain))
        assert ours == theirs, self.story()

    def story(self) -> str:
        """Return what was done lately."""
        return "\n".join(self.log[-25:])

    def compare(self) -> None:
        """Both trees look the same, all of them."""
        assert self._tree(self.fs) == self._tree(self.plain), self.story()

    def _name(self) -> str:
        return self.chance.choice(NAMES)

    def _data(self) -> bytes:
        return self.chance.choice([b"", b"x", b"some text\n", b"other", b"z" * 5000])

    def _is_directory(self, name: str) -> bool:
        try:
            return stat.S_ISDIR(self.plain.lstat(name).st_mode)
        except OSError:
            return False

    def _do(self, fs: Driver, what: str, arguments: list[Any]) -> object:
        try:
            if what == "overwrite":
                return _overwrite(fs, *arguments)
            if what == "make":
                return _make(fs, *arguments)
            result = getattr(fs, what)(*arguments)
        except OSError as exc:
            return errno.errorcode.get(exc.errno or 0)
        if what == "listdir":
            return sorted(result)
        return _shape(result) if what.endswith("stat") else result

    def _tree(self, fs: Driver, top: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for name in fs.listdir(top):
            path = f"{top}/{name}".lstrip("/")
            status = fs.lstat(path)
            found[path] = _shape(status)
            if stat.S_ISDIR(status.st_mode):
                found |= self._tree(fs, path)
            elif stat.S_ISLNK(status.st_mode):
                found[path] = fs.readlink(path)
            else:
                found[path] = (_shape(status), fs.read_file(path))
        return found


def _shape(status: Any) -> tuple[int, int, int]:
    kind = stat.S_IFMT(status.st_mode)
    return kind, mode_of(status), status.st_size if kind == stat.S_IFREG else 0


def _overwrite(fs: Driver, path: str, data: bytes, offset: int) -> bytes:
    fd = fs.open(path, os.O_RDWR)
    try:
        fs.pwrite(fd, data, offset)
        return fs.pread(fd, 1 << 16, 0)
    finally:
        fs.close(fd)


def _make(fs: Driver, path: str, data: bytes) -> int:
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    try:
        return fs.write(fd, data)
    finally:
        fs.close(fd)


@pytest.mark.parametrize("seed", range(4))
def test_random_operations(
    fs: Driver, there: Path, tmp_path: Path, server: Server, seed: int
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    chance = random.Random(seed)
    pair = Pair(fs, plain, chance)
    for number in range(STEPS):
        pair.step()
        if number % 50 == 49:
            # A quiet moment: all lands, somebody else changes something, and it is looked at anew.
            fs.land()
            for top in (there, plain):
                (top / f"theirs-{number}").write_bytes(b"theirs %d" % number)
                path = top / "c"
                if path.is_file() and not path.is_symlink():
                    path.unlink()
            fs.refresh()
            if fs.mounted_by_kernel:
                # The kernel believes for a second that a name is what it was.
                time.sleep(1.1)
            pair.log.append("landed; theirs")
            pair.compare()
    fs.land()
    assert pair._tree(KernelDriver(there)) == pair._tree(pair.plain), pair.story()
