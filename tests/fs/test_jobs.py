"""`.jobs`: a script that is dropped is submitted once, whole."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..harness import Server, client_of, wait_for
from .drivers import Driver

SCRIPT = b"#!/bin/bash\n#SBATCH --time=00:01:00\necho ran > out.txt\n"


@pytest.fixture(autouse=True)
def jobs_have_ended(fs: Driver, server: Server) -> Iterator[None]:
    """Let no job write into the test's directory while it is looked at whether all is well."""
    yield
    client = client_of(server)
    assert wait_for(lambda: all(job.ended for job in client.jobs("cluster")), 20)


def submitted(server: Server) -> int:
    return server.requests().count("jobs/submit")


def test_a_script_is_submitted_once(fs: Driver, there: Path, server: Server) -> None:
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert submitted(server) == 1
    assert fs.read_file(".jobs/run.sh.jobid").decode().strip().isdigit()
    assert fs.read_file(".jobs/run.sh") == SCRIPT
    assert "run.sh.jobid" in fs.listdir(".jobs")
    assert fs.getxattr(".jobs/run.sh", "user.firecrest.jobid").isdigit()
    # Reading it, touching it, copying attributes: no second job.
    fs.chmod(".jobs/run.sh", 0o755)
    fs.utime(".jobs/run.sh", 10**18, 10**18)
    fs.close(fs.open(".jobs/run.sh", os.O_RDWR))
    assert submitted(server) == 1


def test_it_runs_in_the_directory_of_its_jobs(fs: Driver, there: Path) -> None:
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert wait_for((there / "out.txt").exists, 20)
    assert wait_for(lambda: (there / "out.txt").read_text() == "ran\n")


def test_its_inputs_have_landed_when_it_is_submitted(fs: Driver, there: Path) -> None:
    fs.write_file("input", b"42\n")
    fs.write_file(".jobs/run.sh", b"#!/bin/bash\ncp input out.txt\n")
    assert (there / "input").read_bytes() == b"42\n"
    assert wait_for(
        lambda: (there / "out.txt").exists() and (there / "out.txt").read_text() == "42\n", 20
    )


def test_the_queue_is_shown(fs: Driver, server: Server) -> None:
    server.set(queue_seconds=1.0)
    fs.write_file(".jobs/waiting-one", b"#!/bin/bash\nsleep 0\n")
    job_id = fs.read_file(".jobs/waiting-one.jobid").decode().strip()
    queue = fs.read_file("/cluster/.jobs/queue").decode()
    assert queue.startswith("JOBID")
    assert any(job_id in line and "waiting-one" in line for line in queue.splitlines())


def test_a_job_that_has_just_started_is_not_shown_as_something_else(
    fs: Driver, there: Path, server: Server
) -> None:
    server.set(queue_seconds=0.0, half_known=60)
    fs.write_file(".jobs/started", b"#!/bin/bash\ntouch ran\n")
    assert wait_for((there / "ran").exists, 10)
    queue = fs.read_file("/cluster/.jobs/queue").decode()
    assert queue.startswith("JOBID")
    assert "allocation" not in queue


def test_what_is_no_script_is_refused(fs: Driver, server: Server) -> None:
    with pytest.raises(OSError) as refusal:
        fs.write_file(".jobs/data", b"this is not a script")
    assert refusal.value.errno == errno.EINVAL
    assert "#!" in fs.read_file(".jobs/data.error").decode()
    assert not fs.exists(".jobs/data.jobid")
    assert submitted(server) == 0


def test_a_refusal_by_the_scheduler_is_told(fs: Driver, there: Path, server: Server) -> None:
    body = {"errorType": "error", "message": "sbatch: error: invalid partition specified: nope"}
    server.faults([{"kind": "status", "match": "jobs/submit", "status": 500, "body": body}])
    with pytest.raises(OSError):
        fs.write_file(".jobs/run.sh", SCRIPT)
    assert "invalid partition" in fs.read_file(".jobs/run.sh.error").decode()


def test_a_script_under_a_temporary_name_waits_for_its_final_one(
    fs: Driver, server: Server
) -> None:
    fs.write_file(".jobs/.run.sh.swp", SCRIPT)
    fs.write_file(".jobs/run.sh.tmp", SCRIPT)
    assert submitted(server) == 0
    fs.rename(".jobs/run.sh.tmp", ".jobs/run.sh")
    assert submitted(server) == 1


def test_removing_a_script_forgets_it(fs: Driver, server: Server) -> None:
    fs.write_file(".jobs/run.sh", SCRIPT)
    fs.unlink(".jobs/run.sh")
    assert not fs.exists(".jobs/run.sh")
    assert not fs.exists(".jobs/run.sh.jobid")
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert submitted(server) == 2


def test_jobs_of_a_directory_that_is_not_there(fs: Driver) -> None:
    assert not fs.exists("none/.jobs")
    with pytest.raises(FileNotFoundError):
        fs.write_file("none/.jobs/run.sh", SCRIPT)


def test_looking_at_jobs_costs_no_submission(fs: Driver, server: Server) -> None:
    assert fs.listdir("/cluster/.jobs")[0] == "queue"
    assert fs.stat("/cluster/.jobs/queue").st_size > 0
    assert "jobs/submit" not in server.requests()


# -- the directory ---------------------------------------------------------------------------------

ROOT = "/cluster/.jobs"


def submit(fs: Driver, name: str, script: bytes = SCRIPT) -> str:
    """Submit a script from the test's directory; return where its job is shown."""
    fs.write_file(f".jobs/{name}", script)
    return f".jobs/{fs.read_file(f'.jobs/{name}.jobid').decode().strip()}"


def text(fs: Driver, path: str) -> str:
    return fs.read_file(path).decode()


def refused(call: Callable[..., object], *args: object) -> int | None:
    with pytest.raises(OSError) as refusal:
        call(*args)
    return refusal.value.errno


def test_a_job_is_a_directory(fs: Driver, there: Path, server: Server) -> None:
    job = submit(fs, "run.sh", b"#!/bin/bash\necho to-stdout\necho to-stderr >&2\nexit 3\n")
    assert text(fs, f"{job}/wait") == "FAILED 3\n"
    assert text(fs, f"{job}/status") == "FAILED\n"
    assert text(fs, f"{job}/script").startswith("#!/bin/bash\necho to-stdout")
    assert text(fs, f"{job}/stdout") == "to-stdout\nto-stderr\n"
    told = json.loads(fs.read_file(f"{job}/info.json"))
    assert told["jobid"] == job.rpartition("/")[2]
    assert told["job_file_out"].endswith(f"/{there.name}/slurm-{told['jobid']}.out")
    assert (told["state"], told["exit_code"], told["name"]) == ("FAILED", 3, "run.sh")
    assert set(fs.listdir(job)) == {"status", "info.json", "script", "workdir", "stdout", "stderr"}
    assert fs.stat(f"{job}/workdir").st_ino == fs.stat("").st_ino
    assert fs.stat(f"{job}/status").st_size == len("FAILED\n")


def test_the_ways_to_a_job(fs: Driver, server: Server) -> None:
    job = submit(fs, "ways.sh", b"#!/bin/bash\nsleep 1\n")
    number = job.rpartition("/")[2]
    assert fs.readlink(f"{ROOT}/last") == number
    assert number in fs.listdir(ROOT)
    assert number in fs.listdir(f"{ROOT}/active")
    assert text(fs, f"{ROOT}/active/{number}/status") in ("PENDING\n", "RUNNING\n")
    assert text(fs, f"{ROOT}/by-name/ways.sh/wait") == "COMPLETED 0\n"
    assert number in fs.listdir(f"{ROOT}/recent")
    assert number not in fs.listdir(f"{ROOT}/active")
    assert sorted(fs.listdir(".jobs")) == sorted([number, "README", "ways.sh", "ways.sh.jobid"])
    rows = json.loads(fs.read_file(f"{ROOT}/queue.json"))
    assert [row["state"] for row in rows if row["job_id"] == number] == ["COMPLETED"]
    assert ".jobs" not in fs.listdir("")
    assert "cancel" in text(fs, ".jobs/README")


def test_who_waits_goes_on_when_the_server_is_away(fs: Driver, server: Server) -> None:
    job = submit(fs, "run.sh", b"#!/bin/bash\nsleep 0.5\n")
    match = "compute/acct" if on_v1(server) else "jobs/list"
    server.faults([{"kind": "drop", "match": match, "count": 3}])
    assert text(fs, f"{job}/wait") == "COMPLETED 0\n"


def test_what_a_job_wrote_is_seen_when_it_has_ended(fs: Driver, there: Path) -> None:
    (there / "out.dat").write_bytes(b"old")
    assert fs.read_file("out.dat") == b"old"
    assert not fs.exists("new.dat")
    job = submit(
        fs, "run.sh", b"#!/bin/bash\nsleep 0.3\necho new > new.dat\necho changed > out.dat\n"
    )
    assert text(fs, f"{job}/wait") == "COMPLETED 0\n"
    assert fs.read_file("new.dat") == b"new\n"
    assert fs.read_file("out.dat") == b"changed\n"


def test_a_job_is_cancelled_by_its_ctl_alone(fs: Driver) -> None:
    job = submit(fs, "long.sh", b"#!/bin/bash\nsleep 60\n")
    for name in ("status", "info.json", "script", "workdir"):
        assert refused(fs.unlink, f"{job}/{name}") == errno.EPERM
    assert refused(fs.rmdir, job) == errno.EBUSY
    assert refused(fs.mkdir, f"{job}/x") == errno.EPERM
    assert refused(fs.chmod, f"{job}/status", 0o777) == errno.EPERM
    assert refused(fs.rename, job, ".jobs/other") in (errno.EPERM, errno.EACCES)
    assert refused(fs.write_file, f"{job}/ctl", b"explode\n") == errno.EINVAL
    fs.unlink(".jobs/long.sh")
    assert not {"ctl", "wait"} & set(fs.listdir(job))
    assert text(fs, f"{job}/status") in ("PENDING\n", "RUNNING\n")
    fs.write_file(f"{job}/ctl", b"cancel\n")
    assert text(fs, f"{job}/wait").startswith("CANCELLED ")
    fs.write_file(f"{job}/ctl", b"cancel\n")
    fs.rmdir(job)
    assert not fs.exists(job)
    assert job.rpartition("/")[2] not in fs.listdir(ROOT)


def test_an_array_ends_as_its_worst_task(fs: Driver) -> None:
    script = b"#!/bin/bash\n#SBATCH --array=0-2\necho task $SLURM_ARRAY_TASK_ID\n"
    job = submit(fs, "array.sh", script + b"exit $SLURM_ARRAY_TASK_ID\n")
    assert text(fs, f"{job}/wait") == "FAILED 2\n"
    assert text(fs, f"{job}/status") == "FAILED\n"
    tasks = fs.listdir(f"{job}/tasks")
    states = sorted(text(fs, f"{job}/tasks/{task}/status") for task in tasks)
    assert states == ["COMPLETED\n", "FAILED\n", "FAILED\n"]
    outputs = {text(fs, f"{job}/tasks/{task}/stdout") for task in tasks}
    assert outputs == {"task 0\n", "task 1\n", "task 2\n"}


def test_a_job_that_was_not_submitted_here(fs: Driver, server: Server) -> None:
    script = b"#!/bin/bash\necho from elsewhere\n"
    home = server.info["systems"][0]["home"]
    job_id = client_of(server).submit("cluster", script=script, working_directory=home, name="far")
    fs.refresh("/cluster/.jobs")
    job = f"{ROOT}/{job_id}"
    assert text(fs, f"{job}/wait") == "COMPLETED 0\n"
    assert text(fs, f"{job}/stdout") == "from elsewhere\n" or on_v1(server)
    assert fs.readlink(f"{job}/workdir") == f"../..{home}" or on_v1(server)
    assert text(fs, f"{ROOT}/by-name/far/status") == "COMPLETED\n"
    if not on_v1(server):
        # What somebody has asked for is listed from then on.
        assert set(fs.listdir(job)) >= {"script", "stdout", "stderr"}
        assert text(fs, f"{job}/script").startswith(script.decode())


def on_v1(server: Server) -> bool:
    """Tell whether the server speaks v1, whose accounting knows little of other clients' jobs."""
    return bool(server.info["api"] == "v1")


def test_a_new_job_of_which_the_scheduler_tells_little(
    fs: Driver, there: Path, server: Server
) -> None:
    """For its first moments accounting doesn't list it, or as "allocation", without a directory."""
    server.set(half_known=0.6)
    job = submit(fs, "new.sh", b"#!/bin/bash\nsleep 1\n")
    number = job.rpartition("/")[2]
    assert state(fs, job) in ("PENDING", "RUNNING")
    assert fs.stat(f"{job}/workdir").st_ino == fs.stat("").st_ino
    assert fs.readlink(f"{ROOT}/by-name/new.sh") == f"../{number}"
    assert "allocation" not in text(fs, f"{ROOT}/queue")
    assert text(fs, f"{job}/wait") == "COMPLETED 0\n"


def state(fs: Driver, job: str) -> str:
    """Return the state that the scheduler tells now, not up to ten seconds ago."""
    fs.refresh("/cluster/.jobs")
    return text(fs, f"{job}/status").strip()


# -- submitting ------------------------------------------------------------------------------------


def test_writing_a_script_again_submits_it_again(fs: Driver, server: Server) -> None:
    first = submit(fs, "again.sh")
    assert refused(fs.write_file, ".jobs/again.sh", SCRIPT) == errno.EAGAIN
    assert first.rpartition("/")[2] in text(fs, ".jobs/again.sh.error")
    assert text(fs, ".jobs/again.sh.jobid").strip() == first.rpartition("/")[2]
    fs.unlink(".jobs/again.sh")
    assert submit(fs, "again.sh") != first


def test_a_script_of_the_cluster_in_place(fs: Driver, there: Path, server: Server) -> None:
    fs.write_file("here.sh", b"#!/bin/bash\necho in $PWD\n")
    home = server.info["systems"][0]["home"]
    fs.symlink(f"..{home}/{there.name}/here.sh", f"{ROOT}/here.sh")
    try:
        assert fs.readlink(f"{ROOT}/here.sh") == f"..{home}/{there.name}/here.sh"
        job = f"{ROOT}/{text(fs, f'{ROOT}/here.sh.jobid').strip()}"
        assert text(fs, f"{job}/wait") == "COMPLETED 0\n"
        assert text(fs, f"{job}/stdout") == f"in {home}/{there.name}\n"
        assert text(fs, f"{job}/script") == "#!/bin/bash\necho in $PWD\n"
    finally:
        fs.unlink(f"{ROOT}/here.sh")
    assert fs.exists("here.sh")


def test_links_that_lead_to_no_script(fs: Driver, there: Path) -> None:
    (there / "data").write_bytes(b"no script")
    assert refused(fs.symlink, "../data", ".jobs/data") == errno.EINVAL
    assert refused(fs.symlink, "../none", ".jobs/none") == errno.ENOENT
    assert refused(fs.symlink, "../../../../../other/x", ".jobs/far") == errno.EXDEV
    assert fs.listdir(".jobs") == ["README"]


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        (b"#!/bin/bash\n#SBATCH --partition=nope\n", errno.EINVAL, "invalid partition"),
        (b"#!/bin/bash\n#SBATCH --account=nope\n", errno.EINVAL, "Invalid account"),
        (b"#!/bin/bash\n#SBATCH --nonsense=1\n", errno.EINVAL, "--nonsense"),
        (b"#!/bin/bash\n#SBATCH --time=soon\n", errno.EINVAL, "--time"),
        (b"echo no script\n", errno.EINVAL, "#!"),
    ],
)
def test_what_the_scheduler_refuses(
    fs: Driver, server: Server, script: bytes, code: int, words: str
) -> None:
    assert refused(fs.write_file, ".jobs/bad.sh", script) == code
    assert words in text(fs, ".jobs/bad.sh.error")
    assert not fs.exists(".jobs/bad.sh.jobid")
    if fs.mounted_by_kernel:
        assert any(words in line for line in fs.errors())
    # It is mended at once, and nothing of the failure stays.
    fs.write_file(".jobs/bad.sh", SCRIPT)
    assert text(fs, ".jobs/bad.sh.jobid").strip().isdigit()
    assert not fs.exists(".jobs/bad.sh.error")


def test_the_scheduler_is_down(fs: Driver, server: Server) -> None:
    server.set(unhealthy="scheduler")
    if not on_v1(server):  # which knows of no such thing
        assert refused(fs.write_file, ".jobs/run.sh", SCRIPT) == errno.EAGAIN
        assert "unhealthy" in text(fs, ".jobs/run.sh.error")
    server.set(unhealthy="")
    fs.write_file(".jobs/run.sh", SCRIPT)
    assert text(fs, ".jobs/run.sh.jobid").strip().isdigit()


def test_too_many_jobs(fs: Driver, server: Server) -> None:
    words = "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed"
    body = {"errorType": "error", "message": words}
    rule = {"kind": "status", "match": "jobs/submit", "status": 403, "body": body}
    server.faults([rule])
    if not on_v1(server):
        assert refused(fs.write_file, ".jobs/run.sh", SCRIPT) == errno.EAGAIN
        assert "QOSMaxSubmitJobPerUserLimit" in text(fs, ".jobs/run.sh.error")
        body["message"] = words.replace("MaxSubmitJobPerUser", "MaxCpuPerUser")
        server.faults([rule])
        assert refused(fs.write_file, ".jobs/run.sh", SCRIPT) == errno.EDQUOT


def test_a_script_that_is_too_large(fs: Driver) -> None:
    assert refused(fs.write_file, ".jobs/big.sh", b"#!/bin/sh\n" + b"#" * (1 << 20)) == errno.EFBIG


def test_an_empty_script_is_not_decided_upon(fs: Driver, server: Server) -> None:
    fs.write_file(".jobs/empty.sh", b"")
    assert fs.listdir(".jobs") == ["README", "empty.sh"]
    fs.append(".jobs/empty.sh", SCRIPT)
    assert text(fs, ".jobs/empty.sh.jobid").strip().isdigit()


def test_defaults(fs: Driver, there: Path) -> None:
    path = f"{ROOT}/defaults.toml"
    before = fs.read_file(path)
    assert before.startswith(b"#")
    try:
        assert refused(fs.write_file, path, b"partition = 3\n") == errno.EINVAL
        assert refused(fs.write_file, ".jobs/run.sh", SCRIPT) == errno.EINVAL
        assert "defaults.toml" in text(fs, ".jobs/run.sh.error")
        fs.write_file(path, b'partition = "nope"\n[environment]\nGREETING = "hello you"\n')
        assert refused(fs.write_file, ".jobs/run.sh", SCRIPT) == errno.EINVAL
        assert "nope" in text(fs, ".jobs/run.sh.error")
        own = b"#!/bin/bash\n#SBATCH -p part01\necho $GREETING\n"
        job = submit(fs, "own.sh", own)
        assert text(fs, f"{job}/wait") == "COMPLETED 0\n"
        assert text(fs, f"{job}/stdout") == "hello you\n"
    finally:
        fs.write_file(path, before)
    assert refused(fs.unlink, path) == errno.EPERM


def test_names_that_are_taken(fs: Driver) -> None:
    for name in ("README", "queue", "queue.json", "last", "active", "x.jobid", "x.error", "x.ctl"):
        assert refused(fs.write_file, f"{ROOT}/{name}", SCRIPT) in (errno.EACCES, errno.EISDIR)
    assert refused(fs.unlink, f"{ROOT}/queue") == errno.EPERM
    assert refused(fs.rmdir, f"{ROOT}/active") == errno.EPERM
    assert refused(fs.mkdir, f"{ROOT}/directory") == errno.EPERM


def test_an_answer_that_got_lost_makes_no_second_job(fs: Driver, server: Server) -> None:
    client = client_of(server)
    before = len(client.jobs("cluster"))
    endpoint = "compute/jobs/path" if on_v1(server) else "jobs/submit"
    server.faults([{"kind": "lost_answer", "match": endpoint}])
    job = submit(fs, "lost.sh")
    assert len(client.jobs("cluster")) == before + 1
    assert text(fs, f"{job}/wait") == "COMPLETED 0\n"


def test_a_failure_that_came_after_the_submission(fs: Driver, server: Server) -> None:
    client = client_of(server)
    before = len(client.jobs("cluster"))
    endpoint = "compute/jobs/path" if on_v1(server) else "jobs/submit"
    server.faults([{"kind": "late_status", "match": endpoint, "status": 504}])
    submit(fs, "late.sh")
    assert len(client.jobs("cluster")) == before + 1
