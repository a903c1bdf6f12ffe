"""cp, mv and rm on the cluster itself: by jobs of ours, whose paths are quoted."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from ..fs.drivers import Driver, KernelDriver
from ..fs.sites import Site
from ..harness import Server, client_of, local_home, wait_for
from .conftest import KINDS, LargeSites
from .test_reading import MIB, blob, orders
from .test_reading_faults import links
from .test_writing import same, uploads


@pytest.fixture
def kind() -> str:
    """What a job does is the same on either version."""
    return "v2-mfusepy"


def test_copying_moving_removing(fs: Driver, there: Path, server: Server, site: Site) -> None:
    assert isinstance(fs, KernelDriver)
    mounted = site.mounted
    assert mounted is not None
    (there / "a b").mkdir()
    (there / "a b" / "f").write_bytes(blob(MIB))
    fs.write_file("pending", b"not stored yet")
    done = mounted.cli("cp", fs.path("a b"), fs.path("pending"), fs.path("") + "/$(x)")
    assert done.returncode == 2  # no directory is there
    assert "$(x)" in done.stderr
    (there / "d").mkdir()
    done = mounted.cli("cp", fs.path("a b"), fs.path("pending"), fs.path("d"))
    assert done.returncode == 0, done.stderr
    assert same(there / "d" / "a b" / "f", blob(MIB))
    assert (there / "d" / "pending").read_bytes() == b"not stored yet"
    assert mounted.cli("mv", fs.path("d"), fs.path("e")).returncode == 0
    assert sorted(fs.listdir()) == ["a b", "e", "pending"]
    assert mounted.cli("rm", fs.path("pending")).returncode == 0
    assert mounted.cli("rm", fs.path("e")).returncode == 2
    assert mounted.cli("rm", "-r", fs.path("e")).returncode == 0
    assert os.listdir(there) == fs.listdir() == ["a b"]
    assert (orders(server), uploads(server)) == (0, 0)
    assert links(there) == []


def test_what_fails_is_told(fs: Driver, there: Path, site: Site) -> None:
    assert isinstance(fs, KernelDriver)
    assert site.mounted is not None
    done = site.mounted.cli("cp", fs.path("none"), fs.path("x"))
    assert done.returncode == 2
    assert "No such file" in done.stderr
    assert "none" in done.stderr
    assert os.listdir(there) == []


def test_our_own_jobs_are_not_shown_among_the_users(
    large_sites: LargeSites, fs: Driver, there: Path, server: Server
) -> None:
    """On either version, while one runs and after; the user's own job beside it is."""
    for api, binding in KINDS.values():
        site = large_sites.site(api, binding)
        assert site.mounted is not None
        system = site.mounted.path / "cluster"
        home = system / "home" / "demo"
        jobs = system / ".jobs"
        folder = local_home(site.server) / f"own-jobs-{api}"
        folder.mkdir(exist_ok=True)
        (folder / "f").write_bytes(b"x")
        site.mounted.cli("refresh", str(home))
        os.listdir(jobs)
        before = site.server.settings()["queue_seconds"]
        site.server.set(queue_seconds=3.0)
        copying = threading.Thread(
            target=site.mounted.cli, args=("cp", f"{home}/own-jobs-{api}/f", f"{home}/copied-{api}")
        )
        copying.start()
        client = client_of(site.server)
        assert wait_for(lambda client=client: any(map(is_ours, client.jobs("cluster"))))
        site.mounted.cli("refresh", str(system))
        ours = {ident(job) for job in client.jobs("cluster") if is_ours(job)}
        assert ours and not ours & shown(jobs)
        copying.join(60)
        site.server.set(queue_seconds=before)
        assert (local_home(site.server) / f"copied-{api}").read_bytes() == b"x"
        site.mounted.cli("refresh", str(system))
        assert not ours & shown(jobs)


def is_ours(job: Any) -> bool:
    """Tell whether a scheduler's row is of a job of the mount's own."""
    return ".fcfs-cp" in str(job)


def ident(job: Any) -> str:
    """Return the id in a scheduler's row."""
    return str(job.job_id)


def shown(jobs: Path) -> set[str]:
    """Return the ids of the jobs that are to be seen in *jobs*."""
    queue = (jobs / "queue").read_text() + (jobs / "queue.json").read_text()
    assert ".fcfs" not in queue
    ids = {name for view in ("active", "recent") for name in os.listdir(jobs / view)}
    if os.path.lexists(jobs / "last"):
        ids.add(os.readlink(jobs / "last").rpartition("/")[2])
    return ids
