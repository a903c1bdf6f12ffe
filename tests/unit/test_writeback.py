"""The queue of stores: when, together with what, and how often; no key is ever lost."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from firecrestfs.errors import FirecrestException
from firecrestfs.transfer.writeback import Outcome, WriteBack

from .tools import FakeClock, in_thread, wait_until

PERMANENT = OSError(errno.EDQUOT, "quota")
TRANSIENT = FirecrestException(errno.ECONNREFUSED, "down", transient=True)


class Cluster:
    """A store that does what the test says and remembers what it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.answers: dict[str, OSError | None] = {}
        self.hold = threading.Event()
        self.hold.set()
        self.raises: BaseException | None = None

    def __call__(self, keys: Sequence[str]) -> Outcome:
        self.batches.append(list(keys))
        assert self.hold.wait(10)
        if self.raises is not None:
            raise self.raises
        return {key: self.answers.get(key) for key in keys}

    @property
    def times(self) -> int:
        return len(self.batches)


class Bench:
    """A queue with one worker, its store and its clock."""

    def __init__(self, workers: int = 1) -> None:
        self.clock = FakeClock()
        self.cluster = Cluster()
        self.parked: list[tuple[str, OSError]] = []
        self.queue = WriteBack(
            self.cluster,
            lambda key: key[0],
            self.clock,
            delay_s=1.0,
            workers=workers,
            on_parked=lambda key, exc: self.parked.append((key, exc)),
        )

    def advance(self, seconds: float) -> None:
        """Let time pass and the workers notice."""
        self.clock.advance(seconds)
        self.queue.cancel("no such key")

    def keys(self) -> list[str]:
        return [row.key for row in self.queue.pending()]

    def stored(self, number: int) -> None:
        wait_until(lambda: self.cluster.times >= number)

    def settled(self) -> None:
        wait_until(lambda: not any(row.in_flight for row in self.queue.pending()))


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.cluster.hold.set()
    bench.queue.stop()


def brief_wait() -> None:
    """Give a worker that must not do something the time to do it."""
    threading.Event().wait(0.05)


# -- when ----------------------------------------------------------------------------------------


def test_nothing_is_stored_before_the_settle_delay(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.advance(0.9)
    brief_wait()
    assert bench.cluster.batches == []
    bench.advance(0.2)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.batches == [["a1"]]


def test_the_delay_counts_from_the_last_add(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.advance(0.8)
    bench.queue.add("a1")
    bench.advance(0.8)
    brief_wait()
    assert bench.cluster.batches == []
    bench.advance(0.3)
    bench.stored(1)


def test_neighbours_go_together(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.advance(0.4)
    bench.queue.add("a2")
    bench.queue.add("b1")
    bench.advance(0.6)
    wait_until(lambda: bench.keys() == ["b1"])
    assert bench.cluster.batches == [["a1", "a2"]]
    bench.advance(1)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.batches[1:] == [["b1"]]


def test_a_neighbour_that_was_just_closed_waits_its_time(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.advance(0.9)
    bench.queue.add("a2")
    bench.advance(0.1)
    wait_until(lambda: bench.keys() == ["a2"])
    assert bench.cluster.batches == [["a1"]]


def test_a_batch_is_bounded(bench: Bench) -> None:
    for number in range(450):
        bench.queue.add(f"a{number}")
    bench.advance(1)
    wait_until(lambda: bench.keys() == [])
    assert sorted(map(len, bench.cluster.batches)) == [50, 200, 200]


# -- failing -------------------------------------------------------------------------------------


def test_a_transient_failure_is_tried_again_later_and_later(bench: Bench) -> None:
    bench.cluster.answers["a1"] = TRANSIENT
    bench.queue.add("a1")
    waits = []
    bench.advance(1)
    for number in range(1, 9):
        bench.stored(number)
        bench.settled()
        row = bench.queue.pending()[0]
        assert (row.tries, row.parked, row.error) == (number, False, TRANSIENT)
        waits.append(row.due - bench.clock.now)
        bench.advance(waits[-1])
    for number, wait in enumerate(waits):
        expected = min(60.0, 2.0**number)
        assert 0.7 * expected <= wait <= 1.3 * expected
    assert bench.parked == []
    bench.stored(9)


def test_an_outage_of_days_ends_in_a_store(bench: Bench) -> None:
    """A laptop that was offline over a weekend: some thousand tries, a minute apart."""
    ticks = itertools.count(1000.0, 100.0)
    tries = itertools.count(1)

    def store(keys: Sequence[str]) -> Outcome:
        done = next(tries) > 3000
        return dict.fromkeys(keys, None if done else TRANSIENT)

    queue = WriteBack(store, lambda key: key, lambda: next(ticks), workers=1)
    queue.add("a1")
    wait_until(lambda: queue.pending() == [], 10)
    queue.stop()


def test_a_permanent_failure_is_parked_and_reported_once(bench: Bench) -> None:
    bench.cluster.answers["a1"] = PERMANENT
    bench.queue.add("a1")
    bench.advance(1)
    wait_until(lambda: bench.parked)
    assert bench.parked == [("a1", PERMANENT)]
    assert bench.queue.error_of("a1") is PERMANENT
    bench.advance(1e6)
    brief_wait()
    assert bench.cluster.times == 1
    assert bench.queue.pending()[0].parked


def test_adding_a_parked_key_tries_again(bench: Bench) -> None:
    bench.cluster.answers["a1"] = PERMANENT
    bench.queue.add("a1")
    bench.advance(1)
    wait_until(lambda: bench.parked)
    bench.cluster.answers.clear()
    bench.queue.add("a1")
    bench.advance(1)
    wait_until(lambda: bench.keys() == [])
    assert bench.queue.error_of("a1") is None


def test_one_failure_does_not_hold_up_its_neighbours(bench: Bench) -> None:
    bench.cluster.answers["a2"] = PERMANENT
    for key in ("a1", "a2", "a3"):
        bench.queue.add(key)
    bench.advance(1)
    wait_until(lambda: bench.keys() == ["a2"])


@pytest.mark.parametrize(
    "trouble", [KeyError("x"), ValueError("bad"), OSError("text only"), MemoryError()]
)
def test_an_internal_error_loses_no_key_and_no_worker(
    bench: Bench, trouble: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    bench.cluster.raises = trouble
    bench.queue.add("a1")
    bench.queue.add("a2")
    bench.advance(1)
    wait_until(lambda: len(bench.parked) == 2)
    failed = bench.queue.error_of("a1")
    assert failed is not None
    assert failed.errno == errno.EIO
    bench.cluster.raises = None
    assert bench.queue.flush() == {}
    assert bench.keys() == []


def test_a_store_that_fails_as_a_whole_for_a_while_is_tried_again(bench: Bench) -> None:
    bench.cluster.raises = TRANSIENT
    bench.queue.add("a1")
    bench.advance(1)
    bench.stored(1)
    bench.settled()
    row = bench.queue.pending()[0]
    assert (row.parked, row.error) == (False, TRANSIENT)


def test_a_key_of_which_the_store_says_nothing_has_not_landed(bench: Bench) -> None:
    calls: list[Sequence[str]] = []

    def store(keys: Sequence[str]) -> Outcome:
        calls.append(keys)
        return {}

    queue = WriteBack(store, lambda key: key, bench.clock, workers=1)
    queue.add("a1")
    queue.flush(interrupted=lambda: True)
    wait_until(lambda: calls)
    wait_until(lambda: not any(row.in_flight for row in queue.pending()))
    queue.stop()
    assert [row.key for row in queue.pending()] == ["a1"]


def test_a_report_that_fails_costs_no_worker(bench: Bench) -> None:
    def report(key: str, exc: OSError) -> None:
        raise KeyError(key)

    cluster = Cluster()
    cluster.answers["a1"] = PERMANENT
    queue = WriteBack(cluster, lambda key: key, bench.clock, workers=1, on_parked=report)
    queue.add("a1")
    bench.clock.advance(1)
    queue.flush(["a1"], timeout_s=0.0)
    wait_until(lambda: cluster.times == 1)
    queue.add("b1")
    bench.clock.advance(1)
    _, outcome = in_thread(lambda: queue.flush(["b1"]))
    wait_until(lambda: outcome)
    queue.stop()
    assert outcome == [{}]


# -- in flight -----------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, TRANSIENT, PERMANENT])
def test_a_key_added_while_in_flight_is_stored_once_more(
    bench: Bench, answer: OSError | None
) -> None:
    bench.cluster.hold.clear()
    bench.cluster.answers["a1"] = answer
    bench.queue.add("a1")
    bench.advance(1)
    bench.stored(1)
    bench.queue.add("a1")
    bench.cluster.answers.clear()
    bench.cluster.hold.set()
    bench.settled()
    assert bench.keys() == ["a1"]
    bench.advance(1)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.times == 2
    assert bench.parked == []


def test_a_waiting_key_can_be_cancelled_a_running_one_not(bench: Bench) -> None:
    bench.queue.add("a1")
    assert bench.queue.cancel("a1")
    bench.advance(2)
    brief_wait()
    assert bench.cluster.batches == []
    bench.cluster.hold.clear()
    bench.queue.add("a1")
    bench.advance(1)
    bench.stored(1)
    bench.queue.add("a1")
    assert not bench.queue.cancel("a1")
    assert not bench.queue.wait_idle("a1", 0.01)
    bench.cluster.hold.set()
    assert bench.queue.wait_idle("a1", 5)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.times == 1


def test_one_key_is_never_in_two_stores_at_once() -> None:
    running: set[str] = set()
    clashes: list[str] = []
    lock = threading.Lock()

    def store(keys: Sequence[str]) -> Outcome:
        with lock:
            clashes.extend(running & set(keys))
            running.update(keys)
        threading.Event().wait(0.001)
        with lock:
            running.difference_update(keys)
        return dict.fromkeys(keys)

    clock = FakeClock()
    queue = WriteBack(store, lambda key: key, clock, delay_s=0.0, workers=4)
    for number in range(400):
        queue.add(f"k{number % 7}")
        clock.advance(0.01)
    assert queue.flush(timeout_s=None) == {}
    queue.stop()
    assert clashes == []


# -- flushing ------------------------------------------------------------------------------------


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
