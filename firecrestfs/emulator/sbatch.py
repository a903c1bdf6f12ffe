"""The options of a batch job: `#SBATCH` lines, time limits, patterns in file names."""

from __future__ import annotations

import dataclasses
import re
import shlex

from .shell import CommandFailed

_SHORT = {
    "A": "account",
    "a": "array",
    "C": "constraint",
    "c": "cpus-per-task",
    "D": "chdir",
    "d": "dependency",
    "e": "error",
    "H": "hold",
    "i": "input",
    "J": "job-name",
    "m": "distribution",
    "N": "nodes",
    "n": "ntasks",
    "o": "output",
    "p": "partition",
    "q": "qos",
    "t": "time",
    "w": "nodelist",
    "x": "exclude",
}
_SWITCHES = {"hold", "requeue", "no-requeue", "exclusive", "contiguous", "overcommit", "parsable"}
_IGNORED = {
    *("begin", "comment", "core-spec", "deadline", "export", "gpus", "gpus-per-node"),
    *("gpus-per-task", "gres", "hint", "licenses", "mail-type", "mail-user", "mem"),
    *("mem-per-cpu", "mem-per-gpu", "mincpus", "nice", "ntasks-per-core", "ntasks-per-node"),
    *("ntasks-per-socket", "open-mode", "priority", "reservation", "signal", "switches"),
    *("threads-per-core", "tmp", "uenv", "verbose", "view", "wckey"),
}
_KNOWN = {*_SHORT.values(), *_SWITCHES, *_IGNORED}
_DIRECTIVE = re.compile(r"#SBATCH\s+(.*)")


@dataclasses.dataclass
class Options:
    """What a job asks for. Empty: the default."""

    values: dict[str, str]

    def __getitem__(self, name: str) -> str:
        return self.values.get(name, "")

    @property
    def held(self) -> bool:
        """Whether the job waits until somebody releases it."""
        return "hold" in self.values

    def time_limit(self, default: float) -> float:
        """Return the limit in seconds."""
        return parse_time(self["time"]) if self["time"] else default

    @property
    def array(self) -> list[int]:
        """The task numbers of a job array, none for a single job."""
        return parse_array(self["array"]) if self["array"] else []


def read_directives(script: str) -> Options:
    """Collect the `#SBATCH` lines before the first command. Raises CommandFailed."""
    values: dict[str, str] = {}
    for line in script.splitlines():
        match = _DIRECTIVE.match(line)
        if match is not None:
            _read_options(shlex.split(match.group(1), comments=True), values)
        elif line.strip() and not line.startswith("#"):
            break
    return Options(values)


def _read_options(words: list[str], values: dict[str, str]) -> None:
    pending = words[::-1]
    while pending:
        word = pending.pop()
        name, value = _split(word)
        if name not in _KNOWN:
            raise _unrecognized(word)
        if value is None and name not in _SWITCHES:
            value = pending.pop() if pending else ""
        values[name] = value or ""


def _split(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        return name, value if equals else None
    if word.startswith("-") and word[1:2] in _SHORT:
        return _SHORT[word[1]], word[2:] or None
    return word, None


def _unrecognized(word: str) -> CommandFailed:
    kind = f"unrecognized option '{word}'"
    if not word.startswith("--"):
        kind = f"invalid option -- '{word[1:2]}'"
    return CommandFailed(255, f'sbatch: {kind}\nTry "sbatch --help" for more information\n')


def parse_time(text: str) -> float:
    """Read MIN, MIN:SEC, H:M:S, D-H, D-H:M or D-H:M:S as seconds. Raises CommandFailed."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise CommandFailed(1, "sbatch: error: Invalid --time specification\n")
    days, first, second, third = (None if part is None else int(part) for part in match.groups())
    if days is not None:
        return days * 86400 + (first or 0) * 3600 + (second or 0) * 60 + (third or 0)
    if third is not None:
        return (first or 0) * 3600 + (second or 0) * 60 + third
    return (first or 0) * 60 + (second or 0)


def parse_array(text: str) -> list[int]:
    """Read `0-3`, `1,3,5`, `0-8:2`, `0-9%2` as task numbers. Raises CommandFailed."""
    out: list[int] = []
    for piece in text.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", piece)
        if match is None:
            raise CommandFailed(
                1, "sbatch: error: Batch job submission failed: Invalid job array\n"
            )
        first = int(match.group(1))
        last = int(match.group(2) or first)
        out += range(first, last + 1, int(match.group(3) or 1))
    return out


def fill_pattern(pattern: str, values: dict[str, str]) -> str:
    """Fill `%j`, `%x` and the like in a file name; `%4j` pads with zeros."""

    def fill(match: re.Match[str]) -> str:
        width, letter = match.groups()
        if letter == "%":
            return "%"
        return values.get(letter, match.group()).zfill(int(width or 0))

    return re.sub(r"%(\d*)([A-Za-z%])", fill, pattern)
