"""What a batch script says of itself: the options in its `#SBATCH` and `#PBS` lines."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

_SHORT = {
    "A": "account",
    "a": "array",
    "D": "chdir",
    "e": "error",
    "J": "job-name",
    "o": "output",
    "p": "partition",
}
_SHORT_PBS = {"A": "account", "J": "array", "N": "job-name", "e": "error", "o": "output"}
_SHORT_PBS |= {"q": "partition"}
_LINE = re.compile(r"#(SBATCH|PBS)\s+(.*)")


def directives(script: bytes) -> dict[str, str]:
    """Return the options that matter here, by sbatch's long names; the last of a kind counts."""
    found: dict[str, str] = {}
    for line in script.decode("utf-8", "replace").splitlines():
        match = _LINE.match(line)
        if match is not None:
            short = _SHORT if match[1] == "SBATCH" else _SHORT_PBS
            found.update(_options(_words(match[2]), short))
        elif line.strip() and not line.startswith("#"):
            break
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()


def _options(words: list[str], short: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for at, word in enumerate(words):
        following = words[at + 1] if at + 1 < len(words) else ""
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name] = value if equals else following
        elif word.startswith("-") and word[1:2] in short:
            value = word[2:]
            found[short[word[1]]] = value.removeprefix("=") if value else following
    return found


def job_name(name: str) -> str:
    """Return the name of a job for the script *name*, as all schedulers take it."""
    plain = re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)
    return (plain if plain[:1].isalpha() else f"j{plain}")[:200]


def outputs(
    options: Mapping[str, str], *, job_id: str, name: str, workdir: str, user: str
) -> tuple[str, str]:
    """Return where Slurm writes the output and the errors of a job; empty where only it knows."""
    if "array" in options:
        return "", ""
    values = {"j": job_id, "A": job_id, "x": name, "u": user, "%": "%"}

    def path(pattern: str) -> str:
        def fill(match: re.Match[str]) -> str:
            return values[match[2]].zfill(int(match[1] or 0))

        try:
            text = re.sub(r"%(\d*)(.)", fill, pattern)
        except KeyError:
            return ""
        return text if text.startswith("/") else f"{workdir.rstrip('/')}/{text}"

    out = path(options.get("output") or "slurm-%j.out")
    return out, path(options["error"]) if options.get("error") else out
