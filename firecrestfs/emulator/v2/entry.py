"""The way into every call: request ids, token, system, health, path rules, in that order."""

from __future__ import annotations

import functools
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flask import g, request

from ..cluster import Cluster
from ..login import Login
from ..shell import CommandFailed, CommandTimeout
from ..site import Site
from ..tokens import TokenRefused
from .answers import ApiError
from .fields import arguments

TIMEOUT = "Command execution timeout limit exceeded."
_NO_PATH = "Unable to decode request and retreive the required path or source_path parameter."
_NULL_PATH = "All filesystem requests require a path or source_path parameter."
_HEX32 = re.compile(r"[0-9a-fA-F]{32}")

# English words in stderr and what the server makes of them, in the order of its looking.
_STATUS_BY_WORDS = (
    ("No such file or directory", 404),
    ("Permission denied", 403),
    ("Operation not permitted", 403),
    ("File exists", 400),
    ("invalid user", 400),
)


class Refused(Exception):
    """A request that is answered 400 with nothing at all: its tracing ids are no UUIDs."""


def check_tracing_ids() -> None:
    """Take over the client's request ids, or make some. Raises Refused."""
    for name in ("X-Request-ID", "X-Correlation-ID"):
        value = request.headers.get(name)
        if value is not None and not _HEX32.fullmatch(re.sub(r"-|^urn:uuid:|[{}]", "", value)):
            raise Refused
        setattr(g, name, value or uuid.uuid4().hex)


class Call:
    """One authenticated request to one system."""

    def __init__(self, site: Site, cluster: Cluster, username: str) -> None:
        self.site = site
        self.cluster = cluster
        self.username = username

    @functools.cached_property
    def login(self) -> Login:
        """The user's session on the cluster. Raises ApiError for a user without an account."""
        login = self.cluster.login(self.username)
        if login is None:
            raise ApiError(500, f"('No SSH credentials found for user:{self.username}',)")
        return login

    def check_scheduler(self) -> None:
        """Raise 503 when the health check has the scheduler as down."""
        self._check_service("scheduler")
        self._check_service("ssh")

    def check_path(self, json_body: Any) -> None:
        """Apply the rules for paths: known file system, and that one healthy."""
        if not self.site.knobs.probing:
            return
        self._check_service("ssh")
        path = _requested_path(json_body)
        if not os.path.isabs(path):
            raise ApiError(400, f"The provided path ({path}) is not an absolute path.")
        plain = os.path.normpath(path)
        for fs in self.cluster.file_systems:
            if plain == fs.path or plain.startswith(fs.path.rstrip("/") + "/"):
                self._check_file_system(fs.path)
                return
        system = self.cluster.name
        raise ApiError(
            400,
            f"The provided path ({plain}) does not match any of the defined filesystem paths"
            f" for the requested system ({system}).",
        )

    def _check_file_system(self, path: str) -> None:
        if path in self.site.knobs.unhealthy_services:
            raise ApiError(
                503, f"The requested filesystem ({path} on {self.cluster.name}) is unhealthy."
            )

    def _check_service(self, service: str) -> None:
        if self.site.knobs.probing and service in self.site.knobs.unhealthy_services:
            system = self.cluster.name
            raise ApiError(
                503, f"The {service} service for the requested system ({system}) is unhealthy."
            )


def _requested_path(json_body: Any) -> str:
    path = arguments().get("path")
    if path is not None:
        return path
    for name in ("sourcePath", "source_path", "path"):
        if isinstance(json_body, dict) and name in json_body:
            value = json_body[name]
            if value is None:
                raise ApiError(400, _NULL_PATH)
            if isinstance(value, str):
                return value
    raise ApiError(400, _NO_PATH)


def authenticate(site: Site) -> str:
    """Return the user of the request's token. Raises ApiError."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise ApiError(401, "Not authenticated", headers={"WWW-Authenticate": "Bearer"})
    try:
        g.username = site.tokens.verify(token.strip())
    except TokenRefused as exc:
        # The real server, too, hands the rejected token back in clear.
        raise ApiError(401, str(exc), headers={"auth-token": token.strip()}) from exc
    return str(g.username)


def enter(site: Site, system: str) -> Call:
    """Check token and system. Raises ApiError."""
    username = authenticate(site)
    cluster = site.clusters.get(system)
    if cluster is None:
        raise ApiError(404, "System not found")
    return Call(site, cluster, username)


@contextmanager
def remote_command(*arguments: str) -> Iterator[None]:
    """Turn the failures of a remote command with *arguments* into the server's answers."""
    if any("\0" in argument for argument in arguments):
        raise ApiError(424, "Unable to establish SSH connection.")
    try:
        yield
    except CommandTimeout as exc:
        raise ApiError(408, TIMEOUT) from exc
    except CommandFailed as exc:
        raise ApiError(_status_of(exc), _message_of(exc)) from exc


def _status_of(failure: CommandFailed) -> int:
    if failure.status == 124:
        return 408
    for words, status in _STATUS_BY_WORDS:
        if words in failure.stderr:
            return status
    return 500


def _message_of(failure: CommandFailed) -> str:
    message = f"Remote process failed with exit status:{failure.status}"
    if failure.stderr:
        message += f" and error message:{failure.stderr.strip()}"
    return message


def check_output_size(site: Site, size: int) -> None:
    """Raise 413 for output that the server's buffer doesn't hold."""
    if size >= site.knobs.max_ops_file_size:
        raise ApiError(413, "Command output exceeded buffer limit.")
