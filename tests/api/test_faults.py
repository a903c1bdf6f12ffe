"""The fault table: each row, the words inside paths, the default, and all recorded answers."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.api import faults
from firecrestfs.api.fault_tools import _STRERROR
from firecrestfs.errors import FirecrestException, is_transient
from firecrestfs.model import Response


def own(
    status: int, message: str, *, causes: list[str] | None = None, mutating: bool = False
) -> FirecrestException:
    body = {"errorType": "error", "message": message, "causedBy": causes, "user": "u"}
    response = Response(status, {"f7t-appversion": "2.x.x"}, json.dumps(body))
    return faults.fault_v2(response, "/p", mutating=mutating)


def remote(status: int, stderr: str, exit_status: object = 1, **how: Any) -> FirecrestException:
    text = f"Remote process failed with exit status:{exit_status} and error message:{stderr}"
    return own(status, text, **how)


@pytest.mark.parametrize(("words", "code"), _STRERROR.items())
def test_system_words_at_the_end_of_stderr(words: str, code: int) -> None:
    exc = remote(500, f"tool: cannot do '/a/b': {words}")
    assert exc.errno == code
    assert exc.filename == "/p"


def test_the_table_agrees_with_the_c_library() -> None:
    for words, code in _STRERROR.items():
        assert os.strerror(code).lower() in (words.lower(), "host is down")


@pytest.mark.parametrize(
    ("stderr", "code"),
    [
        ("stat: cannot statx '/x/No such file or directory': Permission denied", errno.EACCES),
        ("stat: cannot statx '/Permission denied': No such file or directory", errno.ENOENT),
        ("bash: line 1: /d/File exists: Disk quota exceeded", errno.EDQUOT),
        ("rm: cannot remove '/d/a: Permission denied\nb': No such file or directory", errno.ENOENT),
        (
            "tar: x: Cannot open: Permission denied\ntar: y: No such file or directory",
            errno.EACCES,
        ),
        ("tar: n: Cannot hard link to 'o': Invalid cross-device link\ntar: Exiting", errno.EXDEV),
        ("chmod: invalid mode: 'zzz'\nTry 'chmod --help'", errno.EINVAL),
        ("chown: invalid group: ':x'", errno.EINVAL),
        ("gzip: stdin: not in gzip format\ntar: Child returned status 1", errno.EINVAL),
        ("bash: -c: line 1: unexpected EOF while looking for matching `''", errno.EINVAL),
        ("tar: f: file changed as we read it", errno.EAGAIN),
    ],
)
def test_the_cause_is_found_where_the_tool_puts_it(stderr: str, code: int) -> None:
    assert remote(500, stderr).errno == code


@pytest.mark.parametrize(
    ("status", "message", "cls", "code", "transient"),
    [
        (401, "Not authenticated", faults.Unauthorized, errno.EACCES, True),
        (401, "Access token expired", faults.Unauthorized, errno.EACCES, True),
        (401, "Token's public key not found.", faults.Unauthorized, errno.EACCES, True),
        (404, "System not found", faults.SystemUnknown, errno.ENODEV, False),
        (404, "Job not found.", faults.JobNotFound, errno.ENOENT, False),
        (404, "Not Found", FirecrestException, errno.ENOSYS, False),
        (405, "Method Not Allowed", FirecrestException, errno.ENOSYS, False),
        (403, "Target file '/p' already exists.", faults.Exists, errno.EEXIST, False),
        (
            403,
            "Job submission rejected: policy limit exceeded. QOSMaxSubmitJobPerUserLimit",
            faults.RateLimited,
            errno.EAGAIN,
            True,
        ),
        (
            403,
            "Job submission rejected: AssocMaxWallDurationPerJobLimit",
            faults.PermissionRefused,
            errno.EPERM,
            False,
        ),
        (
            400,
            "The provided path (/etc) does not match any of the defined filesystem paths for the x",
            faults.PermissionRefused,
            errno.EACCES,
            False,
        ),
        (
            400,
            "The provided path (x) is not an absolute path.",
            FirecrestException,
            errno.EINVAL,
            False,
        ),
        (
            400,
            "Account parameter is required on this system.",
            FirecrestException,
            errno.EINVAL,
            False,
        ),
        (
            400,
            "`size` value must be less than 5 bytes",
            FirecrestException,
            errno.EINVAL,
            False,
        ),
        (
            408,
            "Command execution timeout limit exceeded.",
            faults.TimedOut,
            errno.ETIMEDOUT,
            True,
        ),
        (408, "SSH connection timeout limit exceeded.", faults.TimedOut, errno.ETIMEDOUT, True),
        (413, "Command output exceeded buffer limit.", faults.TooLarge, errno.EFBIG, False),
        (413, "File to upload is too large.", faults.TooLarge, errno.EFBIG, False),
        (424, "Unable to establish SSH connection.", faults.Unreachable, errno.EHOSTUNREACH, True),
        (424, "SSH connection Reset.", faults.Unreachable, errno.EHOSTUNREACH, True),
        (
            428,
            "No filesystem health checker serving the request path was found on S.",
            faults.PermissionRefused,
            errno.EACCES,
            False,
        ),
        (500, "(111, 'Connection refused')", faults.Unreachable, errno.EHOSTUNREACH, True),
        (
            500,
            "('No SSH credentials found for user:u',)",
            faults.PermissionRefused,
            errno.EACCES,
            False,
        ),
        (500, "(\"'NoneType' object\",)", FirecrestException, errno.EIO, True),
        (500, "404: No nodes found", faults.NotFound, errno.ENOENT, False),
        (501, "Scheduler can't handle this request", faults.Unsupported, errno.EOPNOTSUPP, False),
        (
            503,
            "The ssh service for the requested system (s) is unhealthy.",
            faults.Unreachable,
            errno.EHOSTDOWN,
            True,
        ),
        (
            503,
            "The requested filesystem (/p on s) is unhealthy.",
            faults.Unreachable,
            errno.EHOSTDOWN,
            True,
        ),
        (
            500,
            "Unexpected Slurm command response. exit_status:1 std_err:sbatch: error: Unable to "
            "contact slurm controller",
            faults.Unreachable,
            errno.EHOSTDOWN,
            True,
        ),
    ],
)
def test_messages(
    status: int, message: str, cls: type[OSError], code: int, transient: bool
) -> None:
    exc = own(status, message)
    assert (type(exc), exc.errno, is_transient(exc)) == (cls, code, transient)
    assert "\n" not in str(exc.strerror)


def test_a_401_about_access_is_not_about_the_token() -> None:
    exc = own(401, "Unable to verify system access authorization")
    assert isinstance(exc, faults.PermissionRefused)
    assert not isinstance(exc, faults.Unauthorized)
    assert faults.is_authorisation(exc.responses[-1])


def test_python_finds_its_own_classes() -> None:
    assert isinstance(remote(404, "x: No such file or directory"), FileNotFoundError)
    assert isinstance(remote(400, "x: File exists"), FileExistsError)
    assert isinstance(remote(403, "x: Permission denied"), PermissionError)
    assert isinstance(remote(403, "x: Operation not permitted"), PermissionError)
    assert isinstance(remote(500, "x: Is a directory"), IsADirectoryError)
    assert isinstance(remote(500, "x: Not a directory"), NotADirectoryError)
    assert isinstance(remote(408, "", 124), TimeoutError)


def test_only_a_command_that_began_leaves_a_change_open() -> None:
    assert own(408, "Command execution timeout limit exceeded.", mutating=True).ambiguous
    assert not own(408, "Command execution timeout limit exceeded.").ambiguous
    assert not own(408, "SSH connection timeout limit exceeded.", mutating=True).ambiguous
    assert not own(
        503, "The ssh service for the requested system (s) is unhealthy.", mutating=True
    ).ambiguous
    assert not own(424, "Unable to open a new SSH channel.", mutating=True).ambiguous
    assert own(424, "SSH connection Reset.", mutating=True).ambiguous
    assert not remote(400, "mkdir: '/p': File exists", mutating=True).ambiguous
    assert remote(500, "bash: write: No space left on device", mutating=True).ambiguous
    assert own(500, "what on earth", mutating=True).ambiguous


def test_exit_status_none_is_a_broken_connection() -> None:
    exc = own(500, "Remote process failed with exit status:None", mutating=True)
    assert (exc.errno, exc.transient, exc.ambiguous) == (errno.ECONNRESET, True, True)


def test_causes_are_read_where_the_message_is_vague() -> None:
    cause = "Unexpected Slurm command response. exit_status:1 std_err:squeue: error: Invalid job id"
    exc = own(500, "Error executing Slurm command.", causes=[cause])
    assert isinstance(exc, faults.JobNotFound)


def test_the_default_is_eio_and_says_so() -> None:
    exc = own(500, "nobody has ever seen this")
    assert exc.errno == errno.EIO
    assert faults.is_default(exc)
    assert "nobody has ever seen this" in str(exc)
    assert not is_transient(exc)
    assert faults.is_default(remote(500, "frobnicate: no idea"))


def test_validation_names_the_field() -> None:
    fields = [{"location": "body", "name": "mode", "message": "Field required"}]
    body = {"errorType": "validation", "message": "dump", "data": {"fields": fields}}
    exc = faults.fault_v2(Response(400, {}, json.dumps(body)))
    assert exc.errno == errno.EINVAL
    assert "mode: Field required" in str(exc)


@pytest.mark.parametrize("text", ["<html>no</html>", "", "not json", '{"message": "no Route"}'])
def test_a_404_of_a_gateway_is_no_missing_file(text: str) -> None:
    exc = faults.fault_v2(Response(404, {}, text), "/p")
    assert exc.errno == errno.ENOSYS
    assert not isinstance(exc, FileNotFoundError)


@pytest.mark.parametrize(
    ("status", "code", "transient", "ambiguous"),
    [
        (302, errno.EREMOTEIO, False, False),
        (400, errno.EINVAL, False, False),
        (403, errno.EACCES, False, False),
        (429, errno.EAGAIN, True, False),
        (502, errno.EHOSTUNREACH, True, True),
        (503, errno.EHOSTDOWN, True, True),
        (504, errno.ETIMEDOUT, True, True),
        (599, errno.EIO, False, True),
    ],
)
def test_gateways(status: int, code: int, transient: bool, ambiguous: bool) -> None:
    exc = faults.fault_v2(Response(status, {}, "<html>oops</html>"), mutating=True)
    assert (exc.errno, exc.transient, exc.ambiguous) == (code, transient, ambiguous)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"Retry-After": "Thu, 01 Jan 1970 00:01:40 GMT"}, 90.0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({"RateLimit-Reset": "12"}, 12.0),
        ({"Retry-After": "soon", "RateLimit-Reset": "3"}, 3.0),
        ({"Retry-After": "99999999"}, 3600.0),
        ({"Retry-After": "soon"}, None),
        ({}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert faults.retry_after(headers, now=10.0) == seconds


def test_evidence_holds_no_secret() -> None:
    headers = {
        "Auth-Token": "sekrit",
        "Set-Cookie": "sekrit",
        "Authorization": "sekrit",
        "Location": "https://internal/?sig=sekrit",
        "F7T-AppVersion": "2.x.x",
    }
    got = faults.evidence(401, headers, b'{"message": "no"}', "GET", "/x")
    assert "sekrit" not in repr(got)
    assert got.headers == {"f7t-appversion": "2.x.x"}
    assert got.json() == {"message": "no"}


RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "recordings" / "v2"


def recorded_refusals() -> list[tuple[str, int, object]]:
    found = []
    for file in sorted(RECORDINGS.glob("*.json")):
        for step in json.loads(file.read_text())["steps"]:
            answer = step.get("response") or {}
            ours = str(step["request"].get("path", "")).startswith(
                ("/filesystem", "/status", "/compute")
            )
            if ours and answer.get("status", 0) >= 300:
                found.append((f"{file.stem}: {step['name']}", answer["status"], answer.get("body")))
    return found


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_no_recorded_refusal_falls_to_the_default() -> None:
    refusals = recorded_refusals()
    assert len(refusals) > 100
    unknown = []
    for name, status, body in refusals:
        text = json.dumps(body) if body is not None else ""
        exc = faults.fault_v2(Response(status, {}, text), "/p")
        if faults.is_default(exc):
            unknown.append((name, status, body))
    assert unknown == []


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings here")
def test_recorded_404s_are_missing_files_only_where_a_tool_says_so() -> None:
    for name, status, body in recorded_refusals():
        message = str(body.get("message") if isinstance(body, dict) else "")
        exc = faults.fault_v2(Response(status, {}, json.dumps(body)), "/p")
        if type(exc) is faults.NotFound:
            told = ("No such file", "dangling", "Unable to open file", "No nodes")
            assert any(words in message for words in told), name
