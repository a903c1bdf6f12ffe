"""unzip: the real one, its words translated to remote paths."""

from __future__ import annotations

from . import tools
from .login import Login
from .tools import Renamed


def extract(login: Login, source: str, target: str) -> bytes:
    """`unzip -o SOURCE -d TARGET`. Returns what it prints. Raises CommandFailed, CommandTimeout."""
    names = [_renamed(login, source), _renamed(login, target)]
    return tools.run(login, ["unzip", "-o", names[0].local, "-d", names[1].local], names)


def _renamed(login: Login, path: str) -> Renamed:
    try:
        return Renamed(login.place(path).local, path)
    except OSError:
        # A name that nothing has, so that unzip finds nothing and says so.
        return Renamed(f"{login.tree.root}/.nowhere{path}", path)
