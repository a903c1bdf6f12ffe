"""What users do, on a mount as in a plain directory: FIRST, and MEANWHILE, while that lands.

Each of FIRST has a subject, the path that it is about, and another: the name it had before, or one
beside it. What is done MEANWHILE is done to these two.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .drivers import Driver

#: A time that nothing has by itself (ns).
OLD = 1_000_000_000 * 10**9


class First(NamedTuple):
    """What is landing."""

    act: Callable[[Driver], object]
    subject: str
    other: str = "w/other"


Meanwhile = Callable[[Driver, str, str], object]


def plant(top: Path) -> None:
    """Make what is there from the beginning."""
    (top / "w" / "d").mkdir(parents=True)
    (top / "w" / "e").mkdir()
    for name in ("f", "g", "h", "d/x", "d/y", "d/z"):
        (top / "w" / name).write_bytes(b"old %b" % name.encode())
    (top / "w" / "g").chmod(0o640)
    (top / "w" / "link").symlink_to("h")
    (top / "w" / "one").write_bytes(b"one file of two names")
    os.link(top / "w" / "one", top / "w" / "two")


def _tree(fs: Driver) -> None:
    fs.mkdir("w/t")
    fs.mkdir("w/t/s")
    for name in ("a", "b", "s/c"):
        fs.write_file(f"w/t/{name}", name.encode())


def _swap(fs: Driver, one: str = "w/f", other: str = "w/g") -> None:
    fs.rename(one, "w/aside")
    fs.rename(other, one)
    fs.rename("w/aside", other)


def _save(fs: Driver, path: str = "w/f") -> None:
    fs.write_file("w/tmp", b"saved by way of another name")
    fs.rename("w/tmp", path)


def _remove_tree(fs: Driver, path: str) -> None:
    for name in fs.listdir(path):
        below = f"{path}/{name}"
        if stat.S_ISDIR(fs.lstat(below).st_mode):
            _remove_tree(fs, below)
        else:
            fs.unlink(below)
    fs.rmdir(path)


def _make_directory(fs: Driver, path: str) -> None:
    fs.mkdir(path)
    fs.write_file(f"{path}/q", b"in a new directory")


def _in_order(*acts: Callable[[Driver], object]) -> Callable[[Driver], object]:
    return lambda fs: [act(fs) for act in acts]


FIRST: dict[str, First] = {
    "new": First(lambda fs: fs.write_file("w/n", b"new"), "w/n"),
    "empty": First(lambda fs: fs.write_file("w/n", b""), "w/n"),
    "strict": First(lambda fs: fs.write_file("w/n", b"strict", 0o600), "w/n"),
    "saved": First(lambda fs: fs.write_file("w/f", b"saved"), "w/f"),
    "emptied": First(lambda fs: fs.truncate("w/f", 0), "w/f"),
    "tree": First(_tree, "w/t"),
    "tree's": First(_tree, "w/t/a", "w/t"),
    "directory": First(lambda fs: fs.mkdir("w/m", 0o700), "w/m"),
    "symlink": First(lambda fs: fs.symlink("f", "w/s"), "w/s"),
    "renamed": First(lambda fs: fs.rename("w/f", "w/n"), "w/n", "w/f"),
    "renamed over": First(lambda fs: fs.rename("w/f", "w/g"), "w/g", "w/f"),
    "renamed directory": First(lambda fs: fs.rename("w/d", "w/n"), "w/n", "w/d"),
    "in a renamed directory": First(lambda fs: fs.rename("w/d", "w/n"), "w/n/x", "w/d/x"),
    "new in a renamed directory": First(
        _in_order(
            lambda fs: fs.rename("w/d", "w/n"), lambda fs: fs.write_file("w/n/new", b"in it")
        ),
        "w/n/new",
    ),
    "renamed and appended to": First(
        _in_order(lambda fs: fs.rename("w/f", "w/n"), lambda fs: fs.append("w/n", b" more")),
        "w/n",
        "w/f",
    ),
    "edited and renamed over": First(
        _in_order(lambda fs: fs.append("w/g", b" more"), lambda fs: fs.rename("w/g", "w/f")),
        "w/f",
        "w/g",
    ),
    "swapped": First(_swap, "w/f", "w/g"),
    "unlinked": First(lambda fs: fs.unlink("w/f"), "w/f"),
    "removed tree": First(lambda fs: _remove_tree(fs, "w/d"), "w/d"),
    "mode": First(lambda fs: fs.chmod("w/f", 0o600), "w/f"),
    "mode of a directory": First(lambda fs: fs.chmod("w/d", 0o700), "w/d"),
    "time": First(lambda fs: fs.utime("w/f", OLD, OLD), "w/f"),
    "linked": First(lambda fs: fs.link("w/f", "w/k"), "w/k", "w/f"),
    "linked and saved": First(
        _in_order(lambda fs: fs.link("w/f", "w/k"), lambda fs: _save(fs, "w/k")), "w/k", "w/f"
    ),
    "saved by another name": First(_save, "w/f", "w/tmp"),
    "made again": First(
        _in_order(lambda fs: fs.unlink("w/f"), lambda fs: fs.write_file("w/f", b"again")), "w/f"
    ),
    "a directory now": First(
        _in_order(lambda fs: fs.unlink("w/f"), lambda fs: fs.mkdir("w/f")), "w/f"
    ),
    "one of two names saved": First(lambda fs: _save(fs, "w/one"), "w/one", "w/two"),
}

MEANWHILE: dict[str, Meanwhile] = {
    "nothing": lambda fs, path, other: None,
    "write": lambda fs, path, other: fs.write_file(path, b"written meanwhile"),
    "append": lambda fs, path, other: fs.append(path, b" meanwhile"),
    "truncate": lambda fs, path, other: fs.truncate(path, 2),
    "unlink": lambda fs, path, other: fs.unlink(path),
    "unlink and make": lambda fs, path, other: [
        fs.unlink(path),
        fs.write_file(path, b"made meanwhile"),
    ],
    "unlink and mkdir": lambda fs, path, other: [fs.unlink(path), _make_directory(fs, path)],
    "rename": lambda fs, path, other: fs.rename(path, "w/z"),
    "rename and back": lambda fs, path, other: [fs.rename(path, "w/z"), fs.rename("w/z", path)],
    "rename and make": lambda fs, path, other: [
        fs.rename(path, "w/z"),
        fs.write_file(path, b"made meanwhile"),
    ],
    "rename over it": lambda fs, path, other: fs.rename("w/h", path),
    "save over it": lambda fs, path, other: _save(fs, path),
    "swap": lambda fs, path, other: _swap(fs, path, "w/h"),
    "rename to its old name": lambda fs, path, other: fs.rename(path, other),
    "old name again": lambda fs, path, other: fs.write_file(other, b"another file"),
    "old name again, over it": lambda fs, path, other: [
        fs.write_file(other, b"another file"),
        fs.rename(other, path),
    ],
    "chmod": lambda fs, path, other: fs.chmod(path, 0o700),
    "utime": lambda fs, path, other: fs.utime(path, OLD, OLD),
    "link": lambda fs, path, other: fs.link(path, "w/k9"),
    "link and unlink": lambda fs, path, other: [fs.link(path, "w/k9"), fs.unlink(path)],
    "into a new directory": lambda fs, path, other: [
        fs.mkdir("w/m9"),
        fs.rename(path, "w/m9/in"),
    ],
    "rename above": lambda fs, path, other: fs.rename("w", "w2"),
    "rename above and back": lambda fs, path, other: [fs.rename("w", "w2"), fs.rename("w2", "w")],
    "rename above and make": lambda fs, path, other: [
        fs.rename("w", "w2"),
        fs.mkdir("w"),
        fs.write_file("w/f", b"another w"),
    ],
    "make in it": lambda fs, path, other: fs.write_file(f"{path}/q", b"made meanwhile"),
    "remove it all": lambda fs, path, other: _remove_tree(fs, path),
    "remove all above": lambda fs, path, other: _remove_tree(fs, "w"),
    "remove all above and make": lambda fs, path, other: [
        _remove_tree(fs, "w"),
        _make_directory(fs, "w"),
    ],
}
