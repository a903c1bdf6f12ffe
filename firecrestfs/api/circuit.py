"""Circuit: whether the server can be reached, so that only one call at a time finds out.

    closed ──a failure to reach the server── open ──a probe gets through── half open
       └──────────── an answer to a request ────────────────────────────────────┘

While it is open calls fail at once; the first of them, every few seconds, starts a probe in the
background and waits a moment for it. No call, no probe. The trouble is over when a request has
been answered; the time that it began at and its reason are kept until then.

Silence while a call waits is looked into by a probe, too: if that fails, the server is gone; if
not, the connection is, and the call is sent again on another one.
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import FirecrestException
from ..model import Response
from .faults import Unauthorized, Unreachable
from .wire import SLICE, Call, clock

log = logging.getLogger("firecrestfs.api")

#: Nothing heard for so long while a call waits: time to look whether the server is there (seconds).
_SILENCE_S = 8.0
#: Seconds between two probes: at first, doubled each time, and at last.
_FIRST_PROBE_S = 0.25
_LAST_PROBE_S = 5.0
#: How long a look into silence may take before that counts as silence, too (seconds).
_PROBE_S = 5.0
#: How long a call waits for the probe that it started (seconds): a server that is back answers.
_MOMENT_S = 1.0

#: No answer came, for a reason that has to do with the way to the server.
_NO_WAY = frozenset(
    {
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EPIPE,
    }
)
#: The server was there, and then the connection broke.
_BROKEN = frozenset({errno.ECONNRESET, errno.EPIPE})
#: What gateways answer for a server that is gone.
_GONE = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True)
class Trouble:
    """What stands between us and the server: since when (epoch seconds), and why."""

    since: float
    reason: str


class _Waiting(NamedTuple):
    since: float
    idempotent: bool


class StillUnreachable(Unreachable):
    """Nothing was sent: the server could not be reached a moment ago (EHOSTUNREACH)."""


class Circuit:
    """What is known of the way to one server. Thread-safe (a leaf lock).

    *probe* asks the server for anything and returns whether it is there. With *fail_fast* calls
    are refused while the server is known to be out of reach. *on_back* is called, in whichever
    thread finds out, when it may be worth trying again.
    """

    def __init__(self, host: str, probe: Callable[[], bool], *, fail_fast: bool) -> None:
        self._host = host
        self._probe = probe
        self._fail_fast = fail_fast
        self.on_back: Callable[[], None] = lambda: None
        self._lock = threading.Lock()  # guards all below
        self._waiting: dict[Call, _Waiting] = {}  # calls that are under way
        self._heard = 0.0  # when the latest answer came
        self._ever = False  # whether the server has ever answered
        self._vouched = False  # … an earlier mount, as somebody knows
        self._unreachable: Trouble | None = None
        self._refused: Trouble | None = None
        self._half_open = False
        self._probing: threading.Event | None = None
        self._probing_since = 0.0
        self._probes = 0
        self._next_probe = 0.0

    # -- asking --------------------------------------------------------------------------------

    def unreachable(self) -> Trouble | None:
        """Return since when and why the server can't be reached, None while it can."""
        with self._lock:
            self._notice_silence_locked()
            return self._unreachable

    def vouch(self) -> None:
        """Say that the server is known: that it can't be reached will pass."""
        with self._lock:
            self._vouched = True

    def refused(self) -> Trouble | None:
        """Return since when and why there is no valid token, None where there is one."""
        with self._lock:
            return self._refused

    def silence(self) -> FirecrestException | None:
        """Return the error for those who wait, where nothing has been heard for too long."""
        with self._lock:
            if not (self._fail_fast and self._notice_silence_locked()):
                return None
            return self._error_locked()

    # -- sending -------------------------------------------------------------------------------

    def require(self, call: Call) -> None:
        """Raise `StillUnreachable` while the server is known to be out of reach."""
        if not self._fail_fast:
            return
        with self._lock:
            self._notice_silence_locked()
            if self._unreachable is None or self._half_open:
                return
            probing = self._probe_locked()
        if probing is not None:
            end = clock() + _MOMENT_S
            while not probing.wait(SLICE) and clock() < end:
                call.check()
        with self._lock:
            if self._unreachable is not None and not self._half_open:
                raise self._error_locked()

    @contextmanager
    def watching(self, call: Call, *, idempotent: bool) -> Iterator[None]:
        """Count *call* as under way: its silence is the server's.

        An idempotent one is dropped, once, where the server turns out to be there although it says
        nothing: the connection is most likely dead.
        """
        with self._lock:
            self._waiting[call] = _Waiting(clock(), idempotent)
        try:
            yield
        finally:
            with self._lock:
                self._waiting.pop(call, None)

    def answered(self) -> None:
        """Note that the server has answered a request, whatever it said."""
        with self._lock:
            self._heard = clock()
            self._ever = True
            trouble, self._unreachable = self._unreachable, None
            refused, self._refused = self._refused, None
            self._half_open, self._probes = False, 0
            dead = self._overtaken_locked() if trouble is not None else []
        _drop(dead)
        if trouble is not None or refused is not None:
            log.info("%s answers again", self._host)
            self.on_back()

    def failed(self, exc: FirecrestException, *, idempotent: bool = True) -> FirecrestException:
        """Note what a request ended with; return what its caller shall see.

        One that is not *idempotent* was tried once only, and may have failed for what it carries:
        that its answer went wrong says nothing of others.
        """
        if isinstance(exc, StillUnreachable):
            return exc
        # Without an answer of FirecREST it is the token server, or a portal in its place.
        if isinstance(exc, Unauthorized) and (exc.transient or not exc.responses):
            with self._lock:
                known = self._ever or self._vouched
                exc.transient = exc.transient or (self._fail_fast and known)
                self._refused = self._refused or Trouble(time.time(), exc.strerror or "")
            return exc
        if self._is_out_of_reach(exc):
            with self._lock:
                # Somebody who has mounted a server knows its address: it will be there again.
                known = self._fail_fast and (self._ever or self._vouched)
                if not self._ever and exc.errno == errno.ENOSYS:
                    # It may be how another version answers to who has yet to find out which it is.
                    return exc
                if idempotent or not exc.responses and exc.errno not in _BROKEN:
                    self._open_locked(time.time(), exc.strerror or "")
            return _as_unreachable(exc) if known else exc
        if exc.responses:
            self.answered()
        return exc

    def ask(self) -> None:
        """Look whether the server is back, in the background, if it is time to."""
        with self._lock:
            if self._unreachable is not None and not self._half_open:
                self._probe_locked()

    def doubt(self) -> None:
        """Let the next call probe at once: time has passed, or the network is another one."""
        with self._lock:
            self._next_probe, self._probes = 0.0, 0

    # -- inside --------------------------------------------------------------------------------

    def _is_out_of_reach(self, exc: FirecrestException) -> bool:
        if not exc.responses:
            if exc.errno == errno.ETIMEDOUT:
                return self.unreachable() is not None
            return exc.errno in _NO_WAY
        last = exc.responses[-1]
        if exc.errno in (errno.EBADMSG, errno.EREMOTEIO, errno.ENOSYS):
            # A portal's page, or a gateway that has lost its way; but not what a server of another
            # version says of an endpoint that it doesn't have.
            return self._fail_fast and _is_foreign(last)
        return last.status_code in _GONE and _is_a_page(last.text)

    def _overtaken_locked(self) -> list[Call]:
        return [
            call
            for call, each in self._waiting.items()
            if each.idempotent
            and not call.renewed
            and clock() - max(each.since, call.heard) > _SILENCE_S
        ]

    def _notice_silence_locked(self) -> bool:
        """Tell whether nothing is heard of a server that is out of reach; look into new silence."""
        if not self._fail_fast or self._quiet_locked() <= _SILENCE_S:
            return False
        if self._unreachable is None or self._half_open:
            self._begin_probe_locked()
            if clock() - self._probing_since <= _PROBE_S:
                return False
            # It hangs as well: a name server that says nothing can't be hurried.
            self._open_quiet_locked()
        return True

    def _quiet_locked(self) -> float:
        """Return for how long the oldest call has waited with nobody hearing anything."""
        if not self._waiting:
            return 0.0
        begun = min(each.since for each in self._waiting.values())
        return clock() - max([begun, self._heard, *(call.heard for call in self._waiting)])

    def _open_locked(self, since: float, reason: str) -> None:
        if self._unreachable is None:
            log.info("%s is out of reach: %s", self._host, reason)
            self._next_probe, self._probes = 0.0, 0
            self._unreachable = Trouble(since, reason)
        elif self._half_open:
            self._wait_locked()
        self._half_open = False

    def _wait_locked(self) -> None:
        self._next_probe = clock() + min(_LAST_PROBE_S, _FIRST_PROBE_S * 2**self._probes)
        self._probes = min(self._probes + 1, 10)

    def _error_locked(self) -> StillUnreachable:
        trouble = self._unreachable
        since = (
            "" if trouble is None else time.strftime(" since %H:%M", time.localtime(trouble.since))
        )
        why = "" if trouble is None else f" ({trouble.reason})"
        return StillUnreachable(
            errno.EHOSTUNREACH, f"{self._host} is out of reach{since}{why}", transient=True
        )

    def _probe_locked(self) -> threading.Event | None:
        """Begin a probe if it is time to; return what tells the end of the one under way."""
        if clock() >= self._next_probe:
            self._begin_probe_locked()
        return self._probing

    def _begin_probe_locked(self) -> None:
        if self._probing is None:
            self._probing = threading.Event()
            self._probing_since = clock()
            threading.Thread(target=self._run_probe, name="probe", daemon=True).start()

    def _run_probe(self) -> None:
        there = False
        try:
            there = self._probe()
        finally:
            with self._lock:
                back, dead = self._probed_locked(there)
                done, self._probing = self._probing, None
            _drop(dead)
            if done is not None:
                done.set()
        if back:
            self.on_back()

    def _probed_locked(self, there: bool) -> tuple[bool, list[Call]]:
        """Return whether the server has come back, and the calls whose connections are dead."""
        quiet = self._quiet_locked()
        self._wait_locked()
        if there:
            back = self._unreachable is not None and not self._half_open
            dead = self._overtaken_locked()
            self._heard = clock()
            self._half_open = self._unreachable is not None
            return back, dead
        if quiet > _SILENCE_S:
            self._open_quiet_locked()
        return False, []

    def _open_quiet_locked(self) -> None:
        quiet = self._quiet_locked()
        self._open_locked(time.time() - quiet, f"{self._host}: no answer for {quiet:.0f} s")


def _drop(calls: list[Call]) -> None:
    for call in calls:
        call.drop()


def _is_foreign(answer: Response) -> bool:
    """Tell whether an answer can't come from any version of FirecREST."""
    moved = 300 <= answer.status_code < 400
    return moved or answer.text.lstrip().startswith("<") or "no Route matched" in answer.text


def _is_a_page(text: str) -> bool:
    """Tell whether an answer is a gateway's: FirecREST's own errors are JSON with these keys."""
    return not any(f'"{key}"' in text for key in ("errorType", "description", "error"))


def _as_unreachable(exc: FirecrestException) -> FirecrestException:
    if exc.errno in _NO_WAY or exc.errno == errno.ETIMEDOUT:
        return exc
    return Unreachable(
        errno.EHOSTUNREACH,
        exc.strerror or "",
        exc.filename,
        responses=exc.responses,
        transient=True,
        ambiguous=exc.ambiguous,
    )
