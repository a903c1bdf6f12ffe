"""The emulator as a whole: in threads of a test or demo (`Emulator`), or as a program (`serve`)."""

from __future__ import annotations

import contextlib
import json as json_module
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from flask import Flask

from . import identity, v1, v2
from .cluster import DEFAULT_FILE_SYSTEMS, Cluster, FileSystem, SystemSpec
from .control import Control
from .faults import FaultBoard
from .frontdoor import FrontDoor
from .knobs import Knobs
from .objectstore import PREFIX, store_at
from .populate import Population
from .requestlog import RequestLog
from .site import Site
from .tokens import Client, Tokens
from .webserver import WebServer

APIS = ("v1", "v2")


class Emulator:
    """An emulated FirecREST with its clusters, on 127.0.0.1 while the `with` block lasts.

    `root`: directory for the clusters' files, a temporary one without it. `users`: accounts; the
    first owns the client. `settings`: knobs by name, see `emulator.knobs`. All attributes may be
    used from any thread; `knobs` and `faults` act on the next request.
    """

    _jobs_run_here = False  # proven once, since that takes a while

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        api: str = "v2",
        port: int = 0,
        latency: float = 0.0,
        systems: tuple[str | SystemSpec, ...] = ("cluster",),
        users: tuple[str, ...] = ("demo",),
        file_systems: tuple[FileSystem, ...] = DEFAULT_FILE_SYSTEMS,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        if api not in APIS:
            raise ValueError(f"API {api!r} is not one of {', '.join(APIS)}")
        self.api = api
        self.knobs = Knobs()
        for name, value in {"latency": latency, **(settings or {})}.items():
            self.knobs.put(name, value)
        self.client_id = "firecrestfs-demo"
        self.client_secret = secrets.token_urlsafe(24)
        self.tokens = Tokens([Client(self.client_id, self.client_secret, users[0])], self.knobs)
        self.url = ""
        self._temporary = root is None
        self.root = Path(tempfile.mkdtemp(prefix="firecrest-")) if root is None else Path(root)
        self.clusters = {
            spec.name: Cluster(
                spec, self.root / (spec.files_of or spec.name), self.knobs, users, file_systems
            )
            for spec in (SystemSpec(one) if isinstance(one, str) else one for one in systems)
        }
        self.store = store_at(self.root / ".store", self.knobs)
        self._site = Site(self.knobs, self.tokens, self.clusters, self.store)
        self._port = port
        self._web: WebServer | None = None

    def start(self) -> None:
        """Begin to answer. Raises OSError if the port is taken."""
        app = Flask("firecrest", static_folder=None)
        app.url_map.strict_slashes = False
        app.url_map.merge_slashes = False
        Control(self._site).register(app)
        identity.register(app, self._site)
        version = v1 if self.api == "v1" else v2
        version.register(app, self._site)
        groups = [group.gid for one in self.clusters.values() for group in one.account.groups[1:]]
        web = WebServer(FrontDoor(app, self._site, version.canonical_path), self._port, groups)
        self.url = self._site.url = web.start()
        self.store.url = self.store.url or self.url + PREFIX
        self._web = web
        if not Emulator._jobs_run_here:
            obstacle = self.cluster.job_obstacle()
            self.notes.extend([obstacle] if obstacle else [])
            Emulator._jobs_run_here = not obstacle

    def stop(self) -> None:
        """End all jobs and stop answering; a temporary root is removed. May be called twice."""
        self._site.closed.set()
        for cluster in self.clusters.values():
            cluster.scheduler.close()
        if self._web is not None:
            self._web.stop()
            self._web = None
        self.store.clear()
        if self._temporary:
            _remove(self.root)

    def __enter__(self) -> Emulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def token_url(self) -> str:
        """Where clients get their tokens."""
        return self.url + identity.TOKEN_PATH

    @property
    def systems(self) -> list[dict[str, str]]:
        """Name, remote and local directories of each cluster, as `serve --json` prints them."""
        return [cluster.describe() for cluster in self.clusters.values()]

    @property
    def cluster(self) -> Cluster:
        """The first cluster."""
        return next(iter(self.clusters.values()))

    @property
    def requests(self) -> RequestLog:
        """What was asked so far."""
        return self._site.requests

    @property
    def faults(self) -> FaultBoard:
        """The faults in force."""
        return self._site.faults

    @property
    def alarms(self) -> list[str]:
        """Command lines that a path would have changed. A test should end with none."""
        return self._site.alarms.list()

    @property
    def notes(self) -> list[str]:
        """What this machine can't do, in sentences."""
        return self._site.notes

    def describe(self) -> dict[str, Any]:
        """Return what other programs need to know, as `serve --json` prints it."""
        return {
            "url": self.url,
            "api": self.api,
            "token_url": self.token_url,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "pid": os.getpid(),
            "systems": self.systems,
        }


def _remove(root: Path) -> None:
    """Remove a tree, also directories that their owner has closed."""
    for folder, names, _ in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                os.chmod(path, 0o700)
    shutil.rmtree(root, ignore_errors=True)


def serve(
    root: str | None = None,
    port: int = 0,
    api: str = "v2",
    latency: float = 0.0,
    settings: Mapping[str, object] | None = None,
    json: bool = False,
    systems: tuple[str, ...] = ("cluster",),
    demo: bool = False,
    faults: Sequence[str] = (),
) -> None:
    """Run an emulator until SIGTERM or SIGINT; say on stdout how to reach it once it answers.

    With *demo* the first cluster is filled with things to play with. *faults* are rules as
    `Fault.from_text` reads them.

    With *json* that is one line of JSON, else a text with lines for a shell to source. Raises
    OSError if the port is taken, ValueError for a bad setting. Call it from the main thread.
    """
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with contextlib.ExitStack() as stack:
        emulator = stack.enter_context(
            Emulator(root, port=port, api=api, latency=latency, settings=settings, systems=systems)
        )
        emulator.faults.add_texts(faults)
        if demo:
            stack.enter_context(Population(emulator.cluster))
        for note in emulator.notes:
            print(f"firecrestfs: {note}", file=sys.stderr, flush=True)
        text = json_module.dumps(emulator.describe()) if json else _readable(emulator)
        print(text, flush=True)
        ended.wait()


def _readable(emulator: Emulator) -> str:
    lines = [f"# FirecREST (API {emulator.api}) at {emulator.url}; Ctrl-C ends it."]
    for system in emulator.systems:
        lines.append(f"# {system['name']}: {system['home']} is {system['local_home']}")
        lines.append(f"# {system['name']}: {system['scratch']} is {system['local_scratch']}")
    variables = {
        "FIRECREST_URL": emulator.url,
        "FIRECREST_CLIENT_ID": emulator.client_id,
        "FIRECREST_CLIENT_SECRET": emulator.client_secret,
        "AUTH_TOKEN_URL": emulator.token_url,
    }
    lines += [f"export {name}={value}" for name, value in variables.items()]
    return "\n".join(lines)
