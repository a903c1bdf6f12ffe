"""Directories that a group shares by an ACL: what is made in them is open to whom the ACL names."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from .drivers import Driver

#: Tags of ACL entries, as the kernel keeps them in an extended attribute.
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_NOBODY = 65534
_ANYONE = 0xFFFFFFFF
TIME = 1_234_567_890_123_456_789


def packed(*entries: tuple[int, int, int]) -> bytes:
    rows = (struct.pack("<HHI", tag, bits, who) for tag, bits, who in entries)
    return struct.pack("<I", 2) + b"".join(rows)


def mask_of(path: Path) -> int | None:
    """Return what the ACL of *path* grants at most, None where it has none."""
    try:
        value = os.getxattr(path, "system.posix_acl_access")
    except OSError:
        return None
    rows = struct.iter_unpack("<HHI", value[4:])
    return next((bits for tag, bits, _ in rows if tag == _MASK), None)


@pytest.fixture
def shared(fs: Driver, there: Path) -> Path:
    """A directory that passes on an ACL: another user may write whatever is made in it."""
    directory = there / "shared"
    directory.mkdir()
    entries = ((_OWNER, 7, _ANYONE), (_USER, 7, _NOBODY), (_GROUP, 5, _ANYONE), (_MASK, 7, _ANYONE))
    acl = packed(*entries, (_OTHER, 5, _ANYONE))
    os.setxattr(directory, "system.posix_acl_access", acl)
    os.setxattr(directory, "system.posix_acl_default", acl)
    fs.listdir()
    return directory


def test_a_file(fs: Driver, shared: Path) -> None:
    fs.write_file("shared/f", b"content", 0o644)
    fs.land()
    assert (shared / "f").read_bytes() == b"content"
    assert mask_of(shared / "f") == 6
    fs.append("shared/f", b"!")
    fs.land()
    assert (shared / "f").read_bytes() == b"content!"
    assert mask_of(shared / "f") == 6


def test_an_empty_file_and_one_with_a_time(fs: Driver, shared: Path) -> None:
    fs.write_file("shared/empty", b"", 0o644)
    fs.write_file("shared/f", b"content", 0o644)
    fs.utime("shared/f", TIME, TIME)
    fs.land()
    assert (mask_of(shared / "empty"), mask_of(shared / "f")) == (6, 6)
    assert os.stat(shared / "f").st_mtime_ns == TIME


def test_a_tree(fs: Driver, shared: Path) -> None:
    fs.mkdir("shared/d", 0o755)
    fs.mkdir("shared/d/in", 0o755)
    for number in range(6):
        fs.write_file(f"shared/d/in/f{number}", b"content", 0o644)
    fs.land()
    assert {mask_of(shared / "d"), mask_of(shared / "d/in")} == {7}
    assert {mask_of(each) for each in (shared / "d/in").iterdir()} == {6}
    assert len(list((shared / "d/in").iterdir())) == 6


def test_what_is_meant_to_be_strict_is(fs: Driver, shared: Path) -> None:
    fs.write_file("shared/secret", b"content", 0o600)
    fs.mkdir("shared/mine", 0o700)
    fs.land()
    assert (mask_of(shared / "secret"), mask_of(shared / "mine")) == (0, 0)


def test_a_program_can_be_run(fs: Driver, shared: Path) -> None:
    fs.write_file("shared/run", b"#!/bin/sh\n", 0o755)
    fs.land()
    assert os.stat(shared / "run").st_mode & 0o111 == 0o111


def test_a_mode_that_is_asked_for(fs: Driver, shared: Path) -> None:
    """As anywhere: chmod sets what the ACL grants at most."""
    fs.mkdir("shared/d", 0o755)
    fs.chmod("shared/d", 0o750)
    fs.land()
    assert mask_of(shared / "d") == 5
