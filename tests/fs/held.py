"""One request of many, held on the server before or after its work, while a test does something."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from firecrestfs.emulator import frontdoor
from firecrestfs.emulator.faults import Fault

#: A request is never held longer (seconds): what waits for it would time out.
_LONGEST_S = 20.0


@dataclass
class Hold:
    """Holds the request to an endpoint that is like `match` after `skip` others of that kind.

    Until `go` is set it is held, before its work or `after` it. Then `fault`, if any, happens.
    """

    match: str = "*"
    skip: int = 0
    after: bool = False
    fault: Mapping[str, Any] | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, endpoint: str) -> bool:
        """Tell whether this is the request."""
        if not endpoint or endpoint.startswith(("token", "status")):
            return False
        with self._lock:
            if not fnmatch.fnmatchcase(endpoint, self.match):
                return False
            if self.skip < 0:
                return False
            self.skip -= 1
            return self.skip < 0

    def end(self) -> None:
        """Hold nothing any more; let go what is held."""
        with self._lock:
            self.skip = -1
        self.go.set()

    def wait(self) -> None:
        """Say that the request is here; wait."""
        self.reached.set()
        self.go.wait(_LONGEST_S)


def install(hold: Hold, patch: pytest.MonkeyPatch) -> None:
    """Let *hold* take effect on the emulators of this process."""
    answer = frontdoor._Passage._answer

    def held(self: Any, fault: Fault | None, start_response: Any) -> Iterable[bytes]:
        if not hold.takes(self._endpoint):
            return answer(self, fault, start_response)
        fault = fault if hold.fault is None else Fault.parse(hold.fault)
        if not hold.after:
            hold.wait()
            return answer(self, fault, start_response)
        try:
            return list(answer(self, fault, start_response))
        finally:
            hold.wait()

    patch.setattr(frontdoor._Passage, "_answer", held)
