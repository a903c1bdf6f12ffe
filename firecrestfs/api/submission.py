"""What a batch job may be submitted with, checked before anything is sent."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from typing import Any

from .faults import refusal
from .names import checked_path, checked_text


def job_body(
    *,
    script: bytes | str | None,
    script_path: str | None,
    working_directory: str | None,
    env: Mapping[str, str] | None = None,
    **options: str | None,
) -> dict[str, Any]:
    """Return the server's `job` object. *options* are its further fields in snake_case.

    Without a *working_directory* the server chooses one (v1 only).
    Raises EINVAL for what can't be passed on safely, ENOEXEC for a script without a `#!` line.
    """
    job: dict[str, Any] = {
        _camel(name): _option(name, text) for name, text in options.items() if text
    }
    if working_directory is not None:
        job["workingDirectory"] = checked_path(working_directory)
    job.update(_script(script, script_path))
    if env:
        job["env"] = _environment(env)
    return job


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def _option(name: str, text: str) -> str:
    checked_text(text, name)
    if not text.isprintable():
        raise refusal(errno.EINVAL, f"{name} holds a character that can't be passed on", text)
    return text


def _script(script: bytes | str | None, script_path: str | None) -> dict[str, str]:
    if (script is None) == (script_path is None):
        raise refusal(errno.EINVAL, "either a script or the path of one, not both")
    if script_path is not None:
        return {"scriptPath": checked_path(script_path)}
    try:
        text = script.decode("utf-8") if isinstance(script, bytes) else str(script)
    except UnicodeDecodeError:
        raise refusal(errno.ENOEXEC, "the script is not UTF-8 text") from None
    if not text.startswith("#!"):
        line = "not a batch script: its first line must start with '#!'"
        raise refusal(errno.ENOEXEC, line)
    return {"script": text}


def _environment(env: Mapping[str, str]) -> dict[str, str]:
    """Check variables: the server pastes them into one comma-separated option of sbatch."""
    for key, value in env.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            raise refusal(errno.EINVAL, f"not a variable's name: {key!r}")
        if "," in value:
            line = f"the value of {key} holds a comma, which FirecREST can't pass to the scheduler"
            raise refusal(errno.EINVAL, line)
        checked_text(value, f"the value of {key}")
    return dict(env)


def marked(script: str, marker: str) -> str:
    """Return *script* with a last line that tells it from all others: a comment.

    At the end, so that the lines that errors name stay what they are.
    """
    return f"{script}{'' if script.endswith(chr(10)) else chr(10)}# firecrestfs: {marker}\n"
