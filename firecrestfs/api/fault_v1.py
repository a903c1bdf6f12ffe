"""What FirecREST v1 says when something fails, and which errno that is.

v1 answers 400 to nearly everything. The words of the cluster's tools are in `error`, and only
their *end* tells what went wrong: the header that v1 derives from them is often wrong, since it
looks at path names as well. Headers are asked only where there are no words.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from collections.abc import Mapping

from ..errors import FirecrestException
from ..model import Response
from .fault_table import UNKNOWN, Row, first, of_gateway, of_scheduler, row
from .fault_tools import Verdict, of_stderr, quote
from .faults import RateLimited, refusal, retry_after

_LOGIN = "FirecREST can't log in to the cluster now; it may be down or busy"
_TOKEN = "the server refuses the access token: log in again"
_TOO_OLD = "this FirecREST has no such endpoint; it may be too old"
_FIELD = "FirecREST refuses a field of the request"
_NO_ACCOUNT = "FirecREST can't log in as you: you have no account on this system, or it is closed"

#: FirecREST's own words; first match wins, all anchored, so that no path can imitate them.
_OWN: tuple[Row, ...] = (
    row(r"'\w+' (value )?(not specified|is empty|has invalid char)\Z", errno.EINVAL, _FIELD),
    row(r"'\w+' (parameter|form data|occurs before|is in the pass)", errno.EINVAL, _FIELD),
    row(r"Filename (has invalid char|is empty)\Z", errno.EINVAL, "not a name that can be sent"),
    row(r"(No file in query|group or owner must be set|Can not specify)", errno.EINVAL, _FIELD),
    row(r"Machine does not exists?\Z", errno.ENODEV, "no such system", kind="system"),
    row(r"No machine name given\Z", errno.ENODEV, "no system was named", kind="system"),
    row(r"System does not exists", errno.ENODEV, "no such system", kind="system"),
    row(r"Machine is not available\Z", errno.EHOSTDOWN, _LOGIN, transient=True),
    row(r"Connection refused\Z", errno.EHOSTDOWN, _LOGIN, transient=True),
    row(
        r"Failed to retrieve (jobs|account) information\Z", errno.EHOSTDOWN, _LOGIN, transient=True
    ),
    row(r"Authentication failed", errno.EACCES, _NO_ACCOUNT),
    row(r"Permission denied for user .* in ", errno.EACCES, "you may not use this system"),
    row(r"User does not have permission", errno.EACCES, "the server forbids it"),
    row(r"Operation not permitted\. Invalid task owner", errno.EACCES, "not a task of yours"),
    row(r"Command execution is not allowed", errno.EOPNOTSUPP, "the system forbids this command"),
    row(
        r"Command has finished with timeout signal",
        errno.ETIMEDOUT,
        "the cluster took longer than FirecREST allows for one command",
        transient=True,
        begun=True,
    ),
    row(
        r"Command output exceeded buffer limit",
        errno.EFBIG,
        "more output than FirecREST passes on in one answer",
        begun=True,
    ),
    row(r"File exceeds size limit\Z", errno.EFBIG, "too large for one direct request"),
    row(r"Failed to upload .*\bis over ", errno.EFBIG, "too large for one direct request"),
    row(r"'utf-8' codec can't decode", errno.EILSEQ, "not plain UTF-8 text", begun=True),
    row(r"Unsupported file format in ", errno.EINVAL, "not an archive that FirecREST v1 unpacks"),
    row(r"Task \S* does not exist\Z", errno.ENOENT, "the server has forgotten this task"),
    row(
        r".* is not a valid job ID\Z|Jobs list wrong format",
        errno.ENOENT,
        "no such job",
        kind="job",
    ),
    row(r"No batch file|Batch file is empty", errno.ENOEXEC, "not a batch script"),
    row(r"Invalid JS?ON|Invalid account", errno.EINVAL, "the server refuses the job"),
    # What the tools say without the words of the C library.
    row(
        r"(mv|cp): cannot overwrite non-directory '.*' with directory '.*'\Z",
        errno.ENOTDIR,
        "not a directory on the cluster",
    ),
    row(
        r"(mv|cp): cannot overwrite directory '.*' with non-directory",
        errno.EISDIR,
        "a directory on the cluster",
    ),
    row(r"(mv|cp): cannot .* itself, '.*'\Z", errno.EINVAL, "a directory can't go into itself"),
    row(r"(mv|cp): '.*' and '.*' are the same file\Z", errno.EINVAL, "both are the same file"),
    row(r"rm: it is dangerous to operate", errno.EBUSY, "the root directory can't be removed"),
    row(r"cannot open .* \(No such file or directory\)\Z", errno.ENOENT, "no such file"),
    row(r"cannot open .* \(Permission denied\)\Z", errno.EACCES, "the cluster forbids to read it"),
    row(r"pattern not found\Z", errno.ENOENT, "nothing matches"),
    row(r"Invalid X-Task-Id\Z", errno.ENOENT, "the server has forgotten this task"),
    row(r"Header X-Task-Id|Not supported time format", errno.EINVAL, _FIELD),
    row(r".*, no read permission\Z", errno.EACCES, "the cluster forbids to read it"),
)

#: The headers, for answers without words.
_HEADERS: dict[str, int] = {
    "x-size-limit": errno.EFBIG,
    "x-timeout": errno.ETIMEDOUT,
    "x-machine-does-not-exist": errno.ENODEV,
    "x-machine-does-not-exists": errno.ENODEV,
    "x-machine-not-available": errno.EHOSTDOWN,
    "x-permission-denied": errno.EACCES,
    "x-not-found": errno.ENOENT,
    "x-invalid-path": errno.ENOENT,
    "x-exists": errno.EEXIST,
    "x-a-directory": errno.EISDIR,
    "x-not-a-directory": errno.ENOTDIR,
    "x-sbatch-error": errno.EINVAL,
    "x-error": errno.EIO,
}

#: The start of a tool's message in the middle of a line: v1 joins lines without a separator.
_JOINT = re.compile(
    r"(?<=[a-z0-9)'’\"])(?=(?:ls|stat|mv|cp|rm|mkdir|ln|chmod|chown|tar|gzip|bzip2|unzip|base64|head|tail"
    r"|sha256sum|cat|bash|sbatch|scancel|squeue|sacct)(?: \(child\))?: )"
)

#: Pages of the HTTP servers and proxies in between: status, a word of the page, errno, text.
_PAGES: tuple[tuple[int, str, int, str], ...] = (
    (400, "Request Line is too large", errno.ENAMETOOLONG, "the path is too long for a request"),
    (400, "Invalid HTTP Header", errno.EINVAL, "FirecREST v1 can't answer about this name"),
    (404, "", errno.ENOSYS, _TOO_OLD),
    (405, "", errno.ENOSYS, _TOO_OLD),
    (413, "", errno.EFBIG, "too large for one direct request"),
    (416, "", errno.EINVAL, "past the end of the file"),
)


def fault_v1(
    response: Response, path: str | None = None, *, mutating: bool = False
) -> FirecrestException:
    """Return the exception for a v1 answer with an error status.

    *mutating*: the request changes something. v1 reports failure also for commands that worked but
    said something on stderr, so words that don't mention *path* leave the effect open.
    """
    verdict = _verdict(response, path)
    exc = refusal(
        verdict.code,
        verdict.text,
        path,
        responses=(response,),
        transient=verdict.transient,
        ambiguous=mutating and verdict.begun,
        kind=verdict.kind,
    )
    if isinstance(exc, RateLimited):
        exc.retry_after = retry_after(response.headers) or 10.0
    return exc


def said(exc: FirecrestException) -> str:
    """Return the words of the cluster's tool behind *exc*, or ""."""
    body = _object(exc.responses[-1]) if exc.responses else None
    return str((body or {}).get("error") or "")


def _verdict(response: Response, path: str | None) -> Verdict:
    body = _object(response)
    if body is None:
        return _of_page(response)
    if response.status_code == 401:
        words = quote(" ".join(str(value) for value in body.values()))
        return Verdict(errno.EACCES, f"{_TOKEN} ({words})", True, kind="token")
    if "error" not in body and "description" not in body:
        return _of_proxy(response, body, path)
    words = str(body.get("error") or "")
    if not words or _EMPTY_WORDS.search(words):
        return _of_header(response, str(body.get("description") or ""))
    return of_words(words, path)


#: An `error` that leaves it to the header, or to `description`, to say what is wrong.
_EMPTY_WORDS = re.compile(r" directory not allowed\Z|\AError \w+ reservations?\Z")


def of_words(words: str, path: str | None) -> Verdict:
    """Return what the *words* of FirecREST or of a tool mean."""
    own = first(_OWN, words)
    if own is not None:
        return own
    found = of_stderr(_JOINT.sub("\n", words))
    if found is None:
        found = of_scheduler(words) if words.startswith(_SCHEDULER) else None
    if found is None:
        hint = "output of your shell's start-up files, such as .bashrc, looks like this"
        return Verdict(errno.EIO, f"{UNKNOWN} ({quote(words)}; {hint})", begun=True)
    if not _USAGE.match(words) and not _REFUSED.match(words) and not _mentions(words, path):
        return dataclasses.replace(found, begun=True)
    return found


def _mentions(words: str, path: str | None) -> bool:
    return path is not None and bool(re.search(rf"{re.escape(path)}(?![\w.+-])", words))


#: Complaints of tools that have done nothing yet, although they don't mention the path.
_USAGE = re.compile(r"ch(mod|own): invalid ")
#: The scheduler says so after it has made no job; warnings, which v1 takes for failures, do not.
_REFUSED = re.compile(
    r"(sbatch: (?!warning)[^\n]*\n?)*sbatch: (error: |fatal: |unrecognized|invalid)"
)
_SCHEDULER = ("sbatch", "scancel", "squeue", "sacct", "slurm", "sinfo", "scontrol")


def _of_header(response: Response, description: str) -> Verdict:
    """Return the verdict on an answer whose body says no more than *description*."""
    for name, code in _HEADERS.items():
        value = response.headers.get(name)
        if value == "None":
            text = "FirecREST v1 failed and gives no reason; most likely a service of its is down"
            return Verdict(errno.EIO, text, True, True)
        if value is not None:
            found = first(_OWN, value) or of_stderr(value)
            return found or Verdict(code, f"refused: {quote(value)}")
    found = first(_OWN, description)
    if found is not None:
        return found
    return of_gateway(response.status_code, response.headers, description)


def _of_proxy(response: Response, body: Mapping[str, object], path: str | None) -> Verdict:
    """Return the verdict on the gateway's own JSON."""
    message = str(body.get("message") or "")
    status = response.status_code
    if status == 403 and re.search(r"signature|credentials|token", message, re.I):
        return Verdict(errno.EACCES, f"{_TOKEN} ({quote(message)})", True, kind="token")
    if status == 400 and message == "Invalid" or status == 404:
        return Verdict(errno.ENOSYS, f"{_TOO_OLD} ({status}; {quote(message)})")
    if status == 502 and any(character > "\xff" for character in path or ""):
        # A service can't send a header with such a path, and hangs up on the gateway instead.
        text = "FirecREST v1 failed to answer; most likely an error about a name outside Latin-1"
        return Verdict(errno.EIO, f"{text} (502)", True, True)
    return of_gateway(status, response.headers, message)


def _of_page(response: Response) -> Verdict:
    """Return the verdict on a body that isn't JSON."""
    for status, words, code, text in _PAGES:
        if response.status_code == status and words in response.text:
            return Verdict(code, f"{text} ({status})")
    if response.status_code == 500:
        text = "a service of FirecREST stumbled over the request (500); a login shell that prints"
        text += " something of its own makes it do so"
        return Verdict(errno.EIO, text, True, True)
    return of_gateway(response.status_code, response.headers, response.text)


def _object(response: Response) -> dict[str, object] | None:
    try:
        body = json.loads(response.text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None
