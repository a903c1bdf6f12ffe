"""The queue of stores: when, together with what, and how often; no key is ever lost."""

from __future__ import annotations

import errno
import itertools
import logging
import threading
from collections.abc import Sequence

import pytest

from firecrestfs.errors import NotYetError
from firecrestfs.transfer.writeback import Outcome, WriteBack

from .bench import PERMANENT, TRANSIENT, Bench, Cluster, brief_wait
from .tools import FakeClock, in_thread, wait_until

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


def test_neighbours_settle_and_go_together(bench: Bench) -> None:
    """A tree that is being copied goes once it is quiet, not in slices of what was there first."""
    bench.queue.add("a1")
    bench.queue.add("b1")
    bench.advance(0.9)
    bench.queue.add("a2")
    bench.advance(0.2)
    wait_until(lambda: bench.keys() == ["a1", "a2"])
    assert bench.cluster.batches == [["b1"]]
    brief_wait()
    assert bench.cluster.times == 1
    bench.advance(0.8)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.batches[1:] == [["a1", "a2"]]


def test_a_group_that_is_never_quiet_goes_all_the_same(bench: Bench) -> None:
    for number in range(14):
        bench.queue.add(f"a{number}")
        bench.advance(0.8)
    bench.stored(1)
    assert "a0" in bench.cluster.batches[0]


def test_a_key_that_is_added_again_and_again_is_stored_all_the_same(bench: Bench) -> None:
    """A log that is appended to every half second."""
    for _ in range(25):
        bench.queue.add("a1")
        bench.advance(0.5)
    bench.stored(1)


def test_a_member_that_waits_for_another_try_does_not_delay_the_others(bench: Bench) -> None:
    bench.cluster.answers["a1"] = TRANSIENT
    bench.queue.add("a1")
    bench.advance(1)
    for number in range(1, 6):
        bench.stored(number)
        bench.settled()
        bench.advance(bench.queue.pending()[0].due - bench.clock.now)
    bench.stored(6)
    bench.settled()
    # The next try is half a minute away.
    bench.queue.add("a2")
    bench.advance(1.1)
    wait_until(lambda: bench.keys() == ["a1"])
    assert bench.cluster.batches[-1] == ["a2"]


def test_a_member_whose_try_is_due_waits_for_new_ones_but_not_for_ever(bench: Bench) -> None:
    bench.cluster.answers["a1"] = TRANSIENT
    bench.queue.add("a1")
    bench.advance(1)
    bench.stored(1)
    bench.settled()
    bench.cluster.answers.clear()
    for _ in range(12):
        bench.queue.add("a2")
        bench.advance(0.9)
    wait_until(lambda: bench.keys() in ([], ["a2"]))


def test_a_batch_is_bounded(bench: Bench) -> None:
    for number in range(4500):
        bench.queue.add(f"a{number}")
    bench.advance(1)
    wait_until(lambda: bench.keys() == [], 20)
    assert sorted(map(len, bench.cluster.batches)) == [500, 2000, 2000]


# -- what waits for what -------------------------------------------------------------------------


def test_what_is_blocked_goes_after_what_blocks_it(bench: Bench) -> None:
    bench.blockers["b1"] = "a1"
    bench.cluster.hold.clear()
    bench.queue.add("b1")
    bench.queue.add("a1")
    bench.advance(1)
    bench.stored(1)
    brief_wait()
    assert bench.cluster.batches == [["a1"]]
    bench.blockers.clear()
    bench.cluster.hold.set()
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.batches == [["a1"], ["b1"]]


def test_one_of_a_group_goes_along_with_what_blocks_it(bench: Bench) -> None:
    """A new directory and what is in it are one archive."""
    bench.blockers.update({"a2": "a1", "a3": "a2", "a4": "b1"})
    for key in ("a4", "a3", "a2", "a1"):
        bench.queue.add(key)
    bench.advance(1)
    bench.stored(1)
    assert sorted(bench.cluster.batches[0]) == ["a1", "a2", "a3"]
    wait_until(lambda: bench.keys() == ["a4"])


def test_what_waits_for_one_that_is_blocked_waits_as_well(bench: Bench) -> None:
    bench.blockers.update({"a1": "b1", "a2": "a1"})
    for key in ("a1", "a2"):
        bench.queue.add(key)
    bench.advance(1)
    brief_wait()
    assert bench.cluster.batches == []
    bench.blockers.pop("a1")
    bench.advance(1)
    wait_until(lambda: bench.keys() == [])
    assert sorted(bench.cluster.batches[0]) == ["a1", "a2"]


def test_a_group_that_is_blocked_holds_up_no_other(bench: Bench) -> None:
    bench.blockers["a1"] = "x1"
    bench.queue.add("a1")
    bench.advance(0.5)
    bench.queue.add("b1")
    bench.advance(1)
    wait_until(lambda: bench.keys() == ["a1"])


def test_a_flush_names_what_waits_for_one_that_failed(bench: Bench) -> None:
    """A file in a directory that the cluster refused can't land: nobody waits for ever."""
    bench.blockers.update({"b1": "a1", "c1": "b1"})
    bench.cluster.answers["a1"] = PERMANENT
    for key in ("a1", "b1", "c1"):
        bench.queue.add(key)
    _, outcome = in_thread(bench.queue.flush)
    wait_until(lambda: outcome)
    [failed] = outcome
    assert failed["a1"] is PERMANENT
    for key in ("b1", "c1"):
        assert failed[key].errno == errno.EACCES
        assert "not permitted" in failed[key].strerror
    # They are not parked: what they wait for may land yet.
    assert [row.parked for row in bench.queue.pending()] == [True, False, False]
    bench.cluster.answers.clear()
    bench.blockers.clear()
    assert bench.queue.flush() == {}


def test_a_flush_of_what_is_blocked_ends_when_patience_ends(bench: Bench) -> None:
    bench.blockers["b1"] = "a1"
    bench.cluster.answers["a1"] = TRANSIENT
    bench.queue.add("a1")
    bench.queue.add("b1")
    _, outcome = in_thread(lambda: bench.queue.flush(patience=1))
    wait_until(lambda: outcome)
    assert set(outcome[0]) == {"a1", "b1"}
    assert outcome[0]["b1"].errno == errno.ECONNREFUSED


def test_a_ring_of_blockers_does_not_hang_a_flush(bench: Bench) -> None:
    bench.blockers.update({"b1": "c1", "c1": "b1"})
    bench.cluster.answers["a1"] = PERMANENT
    for key in ("a1", "b1", "c1"):
        bench.queue.add(key)
    assert set(bench.queue.flush(timeout_s=0.0)) == {"a1", "b1", "c1"}
    bench.blockers.clear()
    assert set(bench.queue.flush()) == {"a1"}


def test_who_is_waited_for_goes_without_settling_and_takes_its_neighbours(bench: Bench) -> None:
    bench.queue.add("a1")
    bench.queue.add("a2")
    bench.queue.add("b1")
    assert bench.queue.flush(["a2"]) == {}
    assert "a2" in bench.cluster.batches[0]
    assert bench.keys()[-1] == "b1"


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


@pytest.mark.parametrize("code", [errno.EDQUOT, errno.ENOSPC])
def test_a_full_cluster_is_asked_now_and_then_and_reported_once(bench: Bench, code: int) -> None:
    """Room may be made there without our knowing."""
    bench.cluster.answers["a1"] = OSError(code, "full")
    bench.queue.add("a1")
    for tries in range(1, 4):
        bench.advance(31)
        bench.stored(tries)
        bench.settled()
        assert bench.queue.pending()[0].parked
    brief_wait()
    assert bench.cluster.times == 3
    assert [key for key, _ in bench.parked] == ["a1"]
    bench.cluster.answers.clear()
    bench.advance(31)
    wait_until(lambda: bench.keys() == [])


def test_a_flush_does_not_wait_for_room(bench: Bench) -> None:
    full = OSError(errno.ENOSPC, "full")
    bench.cluster.answers["a1"] = full
    bench.queue.add("a1")
    assert bench.queue.flush() == {"a1": full}
    assert bench.queue.flush() == {"a1": full}


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


def test_who_asks_while_a_worker_chooses_is_heard(bench: Bench) -> None:
    """It has looked already, at what was not due then, and would sleep until that is."""
    choosing, go_on = threading.Event(), threading.Event()

    def group(key: str) -> str:
        choosing.set()
        assert go_on.wait(10)
        return "one"

    queue = WriteBack(bench.cluster, group, bench.clock, delay_s=1000.0, workers=1)
    try:
        queue.add("a")
        bench.clock.advance(500.0)
        queue.add("b")
        # One of the group is due, the other lets it wait.
        bench.clock.advance(600.0)
        queue.look()
        assert choosing.wait(10)
        asking = threading.Thread(target=queue.flush)
        asking.start()
        wait_until(lambda: queue.pending()[1].due <= bench.clock())
        go_on.set()
        asking.join(10)
        assert not asking.is_alive()
        assert bench.cluster.batches == [["a", "b"]]
    finally:
        go_on.set()
        queue.stop()


# -- changed while in flight -----------------------------------------------------------------------


def test_what_is_cancelled_in_flight_is_not_tried_again(bench: Bench) -> None:
    """It was opened for writing: half of what will be written must not be stored."""
    bench.cluster.hold.clear()
    bench.cluster.answers["a1"] = TRANSIENT
    bench.queue.add("a1")
    bench.advance(1.1)
    bench.stored(1)
    assert not bench.queue.cancel("a1")
    bench.cluster.hold.set()
    wait_until(lambda: bench.keys() == [])
    bench.advance(100)
    brief_wait()
    assert bench.cluster.times == 1


def test_what_is_added_after_that_goes(bench: Bench) -> None:
    bench.cluster.hold.clear()
    bench.cluster.answers["a1"] = TRANSIENT
    bench.queue.add("a1")
    bench.advance(1.1)
    bench.stored(1)
    bench.queue.cancel("a1")
    bench.queue.add("a1")
    bench.cluster.hold.set()
    bench.settled()
    bench.cluster.answers.clear()
    bench.advance(1.1)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.times == 2


def test_what_the_cluster_is_still_at_has_not_failed(bench: Bench) -> None:
    bench.cluster.answers["a1"] = NotYetError("a1", 5.0)
    bench.queue.add("a1")
    bench.advance(1.1)
    bench.stored(1)
    bench.settled()
    (row,) = bench.queue.pending()
    assert (row.error, row.tries, row.parked) == (None, 0, False)
    bench.advance(4)
    brief_wait()
    assert bench.cluster.times == 1
    bench.cluster.answers.clear()
    bench.advance(2)
    wait_until(lambda: bench.keys() == [])
    assert bench.cluster.times == 2
