"""The tables behind `faults`: what FirecREST v2 and gateways say, and which errno that is.

v2 answers most failures of the remote command with 500 and the command's stderr, so the text
decides; paths may contain the same words, so only the *end* of a line counts. One row a fault.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

#: Marks the text of an answer that no row knows; the tests look for it.
UNKNOWN = "unexpected answer"
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


# -- the remote command's own words --------------------------------------------------------

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
            return Verdict(code, f"{text} (the cluster says: {quote(stderr)})", transient, True)
    return None


def _system_verdict(code: int, line: str) -> Verdict:
    words = _ADVICE.get(code) or f"{os.strerror(code)} on the cluster"
    return Verdict(code, f"{words} ({quote(line)})", code in _REMOTE_TRANSIENT, True)


# -- FirecREST's messages ------------------------------------------------------------------

_REMOTE = re.compile(
    r"Remote process failed with exit status:(?P<status>\w+)"
    r"(?: and error message:(?P<stderr>.*))?\Z",
    re.S,
)
_INNER = re.compile(r"(?P<status>\d{3}): (?P<message>.+)\Z", re.S)
_SLURM = re.compile(r"Unexpected \w+ command response\. exit_status:\S+ std_err:(.*)\Z", re.S)


def _row(
    pattern: str,
    code: int,
    text: str,
    *,
    transient: bool = False,
    begun: bool = False,
    kind: str = "",
    vague: bool = False,
) -> tuple[re.Pattern[str], Verdict]:
    return re.compile(pattern, re.S), Verdict(code, text, transient, begun, kind, vague)


_OUTSIDE = "outside what the server offers on this system; see 'firecrestfs systems'"
_SLOW = "the cluster took longer than FirecREST allows for one command"
_LOGIN = "FirecREST can't log in to the cluster now; it may be down or busy"

#: First match wins. None of these patterns can match inside a path: all are anchored.
_MESSAGES: tuple[tuple[re.Pattern[str], Verdict], ...] = (
    # 400
    _row(r"The provided path .* is not an absolute path\.\Z", errno.EINVAL, "not an absolute path"),
    _row(r"The provided path .* does not match any of the defined", errno.EACCES, _OUTSIDE),
    _row(r"Unable to decode request", errno.EINVAL, "the request named no path"),
    _row(
        r"Account parameter is required",
        errno.EINVAL,
        "this system wants an account for batch jobs: set 'account' in the configuration",
    ),
    _row(
        r"Requested transfer method is not available",
        errno.EOPNOTSUPP,
        "the system offers another way of transferring large files",
    ),
    _row(r"Only one of `bytes` or `lines`", errno.EINVAL, "bytes or lines, not both"),
    _row(r"\S* ?.*must be (less|greater|more|at least)", errno.EINVAL, "a number is out of range"),
    _row(
        r"Authentication token .* claim is missing",
        errno.EACCES,
        "the token names no user; ask the site's support which kind of client to use",
        kind="token",
    ),
    # 401
    _row(
        r"Unable to verify system access authorization",
        errno.EACCES,
        "you have no access to this system, or the server can't check it now",
    ),
    _row(
        r"Not authenticated|Access token|Token's public key",
        errno.EACCES,
        "the server refuses the access token: log in again",
        transient=True,
        kind="token",
    ),
    # 403
    _row(r"Target file .* already exists\.\Z", errno.EEXIST, "the target exists already"),
    _row(
        r".*\b(QOS|Assoc)(Max|Min|Grp)?\w*(Submit|Jobs?)\w*Limit",
        errno.EAGAIN,
        "the scheduler accepts no more jobs of yours now",
        transient=True,
    ),
    _row(r".*\b(QOS|Assoc)\w+Limit", errno.EPERM, "the job exceeds a limit of its account"),
    # 404
    _row(
        r"System not found", errno.ENODEV, "the server offers no system of this name", kind="system"
    ),
    _row(r"Job not found", errno.ENOENT, "no such job", kind="job"),
    _row(r"No (nodes|jobs|partitions) found", errno.ENOENT, "none found", kind="job"),
    _row(r"Not Found\Z", errno.ENOSYS, "this FirecREST has no such endpoint; it may be too old"),
    _row(r"Method Not Allowed", errno.ENOSYS, "this FirecREST has no such endpoint"),
    # 408
    _row(r"Command execution timeout", errno.ETIMEDOUT, _SLOW, transient=True, begun=True),
    _row(r"SSH (connection|keys generation) timeout", errno.ETIMEDOUT, _LOGIN, transient=True),
    # 413
    _row(
        r"Command output exceeded buffer limit",
        errno.EFBIG,
        "more output than FirecREST passes on in one answer",
        begun=True,
    ),
    _row(r"File to (up|down)load is too large", errno.EFBIG, "too large for one direct request"),
    # 424
    _row(r"Unable to (establish SSH|open a new SSH)", errno.EHOSTUNREACH, _LOGIN, transient=True),
    _row(r"SSH connection pool capacity", errno.EHOSTUNREACH, _LOGIN, transient=True),
    _row(r"SSH (Protocol|connection)", errno.EHOSTUNREACH, _LOGIN, transient=True, begun=True),
    # 428
    _row(r"No filesystem health checker", errno.EACCES, _OUTSIDE),
    # 500
    _row(
        r"\(['\"]No SSH credentials found",
        errno.EACCES,
        "you have no account, or no SSH key, on this system; ask the site's support",
    ),
    _row(r"\(111, 'Connection refused'\)", errno.EHOSTUNREACH, _LOGIN, transient=True),
    _row(
        r".*has no filesystem defined as default_work_dir",
        errno.EOPNOTSUPP,
        "the server has no work directory configured for this system",
    ),
    _row(r"Invalid output: ", errno.EBADMSG, "the cluster's answer has an odd form", begun=True),
    _row(
        r"Error executing \w+ command",
        errno.EIO,
        "the scheduler's command failed",
        begun=True,
        vague=True,
    ),
    _row(
        r"\(.*\)\Z",
        errno.EIO,
        "the server stumbled over the request",
        transient=True,
        begun=True,
        vague=True,
    ),
    # 501
    _row(
        r"Scheduler can't handle|.*without SSH enabled",
        errno.EOPNOTSUPP,
        "this system's FirecREST doesn't support it",
    ),
    # 503
    _row(
        r".*(service for the requested system|requested filesystem) .* is unhealthy",
        errno.EHOSTDOWN,
        "the system is down or in maintenance, as the server's health check sees it",
        transient=True,
    ),
)

_SCHEDULER: tuple[tuple[re.Pattern[str], Verdict], ...] = (
    _row(r".*Invalid job id", errno.ENOENT, "no such job", kind="job"),
    _row(r".*already complet", errno.EALREADY, "the job has ended already"),
    _row(r".*Unable to open file", errno.ENOENT, "the cluster can't open the script"),
    _row(
        r".*(does not look like a batch script|[Bb]atch script is empty)",
        errno.ENOEXEC,
        "not a batch script: its first line must start with '#!'",
    ),
    _row(
        r".*([Ii]nvalid|unrecognized|[Ii]llegal|[Uu]nknown)",
        errno.EINVAL,
        "the scheduler refuses an option",
    ),
    _row(r".*([Pp]ermission denied|not permitted)", errno.EACCES, "the scheduler forbids it"),
    _row(
        r".*(Unable to contact|Connection refused|Zero Bytes|not responding)",
        errno.EHOSTDOWN,
        "the scheduler doesn't answer",
        transient=True,
    ),
    _row(
        r".*([Tt]imed out|timeout)",
        errno.ETIMEDOUT,
        "the scheduler took too long",
        transient=True,
        begun=True,
    ),
    _row(r".*(sbatch|qsub): error", errno.EINVAL, "the scheduler refuses the job"),
)


def of_message(status: int, message: str) -> Verdict | None:
    """Return what FirecREST's *message* means, or None where no row knows it."""
    remote = _REMOTE.match(message)
    if remote:
        return _of_remote(status, remote["status"], remote["stderr"] or "")
    slurm = _SLURM.match(message)
    if slurm:
        return _first(_SCHEDULER, slurm[1])
    found = _first(_MESSAGES, message)
    inner = _INNER.match(message)
    return found or (of_message(int(inner["status"]), inner["message"]) if inner else None)


def _first(rows: tuple[tuple[re.Pattern[str], Verdict], ...], message: str) -> Verdict | None:
    for pattern, row in rows:
        if pattern.match(message):
            text = f"{row.text} (the server says: {quote(message)})"
            return Verdict(row.code, text, row.transient, row.begun, row.kind, row.vague)
    return None


def _of_remote(status: int, exit_status: str, stderr: str) -> Verdict | None:
    if exit_status == "None":
        return Verdict(errno.ECONNRESET, "the cluster hung up on FirecREST", True, True)
    if exit_status == "124" or status == 408:
        return Verdict(errno.ETIMEDOUT, _SLOW, True, True)
    return of_stderr(stderr)


def of_validation(data: object) -> Verdict:
    """Return the verdict on a request that the server calls malformed."""
    fields = data.get("fields") if isinstance(data, dict) else None
    words = [
        f"{field.get('name')}: {field.get('message')}"
        for field in (fields if isinstance(fields, list) else [])
        if isinstance(field, dict)
    ]
    said = quote("; ".join(words)) or "without naming a field"
    return Verdict(errno.EINVAL, f"the server calls the request malformed ({said})")


# -- bare status codes ---------------------------------------------------------------------

_STATUS: dict[int, Verdict] = {
    400: Verdict(errno.EINVAL, "the server refuses the request"),
    401: Verdict(errno.EACCES, "the access token was refused: log in again", True, kind="token"),
    403: Verdict(errno.EACCES, "the server forbids it"),
    404: Verdict(errno.ENOSYS, "this server has no such endpoint"),
    405: Verdict(errno.ENOSYS, "this server has no such endpoint"),
    408: Verdict(errno.ETIMEDOUT, _SLOW, True, True),
    413: Verdict(errno.EFBIG, "too large for one direct request"),
    424: Verdict(errno.EHOSTUNREACH, _LOGIN, True, True),
    429: Verdict(errno.EAGAIN, "too many requests; the server asks to slow down", True),
    501: Verdict(errno.EOPNOTSUPP, "this server doesn't support it"),
    502: Verdict(errno.EHOSTUNREACH, "the gateway can't reach FirecREST", True, True),
    503: Verdict(errno.EHOSTDOWN, "FirecREST is down, busy or in maintenance", True, True),
    504: Verdict(errno.ETIMEDOUT, "the gateway waited too long for FirecREST", True, True),
}


def of_status(status: int, message: str) -> Verdict:
    """Return the verdict on a FirecREST answer whose message says nothing that we know."""
    row = _STATUS.get(status)
    said = quote(message) or "nothing"
    if row is None or status in (400, 403):
        # The code is known but not the cause; for the rest not even that.
        code = row.code if row else errno.EIO
        text = f"{row.text if row else UNKNOWN} ({status}; the server says: {said})"
        return Verdict(code, text, False, status >= 500)
    return Verdict(row.code, f"{row.text} ({status}; {said})", row.transient, row.begun, row.kind)


def of_gateway(status: int, headers: Mapping[str, str], text: str) -> Verdict:
    """Return the verdict on an answer that isn't FirecREST's own (a gateway's, a portal's)."""
    if 300 <= status < 400:
        return Verdict(
            errno.EREMOTEIO,
            f"redirected elsewhere ({status}): check FIRECREST_URL, or log in to the network",
        )
    if status == 404:
        # A 404 of a gateway tells nothing about any file.
        return Verdict(
            errno.ENOSYS, "nothing there answers as FirecREST (404); check FIRECREST_URL"
        )
    if status == 403 or status == 400 and not text.strip():
        return Verdict(_STATUS[status].code, f"refused by a gateway or proxy ({status})")
    row = _STATUS.get(status)
    if row is None:
        return Verdict(
            errno.EIO, f"{UNKNOWN} ({status}: {quote(_plain(text))})", False, status >= 500
        )
    return Verdict(row.code, f"{row.text} ({status})", row.transient, row.begun, row.kind)


def _plain(text: str) -> str:
    return re.sub(r"<[^>]*>", " ", text)


def quote(text: str) -> str:
    """Return *text* as part of one readable line: no line breaks, no control characters, short."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _QUOTE else line[: _QUOTE - 1] + "…"
