"""Calls on behalf of threads that wait: joining, interrupts, deadlines, exceptions."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator

import pytest

from firecrestfs.api import TimedOut
from firecrestfs.cache.metadata import boottime
from firecrestfs.errors import os_error
from firecrestfs.vfs import flights as flights_module
from firecrestfs.vfs.flights import Flights

from .tools import in_thread, together, wait_until


@pytest.fixture
def flights() -> Iterator[Flights]:
    flights = Flights(workers=4)
    yield flights
    flights.shutdown()


def test_a_call_returns_and_raises(flights: Flights) -> None:
    assert flights.run(lambda: 42) == 42
    with pytest.raises(KeyError):
        flights.run(lambda: {}["x"])


@pytest.mark.parametrize(
    "trouble",
    [
        OSError(errno.ETIMEDOUT, "the server's command limit"),
        TimedOut(errno.ETIMEDOUT, "no answer in time", transient=True),
        TimeoutError("of a library"),
    ],
)
def test_a_call_that_timed_out_says_so(
    flights: Flights, trouble: OSError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Python 3.11 and later it is the same class as the one that waiting raises."""

    def call() -> None:
        raise trouble

    thread, outcome = in_thread(lambda: flights.run(call))
    try:
        wait_until(lambda: outcome, 2)
        assert outcome == [trouble]
    finally:
        # A thread that takes the one for the other would go round for ever.
        monkeypatch.setattr(flights_module, "FutureTimeout", KeyError, raising=False)
        thread.join(2)


def test_equal_calls_are_one() -> None:
    waiting: set[int] = set()

    def interrupted() -> bool:
        # Asked now and then by each thread that waits for the flight.
        waiting.add(threading.get_ident())
        return False

    flights = Flights(interrupted=interrupted)
    go = threading.Event()
    calls = []

    def call() -> list[int]:
        calls.append(1)
        assert go.wait(5)
        return [1, 2]

    started = [in_thread(lambda: flights.run(call, "key")) for _ in range(10)]
    wait_until(lambda: len(waiting) == len(started))
    go.set()
    for thread, _ in started:
        thread.join(5)
    flights.shutdown()
    assert len(calls) == 1
    assert all(outcome == [[1, 2]] for _, outcome in started)


def test_a_call_after_the_flight_is_a_new_one(flights: Flights) -> None:
    found = iter(range(10))
    assert [flights.run(lambda: next(found), "key") for _ in range(3)] == [0, 1, 2]


def test_calls_without_a_key_are_never_joined(flights: Flights) -> None:
    barrier = threading.Barrier(3, timeout=5)
    assert len(set(together(3, lambda _: flights.run(barrier.wait)))) == 3


def test_all_who_joined_get_the_exception(flights: Flights) -> None:
    go = threading.Event()

    def call() -> None:
        assert go.wait(5)
        raise PermissionError(errno.EACCES, "no")

    started = [in_thread(lambda: flights.run(call, "key")) for _ in range(5)]
    wait_until(lambda: flights._under_way)
    go.set()
    for thread, outcome in started:
        thread.join(5)
        assert isinstance(outcome[0], PermissionError)
    assert flights.run(lambda: "again", "key") == "again"


def test_an_interrupt_ends_the_waiting_and_not_the_call() -> None:
    stop, go, done = threading.Event(), threading.Event(), threading.Event()
    flights = Flights(interrupted=stop.is_set)

    def call() -> None:
        assert go.wait(5)
        done.set()

    thread, outcome = in_thread(lambda: flights.run(call, "key"))
    stop.set()
    thread.join(2)
    assert isinstance(outcome[0], InterruptedError)
    go.set()
    assert done.wait(5)
    flights.shutdown()


def test_an_interrupt_does_not_part_a_change_from_its_answer() -> None:
    flights = Flights(interrupted=lambda: True)
    go = threading.Event()
    thread, outcome = in_thread(lambda: flights.commit(lambda: go.wait(5)))
    thread.join(0.5)
    assert outcome == []
    go.set()
    thread.join(5)
    assert outcome == [True]
    flights.shutdown()


def test_the_deadline_ends_the_waiting() -> None:
    go = threading.Event()
    flights = Flights(deadline_s=0.1)
    for run in (flights.run, flights.commit):
        with pytest.raises(TimeoutError) as info:
            run(lambda: go.wait(5))
        assert info.value.errno == errno.ETIMEDOUT
        assert "within" in str(info.value.strerror)
    go.set()
    flights.shutdown()


def test_an_operation_that_waits_for_several_things_waits_once() -> None:
    ends = iter([boottime() + 60, boottime() - 1])
    flights = Flights(end_of_patience=lambda seconds: next(ends))
    assert flights.run(lambda: 1) == 1
    asked: list[int] = []
    with pytest.raises(TimeoutError):
        flights.commit(lambda: asked.append(1))
    flights.shutdown()
    assert asked == []


def test_while_nothing_is_answered_nobody_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firecrestfs.vfs.flights.IMPATIENT_S", 0.0)
    go = threading.Event()
    flights = Flights(deadline_s=0.1)
    with pytest.raises(TimeoutError):
        flights.run(lambda: go.wait(5))
    flights._deadline_s = 3600.0
    for key in (None, "key"):
        with pytest.raises(TimeoutError):
            flights.run(lambda: go.wait(5), key)
    go.set()
    wait_until(lambda: not flights._silent)
    assert flights.run(lambda: time.sleep(0.25) or "patient again") == "patient again"
    flights.shutdown()


def test_a_refusal_is_an_answer() -> None:
    flights = Flights()
    for refusal, silent in ((errno.ENOENT, False), (errno.EHOSTUNREACH, True)):
        flights._silent = True

        def refuse(code: int = refusal) -> None:
            raise os_error(code)

        with pytest.raises(OSError):
            flights.run(refuse)
        assert flights._silent is silent
    flights.shutdown()


def test_a_change_that_never_began_is_not_made_after_its_caller_gave_up() -> None:
    flights = Flights(workers=1, deadline_s=0.1)
    go, made = threading.Event(), threading.Event()
    for call in (lambda: go.wait(5), made.set):
        with pytest.raises(TimeoutError):
            flights.commit(call)
    go.set()
    flights._silent, flights._deadline_s = False, 60.0
    assert flights.run(lambda: "next") == "next"
    assert not made.is_set()
    flights.shutdown()


def test_waiters_do_not_hold_up_others(flights: Flights) -> None:
    """Joined waiters take no worker: 64 readers of one file leave room for `ls`."""
    go = threading.Event()
    started = [in_thread(lambda: flights.run(lambda: go.wait(5), "key")) for _ in range(64)]
    wait_until(lambda: flights._under_way)
    assert flights.run(lambda: "ls") == "ls"
    go.set()
    for thread, _ in started:
        thread.join(5)


def test_readers_of_many_files_leave_a_way_for_other_calls(flights: Flights) -> None:
    go = threading.Event()
    readers = [
        in_thread(lambda key=key: flights.run(lambda: go.wait(20), key, carries=True))
        for key in range(64)
    ]
    wait_until(lambda: flights._carriers._work_queue.qsize() >= 60)
    assert flights.run(lambda: "ls", "ls") == "ls"
    assert flights.commit(lambda: "mkdir") == "mkdir"
    go.set()
    for thread, outcome in readers:
        thread.join(20)
        assert outcome == [True]


def test_a_call_after_shutdown_is_an_os_error() -> None:
    flights = Flights()
    flights.shutdown()
    with pytest.raises(OSError):
        flights.run(lambda: 1)


@pytest.mark.parametrize("key", [None, "key"])
def test_a_call_that_still_waits_for_its_turn_at_shutdown_is_an_os_error(key: str | None) -> None:
    flights = Flights(workers=1)
    begun, go = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return go.wait(5)

    first, held = in_thread(lambda: flights.run(hold))
    assert begun.wait(5)
    second, waiting = in_thread(lambda: flights.run(lambda: 1, key))
    wait_until(lambda: flights._pool._work_queue.qsize())
    flights.shutdown()
    second.join(1)
    go.set()
    first.join(5)
    assert held == [True]
    assert waiting, "it waits for a call that will never begin"
    assert isinstance(waiting[0], OSError), repr(waiting[0])
    assert waiting[0].errno == errno.ESHUTDOWN


def test_waiting_can_be_given_up_but_not_for_changes() -> None:
    """A server that says nothing any more; what changes it must learn what became of it."""
    go = threading.Event()
    flights = Flights(given_up=lambda: OSError(errno.EHOSTUNREACH, "silence"))
    with pytest.raises(OSError, match="silence"):
        flights.run(lambda: go.wait(5))
    thread, outcome = in_thread(lambda: flights.commit(lambda: go.wait(5)))
    thread.join(0.5)
    assert outcome == []
    go.set()
    thread.join(5)
    assert outcome == [True]
    flights.shutdown()
