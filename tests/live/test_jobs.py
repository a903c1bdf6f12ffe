"""The typed client on a real scheduler."""

from __future__ import annotations

import errno
import time
import uuid

import pytest

from firecrestfs.api import JobNotFound
from firecrestfs.model import Job

from .place import ACCOUNT, Place, refused


def test_a_job_runs(place: Place) -> None:
    name = f"live-{uuid.uuid4().hex[:6]}"
    script = "#!/bin/bash\npwd -P\necho to-stderr >&2\necho made > made\nexit 0\n"
    before = time.time()
    job_id = place.submit(
        script,
        name=name,
        standard_output=place / "out.txt",
        standard_error=place / "err.txt",
    )
    # For a moment the accounting knows a job by its first step alone, without name and directory.
    seen: list[Job] = []

    def watched(job: Job) -> bool:
        seen.append(job)
        return job.ended

    job = place.job(job_id, watched)
    assert {each.name for each in seen} == {name}
    assert {each.working_directory.rstrip("/") for each in seen} == {place.path}
    assert (job.job_id, job.state, job.exit_code) == (job_id, "COMPLETED", 0)
    assert place.wait(lambda: place.exists("made") and place.exists("out.txt"))
    assert place.get("made") == b"made\n"
    assert job.user == place.client.userinfo(place.system).name
    assert job.start is not None
    assert job.end is not None
    # The scheduler's clock may be off by some seconds, not by a time zone.
    assert before - 120 < job.start <= job.end < time.time() + 120
    if place.features.job_options:
        assert place.get("out.txt").decode().strip().endswith(place.path.rpartition("/")[2])
        assert place.get("err.txt") == b"to-stderr\n"
        assert job.working_directory.rstrip("/") == place.path

    def listed() -> bool:
        found = {each.job_id: each for each in place.client.jobs(place.system)}
        return job_id in found and found[job_id].state == "COMPLETED"

    # Nor is it in the list of all, for that moment.
    assert place.wait(listed)


def test_where_a_job_writes(place: Place) -> None:
    job_id = place.submit("#!/bin/bash\necho hello\n")
    place.job(job_id)
    found = place.client.job_metadata(place.system, job_id)
    output = found["standardOutput"]
    assert output is not None
    assert place.wait(lambda: place.client.download(place.system, output) == b"hello\n")


@pytest.mark.parametrize("name", ["sp ace", "a=b"])
def test_where_a_job_writes_in_a_directory_with_an_odd_name(place: Place, name: str) -> None:
    place.mkdir(name)
    job_id = place.submit("#!/bin/bash\necho hello\n", working_directory=place / name)
    place.job(job_id)
    output = place.client.job_metadata(place.system, job_id)["standardOutput"]
    assert output == place / f"{name}/slurm-{job_id}.out"
    assert place.wait(lambda: place.client.download(place.system, output) == b"hello\n")


def test_a_job_fails(place: Place) -> None:
    job = place.job(place.submit("#!/bin/bash\nexit 3\n"))
    assert (job.state, job.exit_code) == ("FAILED", 3)


def test_a_job_with_an_environment(place: Place) -> None:
    if not place.features.job_options:
        return
    path = place / "out.txt"
    job_id = place.submit(
        '#!/bin/bash\necho "$LIVE_TEST"\n', env={"LIVE_TEST": "a b"}, standard_output=path
    )
    assert place.job(job_id).state == "COMPLETED"
    assert place.wait(lambda: place.exists("out.txt") and place.get("out.txt") == b"a b\n")


def test_a_script_on_the_cluster(place: Place) -> None:
    path = place.put("job.sh", b"#!/bin/bash\necho x > made\n")
    job_id = place.client.submit(
        place.system, script_path=path, working_directory=place.path, account=ACCOUNT
    )
    assert place.job(job_id).state == "COMPLETED"
    if place.features.job_options:
        assert place.wait(lambda: place.exists("made"))


def test_cancel(place: Place) -> None:
    job_id = place.submit("#!/bin/bash\nsleep 300\n")
    place.job(job_id, lambda job: job.state in ("PENDING", "RUNNING"))
    place.client.cancel(place.system, job_id)
    job = place.job(job_id)
    assert (job.state, job.ended) == ("CANCELLED", True)
    place.client.cancel(place.system, job_id)


def test_jobs_that_are_refused(place: Place) -> None:
    assert refused(place.submit, "echo no script\n").errno == errno.ENOEXEC
    exc = refused(place.submit, "#!/bin/bash\n#SBATCH --partition=no-such-partition\ntrue\n")
    assert exc.errno == errno.EINVAL, exc
    assert "partition" in str(exc).lower()


def test_jobs_that_are_not_there(place: Place) -> None:
    assert isinstance(refused(place.client.job, place.system, "987654321"), JobNotFound)
    exc = refused(place.client.cancel, place.system, "987654321")
    assert isinstance(exc, JobNotFound)
