"""A server that plays a script over raw sockets: the faults that a well-behaved one never shows."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Seen:
    """One request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes
    connection: int


#: Plays one answer on the connection; returns whether the connection stays open.
Act = Callable[[socket.socket], bool]


def reply(
    status: int = 200, body: object = b"", headers: dict[str, str] | None = None, keep: bool = True
) -> Act:
    """Answer; a dict or list goes as JSON, text as HTML."""
    if isinstance(body, bytes):
        raw, kind = body, "application/octet-stream"
    elif isinstance(body, str):
        raw, kind = body.encode(), "text/html"
    else:
        raw, kind = json.dumps(body).encode(), "application/json"

    def act(sock: socket.socket) -> bool:
        lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        sock.sendall("\r\n".join([*lines, "", ""]).encode() + raw)
        return keep

    return act


def own(status: int, message: str, headers: dict[str, str] | None = None) -> Act:
    """Answer as FirecREST does."""
    body = {"errorType": "error", "message": message, "causedBy": None, "data": None, "user": "u"}
    return reply(status, body, {"F7T-AppVersion": "2.x.x", **(headers or {})})


def hang_up(sock: socket.socket) -> bool:
    """Close without an answer."""
    return False


def reset(sock: socket.socket) -> bool:
    """Close with a TCP reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    return False


def silent(seconds: float) -> Act:
    """Say nothing for a while, then close."""

    def act(sock: socket.socket) -> bool:
        time.sleep(seconds)
        return False

    return act


def drip(total: int, pause: float) -> Act:
    """Announce *total* bytes and send one at a time."""

    def act(sock: socket.socket) -> bool:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {total}\r\nF7T-AppVersion: 2.x.x\r\n\r\n"
        sock.sendall(head.encode())
        for _ in range(total):
            try:
                sock.sendall(b"x")
            except OSError:
                return False
            time.sleep(pause)
        return True

    return act


def cut(announced: int, body: bytes) -> Act:
    """Announce more than is sent."""

    def act(sock: socket.socket) -> bool:
        sock.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {announced}\r\n\r\n".encode() + body)
        return False

    return act


@dataclass
class ScriptedServer:
    """Plays `script`, one act a request, over keep-alive connections; the last act repeats."""

    script: list[Act] = field(default_factory=lambda: [reply(200, {"systems": []})])
    seen: list[Seen] = field(default_factory=list)

    def __enter__(self) -> ScriptedServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._played = 0
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: object, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
        self._listener.close()
        self.close_connections()

    @property
    def url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def play(self, *acts: Act) -> None:
        """Put *acts* in place of the script."""
        with self._lock:
            self.script, self._played = list(acts), 0

    def close_connections(self) -> None:
        """Close what is open, as servers do with idle connections."""
        with self._lock:
            connections, self._connections = self._connections, []
        for sock in connections:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.append(sock)
            number += 1
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        reader = sock.makefile("rb")
        try:
            while self._one(sock, reader, number):
                pass
        except OSError:
            pass
        finally:
            reader.close()
            sock.close()

    def _one(self, sock: socket.socket, reader: object, number: int) -> bool:
        line = reader.readline().decode().strip()  # type: ignore[attr-defined]
        if not line:
            return False
        headers = {}
        while raw := reader.readline().strip():  # type: ignore[attr-defined]
            name, _, value = raw.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
        with self._lock:
            self.seen.append(Seen(line, headers, body, number))
            act = self.script[min(self._played, len(self.script) - 1)]
            self._played += 1
        return act(sock)
