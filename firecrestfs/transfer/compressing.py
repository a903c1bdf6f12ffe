"""A large local file as a compressed tar in memory, if that is small enough: found out cheaply.

Pieces from all over the file are compressed first; where those say that it won't fit, nothing else
is read. Compressing ends as soon as the archive is too large.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

from .bundle import Member, tar_head

#: How much of a file is looked at before it is compressed: pieces, and their size in bytes.
_PIECES, _PIECE = 32, 32 * 1024
#: The pieces may say that the archive would be so much larger than it may be: each is compressed
#: alone, and they are but a sample.
_SLACK = 1.25
_LEVEL, _GZIP = 6, 31
_BLOCK = 1 << 20
_TAR_BLOCK = 512


def estimate(source: BinaryIO, size: int) -> int:
    """Return how large *source*, of *size* bytes, would be compressed, judged by a part of it."""
    if size <= _PIECES * _PIECE:
        offsets, length = [0], size
    else:
        step = (size - _PIECE) / (_PIECES - 1)
        offsets, length = [int(number * step) for number in range(_PIECES)], _PIECE
    taken = packed = 0
    for offset in offsets:
        source.seek(offset)
        piece = source.read(length)
        taken += len(piece)
        packed += len(zlib.compress(piece, _LEVEL))
    return size * packed // max(taken, 1)


def archive(
    member: Member,
    source: BinaryIO,
    size: int,
    room: int,
    goes_on: Callable[[], bool] = lambda: True,
) -> bytes | None:
    """Return a gzip tar of the file *member*, whose *size* bytes are those of *source*.

    None where it would have more than *room* bytes, or *source* has less than *size*, or it *goes
    on* no more. Takes as much memory as *room*, twice.
    """
    if estimate(source, size) > room * _SLACK:
        return None
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    packed = bytearray()
    source.seek(0)
    for piece in _tar(member, source, size):
        packed += squeeze.compress(piece)
        if len(packed) > room or not goes_on():
            return None
    packed += squeeze.flush()
    whole = source.tell() == size
    return bytes(packed) if whole and len(packed) <= room else None


def _tar(member: Member, source: BinaryIO, size: int) -> Iterator[bytes]:
    yield tar_head(member, size)
    left = size
    while left and (piece := source.read(min(_BLOCK, left))):
        left -= len(piece)
        yield piece
    # The file is filled up to whole blocks; two empty ones are the end.
    yield bytes(-size % _TAR_BLOCK + 2 * _TAR_BLOCK)
