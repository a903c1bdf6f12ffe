"""Listings by FirecREST v1: what its `ls` leaves out, mangles, or refuses as a whole.

v1 runs `ls -l` and parses its lines. One entry that vanished meanwhile, or that can't be looked
at, fails the whole call; so does a *name* that holds the words of an error, for v1 searches the
output for them. In that last case the listing itself is what the error says.
"""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Callable
from typing import Any

from ..errors import FirecrestException
from .faults import NotFound, PermissionRefused, TooLarge, refusal
from .names import candidates, unescaped
from .v1_shapes import ENTRY, renamed

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_RECORD = re.compile(
    r"(?P<type>[-dlpsbc])(?P<permissions>[rwxsStT-]{9}[.+@]?) +\d+ +(?P<user>\S+) +(?P<group>\S+) +"
    r"(?P<size>\d+|\d+, +\d+) +(?P<last_modified>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d) +"
    rf"{_QUOTED}(?: -> {_QUOTED})?"
)
_TOTAL = re.compile(r"total \d+(?=[-dlpsbc][rwxsStT-]{9}|\"|\Z)")
_HEADING = re.compile(rf"{_QUOTED}:(?=total \d)")
_NAMES = re.compile(rf"(?:{_QUOTED})+")
#: Entries that are looked at one by one where their directory can't be listed.
MOST_STATS = 200


def entries(raw: list[Any], *, slash: bool) -> list[dict[str, Any]]:
    """Return the entries of an answer; *slash*: a directory was asked for, with a slash behind it.

    Between the directories of a recursive listing v1 puts empty texts; names come with a leading
    slash after such a question.
    """
    found = [renamed(item, ENTRY) for item in raw if isinstance(item, dict)]
    if slash:
        for item in found:
            item["name"] = str(item.get("name", "")).lstrip("/")
    return found


def of_words(words: str) -> list[dict[str, Any]] | None:
    """Return the listing that an error's *words* are, or None where they are something else."""
    found: list[dict[str, Any]] = []
    top, prefix = None, ""
    position = 0
    while position < len(words):
        heading = _HEADING.match(words, position)
        match = heading or _TOTAL.match(words, position) or _RECORD.match(words, position)
        if match is None:
            return None
        position = match.end()
        if heading:
            top = heading[1].rstrip("/") + "/" if top is None else top
            prefix = (heading[1].rstrip("/") + "/").removeprefix(top)
        elif match.re is _RECORD and "," not in match["size"]:
            found.append(_entry(match, prefix))
    return found if words else None


def _entry(match: re.Match[str], prefix: str) -> dict[str, Any]:
    fields = renamed(match.groupdict(), ENTRY)
    name, target = match[7], match[8]
    return {**fields, "name": prefix + _halfway(name), "linkTarget": _halfway(target or "")}


def _halfway(quoted: str) -> str:
    r"""Undo what v1 undoes: `\"` and `\\` only, so that names mean the same as in an answer."""
    return re.sub(r'\\(["\\])', r"\1", quoted)


def names_of_words(words: str) -> list[str] | None:
    """Return the names that an error's *words* are, or None where they are something else."""
    if not _NAMES.fullmatch(words):
        return None
    return [unescaped(name) for name in re.findall(_QUOTED, words)]


def names_of(raw: list[Any]) -> list[str]:
    """Return the exact names of an answer that lists names only."""
    return [unescaped(item[1:-1]) for item in raw if isinstance(item, str) and len(item) > 2]


def doubtful(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the entries whose names can be read in two ways, by the directory they are in.

    Directories are as a recursive listing spells them, with a slash behind.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in found:
        prefix, slash, last = str(item.get("name", "")).rpartition("/")
        if not prefix.startswith("/") and len(candidates(last)) > 1:
            groups.setdefault(prefix + slash, []).append(item)
    return groups


def settle(group: list[dict[str, Any]], prefix: str, names: list[str]) -> None:
    """Note the real name of each entry of *group*, all in directory *prefix*, where it is clear."""
    left = list(names)
    for item in group:
        listed = str(item["name"]).rpartition("/")[2]
        fitting = [name for name in left if name in candidates(listed)]
        if fitting:
            left.remove(fitting[0])
            item["exactName"] = prefix + fitting[0]


def about_an_entry(words: str, path: str) -> bool:
    """Tell whether `ls` complained about something inside *path* rather than about *path*."""
    return words.startswith("ls: ") and f"'{path}': " not in words


def described(
    names: list[str], look: Callable[[str], dict[str, Any]], why: FirecrestException
) -> list[dict[str, Any]]:
    """Return entries for *names*, each by a *look*, where the listing failed with *why*.

    What vanished is left out; what can't be looked at is there, with nothing known about it: a
    directory that seems empty would be removed.
    """
    if len(names) > MOST_STATS:
        text = f"FirecREST can't list this directory of {len(names)} entries ({why.strerror})"
        raise TooLarge(errno.EFBIG, text, why.filename, responses=why.responses)
    found = []
    for name in names:
        try:
            found.append(_of_stat(name, look(name)))
        except NotFound:
            continue
        except FirecrestException as exc:
            if exc.transient or exc.errno == errno.EINTR:
                raise
            found.append(_unknown(name))
    if found and all(not item["user"] for item in found) and isinstance(why, PermissionRefused):
        raise why
    return found


def _of_stat(name: str, raw: dict[str, Any]) -> dict[str, Any]:
    letters = stat.filemode(int(raw["mode"]))
    return {
        "name": name,
        "type": letters[0],
        "permissions": letters[1:],
        "linkTarget": "",
        "user": str(raw.get("uid", "")),
        "group": str(raw.get("gid", "")),
        "size": str(raw.get("size", 0)),
        "lastModified": "",
        "epoch": raw.get("mtime", 0),
    }


def _unknown(name: str) -> dict[str, Any]:
    nothing = {"linkTarget": "", "user": "", "group": "", "size": "0", "lastModified": ""}
    return {"name": name, "type": "-", "permissions": "---------", **nothing, "epoch": 0}


def not_a_listing(path: str) -> FirecrestException:
    """Return the error for an answer that lists nothing that v1 can list."""
    return refusal(errno.EBADMSG, "the server's listing has an odd form", path)
