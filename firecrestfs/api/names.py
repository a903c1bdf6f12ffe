"""Names and paths on their way to and from the server.

To the server: `checked_path` is the one guard; the server puts paths between single quotes into a
shell command without escaping, so nothing that could end the quotes is ever sent. From the
server: `ls` escapes unusual bytes and the server undoes half of it.
"""

from __future__ import annotations

import errno
import re

from .fault_tools import quote
from .faults import refusal

_NAME_MAX = 255
_PATH_MAX = 4095
_SHOWN = {"'": "a single quote (')", "\0": "a NUL byte"}


def checked_text(text: str, what: str) -> str:
    """Return *text* if it may stand between single quotes in a command. Raises EINVAL."""
    if not isinstance(text, str):
        raise refusal(errno.EINVAL, f"{what} must be text, not {type(text).__name__}")
    for character, words in _SHOWN.items():
        if character in text:
            raise refusal(
                errno.EINVAL, f"{what} holds {words}, which FirecREST can't pass on safely", text
            )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        line = f"{what} is not valid UTF-8; FirecREST can't pass it on"
        raise refusal(errno.EINVAL, line, quote(text)) from None
    return text


def checked_path(path: str, *, slash: bool = False) -> str:
    """Return *path* as it may be sent: absolute, without `.`, empty parts and trailing slashes.

    *slash* keeps one trailing slash where the caller wrote one. Raises EINVAL (relative, `..`, a
    character that can't be passed on), ENAMETOOLONG.
    """
    checked_text(path, "the path")
    if not path.startswith("/"):
        raise refusal(errno.EINVAL, "not an absolute path on the cluster", path)
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise refusal(errno.EINVAL, "a path on the cluster must not hold '..'", path)
    if any(len(part.encode()) > _NAME_MAX for part in parts) or len(path.encode()) > _PATH_MAX:
        raise refusal(errno.ENAMETOOLONG, "file name too long", path)
    clean = "/" + "/".join(parts)
    return clean + "/" if slash and path.endswith("/") and parts else clean


def checked_name(name: str) -> str:
    """Return *name* if it is one name inside a directory. Raises EINVAL, ENAMETOOLONG."""
    checked_text(name, "the file name")
    if name in ("", ".", "..") or "/" in name:
        raise refusal(errno.EINVAL, "not the name of a file", name)
    if len(name.encode()) > _NAME_MAX:
        raise refusal(errno.ENAMETOOLONG, "file name too long", name)
    return name


def upload_name(name: str) -> str:
    """Return *name* if an upload's header can carry it. Raises EINVAL."""
    checked_name(name)
    for character, words in (('"', "a double quote"), ("\r", "a CR"), ("\n", "a line break")):
        if character in name:
            text = f"a name with {words} can't be uploaded directly; it can inside an archive"
            raise refusal(errno.EINVAL, text, name)
    return name


# -- what ls makes of unusual names --------------------------------------------------------------

_LETTERS = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13}
_ESCAPE = re.compile(r"\\(?:([0-3][0-7]{2})|([abtnvfr])|([\\\"' ?:]))")
#: What the server leaves of an escape: it undoes `\"` and `\\`.
_LEFT_OVER = re.compile(r"\\(?:[0-3][0-7]{2}|[abtnvfr])")


def unescaped(text: str) -> str:
    r"""Undo C escapes (`\n`, `\303`, `\\`); bytes that aren't UTF-8 become surrogates."""
    out = bytearray()
    end = 0
    for match in _ESCAPE.finditer(text):
        out += text[end : match.start()].encode("utf-8", "surrogateescape")
        octal, letter, plain = match.groups()
        out += bytes([int(octal, 8)]) if octal else b""
        out += bytes([_LETTERS[letter]]) if letter else b""
        out += plain.encode() if plain else b""
        end = match.end()
    out += text[end:].encode("utf-8", "surrogateescape")
    return out.decode("utf-8", "surrogateescape")


def _one(escape: str) -> str:
    code = _LETTERS.get(escape[1:], -1)
    return bytes([int(escape[1:], 8) if code < 0 else code]).decode("latin-1")


def candidates(listed: str) -> tuple[str, ...]:
    r"""Return the names that *listed* may stand for, the most likely first.

    A name without an escape is exact. Octal escapes of bytes outside ASCII come from a cluster
    without a UTF-8 locale, or from bytes that aren't UTF-8, far more often than from a name that
    really holds a backslash and three digits: there, only the decoded name is returned.
    Everything else (`\n` may be a line break or two characters) is open: the decoded and the
    literal name.
    """
    if not _LEFT_OVER.search(listed):
        return (listed,)
    decoded = _bytes_of(listed).decode("utf-8", "surrogateescape")
    octets = [int(m[0][1:], 8) for m in _LEFT_OVER.finditer(listed) if m[0][1:].isdigit()]
    if octets and max(octets) >= 0x80:
        return (decoded,)
    return (decoded, listed)


def _bytes_of(listed: str) -> bytes:
    out = bytearray()
    end = 0
    for match in _LEFT_OVER.finditer(listed):
        out += listed[end : match.start()].encode("utf-8", "surrogateescape")
        out += _one(match[0]).encode("latin-1")
        end = match.end()
    return bytes(out + listed[end:].encode("utf-8", "surrogateescape"))


def fit_entry(name: str) -> bool:
    """Tell whether a listing may contain *name*: servers aren't trusted with `..` and slashes."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def fit_relative(path: str) -> bool:
    """Tell whether a recursive listing may contain *path*: each part must be a fit name."""
    return all(fit_entry(part) for part in path.split("/"))


def sendable(path: str) -> bool:
    """Tell whether *path* can be sent in a request at all."""
    return "'" not in path and "\0" not in path and not any("\udc80" <= c <= "\udcff" for c in path)
