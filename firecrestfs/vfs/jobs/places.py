"""Scripts that lie on the cluster: where a link in `.jobs` leads to, and what is there."""

from __future__ import annotations

import errno
import os

from firecrestfs.errors import os_error
from firecrestfs.model import Kind
from firecrestfs.paths import directory_of, join

from .. import links
from ..base import Filesystem
from ..namespace import JOBS_NAME
from .scripts import SCRIPT_BYTES

#: Steps on the way to a script, links included.
_STEPS = 400


class RemoteScripts:
    """The scripts in the tree *files* of one system."""

    def __init__(self, files: Filesystem, system: str, mountpoint: str) -> None:
        self._files = files
        self._system = system
        self._mountpoint = mountpoint

    def resolve(self, path: str, text: str) -> str:
        """Return the path on the cluster that a link at *path* with *text* leads to.

        Raises EXDEV for what lies outside the system, ELOOP, and what looking raises.
        """
        text = links.remote_target(self._mountpoint, self._system, text)
        todo = _parts(text if text.startswith("/") else join(directory_of(path), text))
        done: list[str] = []
        for _ in range(_STEPS):
            if not todo:
                return "/" + "/".join(done)
            name = todo.pop(0)
            if name == "..":
                if not done:
                    raise os_error(errno.EXDEV, path, "the script is not of this system: copy it")
                done.pop()
                continue
            step = None if JOBS_NAME in (name, *done) else self._step("/" + "/".join([*done, name]))
            if step is None:
                done.append(name)
            else:
                done = [] if step.startswith("/") else done
                todo = _parts(step) + todo
        raise os_error(errno.ELOOP, path)

    def _step(self, path: str) -> str | None:
        """Return the text of the link at *path*, None for anything else. Raises ENOENT."""
        if self._files.getattr(path).kind is not Kind.SYMLINK:
            return None
        return self._files.readlink(path)

    def read(self, path: str) -> bytes:
        """Return the script *path* of the cluster."""
        handle = self._files.open(path, os.O_RDONLY)
        try:
            return handle.read(SCRIPT_BYTES, 0)
        finally:
            handle.release()


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]
