"""tar: archives made and unpacked by the real one, its words translated to remote paths."""

from __future__ import annotations

import os
import subprocess

from . import dereferenced, tools
from .login import Login
from .shell import Alarms, Injection, match_line, read
from .tools import Renamed

#: The letter of tar for each compression that the servers know.
COMPRESSIONS = {"none": "", "gzip": "z", "bzip2": "j", "xz": "J"}

_ORDINARY = ["--no-same-owner", "--no-same-permissions"]  # what tar does for all users but root


def compress(
    login: Login, alarms: Alarms, source: str, target: str, *, letter: str, dereference: bool
) -> bytes:
    """Archive the base name of *source* seen from its parent. Returns the member names."""
    folder, name = os.path.split(source)
    words = read(
        "tar -c" + letter + "vf '{target}' -C '{folder}' '{name}'",
        alarms,
        target=target,
        folder=folder,
        name=name,
    )
    if words["name"].startswith("-"):
        alarms.trip(f"tar … {words['name']}")
        raise Injection(64, f"tar: refused, {words['name']!r} is read as an option\n")
    if dereference:
        return dereferenced.compress(login, words["folder"], words["name"], words["target"], letter)
    archive = _local(login, words["target"])
    place = _local(login, words["folder"])
    argv = ["tar", f"-c{letter}vf", archive.local, "-C", place.local, words["name"]]
    return tools.run(login, argv, [archive, place])


_FIND_OUTER = 'timeout 5 bash -c "{inner}"'
_FIND_INNER = (
    "cd {folder}; timeout 5 find . -type f -regex '{pattern}' -print0"
    " | tar -czvf '{target}' --null --files-from - "
)


def compress_matching(
    login: Login, alarms: Alarms, source: str, target: str, pattern: str
) -> bytes:
    """Archive the files that `find -regex` finds in the parent of *source*; always gzip."""
    values = {"folder": os.path.dirname(source), "pattern": pattern, "target": target}
    inner = read(_FIND_OUTER, alarms, inner=_FIND_INNER.format(**values))["inner"]
    words = match_line(inner, _FIND_INNER, tuple(values), alarms)
    archive = _local(login, words["target"])
    folder = _local(login, words["folder"])
    if not os.path.isdir(folder.local):
        folder = _local(login, login.home)  # cd fails, the rest of the line goes on all the same
    find = ["find", ".", "-type", "f", "-regex", words["pattern"], "-print0"]
    found = subprocess.run(find, cwd=folder.local, capture_output=True, check=False).stdout
    argv = ["tar", "-czvf", archive.local, "--null", "--files-from", "-"]
    return tools.run(login, argv, [archive], stdin=found, cwd=folder.local)


def extract(login: Login, alarms: Alarms, source: str, target: str, *, letter: str) -> bytes:
    """Unpack *source* into the directory *target*."""
    template = "tar -x" + letter + "f '{source}' -C '{target}'"
    words = read(template, alarms, source=source, target=target)
    archive = _local(login, words["source"])
    place = _local(login, words["target"])
    argv = ["tar", *_ORDINARY, f"-x{letter}f", archive.local, "-C", place.local]
    return tools.run(login, argv, [archive, place])


def _local(login: Login, path: str) -> Renamed:
    try:
        return Renamed(login.place(path).local, path)
    except OSError:
        return Renamed(login.tree.root + path, path)  # let tar find out and say so
