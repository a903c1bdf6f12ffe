"""Runs the real tools of the login node on the cluster's files, their words translated back."""

from __future__ import annotations

import errno
import os
import subprocess
from typing import NamedTuple

from .login import Login, fail
from .shell import CommandFailed, CommandTimeout
from .storage import room

# Runs a command that can't make a file of more than so many KiB.
_LIMITED = ["bash", "-c", 'ulimit -f "$0" && exec "$@"']
_LOCALES = {"utf8": "C.UTF-8", "c": "C"}


class Renamed(NamedTuple):
    """A local path in an argument, and the text that the user knows it by."""

    local: str
    remote: str


def run(
    login: Login,
    argv: list[str],
    names: list[Renamed],
    *,
    stdin: bytes = b"",
    cwd: str | None = None,
) -> bytes:
    """Run a tool and return what it prints. Raises CommandFailed, CommandTimeout."""
    left, code = room(login)
    tool = argv[0]
    if left is not None:
        argv = [*_LIMITED, str(left // 1024), *argv]
    try:
        done = subprocess.run(
            argv,
            restore_signals=left is None,  # Python ignores SIGXFSZ, and so must the tool
            input=stdin,
            capture_output=True,
            cwd=cwd,
            umask=login.knobs.umask_bits,
            env={**os.environ, "LC_ALL": _LOCALES[login.knobs.locale]},
            timeout=login.knobs.command_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise CommandTimeout from exc
    except FileNotFoundError:
        fail(f"bash: line 1: {tool}: command not found", status=127)
    if done.returncode != 0:
        text = done.stderr.decode("utf-8", "replace")
        text = text.replace(os.strerror(errno.EFBIG), os.strerror(code)) if code else text
        raise CommandFailed(done.returncode, _translated(login, text, names))
    return done.stdout


def _translated(login: Login, text: str, names: list[Renamed]) -> str:
    for name in names:
        text = text.replace(name.local, name.remote)
    return text.replace(login.tree.root, "")
