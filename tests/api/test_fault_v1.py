"""The faults of API v1: each kind of answer, and every one that a real 1.16.6 was heard giving."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import faults
from firecrestfs.api.fault_tools import _STRERROR
from firecrestfs.api.fault_v1 import fault_v1
from firecrestfs.errors import FirecrestException
from firecrestfs.model import Response

D = "/home/d"


def answered(
    status: int,
    body: object,
    headers: dict[str, str] | None = None,
    path: str | None = "/p",
    *,
    mutating: bool = False,
) -> FirecrestException:
    text = body if isinstance(body, str) else json.dumps(body)
    return fault_v1(Response(status, headers or {}, text), path, mutating=mutating)


def told(words: str, path: str | None = "/p", **how: Any) -> FirecrestException:
    return answered(400, {"description": "Error on x operation", "error": words}, None, path, **how)


@pytest.mark.parametrize(("words", "code"), _STRERROR.items())
def test_system_words_at_the_end(words: str, code: int) -> None:
    exc = told(f"tool: cannot do '/a/No such file': {words}")
    assert (exc.errno, exc.filename) == (code, "/p")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (f"ls: cannot access '{D}/a': Permission deniedls: cannot access '{D}/b': No such file or"
         " directory", errno.ENOENT),
        (f"mkdir: cannot create directory ‘{D}/overwrite’: File name too long", errno.ENAMETOOLONG),
        (f"mkdir: cannot create directory ‘{D}/x’: Read-only file system", errno.EROFS),
        (f"mkdir: cannot create directory ‘{D}/No such file’: File exists", errno.EEXIST),
        ("cat: write error: No space left on device", errno.ENOSPC),
        ("cat: write error: Disk quota exceeded", errno.EDQUOT),
        (f"mv: cannot overwrite non-directory '{D}/a' with directory '{D}/b'", errno.ENOTDIR),
        (f"mv: cannot overwrite directory '{D}/a' with non-directory '{D}/b'", errno.EISDIR),
        (f"mv: cannot move '{D}/a' to a subdirectory of itself, '{D}/a/b'", errno.EINVAL),
        (f"mv: '{D}/a' and '{D}/b' are the same file", errno.EINVAL),
        (f"mv: error writing '{D}/t': No space left on device", errno.ENOSPC),
        (f"/w.sh: line 74: {D}/x: Text file busy", errno.ETXTBSY),
        ("tar: a: Cannot open: Permission deniedtar: b: Cannot open: No such file or directory"
         "tar: Exiting with failure status due to previous errors", errno.EACCES),
        (f"tar (child): {D}/t.tar: Cannot open: Not a directorytar: Error is not recoverable",
         errno.ENOTDIR),
        ("gzip: stdin: not in gzip formattar: Child returned status 1", errno.EINVAL),
        ("chmod: cannot operate on dangling symlink '/p'", errno.ENOENT),
        ("chmod: invalid mode: ‘zzz’Try 'chmod --help' for more information.", errno.EINVAL),
        ("chown: invalid group: ‘:x’", errno.EINVAL),
        ("'targetPath' has invalid char", errno.EINVAL),
        ("'linkPath' value not specified", errno.EINVAL),
        ("Filename has invalid char", errno.EINVAL),
        ("'utf-8' codec can't decode byte 0xff in position 0: invalid start byte", errno.EILSEQ),
        ("Command output exceeded buffer limit (5242880)", errno.EFBIG),
        (f"cannot open `{D}' (No such file or directory)", errno.ENOENT),
        ("regular file, no read permission", errno.EACCES),
        ("sbatch: error: This does not look like a batch script.  The firstsbatch: error: line",
         errno.ENOEXEC),
        ("slurm_load_jobs error: Invalid job id specified", errno.ENOENT),
        ("scancel: Terminating job 2scancel: error: Kill job error on job id 2: Job/step already "
         "completing or completed", errno.EALREADY),
        ("Permission denied for user u in cluster", errno.EACCES),
        ("Authentication failed.", errno.EACCES),
    ],
)  # fmt: skip
def test_the_words_decide(words: str, code: int) -> None:
    assert told(words).errno == code


@pytest.mark.parametrize(
    "header",
    ["X-A-Directory", "X-Invalid-Path", "X-Exists", "X-Not-Found", "X-Permission-Denied"],
)
def test_headers_never_overrule_words(header: str) -> None:
    words = {"error": f"mkdir: cannot create directory ‘{D}’: File name too long"}
    assert answered(400, words, {header.lower(): "whatever"}).errno == errno.ENAMETOOLONG


@pytest.mark.parametrize(
    ("header", "value", "code"),
    [
        ("x-size-limit", "File exceeds size limit", errno.EFBIG),
        ("x-invalid-path", f"{D} is an invalid path.", errno.ENOENT),
        ("x-a-directory", f"{D} is a directory", errno.EISDIR),
        ("x-permission-denied", "User does not have permissions", errno.EACCES),
        ("x-timeout", "Command has finished with timeout signal", errno.ETIMEDOUT),
        ("x-error", "Connection refused", errno.EHOSTDOWN),
        ("x-error", f"head: {D}: Stale file handle", errno.ESTALE),
        ("x-machine-not-available", "Machine is not available", errno.EHOSTDOWN),
        ("x-machine-does-not-exists", "Machine does not exists", errno.ENODEV),
    ],
)
def test_headers_are_asked_where_there_are_no_words(header: str, value: str, code: int) -> None:
    for body in ({"description": "sourcePath error"}, {"description": "Failed to submit job"}):
        assert answered(400, body, {header: value}).errno == code


def test_a_failure_without_a_reason_is_tried_again() -> None:
    """What the services say of a certificate that could not be made."""
    found = answered(400, {"description": "Error on mkdir operation"}, {"x-error": "None"})
    assert (found.errno, found.transient) == (errno.EIO, True)
    assert "None" not in str(found.strerror)


@pytest.mark.parametrize(
    ("status", "body", "cls", "code", "transient"),
    [
        (401, {"description": "JWT token has expired"}, faults.Unauthorized, errno.EACCES, True),
        (401, {"message": "Unauthorized"}, faults.Unauthorized, errno.EACCES, True),
        (401, {"exp": "token expired"}, faults.Unauthorized, errno.EACCES, True),
        (401, "<html>401</html>", faults.Unauthorized, errno.EACCES, True),
        (403, {"message": "Invalid signature"}, faults.Unauthorized, errno.EACCES, True),
        (403, {"message": "No credentials found for given 'iss'"}, faults.Unauthorized,
         errno.EACCES, True),
        (403, {"message": "You cannot consume this service"}, faults.PermissionRefused,
         errno.EACCES, False),
        (403, {"description": "Operation not permitted. Invalid task owner."},
         faults.PermissionRefused, errno.EACCES, False),
        (400, {"message": "Invalid"}, FirecrestException, errno.ENOSYS, False),
        (404, {"message": "no Route matched with those values"}, FirecrestException,
         errno.ENOSYS, False),
        (404, "<!doctype html><title>404 Not Found</title>", FirecrestException,
         errno.ENOSYS, False),
        (405, "<!doctype html>", FirecrestException, errno.ENOSYS, False),
        (413, {"description": "Failed to upload file. The file is over 5242880 bytes"},
         faults.TooLarge, errno.EFBIG, False),
        (413, "<html>413 Request Entity Too Large</html>", faults.TooLarge, errno.EFBIG, False),
        (429, {"message": "API rate limit exceeded"}, faults.RateLimited, errno.EAGAIN, True),
        (500, "<!doctype html><title>500</title>", FirecrestException, errno.EIO, True),
        (502, {"message": "An invalid response was received from the upstream server"},
         faults.Unreachable, errno.EHOSTUNREACH, True),
        (502, "", faults.Unreachable, errno.EHOSTUNREACH, True),
        (503, {"message": "name resolution failed"}, faults.Unreachable, errno.EHOSTDOWN, True),
        (504, {"message": "The upstream server is timing out"}, faults.TimedOut,
         errno.ETIMEDOUT, True),
        (400, "<html>Request Line is too large (5083 &gt; 4094)</html>", FirecrestException,
         errno.ENAMETOOLONG, False),
        (302, "", FirecrestException, errno.EREMOTEIO, False),
        (400, "not json at all", FirecrestException, errno.EINVAL, False),
        (400, "[1, 2]", FirecrestException, errno.EINVAL, False),
    ],
)  # fmt: skip
def test_the_outer_layers(
    status: int, body: object, cls: type[FirecrestException], code: int, transient: bool
) -> None:
    exc = answered(status, body)
    assert isinstance(exc, cls)
    assert (exc.errno, exc.transient) == (code, transient)


def test_a_rate_limit_says_how_long() -> None:
    for headers, seconds in (
        ({"retry-after": "7"}, 7.0),
        ({"ratelimit-reset": "3"}, 3.0),
        ({}, 10.0),
    ):
        exc = answered(429, {"message": "API rate limit exceeded"}, headers)
        assert isinstance(exc, faults.RateLimited)
        assert exc.retry_after == seconds


@pytest.mark.parametrize(
    ("words", "ambiguous"),
    [
        ("mv: cannot move '/p' to '/q': Permission denied", False),
        ("mv: cannot stat '/p': No such file or directory", False),
        ("'targetPath' has invalid char", False),
        ("Connection refused", False),
        ("Command has finished with timeout signal", True),
        ("Command output exceeded buffer limit (5242880)", True),
        ("cat: write error: No space left on device", True),
        ("Welcome to the cluster!", True),
        ("bash: /opt/site/profile: No such file or directory", True),
    ],
)
def test_a_failure_may_have_acted_unless_the_words_are_about_its_path(
    words: str, ambiguous: bool
) -> None:
    assert told(words, mutating=True).ambiguous is ambiguous
    assert not told(words).ambiguous


def test_unknown_words_point_at_the_shell() -> None:
    exc = told("Welcome!")
    assert exc.errno == errno.EIO
    assert faults.is_default(exc)
    assert "Welcome!" in str(exc)
    assert ".bashrc" in str(exc)


def test_a_gateway_that_got_no_answer_about_a_name_outside_latin_1() -> None:
    body = {"message": "An invalid response was received from the upstream server"}
    exc = answered(502, body, path="/home/日本", mutating=True)
    assert (exc.errno, exc.ambiguous) == (errno.EIO, True)
    assert answered(502, body, path="/home/é").errno == errno.EHOSTUNREACH


RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "v1"
#: Answers of `ls` and `sha256sum` that v1 takes for errors; the client reads them, see test_v1.
LISTINGS = ("total ", '"No such file"', "-rw-r--r-- 1 ", "4355a46b19d348dc")


def recorded() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    found = []
    for file in sorted(RECORDINGS.glob("*.json")):
        for step in json.loads(file.read_text())["steps"]:
            request, response = step["request"], step["response"]
            ours = str(request.get("path", "")).startswith("/")
            if ours and (response.get("status") or 0) >= 400:
                found.append((f"{file.stem}: {step['name']}", request, response))
    return found


def replayed(request: dict[str, Any], response: dict[str, Any]) -> FirecrestException:
    body = response.get("body")
    text = json.dumps(body) if body is not None else response.get("body_text", "")
    headers = {name.lower(): value for name, value in response["headers"].items()}
    fields = {**(request.get("query") or {}), **(request.get("form") or {})}
    path = fields.get("linkPath") or fields.get("sourcePath") or fields.get("targetPath") or "/p"
    answer = Response(response["status"], headers, text)
    return fault_v1(answer, path, mutating=request["method"] != "GET")


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_no_recorded_refusal_falls_to_the_default() -> None:
    refusals = recorded()
    assert len(refusals) > 200
    unknown = []
    for name, request, response in refusals:
        exc = replayed(request, response)
        error = str((response.get("body") or {}).get("error", ""))
        if faults.is_default(exc) and not error.startswith(LISTINGS):
            unknown.append((name, response))
    assert unknown == []


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_recorded_words_and_errnos_agree() -> None:
    for name, request, response in recorded():
        error = str((response.get("body") or {}).get("error", ""))
        for words, code in _STRERROR.items():
            if error.endswith(": " + words):
                assert replayed(request, response).errno == code, name


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_a_file_is_missing_only_where_a_tool_says_so() -> None:
    for name, request, response in recorded():
        exc = replayed(request, response)
        if type(exc) is faults.NotFound:
            evidence = json.dumps([response.get("body"), response["headers"]])
            told = (
                "No such file",
                "dangling",
                "invalid path.",
                "does not exist",
                "not found",
                "Task-Id",
            )
            assert any(words in evidence for words in told), name
