"""The commands that read: stat, head, tail, dd, base64, sha256sum, file."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat as stat_bits
import subprocess
from typing import BinaryIO

from .login import Login, fail
from .shell import CommandTimeout

_BLOCK = 1 << 16


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


def open_for_reading(login: Login, path: str, complaint: str) -> BinaryIO:
    """Open a file as a command's argument. Raises CommandFailed with *complaint*.

    A directory opens; reading from it fails, as for the tools.
    """
    try:
        place = login.place(path)
        fd = os.open(place.local, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as exc:
        fail(complaint, exc)
    if stat_bits.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise CommandTimeout  # nobody writes: the command would wait for its time limit
    return os.fdopen(fd, "rb", buffering=0) if _is_dir(fd) else os.fdopen(fd, "rb")


def _is_dir(fd: int) -> bool:
    return stat_bits.S_ISDIR(os.fstat(fd).st_mode)


def dd(login: Login, path: str, block: int, skip: int, count: int) -> bytes:
    """Return *count* blocks of *block* bytes from block *skip* on."""
    with open_for_reading(login, path, f"dd: failed to open {login.quoted(path)}") as file:
        try:
            return os.pread(file.fileno(), count * block, skip * block)
        except OSError as exc:
            records = "0+0 records in\n0+0 records out\n0 bytes copied, 4.6e-05 s, 0.0 kB/s\n"
            fail(_reading("dd", login, path, exc) + "\n" + records.rstrip())


def _reading(tool: str, login: Login, path: str, exc: OSError) -> str:
    return f"{tool}: error reading {login.quoted(path)}: {os.strerror(exc.errno or 0)}"


def base64_size(size: int) -> int:
    """Return the length of *size* bytes in base64 without line breaks."""
    return (size + 2) // 3 * 4


def contents(login: Login, path: str) -> tuple[int, bytes]:
    """Return the base64 length of a whole file and its bytes, the latter only if it isn't absurd."""
    name = login.quoted_if_needed(path)
    with open_for_reading(login, path, f"base64: {name}") as file:
        if _is_dir(file.fileno()):
            fail(f"base64: read error: {os.strerror(errno.EISDIR)}")
        size = os.fstat(file.fileno()).st_size
        if base64_size(size) >= login.knobs.max_ops_file_size:
            return base64_size(size), b""
        data = file.read()
        return base64_size(len(data)), data


def sha256sum(login: Login, path: str) -> str:
    """Return the line that sha256sum prints."""
    name = login.quoted_if_needed(path)
    with open_for_reading(login, path, f"sha256sum: {name}") as file:
        if _is_dir(file.fileno()):
            fail(f"sha256sum: {name}: {os.strerror(errno.EISDIR)}")
        digest = hashlib.sha256()
        while block := file.read(_BLOCK * 16):
            digest.update(block)
    escaped = re.sub(r"[\\\n\r]", lambda match: _LINE_ESCAPES[match.group()], path)
    mark = "\\" if escaped != path else ""
    return f"{mark}{digest.hexdigest()}  {escaped}\n"


_LINE_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}


def head(login: Login, path: str, unit: str, number: str) -> bytes:
    """`head --lines` or `--bytes` (*unit*) with *number*, which may be negative: all but the last."""
    wanted = _number("head", login, unit, number, r"-?\d+")
    with open_for_reading(
        login, path, f"head: cannot open {login.quoted(path)} for reading"
    ) as file:
        try:
            return _head(file, unit, wanted, login.knobs.max_ops_file_size)
        except OSError as exc:
            fail(_reading("head", login, path, exc))


def _head(file: BinaryIO, unit: str, wanted: int, cap: int) -> bytes:
    """Return the head; not more than *cap* bytes, since nobody may have more."""
    if wanted < 0:
        data = file.read()
        end = len(data) + wanted if unit == "bytes" else _line_start(data, len(data), -wanted)
        return data[: max(end, 0)]
    if unit == "bytes":
        return file.read(min(wanted, cap))
    out = bytearray()
    while len(out) < cap and (block := file.read(_BLOCK)):
        out += block
        if out.count(b"\n") >= wanted:
            return _lines(out, wanted)
    return bytes(out)


def _lines(data: bytes | bytearray, wanted: int) -> bytes:
    """Return the first *wanted* lines."""
    end = 0
    for _ in range(wanted):
        found = data.find(b"\n", end)
        if found < 0:
            return bytes(data)
        end = found + 1
    return bytes(data[:end])


def _line_start(data: bytes, end: int, lines: int) -> int:
    """Return where the last *lines* lines of data[:end] begin; an unfinished line counts."""
    at = end - 1 if end and data[end - 1 : end] == b"\n" else end
    for _ in range(lines):
        at = data.rfind(b"\n", 0, at)
        if at < 0:
            return 0
    return at + 1


def tail(login: Login, path: str, unit: str, number: str) -> bytes:
    """`tail --lines` or `--bytes` (*unit*); *number* may be `+N`: from the N-th on."""
    wanted = _number("tail", login, unit, number, r"[-+]?\d+")
    with open_for_reading(
        login, path, f"tail: cannot open {login.quoted(path)} for reading"
    ) as file:
        try:
            if number.startswith("+"):
                return _from_start(file, unit, wanted)
            return _from_end(file, unit, abs(wanted), login.knobs.max_ops_file_size)
        except OSError as exc:
            fail(_reading("tail", login, path, exc))


def _from_start(file: BinaryIO, unit: str, first: int) -> bytes:
    if unit == "bytes":
        os.lseek(file.fileno(), max(first - 1, 0), os.SEEK_SET)
        return file.read()
    data = file.read()
    return data[len(_lines(data, max(first - 1, 0))) :]


def _from_end(file: BinaryIO, unit: str, wanted: int, cap: int) -> bytes:
    fd = file.fileno()
    if _is_dir(fd):
        os.read(fd, 1)
    size = os.fstat(fd).st_size
    if unit == "bytes":
        return os.pread(fd, min(wanted, cap), max(size - wanted, 0))
    data, start = b"", size
    while start > 0 and len(data) < cap and data.count(b"\n") <= wanted:
        step = min(_BLOCK, start)
        start -= step
        data = os.pread(fd, step, start) + data
    return data[_line_start(data, len(data), wanted) :] if wanted else b""


def _number(tool: str, login: Login, unit: str, number: str, pattern: str) -> int:
    if not re.fullmatch(pattern, number):
        fail(f"{tool}: invalid number of {unit}: {login.typographic(number)}")
    return int(number)


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
