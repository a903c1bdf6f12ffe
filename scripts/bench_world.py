"""What the benchmark stands on: a server, mounts and commands, each a process that is sure to end.

Whatever touches a mount does so in a process of its own and with a deadline, so that a mount that
hangs fails the benchmark instead of hanging it.
"""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from firecrestfs import mountpoints

HERE = Path(__file__).resolve().parent
_START_S = 30.0
_END_S = 30.0
COMMAND_S = 300.0
#: Seconds for which nothing that was learnt is forgotten: longer than any benchmark.
FOREVER_S = 86400


@dataclass(frozen=True)
class Cost:
    """What a piece of work took."""

    requests: int
    seconds: float


@dataclass(frozen=True)
class Binding:
    """A FUSE binding, and the libfuse that it shall load (empty: the one it picks itself)."""

    module: str
    libfuse: str = ""

    @property
    def title(self) -> str:
        """Name it in a table."""
        return f"{self.module}, lib{self.libfuse}" if self.libfuse else self.module

    def environment(self) -> dict[str, str]:
        """Return the variables that select it."""
        chosen = {"FIRECRESTFS_FUSE": self.module}
        return chosen | {"FUSE_LIBRARY_NAME": self.libfuse} if self.libfuse else chosen


def available_bindings() -> list[Binding]:
    """Return the bindings of this machine, each with every libfuse that it can load."""
    found = []
    if importlib.util.find_spec("mfusepy"):
        libraries = ("fuse", "fuse3")
        found += [Binding("mfusepy", one) for one in libraries if ctypes.util.find_library(one)]
    if importlib.util.find_spec("fuse") and ctypes.util.find_library("fuse"):
        found.append(Binding("fuse"))
    return found


# -- processes -------------------------------------------------------------------------------------


def run(command: Sequence[str], *, timeout: float = COMMAND_S, check: bool = True) -> bytes:
    """Run *command* in a session of its own and return what it printed.

    Raises CalledProcessError with its stderr shown, and TimeoutExpired.
    """
    done = subprocess.run(
        command, capture_output=True, timeout=timeout, start_new_session=True, check=False
    )
    if check and done.returncode != 0:
        sys.stderr.write(done.stderr.decode("utf-8", "replace"))
        raise subprocess.CalledProcessError(done.returncode, list(command))
    return done.stdout


def firecrestfs(*arguments: str) -> bytes:
    """Run a command of firecrestfs."""
    return run([sys.executable, "-m", "firecrestfs", *arguments])


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[Any], what: str) -> None:
    """Wait until *ready*. Raises RuntimeError where *process* ended or took too long."""
    end = time.monotonic() + _START_S
    while not ready():
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with status {process.returncode}")
        if time.monotonic() > end:
            raise RuntimeError(f"{what} did not answer within {_START_S:.0f} s")
        time.sleep(0.02)


def end(process: subprocess.Popen[Any]) -> None:
    """End *process*: by request, and where that doesn't help by force."""
    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                process.send_signal(number)
                process.wait(_END_S)


class Server:
    """The embedded FirecREST in a process of its own, with its log of requests."""

    def __init__(self, root: Path, latency_ms: float, api: str) -> None:
        command = [sys.executable, "-m", "firecrestfs", "serve", "--json", "--root", str(root)]
        self.process = subprocess.Popen(
            [*command, "--latency", str(latency_ms), "--api", api],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # notes on what else this machine can't do
            start_new_session=True,
        )
        try:
            self.info = self._read_info()
        except BaseException:
            end(self.process)
            raise
        self.system = str(self.info["systems"][0]["name"])
        self.home = str(self.info["systems"][0]["home"])
        self.local_home = Path(self.info["systems"][0]["local_home"])

    def _read_info(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the embedded FirecREST did not start")
        found: dict[str, Any] = json.loads(line)
        return found

    def environment(self) -> dict[str, str]:
        """Return the variables that lead a client here."""
        return {
            "FIRECREST_URL": self.info["url"],
            "FIRECREST_CLIENT_ID": self.info["client_id"],
            "FIRECREST_CLIENT_SECRET": self.info["client_secret"],
            "AUTH_TOKEN_URL": self.info["token_url"],
        }

    def requests(self, *, reset: bool = False) -> int:
        """Return how many requests came since the last reset, those for tokens not counted."""
        entries = self._control(f"requests?reset={int(reset)}" if reset else "requests")
        return sum(entry["endpoint"] != "token" for entry in entries)

    def set(self, settings: Mapping[str, object]) -> None:
        """Set knobs."""
        self._control("set", json.dumps(settings).encode())

    def measure(self, work: Callable[[], object]) -> Cost:
        """Do *work* and return what it took."""
        self.requests(reset=True)
        started = time.perf_counter()
        work()
        return self.so_far(started)

    def so_far(self, started: float) -> Cost:
        """Return what was spent since the last reset, which was at *started*."""
        seconds = time.perf_counter() - started
        return Cost(self.requests(), seconds)

    def _control(self, name: str, body: bytes | None = None) -> Any:
        url = f"{self.info['url']}/_emulator/{name}"
        with urllib.request.urlopen(url, body, timeout=30) as answer:
            return json.load(answer)


class MountProcess:
    """A process in front that serves a FUSE mount."""

    def __init__(
        self, command: Sequence[str], mountpoint: Path, environment: Mapping[str, str], log: Path
    ) -> None:
        mountpoint.mkdir(parents=True)
        self.mountpoint = mountpoint
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                env=os.environ | environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._log = log

    def wait_mounted(self) -> None:
        """Wait until it is mounted; show its log where it isn't."""
        try:
            wait_for(self.is_mounted, self.process, f"the mount at {self.mountpoint}")
        except RuntimeError:
            sys.stderr.write(self._log.read_text(errors="replace"))
            raise

    def is_mounted(self) -> bool:
        """Tell whether the kernel knows the mount; doesn't touch it."""
        return str(self.mountpoint) in mountpoints.mounted_types()

    def stop(self) -> None:
        """Unmount and end the process, come what may."""
        end(self.process)
        if self.is_mounted():
            mountpoints.unmount(str(self.mountpoint), lazy=True)


@dataclass
class World:
    """A temporary directory with a server and mounts; all of it is gone after the `with` block."""

    latency_ms: float
    api: str = "v2"
    root: Path = field(init=False)
    server: Server = field(init=False)
    _mounts: list[MountProcess] = field(default_factory=list)

    def __enter__(self) -> World:
        self.root = Path(tempfile.mkdtemp(prefix="firecrestfs-bench-"))
        try:
            for name in ("state", "cache", "config"):
                os.environ[f"XDG_{name.upper()}_HOME"] = str(self.root / name)
            self.server = Server(self.root / "clusters", self.latency_ms, self.api)
            os.environ.update(self.server.environment())
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._clean_up()

    def mount(self, name: str, binding: Binding | None = None, options: str = "") -> MountProcess:
        """Mount the server below the temporary directory, with state and cache of its own."""
        mountpoint = self.root / name
        command = [sys.executable, "-m", "firecrestfs", "mount", "-f", str(mountpoint)]
        for kind in ("state", "cache"):
            command += [f"--{kind}-dir", str(self.root / kind / name)]
        if options:
            command += ["-o", options]
        return self.start(command, mountpoint, binding)

    def start(
        self, command: Sequence[str], mountpoint: Path, binding: Binding | None = None
    ) -> MountProcess:
        """Run *command*, which mounts at *mountpoint*; return when it is mounted."""
        environment = binding.environment() if binding else {}
        mount = MountProcess(command, mountpoint, environment, self.root / "mounts.log")
        self._mounts.append(mount)
        mount.wait_mounted()
        return mount

    def _clean_up(self) -> None:
        """End everything in order; signals can't part us from it."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for mount in reversed(self._mounts):
            mount.stop()
        if hasattr(self, "server"):
            end(self.server.process)
        if any(mount.is_mounted() for mount in self._mounts):
            print(f"still mounted, and therefore left behind: {self.root}", file=sys.stderr)
            return
        shutil.rmtree(self.root, ignore_errors=True)
