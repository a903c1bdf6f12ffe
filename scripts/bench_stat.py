"""`stat` after `stat`, answered from the cache through the kernel, against a bare file system.

Run as a program (`bench_stat.py COUNT ROUNDS ONE OTHER`) it is the one that asks: it stats
COUNT files in each of two directories in turns, and prints a line of two times for each round.

A round covers all names in shuffled order. Within it the two take turns every few names, so that
whatever else this machine is doing hits both alike.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import sys
import time
from dataclasses import dataclass

from bench_bare_fs import file_name
from bench_world import FOREVER_S, HERE, Binding, World, run

#: Our rate of `stat` calls against that of a bare file system: what must hold.
LEAST_RATIO = 0.7
#: Names that are asked of one before it is the other's turn.
_TURN = 50
#: After these seconds the kernel has forgotten all names: every round does the same work.
_ENTRIES_S = 1.1


@dataclass(frozen=True)
class StatResult:
    """What one binding has shown: seconds per round, ours and the bare one's."""

    title: str
    count: int
    ours: list[float]
    bare: list[float]

    @property
    def ratios(self) -> list[float]:
        """The bare file system's seconds by ours, round by round: 1 is as fast."""
        return [bare / ours for ours, bare in zip(self.ours, self.bare, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of all rounds."""
        return statistics.median(self.ratios)

    @property
    def holds(self) -> bool:
        """Tell whether we are fast enough."""
        return self.ratio >= LEAST_RATIO

    def row(self) -> str:
        """Return a line of the table."""
        ours, bare = (self._microseconds(each) for each in (self.ours, self.bare))
        spread = f"{min(self.ratios):.2f}–{max(self.ratios):.2f}"
        verdict = "ok" if self.holds else "MISSED"
        return (
            f"{self.title:20} {ours:9.1f} {bare:9.1f} {self.ratio:8.2f} {spread:>12} "
            f"{len(self.ratios):7}   >= {LEAST_RATIO} {verdict}"
        )

    def _microseconds(self, rounds: list[float]) -> float:
        return statistics.median(rounds) / self.count * 1e6


HEADING = (
    f"{'binding':20} {'ours µs':>9} {'bare µs':>9} {'ratio':>8} {'spread':>12} {'rounds':>7}"
    "   must hold"
)


def compare(world: World, binding: Binding, directory: str, count: int, rounds: int) -> StatResult:
    """Mount both with *binding* and let the same files be asked for in turns.

    *directory* is a path within the mount that holds `file_name(0…count-1)` on the server.
    """
    label = binding.title.replace(", ", "-")
    ours = world.mount(f"stat-{label}", binding, options=f"ttl={FOREVER_S}")
    program = [sys.executable, str(HERE / "bench_bare_fs.py")]
    mountpoint = world.root / f"bare-{label}"
    bare = world.start([*program, str(mountpoint), directory, str(count)], mountpoint, binding)
    tops = [f"{mount.mountpoint}{directory}" for mount in (ours, bare)]
    try:
        asked = run([sys.executable, __file__, str(count), str(rounds), *tops])
    finally:
        ours.stop()
        bare.stop()
    pairs = json.loads(asked)
    return StatResult(
        binding.title, count, [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    )


# -- the process that asks -------------------------------------------------------------------------


def ask_in_turns(directories: tuple[str, str], names: list[str]) -> tuple[float, float]:
    """Stat all *names* in both *directories* and return the seconds that each took."""
    seconds = [0.0, 0.0]
    for turn, start in enumerate(range(0, len(names), _TURN)):
        some = names[start : start + _TURN]
        for which in (0, 1) if turn % 2 else (1, 0):
            seconds[which] += _ask(directories[which], some)
    return seconds[0], seconds[1]


def _ask(directory: str, names: list[str]) -> float:
    paths = [f"{directory}/{name}" for name in names]
    os.stat(directory)
    started = time.perf_counter()
    for path in paths:
        os.stat(path)
    return time.perf_counter() - started


def main() -> None:
    """Ask for everything once to warm up, then round by round."""
    count, rounds = int(sys.argv[1]), int(sys.argv[2])
    directories = sys.argv[3], sys.argv[4]
    names = [file_name(number) for number in range(count)]
    measured = []
    for seed in range(rounds + 1):
        random.Random(seed).shuffle(names)
        measured.append(ask_in_turns(directories, names))
        time.sleep(_ENTRIES_S)
    print(json.dumps(measured[1:]))


if __name__ == "__main__":
    main()
