"""The tables behind `faults`: what FirecREST v2 and gateways say, and which errno that is.

One row a fault; the words of the cluster's tools are in `fault_tools`.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Mapping

from .fault_tools import Verdict, of_stderr, quote

#: Marks the text of an answer that no row knows; the tests look for it.
UNKNOWN = "unexpected answer"


# -- FirecREST's messages ------------------------------------------------------------------

_REMOTE = re.compile(
    r"Remote process failed with exit status:(?P<status>\w+)"
    r"(?: and error message:(?P<stderr>.*))?\Z",
    re.S,
)
_INNER = re.compile(r"(?P<status>\d{3}): (?P<message>.+)\Z", re.S)
_SLURM = re.compile(r"Unexpected \w+ command response\. exit_status:\S+ std_err:(.*)\Z", re.S)
_TOOL = re.compile(r"(sbatch|qsub|scancel|qdel): (error|fatal)")


#: A pattern, and what a text that starts with it means.
Row = tuple[re.Pattern[str], Verdict]


def row(
    pattern: str,
    code: int,
    text: str,
    *,
    transient: bool = False,
    begun: bool = False,
    kind: str = "",
    vague: bool = False,
) -> Row:
    """Return one row of a table; *text* is ours, the server's words are added to it."""
    return re.compile(pattern, re.S), Verdict(code, text, transient, begun, kind, vague)


_OUTSIDE = "outside what the server offers on this system; see 'firecrestfs systems'"
_SLOW = "the cluster took longer than FirecREST allows for one command"
_LOGIN = "FirecREST can't log in to the cluster now; it may be down or busy"

#: What the scheduler says of a job that would be one too many, or too much.
_LIMITS: tuple[Row, ...] = (
    row(
        r".*\b(QOS|Assoc)(Max|Grp)(Submit)?Jobs?(Per\w+)?Limit",
        errno.EAGAIN,
        "the scheduler accepts no more jobs of yours now",
        transient=True,
        kind="rate",
    ),
    row(r".*\b(QOS|Assoc)\w+Limit", errno.EPERM, "the job exceeds a limit of its account"),
)

#: First match wins. None of these patterns can match inside a path: all are anchored.
_MESSAGES: tuple[Row, ...] = (
    # 400
    row(r"The provided path .* is not an absolute path\.\Z", errno.EINVAL, "not an absolute path"),
    row(r"The provided path .* does not match any of the defined", errno.EACCES, _OUTSIDE),
    row(r"Unable to decode request", errno.EINVAL, "the request named no path"),
    row(
        r"Account parameter is required",
        errno.EINVAL,
        "this system wants an account for batch jobs: set 'account' in the configuration",
    ),
    row(
        r"Requested transfer method is not available",
        errno.EOPNOTSUPP,
        "the system offers another way of transferring large files",
    ),
    row(r"Only one of `bytes` or `lines`", errno.EINVAL, "bytes or lines, not both"),
    row(r"`\w+` value must be", errno.EINVAL, "a number is out of range"),
    row(
        r"Authentication token .* claim is missing",
        errno.EACCES,
        "the token names no user; ask the site's support which kind of client to use",
        kind="token",
    ),
    # 401
    row(
        r"Unable to verify system access authorization",
        errno.EACCES,
        "you have no access to this system, or the server can't check it now",
    ),
    row(
        r"Not authenticated|Access token|Token's public key",
        errno.EACCES,
        "the server refuses the access token: log in again",
        transient=True,
        kind="token",
    ),
    # 403
    row(r"Target file .* already exists\.\Z", errno.EEXIST, "the target exists already"),
    *_LIMITS,
    # 404
    row(
        r"System not found", errno.ENODEV, "the server offers no system of this name", kind="system"
    ),
    row(r"Job not found", errno.ENOENT, "no such job", kind="job"),
    row(r"No (nodes|jobs|partitions) found", errno.ENOENT, "none found"),
    row(r"Not Found\Z", errno.ENOSYS, "this FirecREST has no such endpoint; it may be too old"),
    row(r"Method Not Allowed", errno.ENOSYS, "this FirecREST has no such endpoint"),
    # 408
    row(r"Command execution timeout", errno.ETIMEDOUT, _SLOW, transient=True, begun=True),
    row(r"SSH (connection|keys generation) timeout", errno.ETIMEDOUT, _LOGIN, transient=True),
    # 413
    row(
        r"Command output exceeded buffer limit",
        errno.EFBIG,
        "more output than FirecREST passes on in one answer",
        begun=True,
    ),
    row(r"File to (up|down)load is too large", errno.EFBIG, "too large for one direct request"),
    # 424
    row(r"Unable to (establish SSH|open a new SSH)", errno.EHOSTUNREACH, _LOGIN, transient=True),
    row(r"SSH connection pool capacity", errno.EHOSTUNREACH, _LOGIN, transient=True),
    row(r"SSH (Protocol|connection)", errno.EHOSTUNREACH, _LOGIN, transient=True, begun=True),
    # 428
    row(r"No filesystem health checker", errno.EACCES, _OUTSIDE),
    # 500
    row(
        r"\(['\"]No SSH credentials found",
        errno.EACCES,
        "you have no account, or no SSH key, on this system; ask the site's support",
    ),
    row(r"\(111, 'Connection refused'\)", errno.EHOSTUNREACH, _LOGIN, transient=True),
    row(
        r".*has no filesystem defined as default_work_dir",
        errno.EOPNOTSUPP,
        "the server has no work directory configured for this system",
    ),
    row(r"Invalid output: ", errno.EBADMSG, "the cluster's answer has an odd form", begun=True),
    row(
        r"Error executing \w+ command",
        errno.EIO,
        "the scheduler's command failed",
        begun=True,
        vague=True,
    ),
    row(
        r"\(.*(zip\(\) argument \d+ is (longer|shorter)|base64|Incorrect padding).*\)\Z",
        errno.EIO,
        "the login shell seems to print something: silence your start-up files, such as .bashrc",
        begun=True,
    ),
    row(
        r"\(.*\)\Z",
        errno.EIO,
        "the server stumbled over the request",
        transient=True,
        begun=True,
        vague=True,
    ),
    # 501
    row(
        r"Scheduler can't handle|.*without SSH enabled",
        errno.EOPNOTSUPP,
        "this system's FirecREST doesn't support it",
    ),
    # 503
    row(
        r".*(service for the requested system|requested filesystem) .* is unhealthy",
        errno.EHOSTDOWN,
        "the system is down or in maintenance, as the server's health check sees it",
        transient=True,
    ),
)

_SCHEDULER: tuple[Row, ...] = (
    *_LIMITS,
    row(r".*Invalid job id", errno.ENOENT, "no such job", kind="job"),
    row(r".*already complet", errno.EALREADY, "the job has ended already"),
    row(r".*Unable to open file", errno.ENOENT, "the cluster can't open the script"),
    row(
        r".*(does not look like a batch script|[Bb]atch script is empty)",
        errno.ENOEXEC,
        "not a batch script: its first line must start with '#!'",
    ),
    row(
        r".*([Ii]nvalid|unrecognized|[Ii]llegal|[Uu]nknown)",
        errno.EINVAL,
        "the scheduler refuses an option",
    ),
    row(r".*([Pp]ermission denied|not permitted)", errno.EACCES, "the scheduler forbids it"),
    row(
        r".*(Unable to contact|Connection refused|Zero Bytes|not responding)",
        errno.EHOSTDOWN,
        "the scheduler doesn't answer",
        transient=True,
    ),
    row(
        r".*([Tt]imed out|timeout)",
        errno.ETIMEDOUT,
        "the scheduler took too long",
        transient=True,
        begun=True,
    ),
    row(r".*(sbatch|qsub): error", errno.EINVAL, "the scheduler refuses the job"),
)


def of_message(status: int, message: str) -> Verdict | None:
    """Return what FirecREST's *message* means, or None where no row knows it."""
    remote = _REMOTE.match(message)
    if remote:
        return _of_remote(status, remote["status"], remote["stderr"] or "")
    slurm = _SLURM.match(message)
    if slurm:
        return of_scheduler(slurm[1])
    if _TOOL.match(message):
        return of_scheduler(message)
    found = first(_MESSAGES, message)
    inner = _INNER.match(message)
    return found or (of_message(int(inner["status"]), inner["message"]) if inner else None)


def of_scheduler(words: str) -> Verdict | None:
    """Return what the *words* of the scheduler's tools mean, or None where no row knows them."""
    return first(_SCHEDULER, words)


def first(rows: tuple[Row, ...], message: str) -> Verdict | None:
    """Return the verdict of the first of *rows* that *message* starts with."""
    for pattern, found in rows:
        if pattern.match(message):
            text = f"{found.text} (the server says: {quote(message)})"
            return dataclasses.replace(found, text=text)
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
    429: Verdict(
        errno.EAGAIN, "too many requests; the server asks to slow down", True, kind="rate"
    ),
    501: Verdict(errno.EOPNOTSUPP, "this server doesn't support it"),
    502: Verdict(errno.EHOSTUNREACH, "the gateway can't reach FirecREST", True, True),
    503: Verdict(errno.EHOSTDOWN, "FirecREST is down, busy or in maintenance", True, True),
    504: Verdict(errno.ETIMEDOUT, "the gateway waited too long for FirecREST", True, True),
}


def of_status(status: int, message: str) -> Verdict:
    """Return the verdict on a FirecREST answer whose message says nothing that we know."""
    found = _STATUS.get(status)
    said = quote(message) or "nothing"
    if found is None or status in (400, 403):
        # The code is known but not the cause; for the rest not even that.
        code = found.code if found else errno.EIO
        text = f"{found.text if found else UNKNOWN} ({status}; the server says: {said})"
        return Verdict(code, text, False, status >= 500)
    return Verdict(
        found.code, f"{found.text} ({status}; {said})", found.transient, found.begun, found.kind
    )


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
    found = _STATUS.get(status)
    if found is None:
        return Verdict(
            errno.EIO, f"{UNKNOWN} ({status}: {quote(_plain(text))})", False, status >= 500
        )
    return Verdict(found.code, f"{found.text} ({status})", found.transient, found.begun, found.kind)


def _plain(text: str) -> str:
    return re.sub(r"<[^>]*>", " ", text)
