"""Compressed archives of large files: what is in them, and when there is none."""

from __future__ import annotations

import io
import os
import random
import subprocess
from pathlib import Path

import pytest

from firecrestfs.transfer.bundle import Member
from firecrestfs.transfer.compressing import archive, estimate

from .tools import SECOND

TIME_NS = 1_600_000_000 * SECOND + 123_456_789


class Counting(io.BytesIO):
    """A file that counts what is read of it."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def dense(size: int) -> bytes:
    return random.Random(1).randbytes(size)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1 << 20, (1 << 20) + 1, 3_000_000])
@pytest.mark.parametrize("name", ["f", "it's\nodd ü", "n" * 200])
def test_the_clusters_tar_unpacks_it(tmp_path: Path, size: int, name: str) -> None:
    data = (b"some line, ever again\n" * (size // 22 + 1))[:size]
    member = Member(name, mode=0o640, mtime_ns=TIME_NS)
    packed = archive(member, io.BytesIO(data), size, 1 << 20)
    assert packed is not None
    (tmp_path / "a.tgz").write_bytes(packed)
    (tmp_path / "into").mkdir()
    subprocess.run(["tar", "-xzf", "a.tgz", "-C", "into"], cwd=tmp_path, check=True, umask=0o022)
    assert os.listdir(tmp_path / "into") == [name]
    file = tmp_path / "into" / name
    assert file.read_bytes() == data
    assert (file.stat().st_mode & 0o777, file.stat().st_mtime_ns) == (0o640, TIME_NS)


def test_the_room_is_kept_to_the_byte() -> None:
    data = dense(2_000_000).hex().encode()
    packed = archive(Member("f", mtime_ns=TIME_NS), io.BytesIO(data), len(data), 4 << 20)
    assert packed is not None
    for room, fits in ((len(packed), True), (len(packed) - 1, False)):
        again = archive(Member("f", mtime_ns=TIME_NS), io.BytesIO(data), len(data), room)
        assert again == (packed if fits else None)


def test_what_cannot_fit_is_read_in_part_only() -> None:
    source = Counting(dense(20 << 20))
    assert archive(Member("f"), source, 20 << 20, 5 << 20) is None
    assert source.count <= 1 << 20


def test_compressing_ends_once_it_is_too_large() -> None:
    """Where the sample was wrong."""
    data = bytearray(30 << 20)
    for at in range(0, 12 << 20, 1 << 20):
        # Between the pieces of the sample.
        data[at + 40_000 : at + 900_000] = dense(860_000)
    source = Counting(bytes(data))
    guess = estimate(source, len(data))
    source.count = 0
    room = max(guess, 1 << 20)
    assert archive(Member("f"), source, len(data), room) is None
    assert source.count < len(data)


def test_a_file_that_has_shrunk() -> None:
    assert archive(Member("f"), io.BytesIO(b"short"), 10, 1 << 20) is None
    data = bytes(2_000_000)
    assert archive(Member("f"), io.BytesIO(data), len(data) + 1, 1 << 20) is None


def test_it_can_be_given_up() -> None:
    data = bytes(3_000_000)
    assert archive(Member("f"), io.BytesIO(data), len(data), 1 << 20, lambda: False) is None
