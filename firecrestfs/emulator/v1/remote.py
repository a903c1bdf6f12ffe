"""The servers' way to a cluster: run a command, look at what it printed, judge.

API v1 knows nothing but text: whether a command has failed, and how, it concludes from words on
stdout and stderr. That is done here on the same words, so that it errs where the real one does.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import re
from collections.abc import Callable

from ..cluster import Cluster
from ..login import Login
from ..shell import CommandFailed, CommandTimeout, read
from ..site import Site

TIMEOUT = 124
_PHRASES = ("No such file", "no read permission", "cannot open")
_HARMLESS = ("Could not chdir to home directory", "scancel: Terminating job")
_SPACES = re.compile(r" {2,}")

Command = Callable[[Login], "str | bytes"]


class Failed(Exception):
    """A command that counts as failed: an exit status or errno, and text in one line."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Session:
    """One user's access to one cluster. Each command is a connection of its own."""

    def __init__(self, site: Site, cluster: Cluster, username: str) -> None:
        self.site = site
        self.cluster = cluster
        self.username = username

    @functools.cached_property
    def login(self) -> Login:
        """The user's session. Raises Failed for a system that is down, or without an account."""
        if self.cluster.spec.down:
            raise Failed(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        login = self.cluster.login(self.username)
        if login is None:
            raise Failed(1, "Authentication failed.")
        return login

    def words(self, template: str, **values: str) -> dict[str, str]:
        """Return what the login shell makes of *values* in a command line. Raises CommandFailed."""
        if self.site.knobs.wrapper:
            values = {name: _SPACES.sub(" ", value) for name, value in values.items()}
        return read(template, self.site.alarms, **values)

    def word(self, template: str, path: str) -> str:
        """Return what the login shell makes of *path* in a command line. Raises CommandFailed."""
        return self.words(template, path=path)["path"]

    def run(self, command: Command, *, raw: bool = False) -> str:
        """Run a command and return what it printed. Raises Failed.

        `raw` is for output that is content: it is given back whole and not searched for words.
        """
        out, err = self._printed(command)
        knobs = self.site.knobs
        if len(out) >= knobs.max_ops_file_size:
            raise Failed(1, f"Command output exceeded buffer limit ({knobs.max_ops_file_size})")
        text = _decoded(out)
        if raw:
            return text
        if err and not any(words in err for words in _HARMLESS):
            raise Failed(1, one_line(err))
        if any(phrase in one_line(text) for phrase in _PHRASES):
            raise Failed(1, one_line(text))
        return text[:-1]

    def _printed(self, command: Command) -> tuple[bytes, str]:
        """Return stdout and stderr of a command that has ended well. Raises Failed."""
        knobs = self.site.knobs
        try:
            out = command(self.login)
        except CommandTimeout as exc:
            raise Failed(TIMEOUT, "Command has finished with timeout signal") from exc
        except CommandFailed as exc:
            raise Failed(exc.status or 1, one_line(knobs.noise + exc.stderr)) from exc
        data = out.encode("utf-8", "surrogateescape") if isinstance(out, str) else out
        return knobs.banner.encode() + data, knobs.noise


def one_line(text: str) -> str:
    """Join lines as the servers do: without anything between them."""
    return text.replace("\n", "")


def _decoded(data: bytes) -> str:
    """Decode line by line, so that the position in a complaint is that in the line."""
    try:
        return "".join(line.decode() for line in io.BytesIO(data))
    except UnicodeDecodeError as exc:
        raise Failed(1, str(exc)) from exc
