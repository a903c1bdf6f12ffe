"""Rounds: mount, let the writer save files, kill, mount again, `sync`, look at the cluster."""

from __future__ import annotations

import contextlib
import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from firecrestfs import faultpoints

from ..harness import COMMAND_S, wait_for
from .site import HERE, Nursery, Site
from .told import DEATH, Told, Tree, is_ours, read_manifest, tree_of

#: All fault points, as their table has them.
POINTS = [
    line.split()[0]
    for line in (faultpoints.__doc__ or "").splitlines()
    if line.startswith("    ") and "." in line.split()[0]
]
#: All that the writer can do.
KINDS = "new,new,rewrite,tempsave,tempsave,linksave,linksave,rename,unlink,mkdir,rmdir"
#: Seconds that are waited for a fault to be reached.
_FAULT_S = 1.5


@dataclass(frozen=True)
class Order:
    """How the mount dies in a round: at *fault*, else at a random moment.

    At *again* the next one dies, too, before all that it took up is stored. With *look* nothing is
    drained after that: what the next mount shows is compared, and goes on being changed.
    """

    fault: str = ""
    again: str = ""
    look: bool = False


@dataclass
class Rounds:
    """Kills, one after another, at one site; `wrong` holds what was found."""

    site: Site
    kinds: str
    seed: str
    #: Whether archives of ours may stay behind.
    litter: bool = False
    known: Tree = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    kills: int = 0
    steps: int = 0
    reached: set[str] = field(default_factory=set)
    _stray: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def once(self, order: Order) -> None:
        """One round."""
        fault, again = order.fault, order.again
        number = next(self._numbers)
        chance = random.Random(f"{self.seed}:{number}")
        manifest = self.site.home / f"manifest-{number}"
        # Dying by the fault may come before anything was written.
        alive = self.site.mount(fault)
        if alive:
            with self._writing(manifest, f"{self.seed}:{number}"):
                if fault:
                    wait_for(lambda: not self.site.lives, _FAULT_S)
                else:
                    time.sleep(chance.uniform(0.05, 0.8))
        self._die(fault)
        told = read_manifest(manifest, self.known)
        self.steps += told.steps
        if again:
            if self.site.mount(again):
                wait_for(lambda: not self.site.lives, 0.5)
            self._die(again)
        where = f"round {number} of {self.seed}, {order}, the writer at: {told.cut}"
        if order.look:
            self._look(told, where)
        else:
            self._check(told, where)

    def _die(self, fault: str) -> None:
        if fault and not self.site.lives:
            self.reached.add(fault.partition(":")[0])
        self.site.kill()
        self.kills += 1

    @contextlib.contextmanager
    def _writing(self, manifest: Path, seed: str) -> Iterator[None]:
        command = [sys.executable, "-SE", str(HERE / "writer.py"), str(self.site.top)]
        command += [str(manifest), seed, self.kinds]
        # Ctrl-C is not for it: what it has done would not be known.
        with subprocess.Popen(command, start_new_session=True) as writer:
            try:
                assert wait_for(lambda: manifest.exists() or writer.poll() is not None, 20)
                yield
            finally:
                self.site.kill()
                writer.wait(COMMAND_S)

    def _look(self, told: Told, where: str) -> None:
        self.site.mount()
        found = tree_of(self.site.top)
        wrong = told.wrong(found)
        if wrong:
            text = "\n    ".join([*wrong, *self.site.errors()])
            self.wrong.append(f"{where}, in the mount:\n    {text}")
        self.known = found
        self.site.kill()

    def _check(self, told: Told, where: str) -> None:
        self.site.mount()
        failed = self.site.drain()
        found = self.site.on_cluster()
        wrong = [f"not stored: {path}: {why}" for path, why in failed.items()]
        lines = told.wrong(found)
        # What stays behind is told once.
        wrong += [line for line in lines if not is_ours(line) or self._is_news(line)]
        if told.error not in ("", *DEATH):
            wrong.append(f"the writer was told: {told.error}")
        if wrong:
            text = "\n    ".join([*wrong, *self.site.errors()])
            self.wrong.append(f"{where}:\n    {text}")
        self.known = {path: state for path, state in found.items() if not is_ours(path)}
        self.site.kill()

    def _is_news(self, line: str) -> bool:
        known = self.litter or line in self._stray
        self._stray.add(line)
        return not known


def run(
    nursery: Nursery,
    home: Path,
    orders: Iterable[Order],
    *,
    seed: str,
    kinds: str = KINDS,
    litter: bool = False,
    sites: int = 4,
) -> list[Rounds]:
    """Carry out *orders* at several sites side by side; return what came of them.

    Ctrl-C ends it after the rounds that are under way.
    """
    queue, lock, stopped = iter(orders), threading.Lock(), threading.Event()

    def work(number: int) -> Rounds:
        name = f"{seed}-{number}"
        site = Site(nursery, home / name, name)
        rounds = Rounds(site, kinds, name, litter)
        try:
            while True:
                with lock:
                    order = None if stopped.is_set() else next(queue, None)
                if order is None:
                    return rounds
                rounds.once(order)
        finally:
            site.end()

    with ThreadPoolExecutor(sites) as pool:
        working = [pool.submit(work, number) for number in range(sites)]
        try:
            wait(working)
        except KeyboardInterrupt:
            stopped.set()
        return [each.result() for each in working]
