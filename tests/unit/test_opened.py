"""What is open, by number: libfuse gives no path of it where there is none any more."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any

import pytest

from firecrestfs.opened import Opened
from firecrestfs.vfs.base import OpenFile

from .test_door import Recording, info, operations
from .tools import make_attr, together


class Broken(OpenFile):
    """An open file that has lost its bytes."""

    def getattr(self) -> Any:
        return make_attr(7, inode=3)

    def read(self, size: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "the copy is damaged: fetch it again")

    def release(self) -> None: ...


class Opening(Recording):
    def open(self, path: str, flags: int) -> OpenFile:
        return Broken()

    def rmdir(self, path: str) -> None: ...


def test_numbers_are_not_used_again() -> None:
    opened = Opened()
    first = opened.add("/s/a")
    opened.drop(first)
    assert opened.add("/s/a") != first
    assert opened.path(first) == ""


def test_paths_follow_renames() -> None:
    opened = Opened()
    paths = ["/s/d", "/s/d/f", "/s/d/e/g", "/s/dd", "/s/f"]
    numbers = [opened.add(path) for path in paths]
    opened.renamed("/s/d", "/s/new/name")
    assert [opened.path(each) for each in numbers] == [
        "/s/new/name",
        "/s/new/name/f",
        "/s/new/name/e/g",
        "/s/dd",
        "/s/f",
    ]


def test_many_open_and_rename() -> None:
    opened = Opened()

    def work(number: int) -> int:
        for each in range(200):
            at = opened.add(f"/s/{number}/{each}")
            opened.renamed(f"/s/{number}", f"/t/{number}")
            assert opened.path(at) == f"/t/{number}/{each}"
            opened.drop(at)
        return number

    assert together(4, work) == [0, 1, 2, 3]
    assert opened._paths == {}


def test_operations_without_a_path() -> None:
    ops = operations(Opening())
    file = info()
    ops.open("/s/f", file)
    assert ops.getattr(None, file)["st_size"] == 7
    with pytest.raises(OSError, match="Input/output"):
        ops.read(None, 1, 0, file)
    # What a person reads tells where.
    ops.rename("/s/f", "/s/g")
    with pytest.raises(OSError, match="Input/output"):
        ops.read(None, 1, 0, file)
    text = "the copy is damaged: fetch it again"
    assert ops.reports == [("/s/f", text), ("/s/g", text)]  # type: ignore[attr-defined]
    ops.release(None, file)
    with pytest.raises(OSError) as caught:
        ops.getattr(None, file)
    assert caught.value.errno == errno.ENOENT


def test_a_directory_is_listed_by_its_number() -> None:
    filesystem = Opening()
    ops = operations(filesystem)
    number = ops.opendir("/s/d")
    assert filesystem.calls == [("/s/d", os.R_OK)]
    assert [name for name, _, _ in ops.readdir(None, number)] == [".", "..", "x"]
    ops.rmdir("/s/d")
    with pytest.raises(OSError) as caught:
        ops.readdir(None, number)
    assert caught.value.errno == errno.ENOENT
    ops.releasedir(None, number)


def test_the_binding_asks_by_number() -> None:
    """libfuse 3 is told when it starts, 2 by a flag of the operations."""
    ops = operations(Opening())
    connection, config = SimpleNamespace(), SimpleNamespace(nullpath_ok=0)
    ops.init_with_config(connection, config)
    assert config.nullpath_ok
    ops.init_with_config(connection, None)
    assert ops.flag_nullpath_ok
