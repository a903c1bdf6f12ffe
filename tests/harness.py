"""Real processes for tests: an emulated FirecREST, a mount of it, and what ends them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from firecrestfs.api import ClientCredentialsAuth, Firecrest, TypedClient
from firecrestfs.emulator import Emulator

#: A command that talks to a mount may take this long (seconds) before it counts as hung.
COMMAND_S = 40.0
#: What the shared emulators are set to; a test that changes it gets it put back.
SETTINGS = {"command_seconds": 3.0, "queue_seconds": 0.05, "poll_interval": 1.0}
SYSTEMS = ("cluster", "other")
FUSE_TYPE = "fuse.firecrestfs"


class Server(Protocol):
    """An emulated FirecREST, in this process or in its own.

    What lies in `local_home` is the user's home on the first cluster: changing it there is what
    another client does.
    """

    info: dict[str, Any]

    def requests(self, reset: bool = False) -> list[str]:
        """Return the endpoints that were asked since the last reset, tokens' not counted."""

    def set(self, **knobs: object) -> None:
        """Set knobs of the emulator."""

    def settings(self) -> dict[str, object]:
        """Return all knobs."""

    def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the faults."""

    def alarms(self) -> list[str]:
        """Return, once, the command lines that a path would have changed."""


def local_home(server: Server, system: int = 0) -> Path:
    """Return the directory that plays the home directory of a cluster."""
    return Path(server.info["systems"][system]["local_home"])


def local_scratch(server: Server) -> Path:
    """Return the directory that plays the scratch directory of the first cluster."""
    return Path(server.info["systems"][0]["local_scratch"])


_clients: dict[tuple[str, str], TypedClient] = {}


def client_of(server: Server) -> TypedClient:
    """Return another client of the server, with the same credentials: one for all who ask."""
    info = server.info
    key = (info["url"], info["client_secret"])
    if key not in _clients:
        auth = ClientCredentialsAuth(
            info["client_id"], info["client_secret"], info["token_url"], allow_http=True
        )
        _clients[key] = TypedClient(Firecrest(info["url"], auth, allow_http=True))
    return _clients[key]


def is_readable(file: Any, seconds: float) -> bool:
    """Wait until *file* has something to read; unlike select(2) for descriptors of any number."""
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


class EmulatorThreads:
    """An emulator in this process."""

    def __init__(self, root: Path, api: str = "v2") -> None:
        self._emulator = Emulator(root, systems=SYSTEMS, settings=SETTINGS, api=api)
        self.info: dict[str, Any] = {}

    def __enter__(self) -> EmulatorThreads:
        self._emulator.start()
        self.info = self._emulator.describe()
        return self

    def __exit__(self, *exc: object) -> None:
        self._emulator.stop()

    def requests(self, reset: bool = False) -> list[str]:
        """Return the endpoints that were asked since the last reset, tokens' not counted."""
        log = self._emulator.requests
        entries = log.clear() if reset else log.snapshot()
        return [entry.endpoint for entry in entries if not entry.is_token]

    def set(self, **knobs: object) -> None:
        """Set knobs of the emulator."""
        for name, value in knobs.items():
            self._emulator.knobs.put(name, value)

    def settings(self) -> dict[str, object]:
        """Return all knobs."""
        return self._emulator.knobs.as_dict()

    def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the faults."""
        self._emulator.faults.replace(rules)

    def alarms(self) -> list[str]:
        """Return, once, the command lines that a path would have changed."""
        found = list(self._emulator.alarms)
        self._emulator._site.alarms.clear()
        return found


#: An emulator that, started again, takes the credentials and tokens it took before.
_STEADY = """
import secrets
secrets.token_urlsafe = lambda size=32: "steady-secret"
secrets.token_bytes = lambda size=32: b"k" * size
from firecrestfs.emulator.__main__ import main
main()
"""


class EmulatorProcess:
    """An emulator as a program: `firecrestfs serve --json`."""

    def __init__(
        self,
        root: Path,
        *,
        systems: Sequence[str] = (),
        settings: Mapping[str, object] = SETTINGS,
        port: int = 0,
        steady: bool = False,
        api: str = "v2",
    ) -> None:
        """With *systems*, clusters of those names; `serve` itself has but one.

        *steady*: its credentials outlive `start_again`.
        """
        program = ["-m", "firecrestfs.emulator"] if systems else ["-m", "firecrestfs", "serve"]
        program = ["-c", _STEADY] if steady else program
        self._command = [sys.executable, *program, "--json", "--root", str(root)]
        self._command += ["--port", str(port), "--api", api]
        for name, value in settings.items():
            self._command += ["--set", f"{name}={value}"]
        for name in systems:
            self._command += ["--system", name]
        self._log = root.with_name(root.name + ".log")
        self._process: subprocess.Popen[str] | None = None
        self.info: dict[str, Any] = {}

    def __enter__(self) -> EmulatorProcess:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdout is not None
        ready = is_readable(self._process.stdout, COMMAND_S)
        line = self._process.stdout.readline() if ready else ""
        if not line:
            self.stop()
            raise AssertionError(f"the emulator did not start: {self._log.read_text()}")
        self.info = json.loads(line)

    def start_again(self) -> None:
        """Start it at the address it had, with the files it had."""
        at = self._command.index("--port") + 1
        self._command[at] = self.info["url"].rpartition(":")[2]
        self.start()

    def stop(self) -> None:
        """End it by its process id; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(15)
        finally:
            assert process.stdout is not None
            process.stdout.close()

    def requests(self, reset: bool = False) -> list[str]:
        """Return the endpoints that were asked since the last reset, tokens' not counted."""
        entries = self._call("requests?reset=1" if reset else "requests")
        return [entry["endpoint"] for entry in entries if entry["endpoint"] != "token"]

    def set(self, **knobs: object) -> None:
        """Set knobs of the emulator."""
        self._call("set", knobs)

    def settings(self) -> dict[str, object]:
        """Return all knobs."""
        found: dict[str, object] = self._call("state")["settings"]
        return found

    def faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the faults."""
        self._call("faults", list(rules))

    def alarms(self) -> list[str]:
        """Return, once, the command lines that a path would have changed."""
        found: list[str] = self._call("alarms?reset=1")
        return found

    def _call(self, name: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = f"{self.info['url']}/_emulator/{name}"
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=COMMAND_S) as answer:
            return json.load(answer)


def free_port() -> int:
    """Return a port of this machine where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


# -- the command line ------------------------------------------------------------------------------


def environment_for(info: Mapping[str, Any], home: Path) -> dict[str, str]:
    """Return an environment in which everything of firecrestfs lies under *home*."""
    ours = ("FIRECREST", "AUTH_TOKEN_URL", "XDG_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    env |= {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_CONFIG_HOME": str(home / "config"),
    }
    if info:
        env |= {
            "FIRECREST_URL": info["url"],
            "FIRECREST_CLIENT_ID": info["client_id"],
            "FIRECREST_CLIENT_SECRET": info["client_secret"],
            "AUTH_TOKEN_URL": info["token_url"],
        }
    return env


def run_cli(
    arguments: Sequence[str | Path],
    env: Mapping[str, str],
    timeout: float = COMMAND_S,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run `firecrestfs` with *arguments*; never waits longer than *timeout* seconds."""
    return subprocess.run(
        [sys.executable, "-m", "firecrestfs", *map(str, arguments)],
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        start_new_session=True,
        check=False,
    )


def mounted_type(path: Path) -> str | None:
    """Return the type of the file system that is mounted at *path*, without touching it."""
    found = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split(" ")[4] == str(path):
            found = after.split(" ")[0]
    return found


def is_running(pid: int) -> bool:
    """Tell whether the process *pid* runs; a zombie doesn't."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Wait until *what* is true; return whether that was so in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


#: Kills the process argv[1] unless it is told in time not to. A process of its own: a thread that
#: faults on a mapped page of a hung mount would hold this interpreter's lock.
_WATCHDOG = """
import os, select, sys, time
pid, due = int(sys.argv[1]), None
while True:
    wait = None if due is None else max(0.0, due - time.monotonic())
    if select.select([0], [], [], wait)[0]:
        line = os.read(0, 4096).split(b"\\n")
        if line == [b""]:
            break
        due = None if line[-2] == b"off" else time.monotonic() + float(line[-2])
    elif due is not None:
        os.kill(pid, 9)
        break
"""


class Watchdog:
    """Kills a mount's process that keeps a test waiting: its calls then fail instead of hanging."""

    def __init__(self, pid: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-c", _WATCHDOG, str(pid)],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    @contextlib.contextmanager
    def watching(self, seconds: float) -> Iterator[None]:
        """Give the body *seconds*."""
        self._tell(f"{seconds}\n")
        try:
            yield
        finally:
            self._tell("off\n")

    def stop(self) -> None:
        """End the watch."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait(15)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


class Mounted:
    """`firecrestfs mount` at `path`, from `with` to its end; what can't be unmounted is killed."""

    def __init__(
        self,
        server: Server,
        home: Path,
        *,
        binding: str = "",
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        """*home* is a directory of the test's own, *options* go to `-o`."""
        self.home = home
        self.path = home / "mnt"
        self.path.mkdir(parents=True, exist_ok=True)
        self.env = environment_for(server.info, home) | dict(env or {})
        if binding:
            self.env["FIRECRESTFS_FUSE"] = binding
        self._options = [part for each in options for part in ("-o", each)]
        self._watchdog: Watchdog | None = None
        self.pid = 0

    def __enter__(self) -> Mounted:
        done = self.mount()
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.log()}"
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()

    def mount(self) -> subprocess.CompletedProcess[str]:
        """Mount, again where it was mounted before."""
        done = self.cli("mount", self.path, *self._options)
        record = self._record()
        if done.returncode == 0 and record is not None:
            self.pid = record["pid"]
            self._stop_watchdog()
            self._watchdog = Watchdog(self.pid)
        return done

    def ensure(self) -> None:
        """Mount again if the mount's process has died."""
        if not self.pid or not is_running(self.pid):
            done = self.mount()
            assert done.returncode == 0, done.stderr

    def cli(
        self, *arguments: str | Path, timeout: float = COMMAND_S, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `firecrestfs` in the environment of this mount."""
        return run_cli(arguments, self.env, timeout, cwd)

    def watching(self, seconds: float = COMMAND_S) -> contextlib.AbstractContextManager[None]:
        """Give the body *seconds*; then the mount's process is killed."""
        assert self._watchdog is not None
        return self._watchdog.watching(seconds)

    def log(self) -> str:
        """Return all that the mount has logged."""
        logs = sorted((self.home / "state").glob("firecrestfs/servers/*/log"))
        return "".join(each.read_text(errors="replace") for each in logs)

    def kill(self) -> None:
        """SIGKILL the mount's process and wait until it is gone."""
        os.kill(self.pid, signal.SIGKILL)
        assert wait_for(lambda: not is_running(self.pid))

    def end(self) -> None:
        """Unmount by all means."""
        try:
            if self.pid and is_running(self.pid):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.cli("umount", self.path, "--timeout", "10", timeout=30)
        finally:
            if self.pid and is_running(self.pid):
                os.kill(self.pid, signal.SIGKILL)
                wait_for(lambda: not is_running(self.pid))
            while mounted_type(self.path) == FUSE_TYPE:
                subprocess.run(["fusermount3", "-uz", str(self.path)], timeout=30, check=True)
            self._stop_watchdog()

    def _stop_watchdog(self) -> None:
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.stop()

    def _record(self) -> dict[str, Any] | None:
        for path in (self.home / "state/firecrestfs/mounts").glob("*.json"):
            record: dict[str, Any] = json.loads(path.read_text())
            if record["mountpoint"] == str(self.path):
                return record
        return None
