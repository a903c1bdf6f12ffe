"""Measure large files: the mount against curl on the same links, and against pyfirecrest.

    python scripts/bench_large.py [--mib 1024] [--rounds 3] [--api v1]

Each way, in turns: the bytes by curl to and from the object store's links, which is the limit;
the same file through the mount, of which the time that its bytes move counts; and the official
client's own transfer, beginning to end, beside the mount's. The best round of each counts: other
work on this machine must not decide. Before each way everything is on the disk and out of memory,
and each writes to a new file: else the second pays for what the first has left to be written.

Then how soon after an object exists a reader has the first byte, and ten large siblings read in a
row beside ten single ones, where each staging waits in a queue.

Exit status: 0 the ratio to the limit and the memory are within bounds · 1 one isn't · 2 the
benchmark itself failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from bench_world import MountProcess, World, firecrestfs, run
from firecrest import ClientCredentialsAuth as TheirAuth
from firecrest import v1, v2

import firecrestfs.api as f7t

MIB = 1 << 20
PART = 64 * MIB
RATIO, MEMORY_MIB = 0.8, 150
SIBLINGS, SIBLING_MIB = 10, 8
#: Seconds in the queue: of the siblings, and of the one whose first byte is waited for.
SIBLING_QUEUE_S, QUEUE_S = 5.0, 12.0
SETTINGS = {"poll_interval": 0.5, "queue_seconds": 0.0, "max_part_size": PART}


class Bench:
    """The parties, on one world."""

    def __init__(self, world: World, mount: MountProcess, api: str, size: int) -> None:
        info = world.server.info
        self.world, self.mount, self.api, self.size = world, mount, api, size
        self.system, self.home = world.server.system, world.server.home
        self.local = world.root / "local.bin"
        self.place = Path(f"{mount.mountpoint}/{self.system}{self.home}")
        secrets = (info["client_id"], info["client_secret"], info["token_url"])
        self.client = f7t.Firecrest(info["url"], f7t.ClientCredentialsAuth(*secrets))
        theirs = v1.Firecrest if api == "v1" else v2.Firecrest
        self.theirs: Any = theirs(firecrest_url=info["url"], authorization=TheirAuth(*secrets))

    # -- down ---------------------------------------------------------------------------------

    def curl_down(self, name: str) -> float:
        """Return the seconds that curl takes for the staged object."""
        down = self.client.external_download(self.system, f"{self.home}/{name}")
        link = down.object_storage_link
        target = self.world.root / f"curl-{name}"
        seconds = timed(lambda: run(["curl", "-fsS", "-o", str(target), link]))
        target.unlink()
        return seconds

    def mount_down(self, name: str) -> tuple[float, float]:
        """Return the seconds of the data phase, and those of all."""
        return self._phase(
            "object store, window", lambda: firecrestfs("fetch", str(self.place / name))
        )

    def client_down(self, name: str) -> float:
        """Return the seconds that the official client takes for all."""
        target = str(self.world.root / "theirs.bin")
        source = f"{self.home}/{name}"

        def work() -> None:
            if self.api == "v1":
                job = self.theirs.external_download(self.system, source)
                while job.in_progress:
                    time.sleep(0.2)
                job.finish_download(target)
            else:
                self.theirs.download(self.system, source, target, blocking=True)

        return timed(work)

    # -- up -----------------------------------------------------------------------------------

    def curl_up(self, name: str) -> float:
        """Return the seconds that curl takes to send the file, in parts where it has any."""
        up = self.client.external_upload(self.system, str(self.local), f"{self.home}/{name}")
        told = up.object_storage_data["parameters"]
        if self.api == "v1":
            fields = [f"-F{key}={value}" for key, value in told["data"].items()]
            command = ["curl", "-fsS", *fields, f"-Ffile=@{self.local}", told["url"]]
            seconds = timed(lambda: run(command))
        else:
            seconds = timed(lambda: self._curl_parts(told["urls"]))
            up.cancel()
        return seconds

    def _curl_parts(self, urls: list[str]) -> None:
        def send(number: int) -> None:
            skip = number * (PART // MIB)
            cut = f"dd if={self.local} bs=1M skip={skip} count={PART // MIB} status=none"
            run(["sh", "-c", f"{cut} | curl -fsS -T - '{urls[number]}' -H Transfer-Encoding: "
                 f"-H 'Content-Length: {min(PART, self.size - number * PART)}'"])  # fmt: skip

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, range(len(urls))))

    def mount_up(self, name: str) -> tuple[float, float]:
        """Return the seconds of the data phase, and those of all until it has landed."""

        def work() -> None:
            run(["cp", str(self.local), str(self.place / name)])
            firecrestfs("sync", str(self.place / name))

        return self._phase("(?:PUT|POST) object store", work)

    def client_up(self, name: str) -> float:
        """Return the seconds that the official client takes for all."""

        def work() -> None:
            if self.api == "v1":
                job = self.theirs.external_upload(self.system, str(self.local), self.home)
                while "parameters" not in str(job.data):
                    time.sleep(0.2)
                job.finish_upload()
                while job.in_progress:
                    time.sleep(0.2)
            else:
                self.theirs.upload(self.system, str(self.local), self.home, name, blocking=True)

        return timed(work)

    # -- waits --------------------------------------------------------------------------------

    def first_byte(self) -> float:
        """Return the seconds from when an object exists until a reader has its first byte."""
        size = 64 * MIB
        self.put("first.bin", size)
        self.world.server.set({"queue_seconds": QUEUE_S})
        before = self._stored()
        exists: list[float] = []

        def watch() -> None:
            while self._stored() < before + size:
                time.sleep(0.005)
            exists.append(time.perf_counter())

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        run(["head", "-c", "1", str(self.place / "first.bin")])
        seen = time.perf_counter()
        watcher.join(10)
        return seen - exists[0]

    def siblings(self) -> tuple[float, float]:
        """Return the seconds of ten siblings in a row, and ten times those of a single one."""
        self.world.server.set({"queue_seconds": SIBLING_QUEUE_S})
        for folder in ("single", "row"):
            for number in range(SIBLINGS):
                self.put(f"{folder}/{number}.bin", SIBLING_MIB * MIB)
        single = timed(lambda: run(["cat", str(self.place / "single/0.bin")]))
        names = [str(self.place / f"row/{number}.bin") for number in range(SIBLINGS)]
        return timed(lambda: run(["cat", *names])), SIBLINGS * single

    def put(self, name: str, size: int) -> None:
        """Let the cluster have a file of the first *size* bytes of ours, and the mount know it."""
        far = self.world.server.local_home / name
        far.parent.mkdir(exist_ok=True)
        run(["dd", f"if={self.local}", f"of={far}", "bs=1M", f"count={size // MIB}"])
        # It is looked for at once: the mount may have been told lately that there is none.
        firecrestfs("refresh", str(self.place))

    def _stored(self) -> int:
        """Return how many bytes the object store holds."""
        total = 0
        for folder in self.world.root.glob("clusters/.store"):
            for entry in os.scandir(folder):
                total += entry.stat().st_size
        return total

    # -- how far ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Have everything of ours on the disk, and nothing of it in memory."""
        os.sync()
        root = self.world.root
        for path in [self.local, *(root / "clusters").rglob("*"), *(root / "cache").rglob("*")]:
            if path.is_file() and not path.is_symlink():
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def _phase(self, words: str, work: Callable[[], object]) -> tuple[float, float]:
        """Do *work* and return how long its bytes moved, by the mount's log, and how long it took.

        *words* are in each line of a request that moves some.
        """
        log = self.world.root / "mounts.log"
        before = log.stat().st_size
        seconds = timed(work)
        begins, ends = [], []
        for line in log.read_bytes()[before:].decode(errors="replace").splitlines():
            found = re.match(r"(\S+ \S+) INFO .*" + words + r".* (\d+) ms$", line)
            if found:
                end = datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f").timestamp()
                ends.append(end)
                begins.append(end - int(found[2]) / 1000)
        return max(ends) - min(begins), seconds

    def memory_mib(self) -> int:
        """Return the most memory that the mount's process has had."""
        text = Path(f"/proc/{self.mount.process.pid}/status").read_text()
        line = next(line for line in text.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) // 1024


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that *work* takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(bench: Bench, rounds: int) -> dict[str, float]:
    """Return the best seconds of each way."""
    best: dict[str, float] = {}

    def note(what: str, seconds: float) -> None:
        best[what] = min(seconds, best.get(what, seconds))

    for number in range(rounds):
        name = f"down-{number}.bin"
        bench.put(name, bench.size)
        bench.settle()
        note("curl down", bench.curl_down(name))
        bench.settle()
        phase, whole = bench.mount_down(name)
        note("mount down", phase)
        note("mount down, all", whole)
        bench.settle()
        note("pyfirecrest down, all", bench.client_down(name))
        bench.settle()
        note("curl up", bench.curl_up(f"curl-{number}.bin"))
        bench.settle()
        phase, whole = bench.mount_up(f"up-{number}.bin")
        note("mount up", phase)
        note("mount up, all", whole)
        bench.settle()
        try:
            note("pyfirecrest up, all", bench.client_up(f"theirs-{number}.bin"))
        except Exception as exc:
            print(f"pyfirecrest's upload failed: {exc}", file=sys.stderr)
    return best


def report(best: dict[str, float], bench: Bench, memory: int) -> bool:
    """Print the table; return whether all is within bounds."""
    size = bench.size
    for what, seconds in best.items():
        print(f"{what:24} {seconds:7.2f} s  {size / MIB / seconds:8.0f} MiB/s")
    good = True
    for way in ("down", "up"):
        ratio = best[f"curl {way}"] / best[f"mount {way}"]
        good &= ratio >= RATIO
        print(f"ratio to the limit, {way:5} {ratio:6.2f}  (at least {RATIO})")
    print(f"peak memory of the mount {memory:5} MiB  (at most {MEMORY_MIB})")
    print(f"first byte after the object exists {bench.first_byte():5.2f} s")
    row, single = bench.siblings()
    print(f"{SIBLINGS} siblings in a row {row:6.2f} s, one by one {single:.2f} s")
    return good and memory <= MEMORY_MIB


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--api", choices=["v1", "v2"], default="v2")
    options = parser.parse_args()
    try:
        with World(0.0, options.api) as world:
            world.server.set(SETTINGS)
            mount = world.mount("mnt", options="write_back=0")
            bench = Bench(world, mount, options.api, options.mib * MIB)
            run(["dd", "if=/dev/urandom", f"of={bench.local}", "bs=1M", f"count={options.mib}"])
            best = measure(bench, options.rounds)
            return 0 if report(best, bench, bench.memory_mib()) else 1
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        print(f"the benchmark failed: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
