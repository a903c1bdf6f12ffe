"""What a token is, and where one may travel: no network here."""

from __future__ import annotations

import base64
import errno
import ipaddress
import json
import time
from typing import Any
from urllib.parse import urlsplit

from .fault_tools import quote
from .faults import Unauthorized, refusal


def claims(token: str) -> dict[str, Any]:
    """Return the payload of a JWT, unverified; empty where *token* isn't one."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return payload if isinstance(payload, dict) else {}


def user_of(token: str) -> str | None:
    """Return the user name that *token* most likely stands for, or None."""
    found = claims(token)
    for name in ("preferred_username", "username", "sub"):
        if isinstance(found.get(name), str):
            return str(found[name])
    return None


def fit_token(token: object) -> str:
    """Return *token* without white space around it. Raises EACCES where it can't be one."""
    text = token.strip() if isinstance(token, str) else ""
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise no_token("no access token: what came is empty or no token; check its source")
    return text


def no_token(text: str, *, transient: bool = True) -> Unauthorized:
    """Return the error for "there is no usable token"; a login or renewal may cure it."""
    return Unauthorized(errno.EACCES, text, transient=transient)


def life_of(token: str) -> float | None:
    """Return the seconds left by a JWT's own claim; the wall clock here may be off a little."""
    ends = claims(token).get("exp")
    return float(ends) - time.time() if isinstance(ends, int | float) else None


def is_loopback(url: str) -> bool:
    """Tell whether *url* names this machine itself."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_of(url: str) -> str:
    """Return host and port of *url*, as messages name the server."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{parts.port or (80 if parts.scheme == 'http' else 443)}"


def check_origin(url: str, *, allow_http: bool = False) -> None:
    """Raise EINVAL unless *url* is https, or plain http to this machine (or *allow_http*)."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise refusal(errno.EINVAL, f"not an http(s) address: {quote(_bare(url))}")
    if parts.username or parts.password:
        raise refusal(errno.EINVAL, "an address must not hold a user name or password")
    if parts.scheme == "http" and not allow_http and not is_loopback(url):
        text = f"plain http to {parts.hostname} would show your token to the network: use https"
        raise refusal(errno.EINVAL, text)


def _bare(url: str) -> str:
    return url.split("?", 1)[0].rpartition("@")[2]
