"""Absolute paths of a cluster, as text: `/` between names, no `.` and no `..` in them."""

from __future__ import annotations

import os.path
from collections.abc import Iterable


def split(path: str) -> tuple[str, str]:
    """Return the directory and the name of *path*; `/` gives `("/", "")`."""
    directory, _, name = path.rpartition("/")
    return directory or "/", name


def directory_of(path: str) -> str:
    """Return the directory that *path* is in; `/` is in itself."""
    return path.rpartition("/")[0] or "/"


def name_of(path: str) -> str:
    """Return the last name of *path*; that of `/` is empty."""
    return path.rpartition("/")[2]


def join(directory: str, name: str) -> str:
    """Return the path of *name* in *directory*."""
    return f"/{name}" if directory == "/" else f"{directory}/{name}"


def is_below(path: str, top: str) -> bool:
    """Tell whether *path* is *top* or lies under it."""
    return top == "/" or path == top or path.startswith(top + "/")


def relative(path: str, top: str) -> str:
    """Return *path*, which lies under *top*, as seen from there."""
    return path[len(top.rstrip("/")) + 1 :]


def common_directory(paths: Iterable[str]) -> str:
    """Return the lowest directory that all *paths* lie under."""
    return os.path.commonpath([directory_of(path) for path in paths])
