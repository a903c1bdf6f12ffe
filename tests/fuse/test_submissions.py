"""Exactly one job for each script: the mount's process is killed, answers get lost, inputs wait."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..harness import EmulatorProcess, Mounted, client_of, local_home, wait_for

pytestmark = pytest.mark.fuse

SCRIPT = "#!/bin/bash\ncat input.dat > out.dat\n"
#: The endpoints that make a job: v2, v1.
SUBMIT = {"v2": "jobs/submit", "v1": "compute/jobs/path"}
UPLOAD = {"v2": "ops/upload", "v1": "utilities/upload"}


class Place:
    """A server with a mount that may be killed."""

    def __init__(self, server: EmulatorProcess, mounted: Mounted) -> None:
        self.server = server
        self.mounted = mounted
        self.api = str(server.info["api"])
        self.client = client_of(server)
        self.here = mounted.path / "cluster/home/demo/work"
        self.there = local_home(server) / "work"
        self.before = {job.job_id for job in self.client.jobs("cluster")}

    def new_jobs(self) -> list[str]:
        """Return the jobs that the scheduler has got since the test began."""
        return [job.job_id for job in self.client.jobs("cluster") if job.job_id not in self.before]

    def begin(self, command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", command],
            cwd=self.here,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def die_and_come_back(self) -> None:
        """Kill the mount's process; mount again once whoever talked to it has noticed."""
        self.mounted.kill()
        subprocess.run(["fusermount3", "-uz", str(self.mounted.path)], timeout=30, check=True)
        self.server.faults([])
        done = self.mounted.mount()
        assert done.returncode == 0, done.stderr

    def becomes_a_job(self, name: str = "run.sh", seconds: float = 60) -> str:
        """Return the id of the job that the script *name* becomes."""
        path = self.here / ".jobs" / f"{name}.jobid"
        with self.mounted.watching(seconds + 30):
            assert wait_for(path.exists, seconds), self.mounted.log()[-3000:]
            return path.read_text().strip()


#: For what differs between the versions; all else runs on v2 alone.
on_both = pytest.mark.parametrize("server", ["v2", "v1"], indirect=True)


@pytest.fixture(scope="module", params=["v2"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmulatorProcess]:
    root = tmp_path_factory.mktemp("submissions") / "clusters"
    settings = {"queue_seconds": 0.05}
    with EmulatorProcess(root, api=request.param, settings=settings) as server:
        yield server


@pytest.fixture
def place(server: EmulatorProcess, tmp_path: Path) -> Iterator[Place]:
    there = local_home(server) / "work"
    there.mkdir()
    (there / "input.dat").write_text("from before\n")
    with Mounted(server, tmp_path, options=["write_back=0.1"]) as mounted:
        found = Place(server, mounted)
        os.listdir(found.here)
        yield found
        server.faults([])
    shutil.rmtree(there)


def test_killed_while_the_inputs_are_stored(place: Place) -> None:
    rule = {"kind": "stall", "match": UPLOAD[place.api], "seconds": 5, "count": -1}
    place.server.faults([rule])
    (place.here / "input.dat").write_text("a moment before\n")
    copy = place.begin(f"printf '{SCRIPT}' > .jobs/run.sh")
    time.sleep(0.7)
    assert place.new_jobs() == []
    place.die_and_come_back()
    copy.wait(10)
    job = place.becomes_a_job()
    assert place.new_jobs() == [job]
    assert (place.here / f".jobs/{job}/wait").read_text() == "COMPLETED 0\n"
    assert (place.here / "out.dat").read_text() == "a moment before\n"


@on_both
def test_killed_while_the_request_is_on_its_way(place: Place) -> None:
    # The server carries it out although nobody waits for the answer.
    place.server.faults([{"kind": "stall", "match": SUBMIT[place.api], "seconds": 2.0}])
    copy = place.begin(f"printf '{SCRIPT}' > .jobs/run.sh")
    time.sleep(1.0)
    assert place.new_jobs() == []
    place.die_and_come_back()
    copy.wait(10)
    job = place.becomes_a_job()
    assert place.new_jobs() == [job]
    assert not [name for name in os.listdir(place.there) if name.startswith(".fcfs")]


def test_killed_after_the_answer_got_lost(place: Place) -> None:
    submit = {"kind": "lost_answer", "match": SUBMIT[place.api]}
    look = {"v2": "jobs/list", "v1": "compute/*"}[place.api]
    # It can't be looked for before the mount dies.
    deaf = {"kind": "status", "match": look, "method": "GET", "status": 503, "count": -1}
    place.server.faults([submit, deaf])
    copy = place.begin(f"printf '{SCRIPT}' > .jobs/run.sh")
    time.sleep(1.5)
    place.die_and_come_back()
    copy.wait(10)
    job = place.becomes_a_job()
    assert place.new_jobs() == [job]


def test_killed_after_the_close(place: Place) -> None:
    (place.here / ".jobs/run.sh").write_text(SCRIPT)
    job = place.becomes_a_job()
    place.die_and_come_back()
    assert place.becomes_a_job() == job
    assert (place.here / ".jobs/run.sh").read_text() == SCRIPT
    assert (place.here / f".jobs/{job}/script").read_text() == SCRIPT
    assert (place.here / f".jobs/{job}/wait").read_text() == "COMPLETED 0\n"
    time.sleep(0.5)
    assert place.new_jobs() == [job]


def test_what_takes_longer_than_a_close_may_is_still_submitted(place: Place) -> None:
    """An input that can't be stored for now: close returns, the job waits, and is not lost."""
    place.server.set(quota=1)
    (place.here / "input.dat").write_text("no room for this\n")
    (place.here / ".jobs/run.sh").write_text(SCRIPT)
    assert "input.dat" in (place.here / ".jobs/run.sh.status").read_text()
    assert place.new_jobs() == []
    with pytest.raises(OSError, match="busy"):
        (place.here / ".jobs/run.sh").unlink()
    pending = place.mounted.cli("status", place.mounted.path, "--json").stdout
    assert ".jobs/run.sh" in pending
    place.mounted.kill()
    subprocess.run(["fusermount3", "-uz", str(place.mounted.path)], timeout=30, check=True)
    place.server.set(quota=-1)
    assert place.mounted.mount().returncode == 0
    job = place.becomes_a_job()
    assert place.new_jobs() == [job]
    assert (place.here / f".jobs/{job}/wait").read_text() == "COMPLETED 0\n"
    assert (place.here / "out.dat").read_text() == "no room for this\n"


def test_what_waits_can_be_taken_back(place: Place) -> None:
    place.server.set(quota=1)
    (place.here / "input.dat").write_text("no room for this\n")
    script = place.here / ".jobs/run.sh"
    copy = place.begin(f"printf '{SCRIPT}' > .jobs/run.sh")
    assert wait_for(lambda: (place.here / ".jobs/run.sh.status").exists(), 10)
    (place.here / ".jobs/run.sh.ctl").write_text("cancel\n")
    copy.wait(20)
    assert "taken back" in (place.here / ".jobs/run.sh.error").read_text()
    script.unlink()
    place.server.set(quota=-1)
    assert place.mounted.cli("sync", place.mounted.path).returncode == 0
    assert place.new_jobs() == []


def test_ctrl_c_while_the_inputs_are_stored(place: Place, tmp_path: Path) -> None:
    """Nothing is submitted, neither by the close nor by the release that follows it."""
    rule = {"kind": "stall", "match": UPLOAD[place.api], "seconds": 3, "count": -1}
    place.server.faults([rule])
    (place.here / "input.dat").write_text("a moment before\n")
    (tmp_path / "run.sh").write_text(SCRIPT)
    copy = place.begin(f"exec cp {tmp_path}/run.sh .jobs/")
    time.sleep(0.7)
    copy.send_signal(signal.SIGINT)
    copy.wait(10)
    assert wait_for(lambda: (place.here / ".jobs/run.sh.error").exists(), 5)
    assert "interrupted" in (place.here / ".jobs/run.sh.error").read_text()
    place.server.faults([])
    assert place.mounted.cli("sync", place.mounted.path).returncode == 0
    time.sleep(0.3)
    assert place.new_jobs() == []


@on_both
def test_a_faulty_network(place: Place) -> None:
    """Every third request about jobs fails, before or after it was carried out."""
    endpoint = {"v2": "jobs/*", "v1": "compute/*"}[place.api]
    place.server.faults(
        [
            {"kind": "lost_answer", "match": endpoint, "every": 3, "count": -1},
            {"kind": "late_status", "match": endpoint, "every": 4, "status": 502, "count": -1},
        ]
    )
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        (place.here / f".jobs/{name}").write_text(SCRIPT)
    jobs = [place.becomes_a_job(name, 90) for name in names]
    place.server.faults([])
    assert sorted(place.new_jobs()) == sorted(jobs)
    assert len(set(jobs)) == len(names)
