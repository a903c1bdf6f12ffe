"""What the cluster's own tools say on stderr, and which errno that is.

FirecREST answers most failures of the remote command with 500 and the command's stderr, so the
text decides; paths may contain the same words, so only the *end* of a line counts.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

#: Longest piece of a server's own words inside one of our lines.
_QUOTE = 300


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means. `begun`: the command may have been carried out, wholly or in part.

    `vague` gives way to a verdict on `causedBy`; `kind` picks a special exception class.
    """

    code: int
    text: str
    transient: bool = False
    begun: bool = False
    kind: str = ""
    vague: bool = False


#: The C library's English texts at the end of a line of stderr.
_STRERROR: dict[str, int] = {
    "No such file or directory": errno.ENOENT,
    "Permission denied": errno.EACCES,
    "Operation not permitted": errno.EPERM,
    "File exists": errno.EEXIST,
    "Not a directory": errno.ENOTDIR,
    "Is a directory": errno.EISDIR,
    "Directory not empty": errno.ENOTEMPTY,
    "Too many levels of symbolic links": errno.ELOOP,
    "File name too long": errno.ENAMETOOLONG,
    "No space left on device": errno.ENOSPC,
    "Disk quota exceeded": errno.EDQUOT,
    "Read-only file system": errno.EROFS,
    "Text file busy": errno.ETXTBSY,
    "Device or resource busy": errno.EBUSY,
    "Stale file handle": errno.ESTALE,
    "Invalid cross-device link": errno.EXDEV,
    "Too many links": errno.EMLINK,
    "File too large": errno.EFBIG,
    "Operation not supported": errno.EOPNOTSUPP,
    "Invalid argument": errno.EINVAL,
    "Argument list too long": errno.E2BIG,
    "Input/output error": errno.EIO,
    "Cannot allocate memory": errno.ENOMEM,
    "Connection timed out": errno.ETIMEDOUT,
    "Resource temporarily unavailable": errno.EAGAIN,
    "Transport endpoint is not connected": errno.EHOSTDOWN,
    "Cannot send after transport endpoint shutdown": errno.EHOSTDOWN,
}
_REMOTE_LINE = re.compile(rf"(?:^|: )({'|'.join(map(re.escape, _STRERROR))})$")
_REMOTE_TRANSIENT = {errno.EAGAIN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENOMEM, errno.EIO}
#: Failures in the middle of the work: part of it may be done.
_MIDWAY = _REMOTE_TRANSIENT | {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
#: The tool's own line adds nothing to these but the path, which the exception has anyway.
_PLAIN = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}

#: What to say where the system's words alone don't help.
_ADVICE: dict[int, str] = {
    errno.ENOSPC: "the cluster's file system is full: free space there, "
    "then run 'firecrestfs retry'",
    errno.EDQUOT: "your quota on the cluster is used up: delete something there, "
    "then run 'firecrestfs retry'",
    errno.EROFS: "the cluster's file system is read-only",
    errno.ESTALE: "the cluster's file server lost the file; try again",
}

#: Lines of the tools that carry no system text: pattern, errno, our words, transient.
_TOOLS: tuple[tuple[re.Pattern[str], int, str, bool], ...] = (
    (re.compile(r"cannot operate on dangling symlink"), errno.ENOENT, "the link dangles", False),
    (re.compile(r"invalid mode"), errno.EINVAL, "not a mode that chmod understands", False),
    (re.compile(r"invalid (user|group|spec)"), errno.EINVAL, "unknown owner or group", False),
    (re.compile(r"missing operand"), errno.EINVAL, "the cluster's tool misses an argument", False),
    (re.compile(r"refusing to remove"), errno.EINVAL, "'.' and '..' can't be removed", False),
    (
        re.compile(r"unexpected EOF while looking for matching|syntax error"),
        errno.EINVAL,
        "the path holds a character that FirecREST can't pass on",
        False,
    ),
    (
        re.compile(r"not in gzip format|format not recognized|not a bzip2 file|like a tar archive"),
        errno.EINVAL,
        "not an archive, or the wrong compression was named",
        False,
    ),
    (re.compile(r"nexpected end of file|Unexpected EOF"), errno.EINVAL, "a cut archive", False),
    (re.compile(r"file changed as we read it"), errno.EAGAIN, "changed while it was read", True),
    (re.compile(r"command not found"), errno.EOPNOTSUPP, "the cluster misses a tool", False),
)


def of_stderr(stderr: str) -> Verdict | None:
    """Return what the stderr of a remote command means, or None where no row knows it."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # tar and its children name the cause first and the consequences after it; the others end
    # with the cause, after a path that may hold line breaks and any words.
    ordered = lines if stderr.lstrip().startswith(("tar", "gzip", "xz", "bzip2")) else lines[::-1]
    for line in ordered:
        match = _REMOTE_LINE.search(line)
        if match:
            return _system_verdict(_STRERROR[match[1]], line)
    for pattern, code, text, transient in _TOOLS:
        if pattern.search(stderr):
            return Verdict(
                code, f"{text} (the cluster says: {quote(stderr)})", transient, transient
            )
    return None


def _system_verdict(code: int, line: str) -> Verdict:
    words = _ADVICE.get(code) or f"{os.strerror(code)} on the cluster"
    text = words if code in _PLAIN and not line.startswith("tar") else f"{words} ({quote(line)})"
    return Verdict(code, text, code in _REMOTE_TRANSIENT, code in _MIDWAY)


def quote(text: str) -> str:
    """Return *text* as part of one readable line: no line breaks, no control characters, short."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _QUOTE else line[: _QUOTE - 1] + "…"
