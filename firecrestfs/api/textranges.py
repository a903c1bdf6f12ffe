"""Which ranges of a text v2's `view` can tell: it cuts by characters what it has read by bytes."""

from __future__ import annotations

import math

from .faults import Inexact


def block_of(offset: int, size: int, most: int) -> int:
    """Return a block size of which one block holds the range. Raises `Inexact` for none."""
    # With so many blocks before it; larger ones find room for the range sooner.
    before = offset // max(size, math.isqrt(offset))
    while before >= 0:
        block = max(size, -(-(offset + size) // (before + 1)))
        if block > most:
            break
        if block * before <= offset:
            return block
        before -= 1
    raise Inexact(f"no block of at most {most} bytes holds {size} bytes at {offset}")


def is_cut_replacement(text: str, data: bytes) -> bool:
    """Tell whether the cut at the block's end went through a replacement character."""
    tail = data[-2:]
    cut = tail.endswith(b"\xef") or tail == b"\xef\xbf"
    return cut and "\ufffd" in text
