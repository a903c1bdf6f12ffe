"""Measure `.jobs`: requests and seconds of submissions, of looking, and of a queue that is watched.

    python scripts/bench_jobs.py [--quick] [--api v1]

An embedded FirecREST with 50 ms of latency is mounted; each action is done by ordinary programs on
the mount, and beside it by pyfirecrest (the official client), counted at the same server.

Exit status: 0 all budgets hold · 1 one doesn't · 2 the benchmark itself failed · 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from bench_world import Cost, World, run
from firecrest import ClientCredentialsAuth, v1, v2

_LATENCY_MS = 50.0
_SCRIPT = "#!/bin/bash\n#SBATCH --time=5\ntrue\n"
#: 200 jobs by one submission, that stay in the queue.
_HELD = "#!/bin/bash\n#SBATCH --hold --array=0-199\ntrue\n"
#: `watch` looks every two seconds.
_WATCH_S = 2.0
#: Requests of one look at all jobs: v1 asks for the active and the ended ones, and for both tasks.
_LOOK = {"v2": 2, "v1": 6}
#: Requests of one submission: v1 uploads, submits, asks for the task, and removes the script.
_SUBMIT = {"v2": 1, "v1": 6}


@dataclass(frozen=True)
class Row:
    """One action: through the mount, what it may cost, and by the official client."""

    action: str
    ours: Cost
    budget: int | None = None
    theirs: Cost | None = None

    @property
    def holds(self) -> bool:
        """Tell whether the budget holds, or there is none."""
        return self.budget is None or self.ours.requests <= self.budget

    def text(self) -> str:
        """Return a line of the table."""
        budget = "" if self.budget is None else f"{self.budget} {'ok' if self.holds else 'MISSED'}"
        theirs = f"{self.theirs.requests:8} {self.theirs.seconds:8.2f}" if self.theirs else ""
        ours = f"{self.ours.requests:8} {self.ours.seconds:8.2f}"
        return f"{self.action:44} {ours}   {budget:10} {theirs}".rstrip()


_HEADING = (
    f"{'':44} {'firecrestfs':>17}   {'':10} {'pyfirecrest':>17}\n"
    f"{'action':44} {'requests':>8} {'seconds':>8}   {'must hold':10} "
    f"{'requests':>8} {'seconds':>8}"
)


class Actions:
    """What is measured."""

    def __init__(self, world: World, api: str, watch_s: float) -> None:
        self._server = world.server
        self._api = api
        self._watch_s = watch_s
        self._root = world.mount("mnt").mountpoint / world.server.system
        self._jobs = self._root / ".jobs"
        self._source = world.root / "scripts"
        self._source.mkdir()
        for number in range(21):
            (self._source / f"job-{number}.sh").write_text(_SCRIPT)
        self._client = _official_client(world)
        run(["ls", str(self._root)])

    def all(self) -> list[Row]:
        """Measure everything."""
        rows = [*self._submissions(), self._waiting()]
        self._client_submit(_HELD)
        return [*rows, *self._looking(), self._watching()]

    def _submissions(self) -> list[Row]:
        one = self._server.measure(lambda: self._copy(range(20, 21)))
        client_one = self._server.measure(lambda: self._client_submit(_SCRIPT))
        twenty = self._server.measure(lambda: self._copy(range(20)))
        client_twenty = self._server.measure(
            lambda: [self._client_submit(_SCRIPT) for _ in range(20)]
        )
        submit = _SUBMIT[self._api]
        return [
            Row("cp of a script: 1 submission", one, submit, client_one),
            Row("cp of 20 scripts: 20 submissions", twenty, 20 * submit, client_twenty),
        ]

    def _copy(self, numbers: range) -> None:
        sources = [str(self._source / f"job-{number}.sh") for number in numbers]
        run(["cp", *sources, str(self._jobs)])
        for number in numbers:
            assert (self._jobs / f"job-{number}.sh.jobid").read_text().strip().isdigit()

    def _waiting(self) -> Row:
        cost = self._server.measure(lambda: run(["cat", str(self._jobs / "last/wait")]))
        return Row("cat wait, of the last of them", cost)

    def _looking(self) -> list[Row]:
        budget = _LOOK[self._api]
        self._forget()
        listed = self._server.measure(lambda: run(["ls", "-lR", str(self._jobs)]))
        again = self._server.measure(lambda: run(["ls", "-lR", str(self._jobs)]))
        client = self._server.measure(self._client_jobs)
        self._forget()
        found = self._server.measure(lambda: run(["grep", "-rl", "PENDING", str(self._jobs)]))
        return [
            Row("ls -lR .jobs with 200 jobs in the queue", listed, budget, client),
            Row("… the same again", again, 0),
            Row("grep -r over it", found, budget),
        ]

    def _watching(self) -> Row:
        self._forget()
        looks = int(self._watch_s / _WATCH_S)

        def watch() -> None:
            for _ in range(looks):
                run(["cat", str(self._jobs / "queue")])
                time.sleep(_WATCH_S)

        cost = self._server.measure(watch)
        # At most one look in ten seconds, and one more.
        budget = int(self._watch_s / 10 + 1) * _LOOK[self._api]
        return Row(f"watch cat queue for {self._watch_s:.0f} s ({looks} looks)", cost, budget)

    def _forget(self) -> None:
        refresh = self._root.parent / ".firecrestfs/refresh"
        run(["sh", "-c", f"echo / > '{refresh}' && ls '{self._root}'"])

    # -- by the official client ------------------------------------------------------------------

    def _client_submit(self, script: str) -> Any:
        if self._api == "v1":
            return self._client.submit(self._server.system, script_str=script)
        return self._client.submit(self._server.system, self._server.home, script_str=script)

    def _client_jobs(self) -> Any:
        if self._api == "v1":
            return self._client.poll_active(self._server.system)
        return self._client.job_info(self._server.system)


def _official_client(world: World) -> Any:
    info = world.server.info
    auth = ClientCredentialsAuth(info["client_id"], info["client_secret"], info["token_url"])
    client = (v1 if info["api"] == "v1" else v2).Firecrest(info["url"], auth)
    client.timeout = 120
    return client


def _bench(api: str, watch_s: float) -> int:
    with World(_LATENCY_MS, api) as world:
        world.server.set({"queue_seconds": 0.2, "slots": 8})
        print(f"Latency {_LATENCY_MS:.0f} ms; requests at the server, those for tokens aside.\n")
        print(_HEADING, flush=True)
        rows = Actions(world, api, watch_s).all()
    for row in rows:
        print(row.text())
    holds = all(row.holds for row in rows)
    print("\nall that must hold holds" if holds else "\nMISSED: see above")
    return 0 if holds else 1


def main() -> int:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="watch the queue for 10 s only")
    parser.add_argument("--api", choices=("v1", "v2"), default="v2", help="version of FirecREST")
    given = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        return _bench(given.api, 10.0 if given.quick else 60.0)
    except KeyboardInterrupt:
        return 130
    except (OSError, RuntimeError, subprocess.SubprocessError) as exc:
        print(f"the benchmark failed: {exc}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
