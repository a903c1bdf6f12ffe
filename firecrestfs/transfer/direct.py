"""One request each way: files within the direct limit."""

from __future__ import annotations

import errno

from firecrestfs.errors import os_error
from firecrestfs.model import Attr, Limits

from .carrying import Carrier


def fetch(files: Carrier, path: str, attr: Attr, limits: Limits) -> bytes:
    """Return the whole content of *path*, which *attr* describes. Raises EFBIG over the limit."""
    if attr.size == 0:
        return b""
    if attr.size > limits.download:
        text = f"{attr.size:,} bytes is over the {limits.download:,} of one request"
        raise os_error(errno.EFBIG, path, text)
    return files.download(path, attr.size)
