"""Measure copying into the mount: until the prompt returns, and until all has landed.

    python scripts/bench_writeback.py [--quick] [--only copy|create] [--api v1]

In one run, each server 50 ms away: `cp -r` of 500 files of 4 KiB into a mount of the embedded
FirecREST; pyfirecrest (the official client) uploading them in a loop; `cp -r` into rclone's mount
of its own WebDAV server, and into sshfs's of an sshd. Then small files are created on the mount
and, in turns, on a bare loopback file system on the same FUSE binding.

Exit status: 0 what must hold holds · 1 it doesn't · 2 the benchmark itself failed · 130
interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import bench_peers
from bench_mount import _official_client
from bench_world import HERE, World, available_bindings, firecrestfs, run

_BYTES = 4096
#: Requests until `cp -r` of the tree has landed: what must hold.
_BUDGET = 12
#: Our rate of creating small files against that of the loopback: what must hold.
_LEAST_RATIO = 0.5
_SMALL = b"a small file\n" * 80
#: Files that are created on one before it is the other's turn.
_TURN = 25
_LANDING_S = 600.0


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    files: int = 500
    directories: int = 10
    created: int = 1000
    rounds: int = 5
    latency_ms: float = 50.0


QUICK = Sizes(files=60, directories=3, created=250, rounds=3)


@dataclass(frozen=True)
class Copied:
    """What copying took: seconds until the prompt, seconds and requests until all had landed."""

    how: str
    prompt_s: float
    landed_s: float
    requests: int | None
    must_hold: str = ""

    def row(self) -> str:
        """Return a line of the table."""
        requests = "–" if self.requests is None else str(self.requests)
        numbers = f"{self.prompt_s:9.2f} {self.landed_s:9.2f} {requests:>9}"
        return f"{self.how:44} {numbers}   {self.must_hold}".rstrip()


_HEADING = (
    f"{'':44} {'seconds until':>19} {'':9}\n{'by':44} {'prompt':>9} {'landed':>9} {'requests':>9}"
)


# -- copying ---------------------------------------------------------------------------------------


def plant(top: Path, sizes: Sizes) -> Path:
    """Make the tree that is copied; no two files are equal."""
    for number in range(sizes.files):
        path = top / f"part-{number % sizes.directories}" / f"file-{number:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((b"%d\n" % number * _BYTES)[:_BYTES])
    return top


def same(one: Path, other: Path) -> bool:
    """Tell whether two local trees hold the same."""
    command = ["diff", "-r", "-q", str(one), str(other)]
    return subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0


def by_mount(world: World, source: Path) -> Copied:
    """Copy into our mount."""
    mount = world.mount("hpc")
    home = mount.mountpoint / world.server.system / world.server.home[1:]
    run(["stat", str(home)])
    world.server.requests(reset=True)
    started = time.perf_counter()
    run(["cp", "-r", str(source), str(home / "by-mount")])
    prompt = time.perf_counter() - started
    firecrestfs("sync", str(home / "by-mount"))
    landed = world.server.so_far(started)
    if not same(source, world.server.local_home / "by-mount"):
        raise RuntimeError("the cluster does not have what was copied")
    mount.stop()
    verdict = f"{_BUDGET} requests {'ok' if landed.requests <= _BUDGET else 'MISSED'}"
    return Copied("firecrestfs, cp -r", prompt, landed.seconds, landed.requests, verdict)


def by_client(world: World, source: Path) -> Copied:
    """Upload with the official client, one after another."""
    client = _official_client(world.server)
    server, top = world.server, f"{world.server.home}/by-client"

    def work() -> None:
        client.mkdir(server.system, top)
        for directory in sorted(source.iterdir()):
            client.mkdir(server.system, f"{top}/{directory.name}")
            for path in sorted(directory.iterdir()):
                client.upload(server.system, str(path), f"{top}/{directory.name}", path.name)

    cost = server.measure(work)
    if not same(source, server.local_home / "by-client"):
        raise RuntimeError("the cluster does not have what was uploaded")
    return Copied(
        "pyfirecrest, mkdir and upload in a loop", cost.seconds, cost.seconds, cost.requests
    )


def by_peer(how: str, peer: bench_peers.Peer, source: Path) -> Copied:
    """Copy into the mount of somebody else."""
    before = peer.requests()
    started = time.perf_counter()
    run(["cp", "-r", str(source), str(peer.mountpoint / "copied")], timeout=_LANDING_S)
    prompt = time.perf_counter() - started
    while not same(source, peer.landing / "copied"):
        if time.perf_counter() - started > _LANDING_S:
            raise RuntimeError(f"{how}: not landed in {_LANDING_S:.0f} s")
        time.sleep(0.1)
    landed = time.perf_counter() - started
    after = peer.requests()
    requests = None if before is None or after is None else after - before
    return Copied(how, prompt, landed, requests)


def measure_copies(world: World, sizes: Sizes) -> bool:
    """Print the table of copies; tell whether the budget holds."""
    source = plant(world.root / "source", sizes)
    print(f"{sizes.files} files of 4 KiB in {sizes.directories} directories, ", end="")
    print(f"each server {sizes.latency_ms:.0f} ms away\n\n{_HEADING}")
    ours = by_mount(world, source)
    print(ours.row(), flush=True)
    print(by_client(world, source).row(), flush=True)
    for how, make in (
        ("rclone mount --vfs-cache-mode writes, cp -r", bench_peers.rclone),
        ("sshfs, cp -r", bench_peers.sshfs),
    ):
        try:
            with make(world, sizes.latency_ms) as peer:
                print(by_peer(how, peer, source).row(), flush=True)
        except bench_peers.Missing as exc:
            print(f"{how:44} {exc}")
    return "MISSED" not in ours.must_hold


# -- creating small files --------------------------------------------------------------------------


def measure_creating(world: World, sizes: Sizes) -> bool:
    """Print the table of creations per binding; tell whether all are fast enough."""
    print(f"\ncreating {sizes.created} small files in turns, against a bare loopback\n")
    print(f"{'binding':20} {'ours µs':>9} {'bare µs':>9} {'ratio':>8} {'spread':>12}   must hold")
    holds = []
    for binding in available_bindings():
        label = binding.title.replace(", ", "-")
        ours = world.mount(f"create-{label}", binding)
        top = world.root / f"loopback-{label}"
        top.mkdir()
        mountpoint = world.root / f"bare-{label}"
        command = [sys.executable, str(HERE / "bench_loopback.py"), str(mountpoint), str(top)]
        bare = world.start(command, mountpoint, binding)
        home = ours.mountpoint / world.server.system / world.server.home[1:]
        tops = (str(home), str(mountpoint))
        try:
            numbers = [str(sizes.created), str(sizes.rounds)]
            asked = run([sys.executable, __file__, "--create", *tops, *numbers])
        finally:
            ours.stop()
            bare.stop()
        row, good = _creating_row(binding.title, json.loads(asked), sizes.created)
        print(row, flush=True)
        holds.append(good)
    return all(holds)


def _creating_row(title: str, pairs: list[list[float]], count: int) -> tuple[str, bool]:
    ratios = [bare / ours for ours, bare in pairs]
    ratio = statistics.median(ratios)
    ours, bare = (
        statistics.median(pair[which] for pair in pairs) / count * 1e6 for which in (0, 1)
    )
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    verdict = "ok" if ratio >= _LEAST_RATIO else "MISSED"
    numbers = f"{ours:9.1f} {bare:9.1f} {ratio:8.2f} {spread:>12}"
    row = f"{title:20} {numbers}   >= {_LEAST_RATIO} {verdict}"
    return row, ratio >= _LEAST_RATIO


def create_in_turns(tops: list[str], count: int, rounds: int) -> list[list[float]]:
    """Create *count* files below each of *tops* in turns; return the seconds of each round."""
    found = []
    for number in range(rounds + 1):
        directories = [os.path.join(top, f"{os.getpid()}-{number}") for top in tops]
        for each in directories:
            os.mkdir(each)
        seconds = [0.0, 0.0]
        for start in range(0, count, _TURN):
            turn = [0, 1]
            random.shuffle(turn)
            for which in turn:
                seconds[which] += _create(directories[which], range(start, start + _TURN))
        found.append(seconds)
    return found[1:]


def _create(directory: str, numbers: range) -> float:
    started = time.perf_counter()
    for number in numbers:
        with open(f"{directory}/file-{number}", "wb") as file:
            file.write(_SMALL)
    return time.perf_counter() - started


# -- the program -----------------------------------------------------------------------------------


def _bench(sizes: Sizes, parts: dict[str, Callable[[World, Sizes], bool]], api: str) -> int:
    with World(sizes.latency_ms, api) as world:
        holds = [part(world, sizes) for part in parts.values()]
    print("\nall that must hold holds" if all(holds) else "\nMISSED: see above")
    return 0 if all(holds) else 1


def main() -> int:
    """Parse the command line and measure."""
    parts = {"copy": measure_copies, "create": measure_creating}
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="smaller numbers, in less time")
    parser.add_argument("--only", choices=tuple(parts), help="one part of it")
    parser.add_argument("--api", choices=("v1", "v2"), default="v2", help="version of FirecREST")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    chosen = {given.only: parts[given.only]} if given.only else parts
    try:
        return _bench(QUICK if given.quick else Sizes(), chosen, given.api)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        print(f"the benchmark failed: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    if sys.argv[1:2] == ["--create"]:
        print(json.dumps(create_in_turns(sys.argv[2:4], int(sys.argv[4]), int(sys.argv[5]))))
    else:
        sys.exit(main())
