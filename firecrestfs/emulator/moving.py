"""mv and cp: the real ones, on resolved paths.

Only the kernel's view of a path is resolved here, so that no link leads out of the cluster's tree;
what the tools then do and say is theirs.
"""

from __future__ import annotations

import errno
import os

from . import tools
from .login import Login, fail
from .tools import Renamed
from .tree import Place


def mv(login: Login, source: str, target: str) -> None:
    """`mv --force`: rename, into *target* if that is a directory. Raises CommandFailed."""
    from_place = _source(login, "mv", source)
    words = f"mv: cannot move {login.quoted(source)} to {login.quoted(target)}"
    try:
        to_place = _target(login, target, follow_files=False)
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            fail(words, exc)
        fail(f"mv: cannot stat {login.quoted(target)}", exc)
    if to_place.remote[: len(from_place.remote)] != from_place.remote:
        _check_writable(login, words, from_place, _entry(from_place, to_place))
    _run(login, ["mv", "--force"], (source, from_place), (target, to_place))


def cp(login: Login, source: str, target: str) -> None:
    """`cp --force -dR --preserve=all`. Raises CommandFailed."""
    from_place = _source(login, "cp", source)
    kind = "directory" if os.path.isdir(from_place.local) else "regular file"
    words = f"cp: cannot create {kind} {login.quoted(target)}"
    plain = os.path.isfile(from_place.local) and not os.path.islink(from_place.local)
    try:
        to_place = _target(login, target, follow_files=plain)
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            fail(words, exc)
        fail(f"cp: cannot stat {login.quoted(target)}", exc)
    entry = _entry(from_place, to_place)
    if plain and _is_dangling(login, target, to_place):
        fail(f"cp: not writing through dangling symlink {login.quoted(target)}")
    if not os.path.lexists(entry.local):
        _check_writable(login, words, entry)
    argv = ["cp", "--force", "-dR", "--preserve=all"]
    _run(login, argv, (source, from_place), (target, to_place))


def _source(login: Login, tool: str, path: str) -> Place:
    try:
        place = login.place(path, follow=False)
        os.lstat(place.local)
    except OSError as exc:
        fail(f"{tool}: cannot stat {login.quoted(path)}", exc)
    return place


def _target(login: Login, path: str, *, follow_files: bool) -> Place:
    """Find the target; a link there is followed to a directory, with *follow_files* to any end."""
    place = login.place(path, follow=False)
    if not os.path.islink(place.local):
        return place
    try:
        end = login.place(path)
    except OSError:
        return place
    return end if follow_files or os.path.isdir(end.local) else place


def _is_dangling(login: Login, path: str, end: Place) -> bool:
    place = login.place(path, follow=False)
    return os.path.islink(place.local) and not os.path.lexists(end.local)


def _entry(source: Place, target: Place) -> Place:
    """Return the entry that is made: the target, or one in it."""
    if not os.path.isdir(target.local) or not source.remote:
        return target
    name = source.remote[-1]
    return Place(f"{target.local.rstrip('/')}/{name}", (*target.remote, name))


def _check_writable(login: Login, words: str, *places: Place) -> None:
    """Refuse where only root may make or remove entries."""
    for place in places:
        try:
            login.tree.check_parent_writable(place)
        except OSError as exc:
            fail(words, exc)


def _run(
    login: Login, argv: list[str], source: tuple[str, Place], target: tuple[str, Place]
) -> None:
    names = [Renamed(place.local, path) for path, place in (source, target)]
    # The longer one first: one path may begin with the other.
    names.sort(key=lambda name: -len(name.local))
    tools.run(login, [*argv, "--", source[1].local, target[1].local], names)
