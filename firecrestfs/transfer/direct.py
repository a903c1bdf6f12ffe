"""One request each way: files within the direct limit."""

from __future__ import annotations

import errno

from firecrestfs.api.typed import TypedClient
from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Limits


def fetch(client: TypedClient, system: str, path: str, attr: Attr, limits: Limits) -> bytes:
    """Return the whole content of *path*, which *attr* describes. Raises EFBIG over the limit."""
    if attr.size == 0:
        return b""
    if attr.size > limits.download:
        raise os_error(errno.EFBIG, path, over_limit(attr.size, limits.download, "read"))
    return client.download(system, path, expect=attr.size)


def over_limit(size: int, limit: int, verb: str) -> str:
    """Return the line that tells why a file of *size* bytes can't be read or stored."""
    return (
        f"{size:,} bytes is over the {limit:,} that this cluster lets one request {verb}; "
        "larger files need a staged transfer, which this version doesn't do yet"
    )
