"""Where a job writes, where the server doesn't tell.

Both versions read the scheduler's description of a job word by word: of a path with a space, on v1
also with an equals sign, they tell the start. What the script says, and the directory it runs in,
tell the rest.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

#: What stands for a path that can't be told; v1's own word.
UNKNOWN = "Not available"
_OPTIONS = {"o": "output", "e": "error", "a": "array"}
_DIRECTIVE = re.compile(r"#SBATCH\s+(.*)")
_OPTION = re.compile(r"--(output|error|array)(?:=(.*))?|-([oea])(.*)", re.DOTALL)


def is_cut(told: str, path: str) -> bool:
    """Tell whether *told* is what a server makes of *path*, or of another path that starts so."""
    return bool(told) and path.startswith(told) and path[len(told) : len(told) + 1] in (" ", "=")


def whole(
    told: tuple[str, str], directory: str, job_id: str, options: Mapping[str, str]
) -> tuple[str, str]:
    """Return the paths of a job's output and errors, of which the server *told* the start.

    *options* are those of the submission over those of the script (see `options_of`), `name` among
    them if it is known. `UNKNOWN` for a path that is cut and that they don't tell.
    """
    output, error = (
        _whole(start, path, directory)
        for start, path in zip(told, _files(directory, job_id, options), strict=True)
    )
    return output, error


def _whole(told: str, path: str, directory: str) -> str:
    if is_cut(told, path):
        return path
    return UNKNOWN if path == UNKNOWN and is_cut(told, f"{directory}/") else told


def _files(directory: str, job_id: str, options: Mapping[str, str]) -> tuple[str, str]:
    pattern = options.get("output", UNKNOWN if "array" in options else "slurm-%j.out")
    error = options.get("error", pattern)

    def filled(pattern: str) -> str:
        path = pattern.replace("%j", job_id).replace("%x", options.get("name") or "%x")
        if pattern == UNKNOWN or "%" in path or "\\" in path:
            return UNKNOWN
        return path if path.startswith("/") else f"{directory}/{path}"

    return filled(pattern), filled(error)


def options_of(script: str) -> dict[str, str]:
    """Return the options of *script*'s directives that say where a job writes."""
    found: dict[str, str] = {}
    for line in script.splitlines():
        if line.strip() and not line.startswith("#"):
            break
        match = _DIRECTIVE.match(line)
        words = _words(match[1]) if match else []
        for word, following in zip(words, [*words[1:], ""], strict=False):
            option = _OPTION.fullmatch(word)
            if option is not None:
                name = option[1] or _OPTIONS[option[3]]
                found[name] = option[2] or option[4] or following
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []
