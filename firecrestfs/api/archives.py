"""What compress and extract may be asked for without changing the command that is run."""

from __future__ import annotations

import errno
import re
from typing import Any

from .faults import refusal
from .names import checked_path, checked_text

_COMPRESSIONS = ("none", "gzip", "bzip2", "xz")


#: What tar says, and goes on: about times of a laptop whose clock is ahead, about headers of other
#: tars. After a real failure it always says so at the end.
_NAME = ".{1,4096}?"
_HARMLESS = (
    rf"{_NAME}: time stamp [\d.: -]+ is [\d.]+ s in the future",
    rf"{_NAME}: implausibly old time stamp -?\d+-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?",
    r"Ignoring unknown extended header keyword .{1,200}?(?=tar: |\s*\Z)",
    r"Removing leading .{1,200}? from (?:member names|hard link targets)",
    r"A lone zero block at \d+",
    rf"{_NAME}: socket ignored",
    rf"{_NAME}: (?:archive cannot contain itself|file is the archive); not dumped",
)
_WARNING = re.compile(rf"tar: (?:{'|'.join(_HARMLESS)})\s*", re.DOTALL)


def only_warned(words: str) -> bool:
    """Tell whether these *words* of tar, joined in whatever way, come from one that succeeded."""
    if not words or "xiting" in words:
        return False
    # One after the other: a single pattern would try all ways to part them before it fails.
    at = 0
    while at < len(words):
        found = _WARNING.match(words, at)
        if found is None:
            return False
        at = found.end()
    return True


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
