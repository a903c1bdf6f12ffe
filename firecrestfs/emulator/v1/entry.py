"""The way into every call: token, system, and the fields of the request."""

from __future__ import annotations

import re

from flask import abort, g, request

from ..cluster import Cluster
from ..site import Site
from ..tokens import TokenRefused
from .answers import Answer

_FORBIDDEN = re.compile(r"[<>|;\"'&\\()`\x00-\x1f]")
_TRUE = {"true", "yes", "1"}
_REASONS = {
    "expired": "JWT token has expired",
    "signature": "JWT token has invalid signature",
    "malformed": "Bad header or JWT, general exception raised",
}


class TooLarge(Exception):
    """The announced body is larger than the service takes."""


def authenticate(site: Site) -> None:
    """Remember the user of the request's token. Raises Answer."""
    header = request.headers.get("Authorization")
    if header is None:
        raise Answer(401, description="No Auth Header given")
    try:
        g.username = site.tokens.verify(header.replace("Bearer ", ""), shortest=0)
    except TokenRefused as exc:
        raise Answer(401, description=_REASONS[exc.reason]) from exc


def username() -> str:
    """Return the user who asks."""
    return str(g.username)


def machine() -> str:
    """Return the name of the system that the request is for. Raises Answer."""
    name = request.headers.get("X-Machine-Name")
    if name is None:
        raise Answer(400, description="No machine name given")
    return name


def cluster_of(site: Site, description: str) -> Cluster:
    """Return that system, in the words of all services but utilities. Raises Answer."""
    found = site.clusters.get(machine())
    if found is None:
        words = "Machine does not exists"
        raise Answer(
            400, {"X-Machine-Does-Not-Exists": words}, description=description, error=words
        )
    return found


def form(site: Site, *, limited: bool = True) -> dict[str, str]:
    """Return the text fields of the body. Raises TooLarge."""
    if limited and (request.content_length or 0) > site.knobs.max_ops_file_size:
        raise TooLarge
    return dict(request.form.items())


def is_true(text: str | None) -> bool:
    """Read a switch."""
    return text is not None and text.lower() in _TRUE


def complaint(text: str | None) -> str:
    """Say what is wrong with a value that is to go into a command; nothing if it may."""
    if text is None:
        return "not specified"
    if not text:
        return "is empty"
    return "has invalid char" if _FORBIDDEN.search(text) else ""


def checked(text: str | None, name: str, description: str) -> str:
    """Return a value that may go into a command. Raises Answer."""
    words = complaint(text)
    if words or text is None:
        raise Answer(400, description=description, error=f"'{name}' {words}")
    return text


def crash() -> None:
    """End as a service does whose code has raised an exception."""
    abort(500)
