"""Measure the mount: requests and seconds of everyday actions, and `stat` through the kernel.

    python scripts/bench_mount.py [--quick] [--api v1]

In one run: an embedded FirecREST with 50 ms of latency is mounted; each action is done through the
mount, and beside it by pyfirecrest (the official client) in a loop, its requests counted at the
same server in the same way. Then `stat` from the cache is compared with a bare in-memory file
system on the same FUSE binding, without latency.

Exit status: 0 all budgets hold · 1 one doesn't · 2 the benchmark itself failed · 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bench_stat
from bench_bare_fs import file_name
from bench_world import Cost, Server, World, available_bindings, firecrestfs, run
from firecrest import ClientCredentialsAuth, v1, v2


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    listed: int = 5000
    small: int = 50
    directories: int = 50
    per_directory: int = 100
    rounds: int = 9
    latency_ms: float = 50.0


QUICK = Sizes(listed=1000, small=10, directories=10, per_directory=20, rounds=5)
_SMALL_BYTES = 4096
#: Requests that a walk over all directories may take.
_FIND_BUDGET = 5


@dataclass(frozen=True)
class Row:
    """One action: through the mount, by the official client, and what we promise.

    `ours` is None where a second way of the client is shown beside the same action.
    """

    action: str
    ours: Cost | None
    how: str = ""
    theirs: Cost | None = None
    budget: int | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the budget holds, or there is none."""
        return self.budget is None or self.ours is None or self.ours.requests <= self.budget

    def text(self) -> str:
        """Return a line of the table."""
        budget = "" if self.budget is None else f"{self.budget} {'ok' if self.holds else 'MISSED'}"
        return (
            f"{self.action:42} {_columns(self.ours)}   {budget:12} {_columns(self.theirs)}"
            f"   {self.how}"
        ).rstrip()


def _columns(cost: Cost | None) -> str:
    return f"{cost.requests:8} {cost.seconds:8.2f}" if cost else " " * 17


_HEADING = (
    f"{'':42} {'firecrestfs':>17}   {'':12} {'pyfirecrest':>17}\n"
    f"{'action':42} {'requests':>8} {'seconds':>8}   {'must hold':12} {'requests':>8} "
    f"{'seconds':>8}   by"
)


# -- the files -------------------------------------------------------------------------------------


class Files:
    """What is on the cluster before the measurements, written past the server."""

    def __init__(self, server: Server, local: Path, sizes: Sizes) -> None:
        self.home = server.local_home
        self.source = local / "source"
        self._owner = self.home.stat()
        self.listed = self._fill(self.home / "listed", sizes.listed, b"")
        self.small = self._fill(self.home / "small", sizes.small, _some_text())
        self.tree = self._directory(self.home / "tree")
        for number in range(sizes.directories):
            self._fill(self.tree / f"part-{number:02d}", sizes.per_directory, b"")
        self.copied, self.uploaded = (
            self._directory(self.home / name) for name in ("copied", "uploaded")
        )
        self._fill(self.source, sizes.small, _some_text())

    def _fill(self, directory: Path, count: int, data: bytes) -> Path:
        self._directory(directory)
        for number in range(count):
            path = directory / file_name(number)
            path.write_bytes(data)
            self._give(path)
        return directory

    def _directory(self, path: Path) -> Path:
        path.mkdir()
        self._give(path)
        return path

    def _give(self, path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, self._owner.st_uid, self._owner.st_gid)


def _some_text() -> bytes:
    return (b"0123456789abcde\n" * (_SMALL_BYTES // 16))[:_SMALL_BYTES]


def _require(fact: bool, what: str) -> None:
    """Refuse to publish the time of work that was not done."""
    if not fact:
        raise RuntimeError(f"not what was expected: {what}")


# -- the actions -----------------------------------------------------------------------------------


class Actions:
    """Each action through the mount and by the official client."""

    def __init__(self, world: World, files: Files, sizes: Sizes) -> None:
        self._server = world.server
        self._files = files
        self._sizes = sizes
        self._scratch = world.root
        self._mount = world.mount("hpc")
        self._home = self._mount.mountpoint / self._server.system / self._server.home[1:]
        self._client = _official_client(self._server)
        self._names = [file_name(number) for number in range(sizes.small)]

    def all(self) -> list[Row]:
        """Do everything, in an order in which no row profits from the one before."""
        try:
            return [*self._listing(), *self._reading(), *self._copying(), *self._walking()]
        finally:
            self._mount.stop()

    def _listing(self) -> list[Row]:
        count, top = self._sizes.listed, self._home / "listed"
        self._forget(top)
        list_all = self._by_client(lambda: self._list("listed", count))
        cold = self._server.measure(lambda: self._ls(top, count))
        self._forget(top)
        run(["ls", str(top.parent)])
        came_by = self._server.measure(lambda: self._ls(top, count))
        again = self._server.measure(lambda: self._ls(top, count))
        paths = [str(top / name) for name in self._names]
        looked = self._server.measure(lambda: _look(paths))
        stat_each = self._by_client(
            lambda: [self._client.stat(*self._at("listed", name)) for name in self._names]
        )
        return [
            Row(
                f"ls -l of {count} files, its name unknown too",
                cold,
                "list_files",
                list_all,
            ),
            Row("… where its parent was listed before", came_by, "list_files", list_all, 1),
            Row("ls -l of the same again", again, "list_files (it has no cache)", list_all, 0),
            Row(f"stat and test -e of {len(paths)} of them", looked, "stat each", stat_each, 0),
        ]

    def _reading(self) -> list[Row]:
        count, top = len(self._names), self._home / "small"
        self._forget(top)
        self._ls(top, count)
        paths = [str(top / name) for name in self._names]
        read = self._server.measure(lambda: _cat(paths))
        viewed = self._by_client(
            lambda: [self._client.view(*self._at("small", name)) for name in self._names]
        )
        downloaded = self._by_client(self._download_all)
        return [
            Row(f"cat of {count} small files after ls", read, "view each (text)", viewed, count),
            Row("", None, "download each (any bytes)", downloaded),
        ]

    def _copying(self) -> list[Row]:
        count, top = len(self._names), self._home / "copied"
        sources = [str(self._files.source / name) for name in self._names]
        self._forget(top)
        self._server.requests(reset=True)
        started = time.perf_counter()
        run(["cp", *sources, str(top)])
        prompt = self._server.so_far(started)
        firecrestfs("sync", str(top))
        landed = self._server.so_far(started)
        _require(_same(self._files.source, self._files.copied), "what the mount has stored")
        uploaded = self._by_client(
            lambda: [
                self._client.upload(self._server.system, path, self._path("uploaded"), name)
                for path, name in zip(sources, self._names, strict=True)
            ]
        )
        _require(_same(self._files.source, self._files.uploaded), "what the client has stored")
        return [
            Row(f"cp of {count} small files, until the prompt", prompt),
            Row("… until they have landed", landed, "upload each", uploaded),
        ]

    def _walking(self) -> list[Row]:
        directories, top = self._sizes.directories, self._home / "tree"
        count = directories * self._sizes.per_directory
        self._forget(top)
        found = self._server.measure(lambda: _find(top, count))
        each = self._by_client(lambda: self._list_each(count))
        whole = self._by_client(lambda: self._client.list_files(*self._at("tree"), recursive=True))
        action = f"find over {directories} directories, {count} files"
        return [
            Row(action, found, "list_files of each directory", each, _FIND_BUDGET),
            Row("", None, "list_files(recursive=True)", whole),
        ]

    # -- through the mount -----------------------------------------------------------------------

    def _forget(self, directory: Path) -> None:
        """Make *directory* and all below it unknown, and its ancestors known."""
        firecrestfs("refresh", str(directory))
        run(["stat", str(directory.parent)])

    def _ls(self, directory: Path, count: int) -> None:
        lines = run(["ls", "-l", str(directory)]).count(b"\n")
        _require(lines == count + 1, f"{lines} lines of ls")

    # -- by the official client ------------------------------------------------------------------

    def _by_client(self, work: Callable[[], object]) -> Cost:
        return self._server.measure(work)

    def _path(self, *names: str) -> str:
        return "/".join((self._server.home, *names))

    def _at(self, *names: str) -> tuple[str, str]:
        return self._server.system, self._path(*names)

    def _list(self, name: str, count: int) -> None:
        _require(len(self._client.list_files(*self._at(name))) == count, "list_files")

    def _list_each(self, count: int) -> None:
        inside = [
            self._client.list_files(*self._at("tree", entry["name"]))
            for entry in self._client.list_files(*self._at("tree"))
        ]
        _require(sum(len(each) for each in inside) == count, "list_files of each directory")

    def _download_all(self) -> None:
        with tempfile.TemporaryDirectory(dir=self._scratch) as local:
            for name in self._names:
                self._client.download(*self._at("small", name), os.path.join(local, name))
            _require(_same(self._files.small, Path(local)), "download")


class _ClientV1(v1.Firecrest):
    """The official client of API v1, by the names that the one of v2 has."""

    def upload(self, system: str, path: str, directory: str, name: str) -> None:
        """Upload one small file."""
        self.simple_upload(system, path, directory)

    def download(self, system: str, path: str, local: str) -> None:
        """Download one small file."""
        self.simple_download(system, path, local)

    def systems(self) -> object:
        """List the systems."""
        return self.all_systems()


def _official_client(server: Server) -> Any:
    info = server.info
    auth = ClientCredentialsAuth(info["client_id"], info["client_secret"], info["token_url"])
    kind = _ClientV1 if info["api"] == "v1" else v2.Firecrest
    client = kind(info["url"], auth)
    client.timeout = 120
    client.systems()  # a connection and a token, as the mount has them by now
    return client


def _look(paths: list[str]) -> None:
    run(["stat", *paths])
    run(["sh", "-c", 'for each in "$@"; do test -e "$each" || exit 1; done', "sh", *paths])


def _cat(paths: list[str]) -> None:
    _require(run(["cat", *paths]) == _some_text() * len(paths), "the bytes of cat")


def _find(directory: Path, count: int) -> None:
    lines = run(["find", str(directory), "-type", "f"]).count(b"\n")
    _require(lines == count, f"{lines} lines of find")


def _same(one: Path, other: Path) -> bool:
    """Tell whether two local directories hold the same files."""
    done = subprocess.run(["diff", "-r", "-q", str(one), str(other)], timeout=60, check=False)
    return done.returncode == 0


# -- the program -----------------------------------------------------------------------------------


def measure_actions(world: World, files: Files, sizes: Sizes) -> bool:
    """Print the table of actions; tell whether all budgets hold."""
    print(f"Latency {sizes.latency_ms:.0f} ms; requests at the server, those for tokens aside.\n")
    print(_HEADING)
    rows = Actions(world, files, sizes).all()
    for row in rows:
        print(row.text())
    return all(row.holds for row in rows)


def measure_stat(world: World, sizes: Sizes) -> bool:
    """Print the table of `stat` calls per binding; tell whether all are fast enough."""
    world.server.set({"latency": 0})
    directory = f"/{world.server.system}{world.server.home}/listed"
    print(f"\nstat of {sizes.listed} files in turns, from the cache, against a bare file system\n")
    print(bench_stat.HEADING)
    results = []
    for binding in available_bindings():
        results.append(bench_stat.compare(world, binding, directory, sizes.listed, sizes.rounds))
        print(results[-1].row(), flush=True)
    return all(result.holds for result in results)


def _bench(sizes: Sizes, parts: set[str], api: str) -> int:
    with World(sizes.latency_ms, api) as world:
        files = Files(world.server, world.root, sizes)
        holds = [measure_actions(world, files, sizes)] if "actions" in parts else []
        holds += [measure_stat(world, sizes)] if "stat" in parts else []
    print("\nall that must hold holds" if all(holds) else "\nMISSED: see above")
    return 0 if all(holds) else 1


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller numbers, in less time")
    parser.add_argument("--only", choices=("actions", "stat"), help="one part of it")
    parser.add_argument("--api", choices=("v1", "v2"), default="v2", help="version of FirecREST")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        parts = {given.only} if given.only else {"actions", "stat"}
        return _bench(QUICK if given.quick else Sizes(), parts, given.api)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        print(f"the benchmark failed: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
