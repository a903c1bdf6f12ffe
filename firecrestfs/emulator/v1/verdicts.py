"""From the text of a failed command to the header that names the error: first match wins."""

from __future__ import annotations

import errno
from typing import NamedTuple

from flask import Response

from .answers import reply
from .remote import TIMEOUT, Failed

_DENIED = ("X-Permission-Denied", "User does not have permissions to access path")
_EXISTS = ("X-Exists", "targetPath already exists")
_UNAVAILABLE = "Machine is not available"
_NOT_ALLOWED = "Command execution is not allowed in machine"
_BY_CODE = {
    -2: ("X-Machine-Not-Available", _UNAVAILABLE),
    errno.EHOSTUNREACH: ("X-Machine-Not-Available", _UNAVAILABLE),
    TIMEOUT: ("X-Timeout", "Command has finished with timeout signal"),
    118: ("X-Error", _NOT_ALLOWED),
}


class _Rule(NamedTuple):
    """A text that has all of `words` gets the header."""

    words: tuple[str, ...]
    header: tuple[str, str]


_RULES = (
    _Rule(
        ("OPENSSH",), ("X-Permission-Denied", "User does not have permissions to access machine")
    ),
    _Rule(("cannot access",), ("X-Invalid-Path", "path is an invalid path")),
    _Rule(("No such file", "cannot stat"), ("X-Not-Found", "sourcePath not found")),
    *(
        _Rule(
            ("No such file", verb),
            ("X-Invalid-Path", "sourcePath and/or targetPath are invalid paths"),
        )
        for verb in ("cannot create", "cannot move")
    ),
    _Rule(("No such file", "cannot remove"), ("X-Invalid-Path", "path is an invalid path.")),
    _Rule(("No such file",), ("X-Invalid-Path", "path is an invalid path")),
    _Rule(("cannot open",), _DENIED),
    _Rule(("Permission denied",), _DENIED),
    _Rule(("File exists", "mkdir: cannot create directory"), _EXISTS),
    _Rule(("File exists", "ln: failed to create symbolic link"), _EXISTS),
    _Rule(("Not a directory",), ("X-Not-A-Directory", "targetPath is not a directory")),
    _Rule(("directory",), ("X-A-Directory", "path is a directory, can't checksum directories")),
    _Rule(("overwrite",), _EXISTS),
    _Rule(("not permitted",), _DENIED),
    _Rule(("invalid group",), ("X-Invalid-Group", "group is an invalid group")),
    _Rule(("invalid user",), ("X-Invalid-Owner", "owner is an invalid user")),
    _Rule(("invalid mode",), ("X-Invalid-Mode", "mode is an invalid mode")),
    _Rule(("read permission",), _DENIED),
)


def header_for(failure: Failed) -> tuple[str, str]:
    """Return name and value of the header for a failure."""
    if failure.code in _BY_CODE:
        return _BY_CODE[failure.code]
    for rule in _RULES:
        if all(word in failure.text for word in rule.words):
            return rule.header
    return "X-Error", failure.text


def reply_failure(operation: str, failure: Failed) -> Response:
    """Answer a call of the utilities whose command has failed."""
    name, value = header_for(failure)
    error = value if failure.code in _BY_CODE else failure.text
    body = {"description": f"Error on {operation} operation", "error": error}
    return reply(body, 400, {name: value})


def reply_unmatched(operation: str) -> Response:
    """Answer a search that has found nothing."""
    words = "pattern not found"
    body = {"description": f"Error on {operation} operation with grep", "error": words}
    return reply(body, 404, {"X-Not-Found": words})


def path_header(failure: Failed, path: str, *, directory: bool) -> dict[str, str]:
    """Return the header with which storage and compute refuse *path*.

    `directory`: a directory to write into was wanted, else a file to read.
    """
    text = failure.text
    if failure.code in (errno.EHOSTUNREACH, TIMEOUT):
        return dict([_BY_CODE[failure.code]])
    if "No such file" in text:
        return {"X-Invalid-Path": f"{path} is an invalid path."}
    if "Permission denied" in text or "OPENSSH" in text:
        return {"X-Permission-Denied": "User does not have permissions to access machine or path"}
    if directory and "Not a directory" in text:
        return {"X-Not-A-Directory": f"{path} is not a directory"}
    if not directory and "directory" in text:
        return {"X-A-Directory": f"{path} is a directory"}
    return {"X-Error": text}
