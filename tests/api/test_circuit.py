"""The circuit: one call finds out that the server is gone, the others are told at once."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from firecrestfs.api import circuit as module
from firecrestfs.api.circuit import Circuit, StillUnreachable
from firecrestfs.api.faults import Unauthorized, refusal
from firecrestfs.api.wire import Call
from firecrestfs.errors import FirecrestException
from firecrestfs.model import Response

DOWN = refusal(errno.EHOSTUNREACH, "host can't be reached", transient=True)


class Bench:
    """A circuit whose clock and whose server the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **given: Any) -> None:
        self.now = 1000.0
        self.there = False
        self.probes = 0
        self.back = 0
        self.hold = threading.Event()
        self.hold.set()
        monkeypatch.setattr(module, "clock", lambda: self.now)
        self.circuit = Circuit("host", self.probe, **{"fail_fast": True} | given)
        self.circuit.on_back = self.came_back

    def probe(self) -> bool:
        self.probes += 1
        assert self.hold.wait(10)
        return self.there

    def came_back(self) -> None:
        self.back += 1

    def refused(self) -> bool:
        """Try to send; return whether that was refused, once no probe is under way."""
        try:
            self.circuit.require(Call(30.0))
        except StillUnreachable:
            return True
        return False


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch)


def answered(status: int, text: str = "", code: int = errno.EIO) -> FirecrestException:
    response = Response(status, {}, text, "GET", "/x")
    return refusal(code, "what it says", responses=(response,), transient=status >= 500)


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_nothing_is_refused_and_nothing_probed_while_all_is_well(bench: Bench) -> None:
    bench.circuit.answered()
    bench.now += 1000
    assert not bench.refused()
    assert bench.circuit.unreachable() is None
    assert (bench.probes, bench.back) == (0, 0)


def test_after_one_failure_calls_are_told_at_once(bench: Bench) -> None:
    assert bench.circuit.failed(DOWN) is DOWN
    trouble = bench.circuit.unreachable()
    assert trouble is not None
    assert trouble.reason == "host can't be reached"
    assert trouble.since <= time.time()
    assert bench.refused()
    assert bench.probes == 1
    # Only so often, however many ask.
    for _ in range(50):
        assert bench.refused()
    assert bench.probes == 1


def test_probes_become_rare_but_never_end(bench: Bench) -> None:
    bench.circuit.failed(DOWN)
    counts = []
    for _ in range(10):
        bench.now += 10
        assert bench.refused()
        before = bench.probes
        bench.now += 4.9
        assert bench.refused()
        counts.append(bench.probes - before)
    assert counts[-1] == 0
    assert bench.probes >= 10


def test_nobody_asks_no_probe(bench: Bench) -> None:
    bench.circuit.failed(DOWN)
    bench.now += 3600
    bench.circuit.unreachable()
    assert bench.probes == 0


def test_the_first_call_after_its_return_goes_through(bench: Bench) -> None:
    bench.circuit.failed(DOWN)
    assert bench.refused()
    bench.there = True
    bench.now += 10
    assert not bench.refused()
    assert bench.back == 1
    # Not before a request was answered is the trouble over.
    assert bench.circuit.unreachable() is not None
    bench.circuit.answered()
    assert bench.circuit.unreachable() is None
    assert bench.back == 2


def test_a_front_page_without_a_server_behind_it(bench: Bench) -> None:
    """A gateway that answers the probe and nothing else: since when stays as it was."""
    bench.circuit.failed(DOWN)
    since = bench.circuit.unreachable()
    bench.there = True
    assert not bench.refused()
    bench.circuit.failed(answered(502, "<html>"))
    bench.there = False
    assert bench.refused()
    assert bench.circuit.unreachable() == since


def test_a_probe_is_not_waited_for_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch)
    monkeypatch.setattr(module, "clock", time.monotonic)
    monkeypatch.setattr(module, "_MOMENT_S", 0.1)
    bench.hold.clear()
    bench.circuit.failed(DOWN)
    assert bench.refused()
    assert bench.refused()
    assert bench.probes == 1
    bench.there = True
    bench.hold.set()
    until(lambda: bench.back)
    assert not bench.refused()


def test_the_mount_may_ask_in_the_background(bench: Bench) -> None:
    bench.circuit.ask()
    assert bench.probes == 0
    bench.circuit.failed(DOWN)
    bench.there = True
    bench.circuit.ask()
    until(lambda: bench.back)
    assert not bench.refused()


# -- what counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exc",
    [
        refusal(errno.ECONNRESET, "reset", transient=True),
        answered(502, "<html>Bad Gateway</html>", errno.EHOSTUNREACH),
        answered(503, "", errno.EHOSTUNREACH),
        answered(504, "upstream timed out", errno.ETIMEDOUT),
        answered(302, "<html>log in to the network", errno.EREMOTEIO),
        answered(404, "<html>nginx</html>", errno.ENOSYS),
        answered(404, '{"message":"no Route matched with those values"}', errno.ENOSYS),
        answered(200, "<html>Welcome to the hotel", errno.EBADMSG),
    ],
)
def test_failures_to_reach_the_server(bench: Bench, exc: FirecrestException) -> None:
    bench.circuit.answered()
    seen = bench.circuit.failed(exc)
    assert bench.circuit.unreachable() is not None
    # A known server comes back: nothing of this is for good.
    assert seen.transient
    assert seen.errno in (errno.EHOSTUNREACH, errno.ECONNRESET, errno.ETIMEDOUT)
    assert seen.strerror == exc.strerror


@pytest.mark.parametrize(
    "exc",
    [
        answered(404, '{"errorType": "error", "message": "no"}', errno.ENOENT),
        answered(503, '{"errorType": "error", "message": "The system is unhealthy"}'),
        answered(400, '{"description": "Failed", "error": "x"}', errno.EINVAL),
        answered(404, '{"detail": "Not Found"}', errno.ENOSYS),
        answered(200, '{"odd": 1}', errno.EBADMSG),
        refusal(errno.EINTR, "interrupted", transient=True),
        refusal(errno.ECONNABORTED, "connections were dropped", transient=True),
        refusal(errno.EINVAL, "a path that can't be sent"),
    ],
)
def test_other_failures_say_nothing_of_the_way(bench: Bench, exc: FirecrestException) -> None:
    assert bench.circuit.failed(exc) is exc
    assert bench.circuit.unreachable() is None


def test_an_address_that_never_answered_may_be_wrong(bench: Bench) -> None:
    exc = answered(404, "<html>", errno.ENOSYS)
    assert bench.circuit.failed(exc) is exc


def test_a_known_address_is_asked_first_which_version_is_there(bench: Bench) -> None:
    """v1 has nothing where v2 tells how it is; a mount before this one knew the server."""
    bench.circuit.vouch()
    exc = answered(404, "<html>", errno.ENOSYS)
    assert bench.circuit.failed(exc) is exc
    assert bench.circuit.unreachable() is None
    bench.circuit.failed(refusal(errno.EHOSTUNREACH, "refused", transient=True))
    assert bench.circuit.unreachable() is not None


@pytest.mark.parametrize(
    ("exc", "opens"),
    [
        (answered(502, "<html>", errno.EHOSTUNREACH), False),
        (refusal(errno.ECONNRESET, "reset", transient=True), False),
        (refusal(errno.EHOSTUNREACH, "refused", transient=True), True),
    ],
)
def test_a_store_that_breaks_the_gateway_is_no_outage(
    bench: Bench, exc: FirecrestException, opens: bool
) -> None:
    """One upload that makes it answer 502, each time, must not take the listings away."""
    bench.circuit.answered()
    assert bench.circuit.failed(exc, idempotent=False).transient
    assert (bench.circuit.unreachable() is not None) is opens


def test_credentials_are_a_trouble_of_their_own(bench: Bench) -> None:
    bench.circuit.failed(Unauthorized(errno.EACCES, "log in", transient=True))
    assert bench.circuit.unreachable() is None
    trouble = bench.circuit.refused()
    assert trouble is not None
    assert trouble.reason == "log in"
    assert not bench.refused()
    bench.circuit.answered()
    assert bench.circuit.refused() is None
    assert bench.back == 1


def test_a_token_server_that_is_no_more_itself_may_be_it_again(bench: Bench) -> None:
    """A portal in its place: what waits to be stored must not be given up for that."""
    first = Unauthorized(errno.EACCES, "hands out no token: check AUTH_TOKEN_URL")
    assert not bench.circuit.failed(first).transient
    bench.circuit.answered()
    later = Unauthorized(errno.EACCES, "hands out no token: check AUTH_TOKEN_URL")
    assert bench.circuit.failed(later).transient
    assert bench.circuit.refused() is not None


def test_scripts_are_not_held_up(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, fail_fast=False)
    bench.circuit.failed(DOWN)
    assert not bench.refused()
    with bench.circuit.watching(Call(100.0), idempotent=True):
        bench.now += 100
        assert bench.circuit.silence() is None


# -- silence ---------------------------------------------------------------------------------------


def test_silence_while_a_call_waits(bench: Bench) -> None:
    bench.circuit.answered()
    bench.now += 500
    with bench.circuit.watching(Call(100.0), idempotent=True):
        bench.now += 7
        assert bench.circuit.silence() is None
        assert bench.probes == 0
        bench.now += 2
        # Nobody is there on another connection either.
        until(lambda: bench.circuit.silence() is not None)
        exc = bench.circuit.silence()
        assert exc is not None
        assert (exc.errno, exc.transient) == (errno.EHOSTUNREACH, True)
        trouble = bench.circuit.unreachable()
        assert trouble is not None
        assert time.time() - trouble.since == pytest.approx(9, abs=2)
        # Others don't wait as well.
        assert bench.refused()
    bench.circuit.answered()
    assert bench.circuit.unreachable() is None


def test_a_look_that_hangs_as_well(bench: Bench) -> None:
    """A name server that says nothing holds everybody up."""
    bench.hold.clear()
    with bench.circuit.watching(Call(100.0), idempotent=True):
        bench.now += 9
        assert bench.circuit.silence() is None
        bench.now += 4
        assert bench.circuit.silence() is None
        bench.now += 2
        assert bench.circuit.silence() is not None
    bench.there = True
    bench.hold.set()
    until(lambda: bench.back)
    assert not bench.refused()
    assert bench.probes == 1


def test_a_slow_answer_is_no_silence_while_others_are_answered(bench: Bench) -> None:
    with bench.circuit.watching(Call(100.0), idempotent=True):
        for _ in range(5):
            bench.now += 8
            bench.circuit.answered()
            assert bench.circuit.silence() is None


def test_bytes_that_come_are_no_silence(bench: Bench) -> None:
    call = Call(100.0)
    with bench.circuit.watching(call, idempotent=True):
        for _ in range(5):
            bench.now += 8
            call.heard = bench.now
            assert bench.circuit.silence() is None


def test_an_idle_connection_is_no_silence(bench: Bench) -> None:
    with bench.circuit.watching(Call(100.0), idempotent=True):
        bench.now += 5
    bench.now += 500
    assert bench.circuit.silence() is None


def test_a_deadline_counts_only_in_silence(bench: Bench) -> None:
    late = refusal(errno.ETIMEDOUT, "no answer in time", transient=True)
    bench.circuit.answered()
    with bench.circuit.watching(Call(1.0), idempotent=True):
        bench.now += 5
        bench.circuit.failed(late)
        assert bench.circuit.unreachable() is None
        bench.now += 6
        until(lambda: bench.circuit.unreachable() is not None)


def test_a_dead_connection_is_no_dead_server(bench: Bench) -> None:
    """It hangs in a connection that a router has forgotten; on another one it is answered."""
    bench.there = True
    old, changing = Call(100.0), Call(100.0)
    with (
        bench.circuit.watching(old, idempotent=True),
        bench.circuit.watching(changing, idempotent=False),
    ):
        bench.now += 9
        assert bench.circuit.silence() is None
        until(lambda: bench.circuit._probing is None)
        assert bench.circuit.unreachable() is None
        with pytest.raises(OSError) as info:
            old.check()
        assert info.value.errno == errno.ECONNABORTED
        # It may have been carried out: only its own end tells.
        changing.check()
        # Once only: a server may be slow.
        old.begin_again()
        bench.now += 9
        assert bench.circuit.silence() is None
        until(lambda: bench.circuit._probing is None)
        old.check()
    assert (bench.probes, bench.back) == (2, 0)


@pytest.mark.parametrize("idempotent", [True, False])
def test_those_whom_the_server_has_forgotten_are_freed(bench: Bench, idempotent: bool) -> None:
    """The network is another one now: what was sent before gets no answer, ever."""
    old, new = Call(100.0), Call(100.0)
    with bench.circuit.watching(old, idempotent=idempotent):
        bench.now += 11
        until(lambda: bench.circuit.unreachable() is not None)
        with bench.circuit.watching(new, idempotent=True):
            bench.circuit.answered()
        new.check()
        if idempotent:
            with pytest.raises(OSError):
                old.check()
        else:
            old.check()


def test_a_call_that_hangs_does_not_close_the_way_for_others(bench: Bench) -> None:
    with bench.circuit.watching(Call(100.0), idempotent=False):
        bench.now += 9
        until(lambda: bench.circuit.silence() is not None)
        bench.there = True
        bench.now += 10
        assert not bench.refused()
        assert not bench.refused()
        assert bench.circuit.silence() is None
