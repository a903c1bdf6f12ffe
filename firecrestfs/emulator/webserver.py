"""The WSGI server: cheroot, with connections that can be dropped on purpose."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import Any

from cheroot import server as cheroot_server
from cheroot import wsgi

from .frontdoor import FrontDoor, Hangup
from .privileges import become_ordinary

_THREADS = 24  # more than any test sends at once: a stalled answer must not hold up the others


class _Connection(cheroot_server.HTTPConnection):
    """A connection that may end in a TCP reset."""

    reset = False

    def close(self) -> None:
        if self.reset:
            # Lingering for no time: close(2) sends RST. Without shutdown(2) no FIN precedes it.
            off = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, off)
            self.rfile.close()
            with contextlib.suppress(OSError):
                self.wfile.close()
            self.socket.close()
        else:
            super().close()


class _Gateway(wsgi.Gateway_10):
    """Carries out a `Hangup` that the application raises."""

    def respond(self) -> None:
        try:
            super().respond()
        except Hangup as exc:
            self.req.conn.reset = exc.reset
            self.req.close_connection = True
            self.req.sent_headers = True  # or cheroot would send some


class WebServer:
    """Serves an application on 127.0.0.1 from threads with an ordinary user's powers.

    `start` returns when connections are accepted; `stop` when the threads have ended.
    """

    def __init__(self, app: FrontDoor, port: int, groups: list[int]) -> None:
        self._groups = groups
        self._server: Any = wsgi.Server(
            ("127.0.0.1", port),
            app,
            numthreads=_THREADS,
            request_queue_size=128,
            timeout=60,
            shutdown_timeout=1,
        )
        self._server.ConnectionClass = _Connection
        self._server.gateway = _Gateway
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="emulator", daemon=True)

    def start(self) -> str:
        """Start serving and return the URL. Raises OSError if the port is taken."""
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return f"http://127.0.0.1:{self._server.bind_addr[1]}"

    def stop(self) -> None:
        """Stop serving."""
        # The server looks at the stop sign when something happens, or twice a second.
        touch = threading.Timer(0.005, self._touch)
        touch.start()
        self._server.stop()
        self._thread.join(10)
        touch.join()

    def _touch(self) -> None:
        with contextlib.suppress(OSError):
            socket.create_connection(self._server.bind_addr, 1).close()

    def _run(self) -> None:
        become_ordinary(self._groups)  # before prepare(), which starts the workers: they inherit it
        try:
            self._server.prepare()
        except OSError as exc:
            self._error = exc
            return
        finally:
            self._ready.set()
        self._server.serve()
