"""Ranges against a set of bytes."""

from __future__ import annotations

import random

from firecrestfs.cache.ranges import Ranges


def test_ranges_are_what_a_set_is() -> None:
    rng = random.Random(1)
    ranges, model = Ranges(), set[int]()
    for _ in range(2000):
        start = rng.randrange(100)
        end = start + rng.randrange(12)
        if rng.random() < 0.6:
            ranges.add(start, end)
            model |= set(range(start, end))
        else:
            ranges.remove(start, end)
            model -= set(range(start, end))
        pieces = list(ranges)
        assert {at for low, high in pieces for at in range(low, high)} == model
        assert all(first[1] < second[0] for first, second in zip(pieces, pieces[1:], strict=False))
        assert ranges.total == len(model)
        start = rng.randrange(110)
        end = start + rng.randrange(20)
        assert ranges.has(start, end) == (set(range(start, end)) <= model)
        gaps = {at for low, high in ranges.missing(start, end) for at in range(low, high)}
        assert gaps == set(range(start, end)) - model


def test_nothing() -> None:
    ranges = Ranges()
    assert not ranges
    assert ranges.has(5, 5)
    assert ranges.missing(0, 3) == [(0, 3)]
    ranges.add(0, 3)
    assert ranges
    ranges.clear()
    assert ranges.total == 0
