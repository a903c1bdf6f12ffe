"""Ranges: which bytes of a file are here, as sorted, merged, half-open intervals."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator


class Ranges:
    """Byte ranges `[start, end)` that never touch each other. Not thread-safe."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._starts, self._ends, strict=True)))

    def __bool__(self) -> bool:
        return bool(self._starts)

    @property
    def total(self) -> int:
        """Number of bytes in all ranges."""
        return sum(self._ends) - sum(self._starts)

    def add(self, start: int, end: int) -> None:
        """Add a range; what touches it becomes one with it."""
        if start >= end:
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end)
        if first < last:
            start = min(start, self._starts[first])
            end = max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, start: int, end: int) -> None:
        """Take a range out."""
        if start >= end:
            return
        kept = [
            part
            for low, high in self
            for part in ((low, min(high, start)), (max(low, end), high))
            if part[0] < part[1]
        ]
        self._starts = [low for low, _ in kept]
        self._ends = [high for _, high in kept]

    def clear(self) -> None:
        """Take everything out."""
        self._starts, self._ends = [], []

    def has(self, start: int, end: int) -> bool:
        """Tell whether all of a range is in; an empty one always is."""
        if start >= end:
            return True
        at = bisect_right(self._starts, start) - 1
        return at >= 0 and self._ends[at] >= end

    def missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what of a range is not in, in order."""
        gaps = []
        at = max(bisect_right(self._starts, start) - 1, 0)
        for low, high in zip(self._starts[at:], self._ends[at:], strict=True):
            if low >= end:
                break
            if start < low:
                gaps.append((start, low))
            start = max(start, high)
        if start < end:
            gaps.append((start, end))
        return gaps
