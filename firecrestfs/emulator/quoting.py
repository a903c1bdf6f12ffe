"""The ways in which GNU tools write a name: in listings and in several kinds of messages.

Names are `str` with surrogate escapes, as Python's `os` gives them. Which characters are
printable depends on the locale: in UTF-8 what Unicode calls assigned and no control character, in
C only ASCII.
"""

from __future__ import annotations

import re
import unicodedata

_LETTERS = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r"}
_UNPRINTABLE = {"Cc", "Cn", "Cs", "Zl", "Zp"}  # glibc's idea of iswprint, seen from the other side
_PLAIN = re.compile(r"[ -~]*\Z").match
# What means the same between double quotes and between single ones.
_BOTH_QUOTES = re.compile(r"[#~]?(?:[ '%+,./0-9:A-Z\]_a-z@-]|[^\x00-\x7f])*\Z").match
# Characters that make the tools put quotes around a name that else goes without (quotef).
_NEEDS_QUOTES = re.compile(r"[ !\"$&'()*;<=>?\[\\^`|:\t]|^[#~]|^[{}]\Z|^\Z")


def printable(char: str, locale: str) -> bool:
    """Tell whether the tools print *char* as it is."""
    if char < "\x7f":
        return char >= " "
    return locale == "utf8" and unicodedata.category(char) not in _UNPRINTABLE


def escape(name: str, locale: str, specials: str = "\\") -> str:
    """Write unprintable characters as C does; put a backslash before each of *specials*."""
    if _PLAIN(name) and not any(char in name for char in specials):
        return name
    return "".join(_escape_char(char, locale, specials) for char in name)


def _escape_char(char: str, locale: str, specials: str) -> str:
    if char in specials:
        return "\\" + char
    return char if printable(char, locale) else _octal(char)


def _octal(char: str) -> str:
    if ord(char) in _LETTERS:
        return "\\" + _LETTERS[ord(char)]
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))


def c_quoted(name: str, locale: str) -> str:
    """`ls --quoting-style=c`: the name between double quotes."""
    return f'"{escape(name, locale, specials=chr(92) + chr(34))}"'


def shell_quoted(name: str, locale: str) -> str:
    r"""Most error messages: a word of the shell, always quoted ('a b', "it's", 'x'$'\n''y')."""
    if "'" not in name and _PLAIN(name):
        return f"'{name}'"
    if "'" in name and _BOTH_QUOTES(name) and all(printable(char, locale) for char in name):
        return f'"{name}"'
    return _mixed(name, locale)


def _mixed(name: str, locale: str) -> str:
    # The library scans a name with a quote in it twice, and enters the second scan in the state in
    # which the first one ended: hence the initial value.
    in_dollar = "'" in name and not printable(name[-1], locale)
    out = ["'"]
    for char in name:
        if char == "'":
            piece, in_dollar = "'\\''", False
        elif printable(char, locale):
            piece, in_dollar = ("''" if in_dollar else "") + char, False
        else:
            piece, in_dollar = ("" if in_dollar else "'$'") + _octal(char), True
        out.append(piece)
    return "".join(out) + "'"


def shell_quoted_if_needed(name: str, locale: str) -> str:
    """As `shell_quoted`, but a harmless name stays bare (base64, sha256sum)."""
    if all(printable(char, locale) for char in name) and not _NEEDS_QUOTES.search(name):
        return name
    return shell_quoted(name, locale)


def typographic(name: str, locale: str) -> str:
    """`mkdir` and complaints about modes and owners: ‘name’, in the C locale 'name'."""
    if locale == "utf8":
        return f"‘{escape(name, locale, specials=chr(92) + '’')}’"
    return f"'{escape(name, locale, specials=chr(92) + chr(39))}'"
