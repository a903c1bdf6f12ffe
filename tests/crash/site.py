"""Where mounts are killed: mounts of one emulator, by way of the nursery."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..fs.drivers import KernelDriver
from ..harness import (
    COMMAND_S,
    FUSE_TYPE,
    Server,
    environment_for,
    is_running,
    local_home,
    mounted_type,
    wait_for,
)
from .told import Tree, tree_of

HERE = Path(__file__).parent


class Nursery:
    """The process that forks mounts of one server."""

    def __init__(self, server: Server, home: Path) -> None:
        self.server = server
        home.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()  # guards the pipes
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            env=environment_for(server.info, home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=HERE.parents[1],
            text=True,
            start_new_session=True,
        )

    def bear(self, order: Mapping[str, Any]) -> int:
        """Fork a mount; return its pid."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())

    def close(self) -> None:
        """End it; its mounts must have ended."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(15)
        self._process.stdout.close()


class Site:
    """One mount after another over one state directory."""

    def __init__(self, nursery: Nursery, home: Path, name: str, **options: Any) -> None:
        """*options* are settings of the mount."""
        self.nursery = nursery
        self.home = home
        self.there = local_home(nursery.server) / name
        self.path = home / "mnt"
        # A test that is run once more begins anew.
        shutil.rmtree(self.there, ignore_errors=True)
        for path in (self.path, self.there):
            path.mkdir(parents=True)
        system = nursery.server.info["systems"][0]
        self.driver = KernelDriver(self.path).at(f"/{system['name']}{system['home']}/{name}")
        self.top = Path(self.driver.path())
        self.log = home / "log"
        self.state_dir = home / "state"
        self._options = {
            "write_back": 0.1,
            "op_timeout": 20,
            "state_dir": str(self.state_dir),
            "cache_dir": str(home / "cache"),
            **options,
        }
        #: What the mount's machine is made to look like: see `nursery`.
        self.machine: dict[str, str] = {}
        #: Seconds that a test may use a mount.
        self.watch_s = COMMAND_S
        self.pid = 0
        self._guard: threading.Timer | None = None

    # -- life and death ------------------------------------------------------------------------

    def mount(self, fault: str = "") -> bool:
        """Mount; return whether it lives: with a *fault* it may be dead by now."""
        order: dict[str, Any] = {
            "mountpoint": str(self.path),
            "log": str(self.log),
            "overrides": self._options | ({"fault": fault} if fault else {}),
            **self.machine,
        }
        # What is dead is taken away first: else it would be taken for the one to come.
        self._take_away()
        self.pid = self.nursery.bear(order)
        assert wait_for(lambda: mounted_type(self.path) == FUSE_TYPE or not self.lives, 30)
        self.watch()
        alive = self.lives
        assert alive or fault, self.log.read_text()[-2000:]
        return alive

    def watch(self) -> None:
        """Kill the mount in `watch_s` from now: calls of the test then fail instead of hanging."""
        if self._guard is not None:
            self._guard.cancel()
        self._guard = threading.Timer(self.watch_s, self._stop_hanging)
        self._guard.start()

    @property
    def lives(self) -> bool:
        """Whether the mount's process runs."""
        return is_running(self.pid)

    def kill(self) -> None:
        """SIGKILL the mount's process, if it still lives, and wait until all of it is gone."""
        self._kill()
        assert wait_for(lambda: _is_gone(self.pid), 30)
        if self._guard is not None:
            self._guard.cancel()

    def _stop_hanging(self) -> None:
        """Let the log say where its threads are, and kill it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGUSR2)
            time.sleep(1)
        self._kill()

    def _kill(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def unmount(self) -> None:
        """Let the mount end in order: everything is stored first."""
        os.kill(self.pid, signal.SIGTERM)
        assert wait_for(lambda: _is_gone(self.pid), COMMAND_S)
        assert mounted_type(self.path) is None
        if self._guard is not None:
            self._guard.cancel()

    def end(self) -> None:
        """Kill and unmount."""
        self.kill()
        self._take_away()

    def _take_away(self) -> None:
        while mounted_type(self.path) == FUSE_TYPE:
            subprocess.run(["fusermount3", "-uz", str(self.path)], timeout=30, check=True)

    # -- what is there -------------------------------------------------------------------------

    def drain(self) -> dict[str, str]:
        """Let everything land, as `firecrestfs sync` does; return what did not."""
        # Recovery begins with the mount, but waits for nobody.
        self.driver.listdir()
        return self.driver.sync()

    def errors(self) -> list[str]:
        """Return what the mount has told its user."""
        return self.driver.control("errors").splitlines()

    def on_cluster(self) -> Tree:
        """Return all that the cluster has in the site's directory."""
        return tree_of(self.there)

    def set_aside(self) -> list[bytes]:
        """Return the contents of lost+found."""
        lost = self.state_dir / "lost+found"
        return [each.read_bytes() for each in lost.iterdir()] if lost.is_dir() else []


def _is_gone(pid: int) -> bool:
    """Tell whether no thread of the process is left: as long as one is, the locks are held."""
    try:
        return not is_running(pid) and len(os.listdir(f"/proc/{pid}/task")) <= 1
    except OSError:
        return True
