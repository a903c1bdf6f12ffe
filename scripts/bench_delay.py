"""Distance for others: proxies that make a server on this machine as far away as ours is.

    python scripts/bench_delay.py http PORT MILLISECONDS    a delay for each HTTP request
    python scripts/bench_delay.py tcp PORT MILLISECONDS     half of the delay in each direction

Both serve what 127.0.0.1:PORT serves, print their own port, and run until they are told to end;
the first prints the number of requests so far whenever it reads a line.
"""

from __future__ import annotations

import heapq
import http.client
import itertools
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
_METHODS = (
    *("GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PROPFIND", "PROPPATCH"),
    *("MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK"),
)


class _Handler(BaseHTTPRequestHandler):
    """Forwards one request after the delay."""

    protocol_version = "HTTP/1.1"
    upstream = 0
    delay_s = 0.0
    counter = itertools.count()
    count = 0

    def forward(self) -> None:
        type(self).count = next(_Handler.counter) + 1
        body = self._body()
        time.sleep(self.delay_s)
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=60)
        kept = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        # The Host stays: the server compares it with the target of a MOVE.
        connection.request(self.command, self.path, body=body, headers=kept)
        answer = connection.getresponse()
        data = answer.read()
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        bodyless = self.command == "HEAD" or answer.status in (204, 304)
        length = answer.getheader("Content-Length", "0") if bodyless else str(len(data))
        if answer.status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if not bodyless:
            self.wfile.write(data)
        connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        pieces = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def log_message(self, *args: object) -> None:
        """Be silent."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Be silent: clients drop kept connections as they like."""


for _method in _METHODS:
    setattr(_Handler, f"do_{_method}", _Handler.forward)


def serve_http(upstream: int, delay_s: float) -> None:
    """Delay each request; print the count for each line that is read."""
    _Handler.upstream, _Handler.delay_s = upstream, delay_s
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    for _ in sys.stdin:
        print(_Handler.count, flush=True)


class _Pump:
    """Carries bytes from one socket to another, each *delay_s* after it came."""

    def __init__(self, source: socket.socket, target: socket.socket, delay_s: float) -> None:
        self._source, self._target, self._delay_s = source, target, delay_s
        self._waiting: list[tuple[float, int, bytes]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()  # guards _waiting
        threading.Thread(target=self._receive, daemon=True).start()
        threading.Thread(target=self._send, daemon=True).start()

    def _receive(self) -> None:
        data = b"begun"
        while data:
            try:
                data = self._source.recv(1 << 16)
            except OSError:
                data = b""
            with self._changed:
                due = time.monotonic() + self._delay_s
                heapq.heappush(self._waiting, (due, next(self._numbers), data))
                self._changed.notify()

    def _send(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                due, _, data = heapq.heappop(self._waiting)
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if not data:
                    self._target.shutdown(socket.SHUT_WR)
                    return
                self._target.sendall(data)
            except OSError:
                return


def serve_tcp(upstream: int, delay_s: float) -> None:
    """Delay everything by half in each direction."""
    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    while True:
        near, _ = listening.accept()
        far = socket.create_connection(("127.0.0.1", upstream))
        for each in (near, far):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _Pump(near, far, delay_s / 2)
        _Pump(far, near, delay_s / 2)


if __name__ == "__main__":
    _kind, _port, _milliseconds = sys.argv[1:]
    {"http": serve_http, "tcp": serve_tcp}[_kind](int(_port), float(_milliseconds) / 1000)
