"""What was asked of the emulator, so that tests can count the requests of a user action."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import NamedTuple


class LoggedRequest(NamedTuple):
    """One request as it was answered."""

    method: str
    path: str
    query: str
    status: int  # 0: the connection was closed without an answer
    seconds: float
    endpoint: str  # such as "ops/ls", "store/get", "token"; "" for an unknown route

    @property
    def is_token(self) -> bool:
        """Whether it went to the token endpoint, which no budget counts."""
        return self.endpoint == "token"

    @property
    def is_from_job(self) -> bool:
        """Whether a transfer job sent it to the object store, and no client."""
        return self.endpoint.startswith("job/")


class RequestLog:
    """A list of requests that grows while it is read. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards _entries
        self._entries: list[LoggedRequest] = []

    def add(self, entry: LoggedRequest) -> None:
        """Append one entry."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> list[LoggedRequest]:
        """Forget everything and return what was there."""
        with self._lock:
            gone, self._entries = self._entries, []
        return gone

    def snapshot(self) -> list[LoggedRequest]:
        """Return a copy."""
        with self._lock:
            return list(self._entries)

    def count(self, endpoint: str | None = None) -> int:
        """Count the requests to *endpoint*, or all of clients but those for tokens."""
        if endpoint is None:
            return sum(not (entry.is_token or entry.is_from_job) for entry in self.snapshot())
        return sum(entry.endpoint == endpoint for entry in self.snapshot())

    def __iter__(self) -> Iterator[LoggedRequest]:
        return iter(self.snapshot())

    def __len__(self) -> int:
        return len(self.snapshot())

    def __getitem__(self, index: int) -> LoggedRequest:
        return self.snapshot()[index]
