r"""The login shell, as far as it must be understood: what words does a command line fall into?

The servers paste paths between single quotes without escaping them. A path with a quote in it
changes the command. The emulator builds the same line and reads it as the shell would. If all
that comes out is other text in the places of the paths, that text is the path (`it'\''s`); if
the line doesn't parse, the shell's complaint is the answer; in any other case the path would have
*run* something: the command is refused and an alarm goes off, since no client of ours may ever
cause that.
"""

from __future__ import annotations

import functools
import re
import threading
from typing import NamedTuple


class CommandFailed(Exception):
    """A remote command that ended with an exit status other than 0."""

    def __init__(self, status: int, stderr: str) -> None:
        super().__init__(stderr)
        self.status = status
        self.stderr = stderr


class CommandTimeout(Exception):
    """A remote command that did not end within the time limit."""


class Injection(CommandFailed):
    """A command line that a path has turned into another command. It was not run."""


class _OpenQuote(CommandFailed):
    """A command line that doesn't end. `has_run`: bash has run the whole lines before."""

    def __init__(self, stderr: str, *, has_run: bool) -> None:
        super().__init__(2, stderr)
        self.has_run = has_run


class Word(NamedTuple):
    """A word of a command line. Not `literal`: the shell would expand it."""

    text: str
    literal: bool


class Operator(NamedTuple):
    """A control or redirection operator, or a comment."""

    text: str


class _Unterminated(Exception):
    def __init__(self, quote: str, line: int) -> None:
        super().__init__(quote)
        self.quote = quote
        self.line = line


Token = Word | Operator

_BLANK = re.compile(r"[ \t]+")
_OPERATOR = re.compile(r"\n|&&|\|\||;;|>>|<<|>&|<&|[;&|<>()]")
_PIECE = re.compile(r"[^\\'\"$`*?\[\]{}~ \t\n;&|<>()]+")


class _Reader:
    """Splits one command line. One use each."""

    def __init__(self, line: str) -> None:
        self._line = line
        self._at = 0
        self.found: list[Token] = []

    def tokens(self) -> list[Token]:
        out = self.found
        while self._at < len(self._line):
            if self._skip(_BLANK):
                continue
            if self._line[self._at] == "#":
                out.append(Operator("#"))
                break
            operator = self._skip(_OPERATOR)
            out.append(Operator(operator) if operator else self._word())
        return out

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._line, self._at)
        if match is None:
            return ""
        self._at = match.end()
        return match.group()

    def _word(self) -> Word:
        text, literal = "", True
        while self._at < len(self._line):
            if _BLANK.match(self._line, self._at) or _OPERATOR.match(self._line, self._at):
                break
            piece, plain = self._piece()
            text += piece
            literal = literal and plain
        return Word(text, literal)

    def _piece(self) -> tuple[str, bool]:
        bare = self._skip(_PIECE)
        if bare:
            return bare, True
        char = self._line[self._at]
        self._at += 1
        if char == "'":
            return self._until_quote(), True
        if char == '"':
            return self._double_quoted()
        if char == "\\":
            escaped = self._line[self._at : self._at + 1]
            self._at += 1
            return ("" if escaped == "\n" else escaped), True
        return char, False  # $ ` * ? [ ] { } ~: the shell would look closer

    def _until_quote(self) -> str:
        start = self._at
        end = self._line.find("'", start)
        if end < 0:
            raise self._unterminated("'", start)
        self._at = end + 1
        return self._line[start:end]

    def _double_quoted(self) -> tuple[str, bool]:
        text, literal, start = "", True, self._at
        while self._at < len(self._line):
            char = self._line[self._at]
            self._at += 1
            if char == '"':
                return text, literal
            if char == "\\" and self._line[self._at : self._at + 1] in {'"', "\\", "$", "`", "\n"}:
                char = self._line[self._at].replace("\n", "")
                self._at += 1
            elif char in "$`":
                literal = False
            text += char
        raise self._unterminated('"', start)

    def _unterminated(self, quote: str, at: int) -> _Unterminated:
        return _Unterminated(quote, self._line.count("\n", 0, at) + 1)


def tokens(line: str) -> list[Token]:
    """Split a command line into words and operators. Raises CommandFailed with bash's words."""
    reader = _Reader(line)
    try:
        return reader.tokens()
    except _Unterminated as exc:
        words = f"unexpected EOF while looking for matching `{exc.quote}'\n"
        has_run = Operator("\n") in reader.found
        raise _OpenQuote(f"bash: -c: line {exc.line}: {words}", has_run=has_run) from exc


class Alarms:
    """The command lines that paths would have changed. A test that sees one has found a hole."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _lines
        self._lines: list[str] = []

    def trip(self, line: str) -> None:
        """Record one command line."""
        with self._lock:
            self._lines.append(line)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._lines.clear()

    def list(self) -> list[str]:
        """Return the recorded command lines."""
        with self._lock:
            return list(self._lines)


def read(template: str, alarms: Alarms, **values: str) -> dict[str, str]:
    """Return what the shell makes of *values* pasted into *template*, by name.

    Placeholders are `{name}`. Raises CommandFailed when the line doesn't parse, Injection when a
    value changes anything but its own text.
    """
    if not any("'" in value for value in values.values()) and _all_quoted(template):
        return values  # between single quotes nothing else is special
    return match_line(template.format(**values), template, tuple(values), alarms)


def match_line(line: str, template: str, names: tuple[str, ...], alarms: Alarms) -> dict[str, str]:
    """Return the words that *line* has where *template* has the placeholders *names*.

    Raises CommandFailed when the line doesn't parse, Injection when it differs elsewhere.
    """
    out: dict[str, str] = {}
    try:
        fits = _fits(tokens(line), _skeleton(template, names), out)
    except _OpenQuote as exc:
        if not exc.has_run:
            raise
        fits = False
    if not fits:
        alarms.trip(line)
        raise Injection(126, f"bash: line 1: refused, the path has changed the command: {line}\n")
    return out


def _fits(found: list[Token], slots: tuple[Token | str, ...], out: dict[str, str]) -> bool:
    if len(found) != len(slots):
        return False
    for token, slot in zip(found, slots, strict=True):
        if isinstance(slot, str):
            if not isinstance(token, Word) or not token.literal:
                return False
            out[slot] = token.text
        elif token != slot:
            return False
    return True


@functools.cache
def _all_quoted(template: str) -> bool:
    return all(f"'{slot}'" in template for slot in re.findall(r"\{\w+\}", template))


@functools.cache
def _skeleton(template: str, names: tuple[str, ...]) -> tuple[Token | str, ...]:
    marks = {name: f"@{name}@" for name in names}
    found = tokens(template.format(**marks))
    by_mark = {mark: name for name, mark in marks.items()}
    return tuple(by_mark.get(token.text, token) for token in found)
