r"""The text that `ls --quoting-style=c` prints, and what the server reads in it.

The reader takes a line apart at white space and then splits the quoted name like a shell does:
`\"` and `\\` become what they stand for, all other escapes stay as they are. Lines that it can't
read vanish: those of devices, and of users or groups with a space in their names.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from ..listing import Block, Entry, Listing, Options
from ..quoting import c_quoted

_LINE = re.compile(
    r"(?P<type>\S)(?P<permissions>\S+)\s+\d+\s+(?P<user>\S+)\s+(?P<group>\S+)\s+"
    r"(?P<size>\d+)\s+(?P<last_modified>[-T:\d]+)\s+(?P<names>.+)"
)
_HARMLESS = re.compile(r'"([^"\\]*)"(?: -> "([^"\\]*)")?')  # as nearly all are; shlex is slow
_TOTAL = re.compile(r"[A-Za-z]+\s+\d+")
_HEADER = re.compile(r'"(.+)":\n')


def printed(listing: Listing, options: Options, locale: str) -> str:
    """Return what ls prints."""
    parts = [_block(block, options, locale) for block in listing.directories]
    return "\n".join(parts)


def _block(block: Block, options: Options, locale: str) -> str:
    lines = []
    if options.recursive and block.path is not None:
        lines.append(f"{c_quoted(block.path, locale)}:")
    if options.names_only:
        return _text([*lines, *(c_quoted(entry.raw, locale) for entry in block.entries)])
    if block.path is not None:
        lines.append(f"total {sum(entry.blocks for entry in block.entries) // 2}")
    return _text(lines + _long(block.entries, locale))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _long(entries: list[Entry], locale: str) -> list[str]:
    """Return the lines of `ls -l`, their columns aligned."""
    rows = [
        (str(one.links), one.user, one.group, "0, 0" if one.kind in "bc" else str(one.size))
        for one in entries
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for entry, (links, user, group, size) in zip(entries, rows, strict=True):
        cells = [
            entry.kind + entry.permissions,
            links.rjust(widths[0]),
            user.ljust(widths[1]),
            group.ljust(widths[2]),
            size.rjust(widths[3]),
            entry.modified,
            c_quoted(entry.raw, locale),
        ]
        arrow = [] if entry.raw_target is None else ["->", c_quoted(entry.raw_target, locale)]
        lines.append(" ".join(cells + arrow))
    return lines


def read(text: str) -> list[Any]:
    """Return what the server makes of such a text: objects, or strings where it sees no files."""
    if not _HEADER.match(text):
        return _read_block(text, "")
    pieces = _HEADER.split(text)[1:]
    top = pieces[0] if pieces[0].endswith("/") else pieces[0] + "/"
    rows: list[Any] = []
    for path, content in zip(pieces[::2], pieces[1::2], strict=True):
        rows += _read_block(content, f"{path}/".removeprefix(top))
    return rows


def _read_block(text: str, prefix: str) -> list[Any]:
    lines = text.splitlines()
    rows = [match for match in map(_LINE.match, lines) if match is not None]
    if not rows:
        return [line for line in lines if not _TOTAL.match(line)]
    return [row for row in (_read_row(match, prefix) for match in rows) if row is not None]


def _read_row(match: re.Match[str], prefix: str) -> dict[str, str] | None:
    fields = match.groupdict()
    words = _split(fields.pop("names"))
    if len(words) not in (1, 3):
        return None
    return {**fields, "name": prefix + words[0], "link_target": (*words, "", "")[2]}


def _split(names: str) -> list[str]:
    match = _HARMLESS.fullmatch(names)
    if match is None:
        return shlex.split(names)
    name, target = match.groups()
    return [name] if target is None else [name, "->", target]


def page(rows: list[Any], size: str | None, number: str | None) -> list[Any]:
    """Return one page of a listing, counted from 1; all of it if there is no such page."""
    try:
        per_page, wanted = float(size or ""), float(number or "")
        first, last = int((wanted - 1) * per_page), int(wanted * per_page)
        in_range = 1 <= wanted <= -(-len(rows) // per_page)
    except (ValueError, ZeroDivisionError, OverflowError):
        return rows
    return rows[first:last] if in_range else rows
