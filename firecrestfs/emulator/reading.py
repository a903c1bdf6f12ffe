"""The commands that read: stat, head, tail, dd, base64, sha256sum, file."""

from __future__ import annotations

import hashlib
import os
import re
import stat as stat_bits
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from .login import Login, fail
from .shell import CommandTimeout

_BLOCK = 1 << 18


def stat(login: Login, path: str, *, dereference: bool = False) -> dict[str, int]:
    """Return the numbers of `stat -c '%f %i %d %h %u %g %s %X %Y %Z'` by name."""
    try:
        place = login.place(path, follow=dereference)
        info = os.lstat(place.local)
    except OSError as exc:
        fail(f"stat: cannot statx {login.quoted(path)}", exc)
    uid, gid = login.directory.owner(info, place.remote)
    return {
        "mode": info.st_mode,
        "ino": info.st_ino,
        "dev": info.st_dev,
        "nlink": info.st_nlink,
        "uid": uid,
        "gid": gid,
        "size": info.st_size,
        "atime": int(info.st_atime_ns // 10**9),
        "mtime": int(info.st_mtime_ns // 10**9),
        "ctime": int(info.st_ctime_ns // 10**9),
    }


@contextmanager
def opened(login: Login, path: str, complaint: str) -> Iterator[int]:
    """Open a file as a command's argument, by descriptor. Raises CommandFailed with *complaint*.

    A directory opens, as for the tools; reading from it fails.
    """
    try:
        place = login.place(path)
        fd = os.open(place.local, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        fail(complaint, exc)
    try:
        if stat_bits.S_ISFIFO(os.fstat(fd).st_mode):
            raise CommandTimeout  # nobody writes: the command would wait for its time limit
        yield fd
    finally:
        os.close(fd)


def _rest(fd: int) -> bytes:
    """Read to the end."""
    pieces = []
    while block := os.read(fd, _BLOCK):
        pieces.append(block)
    return b"".join(pieces)


def dd(login: Login, path: str, block: int, skip: int, count: int) -> bytes:
    """Return *count* blocks of *block* bytes from block *skip* on."""
    with opened(login, path, f"dd: failed to open {login.quoted(path)}") as fd:
        try:
            return os.pread(fd, count * block, skip * block)
        except OSError as exc:
            records = "0+0 records in\n0+0 records out\n0 bytes copied, 4.6e-05 s, 0.0 kB/s"
            fail(f"{_reading('dd', login, path, exc)}\n{records}")


def _reading(tool: str, login: Login, path: str, exc: OSError) -> str:
    return f"{tool}: error reading {login.quoted(path)}: {os.strerror(exc.errno or 0)}"


def base64_size(size: int) -> int:
    """Return the length of *size* bytes in base64 without line breaks."""
    return (size + 2) // 3 * 4


def contents(login: Login, path: str) -> tuple[int, bytes]:
    """Return the base64 length of a whole file and its bytes, none if they are too many to send."""
    with opened(login, path, f"base64: {login.quoted_if_needed(path)}") as fd:
        size = base64_size(os.fstat(fd).st_size)
        try:
            data = b"" if size >= login.knobs.max_ops_file_size else _rest(fd)
        except OSError as exc:
            fail("base64: read error", exc)
        return max(size, base64_size(len(data))), data


def sha256sum(login: Login, path: str) -> str:
    """Return the line that sha256sum prints."""
    name = login.quoted_if_needed(path)
    digest = hashlib.sha256()
    with opened(login, path, f"sha256sum: {name}") as fd:
        try:
            while block := os.read(fd, _BLOCK):
                digest.update(block)
        except OSError as exc:
            fail(f"sha256sum: {name}", exc)
    escaped = re.sub(r"[\\\n\r]", lambda match: _LINE_ESCAPES[match.group()], path)
    mark = "\\" if escaped != path else ""
    return f"{mark}{digest.hexdigest()}  {escaped}\n"


_LINE_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def head(login: Login, path: str, unit: str, number: str) -> bytes:
    """`head --lines` or `--bytes` (*unit*); a negative *number*: all but the last."""
    wanted = _number("head", login, unit, number)
    with opened(login, path, f"head: cannot open {login.quoted(path)} for reading") as fd:
        try:
            return _head(fd, unit, wanted, login.knobs.max_ops_file_size)
        except OSError as exc:
            fail(_reading("head", login, path, exc))


def _head(fd: int, unit: str, wanted: int, cap: int) -> bytes:
    """Return the head; little more than *cap* bytes of it, since nobody may have that many."""
    if wanted < 0:
        data = _rest(fd)
        end = len(data) + wanted if unit == "bytes" else _line_start(data, -wanted)
        return data[: max(end, 0)]
    out = bytearray()
    while len(out) < cap and (block := os.read(fd, _BLOCK)):
        out += block
        if unit == "bytes" and len(out) >= wanted:
            return bytes(out[:wanted])
        if unit == "lines" and out.count(b"\n") >= wanted:
            return _lines(bytes(out), wanted)
    return bytes(out)


def _lines(data: bytes, wanted: int) -> bytes:
    """Return the first *wanted* lines."""
    end = 0
    for _ in range(wanted):
        found = data.find(b"\n", end)
        if found < 0:
            return data
        end = found + 1
    return data[:end]


def _line_start(data: bytes, lines: int) -> int:
    """Return where the last *lines* lines begin; an unfinished line counts."""
    at = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


def tail(login: Login, path: str, unit: str, number: str) -> bytes:
    """`tail --lines` or `--bytes` (*unit*); *number* may be `+N`: from the N-th on."""
    wanted = _number("tail", login, unit, number)
    with opened(login, path, f"tail: cannot open {login.quoted(path)} for reading") as fd:
        try:
            if number.startswith("+"):
                return _from_start(fd, unit, wanted)
            return _from_end(fd, unit, abs(wanted), login.knobs.max_ops_file_size)
        except OSError as exc:
            fail(_reading("tail", login, path, exc))


def _from_start(fd: int, unit: str, first: int) -> bytes:
    if unit == "bytes":
        os.lseek(fd, max(first - 1, 0), os.SEEK_SET)
        return _rest(fd)
    data = _rest(fd)
    return data[len(_lines(data, max(first - 1, 0))) :]


def _from_end(fd: int, unit: str, wanted: int, cap: int) -> bytes:
    os.read(fd, 0)  # a directory says that it is one
    size = os.fstat(fd).st_size
    if unit == "bytes":
        return os.pread(fd, min(wanted, cap), max(size - wanted, 0))
    data, start = b"", size
    while start > 0 and len(data) < cap and data.count(b"\n") <= wanted:
        step = min(_BLOCK, start)
        start -= step
        data = os.pread(fd, step, start) + data
    return data[_line_start(data, wanted) :] if wanted else b""


def _number(tool: str, login: Login, unit: str, number: str) -> int:
    """Read a number as the tools take it: 10, -10, +10 (tail), 2b, 1kB, 1K, 1MiB."""
    match = re.fullmatch(r"([-+]?\d+)(b|([kKMGT])(B|iB)?)?", number)
    if match is None or (tool == "head" and number.startswith("+")):
        fail(f"{tool}: invalid number of {unit}: {login.typographic(number)}")
    count, suffix, letter, kind = match.groups()
    if suffix == "b":
        return int(count) * 512
    base = 1000 if kind == "B" else 1024
    power = "KMGT".index(letter.upper()) + 1 if letter else 0
    return int(count) * int(base**power)


def file_type(login: Login, path: str) -> str:
    """Return what `file -b` says. Never fails: file(1) puts its complaints into the answer."""
    try:
        place = login.place(path, follow=False)
        if stat_bits.S_ISLNK(os.lstat(place.local).st_mode):
            return _link_type(login, path, os.readlink(place.local))
    except OSError as exc:
        return f"cannot open `{path}' ({os.strerror(exc.errno or 0)})"
    try:
        done = subprocess.run(
            ["file", "-b", "--", place.local],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except FileNotFoundError:
        return "data"
    return done.stdout.strip()


def _link_type(login: Login, path: str, target: str) -> str:
    try:
        os.stat(login.place(path).local)
    except OSError:
        return f"broken symbolic link to {target}"
    return f"symbolic link to {target}"
