"""Kill mounts by the thousand while files are saved, and look whether anything was lost.

    python scripts/crash_test.py [--kills 1000] [--seed TEXT] [--fault NAME] [--sites 4]

Each round mounts an emulated cluster, lets a program save, rename and remove files, kills the
mount's process (at a random moment, or at a named step: see firecrestfs/faultpoints.py), mounts
again, in some rounds kills that one as well, and compares the cluster with what the program was
told. It is what tests/crash does, for as long as you like.

Exit status: 0 nothing was lost · 1 something was: see the lines. Ctrl-C ends it after the
rounds that are under way, with what came of them.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.crash.rounds import KINDS, POINTS, Order, run
from tests.crash.site import Nursery
from tests.harness import EmulatorProcess

#: Where the second mount dies, in the rounds in which it does.
_AGAIN = ("recover.begun", "recover.done", "change.sent", "change.answered", "store.proven")


def orders(kills: int, seed: str, only: str) -> Iterator[Order]:
    """Yield rounds until *kills* mounts have died, with a line about the progress now and then."""
    chance = random.Random(seed)
    done, started, told = 0, time.monotonic(), 0.0
    while done < kills:
        name = only or chance.choice(["", "", *POINTS])
        again = f"{chance.choice(_AGAIN)}:{chance.randint(1, 3)}" if chance.random() < 0.3 else ""
        if name.startswith("recover"):
            name, again = "", f"{name}:{chance.randint(1, 3)}"
        done += 1 + bool(again)
        fault = f"{name}:{chance.randint(1, 8)}" if name else ""
        yield Order(fault, again, look=chance.random() < 0.2)
        now = time.monotonic() - started
        if now - told > 10:
            told = now
            print(f"{done} of {kills} kills, {now:.0f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", default=time.strftime("%m%d%H%M"))
    parser.add_argument("--fault", default="", choices=["", *POINTS], help="die there alone")
    parser.add_argument("--kinds", default=KINDS, help="what the writing program does")
    parser.add_argument("--sites", type=int, default=4, help="mounts at a time")
    parser.add_argument("--api", choices=("v1", "v2"), default="v2")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="firecrestfs-crash-") as name:
        home = Path(name)
        with EmulatorProcess(home / "clusters", systems=("cluster",), api=given.api) as server:
            nursery = Nursery(server, home / "nursery")
            found = run(
                nursery,
                home,
                orders(given.kills, given.seed, given.fault),
                seed=given.seed,
                kinds=given.kinds,
                sites=given.sites,
            )
            nursery.close()
    wrong = [line for each in found for line in each.wrong]
    print(*wrong, sep="\n")
    kills, steps = sum(each.kills for each in found), sum(each.steps for each in found)
    print(f"seed {given.seed}: {kills} kills, {steps} steps, {len(wrong)} rounds went wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
