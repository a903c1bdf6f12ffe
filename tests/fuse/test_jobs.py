"""What programs do in `.jobs`, on the real mount of both versions; what that costs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..harness import COMMAND_S, EmulatorProcess, Mounted, client_of, local_home, wait_for

pytestmark = pytest.mark.fuse

SCRIPT = "#!/bin/bash\necho it ran in $PWD\n"


class Cluster:
    """A server with a mount of it, and a directory of the test's own."""

    def __init__(self, server: EmulatorProcess, mounted: Mounted) -> None:
        self.server = server
        self.mounted = mounted
        self.client = client_of(server)
        self.root = mounted.path / "cluster"
        self.jobs = self.root / ".jobs"
        self.here = self.root / "home/demo/test"
        self.there = local_home(server) / "test"

    def run(self, command: str, timeout: float = COMMAND_S) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.here,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def done(self, command: str) -> str:
        """Run a command that must succeed; return what it says."""
        done = self.run(command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def count(self) -> int:
        """Return how many jobs the scheduler knows."""
        return len(self.client.jobs("cluster"))

    def submitted(self) -> int:
        asked = self.server.requests()
        return asked.count("jobs/submit") + asked.count("compute/jobs/path")

    def looks(self) -> int:
        """Return how often all jobs were asked for; nothing else may have been asked of jobs."""
        files = ("ops/", "utilities/")  # where the shell's own directory is
        asked = [name for name in self.server.requests() if not name.startswith(files)]
        looks = max(asked.count("jobs/list"), asked.count("compute/jobs"))
        polls = asked.count("tasks/list") + asked.count("tasks/get") + asked.count("compute/acct")
        assert len(asked) == polls + asked.count("jobs/list") + asked.count("compute/jobs"), asked
        return looks

    def refresh(self) -> None:
        """Let the next look ask the server."""
        (self.mounted.path / ".firecrestfs/refresh").write_text("/\n")

    def state(self, job: Path) -> str:
        """Return the state that the scheduler tells now, not up to ten seconds ago."""
        self.refresh()
        return (job / "status").read_text().strip()

    def job(self, name: str) -> Path:
        """Return the directory of the job that the script *name* became."""
        return self.here / ".jobs" / (self.here / f".jobs/{name}.jobid").read_text().strip()


@pytest.fixture(scope="module", params=[("mfusepy", "v2"), ("fuse", "v1")], ids=" ".join)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("jobs")
    binding, api = request.param
    settings = {"queue_seconds": 0.05, "slots": 20}
    with (
        EmulatorProcess(home / "clusters", api=api, settings=settings) as server,
        Mounted(server, home, binding=binding, options=["write_back=0.1"]) as mounted,
    ):
        yield Cluster(server, mounted)


@pytest.fixture
def cluster(place: Cluster) -> Iterator[Cluster]:
    shutil.rmtree(place.there, ignore_errors=True)
    place.there.mkdir()
    place.refresh()
    os.listdir(place.here)
    place.server.requests(reset=True)
    with place.mounted.watching(60):
        yield place
    for name in os.listdir(place.here / ".jobs"):
        if not name[0].isdigit() and name != "README":
            (place.here / ".jobs" / name).unlink(missing_ok=True)


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run.sh"
    path.write_text(SCRIPT)
    return path


# -- submitting ------------------------------------------------------------------------------------


def test_what_was_written_a_moment_before_is_read(cluster: Cluster) -> None:
    out = cluster.done(
        "echo 42 > input && printf '#!/bin/bash\\ncat input > out.dat\\n' > .jobs/reads"
        " && cat .jobs/$(cat .jobs/reads.jobid)/wait && cat out.dat"
    )
    assert out == "COMPLETED 0\n42\n"


def test_two_that_write_one_name_at_once(cluster: Cluster) -> None:
    line = "for n in 1 2 3; do echo '#!/bin/bash'; sleep 0.1; done"
    cluster.done(f"({line}) > .jobs/both & ({line}) >> .jobs/both & wait")
    assert wait_for(lambda: cluster.submitted() > 0, 5)
    time.sleep(0.3)
    assert cluster.submitted() == 1


@pytest.mark.parametrize(
    "save",
    [
        "vim -es -u NONE -i NONE -c 'normal i#!/bin/sh' -c 'normal otrue' -c wq .jobs/new.sh",
        "printf '#!/bin/sh\\n' > .jobs/.goutputstream-AB12CD && touch .jobs/.goutputstream-AB12CD"
        " && mv .jobs/.goutputstream-AB12CD .jobs/new.sh",
        "printf '#!/bin/sh\\n' > .jobs/new.sh.part && mv .jobs/new.sh.part .jobs/new.sh",
        "rsync -a $SCRIPT .jobs/new.sh",
        "cp -a $SCRIPT .jobs/new.sh && chmod +x .jobs/new.sh && touch .jobs/new.sh",
        "gio copy $SCRIPT .jobs/new.sh 2>/dev/null || install -m 755 $SCRIPT .jobs/new.sh",
    ],
    ids=["vim", "gedit", "dolphin", "rsync", "cp -a", "gio"],
)
def test_each_way_of_saving_is_one_submission(cluster: Cluster, script: Path, save: str) -> None:
    cluster.done(save.replace("$SCRIPT", str(script)))
    assert wait_for(lambda: (cluster.here / ".jobs/new.sh.jobid").exists(), 5)
    assert cluster.submitted() == 1


def test_a_move_into_jobs_is_refused_with_the_way_to_do_it(cluster: Cluster) -> None:
    cluster.done(f"printf '{SCRIPT}' > mine.sh")
    done = cluster.run("mv mine.sh .jobs/")
    assert done.returncode != 0
    assert "Operation not permitted" in done.stderr
    assert (cluster.here / "mine.sh").read_text() == SCRIPT.replace("\\n", "\n")
    assert "ln -s" in (cluster.mounted.path / ".firecrestfs/errors").read_text()
    assert cluster.submitted() == 0
    where = str(cluster.here).removeprefix(str(cluster.root))
    cluster.done(f"ln -s ..{where}/mine.sh {cluster.jobs}/")
    job = (cluster.jobs / "mine.sh.jobid").read_text().strip()
    assert (cluster.jobs / job / "wait").read_text() == "COMPLETED 0\n"
    assert (cluster.jobs / job / "stdout").read_text().endswith("/test\n")
    (cluster.jobs / "mine.sh").unlink()


# -- looking ---------------------------------------------------------------------------------------


def test_whoever_walks_through_jobs_never_waits(cluster: Cluster, tmp_path: Path) -> None:
    cluster.done(
        "printf '#!/bin/bash\\necho marked-line > big.dat; echo marked-line; sleep 60\\n'"
        " > .jobs/long"
    )
    job = cluster.job("long")
    assert wait_for(lambda: cluster.state(job) == "RUNNING", 10)
    walk = cluster.run(f"find {cluster.root} -name big.dat -o -path '*/.jobs/*' -name '*.out'", 20)
    assert ".jobs" not in walk.stdout
    assert cluster.run(f"grep -r marked-line {cluster.jobs}/{job.name}", 20).returncode == 0
    assert cluster.run(f"cp -r {cluster.jobs} {tmp_path}/copy", 20).returncode == 0
    assert (tmp_path / "copy" / job.name / "status").read_text() == "RUNNING\n"
    assert cluster.run(f"tar -cf {tmp_path}/tar {cluster.jobs}", 20).returncode == 0
    for harm in (
        f"rm -rf {job}",
        f"rmdir {job}",
        f"chmod -R 777 {job}",
        f"rsync -a --delete {tmp_path}/nothing/ {cluster.here}/.jobs/",
        f"gio trash {job} || true",
        f"mv {job} {tmp_path}/moved",
    ):
        (tmp_path / "nothing").mkdir(exist_ok=True)
        cluster.run(harm, 20)
    assert cluster.state(job) == "RUNNING"
    cluster.done(f"echo cancel > {job}/ctl")
    assert (job / "wait").read_text().startswith("CANCELLED")


def test_the_output_is_followed_and_ended_through_ctl(cluster: Cluster, tmp_path: Path) -> None:
    loop = "for n in 1 2 3; do echo line $n; sleep 0.7; done; sleep 60"
    cluster.done(f"printf '#!/bin/bash\\n{loop}\\n' > .jobs/follow")
    job = cluster.job("follow")
    out = tmp_path / "out"
    with out.open("wb") as file:
        tail = subprocess.Popen(
            ["tail", "-F", "-s", "0.3", str(job / "stdout")], stdout=file, stderr=file
        )
    try:
        assert wait_for(lambda: b"line 1\nline 2\nline 3\n" in out.read_bytes(), 30)
        assert (job / "stdout").stat().st_size == len("line 1\n") * 3
    finally:
        tail.terminate()
        tail.wait(10)
    cluster.done(f"echo cancel > {job}/ctl")
    assert cluster.done(f"cat {job}/wait").startswith("CANCELLED")


def test_three_wait_for_one_job(cluster: Cluster) -> None:
    cluster.done("printf '#!/bin/bash\\nsleep 2\\n' > .jobs/waited")
    job = cluster.job("waited")
    cluster.server.requests(reset=True)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: (job / "wait").read_text(), range(3)))
    assert found == ["COMPLETED 0\n"] * 3
    # Three readers ask as often as one.
    asked = [name for name in cluster.server.requests() if name in ("jobs/list", "compute/acct")]
    assert len(asked) <= 8


def test_many_who_wait_hold_up_nobody_and_can_be_ended(cluster: Cluster) -> None:
    cluster.done("printf '#!/bin/bash\\nsleep 60\\n' > .jobs/crowd")
    job = cluster.job("crowd")
    waiting = [
        subprocess.Popen(["cat", str(job / "wait")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(70)
    ]
    try:
        # Those beyond the limit are told so at once.
        assert wait_for(lambda: sum(each.poll() is not None for each in waiting) >= 6, 20)
        refused = [each for each in waiting if each.poll() is not None]
        assert len(refused) == 6
        assert b"temporarily unavailable" in refused[0].communicate()[1]
        assert cluster.run(f"ls -l {cluster.jobs} && ls {cluster.here}", 20).returncode == 0
        first = next(each for each in waiting if each.poll() is None)
        first.send_signal(signal.SIGINT)
        assert first.wait(10) == -signal.SIGINT
        cluster.done(f"echo cancel > {job}/ctl")
        left = [each for each in waiting if each is not first and each not in refused]
        assert all(each.communicate(timeout=30)[0].startswith(b"CANCELLED") for each in left)
    finally:
        for each in waiting:
            each.kill()
            each.communicate()


# -- many jobs: last, since they stay in the scheduler's list --------------------------------------


def test_fifty_at_once(cluster: Cluster, script: Path) -> None:
    before = cluster.count()
    copies = " ".join(f"cp {script} .jobs/job-{number} &" for number in range(50))
    cluster.done(f"{copies} wait")
    ids = {(cluster.here / f".jobs/job-{number}.jobid").read_text() for number in range(50)}
    assert len(ids) == 50
    assert cluster.submitted() == 50
    assert cluster.count() == before + 50


def test_two_hundred_jobs_cost_one_look(cluster: Cluster) -> None:
    held = "#!/bin/bash\n#SBATCH --hold --array=0-199\ntrue\n"
    job_id = cluster.client.submit(
        "cluster", script=held, working_directory="/home/demo", name="held"
    )
    cluster.refresh()
    os.listdir(cluster.here)
    cluster.server.requests(reset=True)
    listed = cluster.done(f"cd / && ls -lR {cluster.jobs}")
    assert listed.count("status") >= 200
    assert cluster.looks() <= 1
    cluster.server.requests(reset=True)
    cluster.done(
        f"cd / && stat {cluster.jobs}/*/status {cluster.jobs}/queue {cluster.jobs}/active/*"
    )
    cluster.done(f"cd / && find {cluster.root}/.jobs > /dev/null")
    assert cluster.looks() <= 1
    cluster.client.cancel("cluster", job_id)
