"""The mode argument of chmod: octal or symbolic."""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)\Z")
_ACTION = re.compile(r"([-+=])([rwxXstugo]*)")
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_SET_IDS = 0o6000


class BadMode(Exception):
    """Not a mode."""


def apply_mode(text: str, mode: int, *, is_dir: bool, umask: int) -> int:
    """Return what chmod makes of *mode* (permission bits). Raises BadMode."""
    if re.fullmatch(r"[0-7]+", text):
        return _octal(text, mode, is_dir)
    for clause in text.split(","):
        match = _CLAUSE.match(clause)
        if match is None:
            raise BadMode(text)
        for operator, what in _ACTION.findall(match.group(2)):
            mode = _act(mode, match.group(1), operator, what, is_dir, umask)
    return mode


def _octal(text: str, mode: int, is_dir: bool) -> int:
    wanted = int(text, 8)
    if wanted > 0o7777:
        raise BadMode(text)
    # GNU chmod keeps the set-id bits of a directory unless they are spelled out.
    return wanted | (mode & _SET_IDS) if is_dir and len(text) < 5 else wanted


def _act(mode: int, who: str, operator: str, what: str, is_dir: bool, umask: int) -> int:
    classes = "ugo" if not who or "a" in who else who
    bits = touched = 0
    for name in classes:
        bits |= _bits(mode, name, what, is_dir)
        touched |= 0o7 << _SHIFTS[name] | {"u": 0o4000, "g": 0o2000, "o": 0}[name]
    if "t" in what and ("o" in classes):
        bits |= 0o1000
    if not who:
        bits &= ~umask
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    keep = mode & _SET_IDS if is_dir and not set(what) & {"s"} else 0
    return (mode & ~touched) | bits | keep


def _bits(mode: int, name: str, what: str, is_dir: bool) -> int:
    shift = _SHIFTS[name]
    if what and what in _SHIFTS:
        return (mode >> _SHIFTS[what] & 0o7) << shift
    bits = sum(bit for letter, bit in (("r", 4), ("w", 2), ("x", 1)) if letter in what)
    if "X" in what and (is_dir or mode & 0o111):
        bits |= 1
    set_id = {"u": 0o4000, "g": 0o2000, "o": 0}[name] if "s" in what else 0
    return bits << shift | set_id
