"""Which ranges of a text v2's `view` can tell: it cuts by characters what it has read by bytes."""

from __future__ import annotations

from .faults import Inexact


def block_of(offset: int, size: int, most: int) -> int:
    """Return a block size whose aligned block holds the range. Raises `Inexact` for none."""
    block = size
    while block <= most:
        if offset % block + size <= block:
            return block
        block *= 2
    if offset + size <= most:
        return offset + size
    raise Inexact(f"no block of at most {most} bytes holds {size} bytes at {offset}")


def is_cut_replacement(text: str, data: bytes) -> bool:
    """Tell whether the cut at the block's end went through a replacement character."""
    tail = data[-2:]
    cut = tail.endswith(b"\xef") or tail == b"\xef\xbf"
    return cut and "\ufffd" in text
