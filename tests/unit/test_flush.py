"""The queue of stores: flushing it, ending a flush, stopping it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from .bench import PERMANENT, Bench, brief_wait
from .tools import in_thread, wait_until


def test_a_flush_does_not_wait_for_the_delay(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.queue.add("b1")
    assert bench.queue.flush(["a1", "unknown"]) == {}
    assert bench.keys() == ["b1"]


def test_a_flush_returns_what_failed_and_why(bench: Bench) -> None:
    bench.cluster.answers["a1"] = PERMANENT
    bench.queue.add("a1")
    bench.queue.add("b1")
    assert bench.queue.flush() == {"a1": PERMANENT}


def test_a_flush_tries_parked_keys_again(bench: Bench) -> None:
    bench.cluster.answers["a1"] = PERMANENT
    bench.queue.add("a1")
    bench.queue.flush()
    bench.cluster.answers.clear()
    assert bench.queue.flush() == {}


def test_what_is_added_again_while_it_is_flushed_settles_no_more(bench: Bench) -> None:
    """The last close of a file is told a moment after it: `sync` may have begun by then."""
    bench.blockers["a1"] = "elsewhere"
    bench.queue.add("a1")
    bench.advance(5)
    thread, outcome = in_thread(bench.queue.flush)
    wait_until(lambda: [row.due for row in bench.queue.pending()] == [bench.clock.now])
    bench.queue.add("a1")
    bench.blockers.clear()
    thread.join(5)
    assert outcome == [{}]


@pytest.mark.parametrize("how", ["time", "interrupt"])
def test_a_flush_can_be_ended(bench: Bench, how: str) -> None:
    bench.cluster.hold.clear()
    bench.queue.add("a1")
    stop = threading.Event()
    timeout_s = 5.0 if how == "time" else None
    thread, outcome = in_thread(lambda: bench.queue.flush(None, timeout_s, stop.is_set))
    bench.stored(1)
    assert outcome == []
    if how == "time":
        bench.advance(6)
    else:
        stop.set()
    thread.join(5)
    assert outcome == [{"a1": None}]


def test_an_interrupted_flush_goes_on_storing(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.queue.flush(interrupted=lambda: True)
    wait_until(lambda: bench.keys() == [])


def test_nothing_begins_after_stop(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.queue.stop()
    bench.queue.add("a2")
    bench.advance(10)
    brief_wait()
    assert bench.cluster.batches == []
    assert sorted(bench.keys()) == ["a1", "a2"]


def test_a_flush_after_stop_does_not_hang(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.queue.stop()
    _, outcome = in_thread(bench.queue.flush)
    wait_until(lambda: outcome, 2)
    assert outcome == [{"a1": None}]


def test_pending_is_in_the_order_of_adding(bench: Bench) -> None:
    call: Callable[[str], Any] = bench.queue.add
    for key in ("c", "a", "b"):
        call(key)
        bench.clock.advance(0.1)
    assert bench.keys() == ["c", "a", "b"]
