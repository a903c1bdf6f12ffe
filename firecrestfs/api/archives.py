"""What compress and extract may be asked for without changing the command that is run."""

from __future__ import annotations

import errno
import re
from typing import Any

from .faults import refusal
from .names import checked_path, checked_text

_COMPRESSIONS = ("none", "gzip", "bzip2", "xz")


def archive_body(source: str, target: str, compression: str) -> dict[str, Any]:
    """Return the body that compress and extract share. Raises EINVAL."""
    if compression not in _COMPRESSIONS:
        raise refusal(errno.EINVAL, f"unknown compression {compression!r}: {_COMPRESSIONS}")
    return {
        "sourcePath": checked_path(source),
        "targetPath": checked_path(target),
        "compression": compression,
    }


def checked_source(source: str, target: str, pattern: str | None) -> None:
    """Raise EINVAL where tar would take the name for an option, or a shell read the pattern."""
    if source.rpartition("/")[2].startswith("-"):
        raise refusal(errno.EINVAL, "tar would take a name that starts with '-' as options", source)
    if pattern is None:
        return
    for text in (source, target, pattern):
        if not re.fullmatch(r"[\w./+,:@%=^()\[\]{}|?* -]*", text) or (
            text is not pattern and re.search(r"[\s()\[\]{}|?*]", text)
        ):
            raise refusal(errno.EINVAL, "with a pattern, only plain characters are safe", text)
    checked_text(pattern, "the pattern")
