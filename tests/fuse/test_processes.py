"""Mapped files, threads, interrupted programs, followed files, jobs from a shell."""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ..fs.drivers import KernelDriver
from ..harness import COMMAND_S, Server, wait_for

SCRIPT = "#!/bin/bash\n#SBATCH --time=00:01:00\necho it ran in $PWD > out.txt\n"


def run(fs: KernelDriver, command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        cwd=fs.path(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )


# -- mmap ------------------------------------------------------------------------------------------


def test_mapping_for_reading(fs: KernelDriver, there: Path) -> None:
    content = os.urandom(100_001)
    (there / "f").write_bytes(content)
    fd = fs.open("f")
    with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped:
        assert mapped[:] == content
        assert mapped[99_990:] == content[99_990:]
    fs.close(fd)


def test_mapping_privately_for_writing_changes_nothing(fs: KernelDriver, there: Path) -> None:
    (there / "f").write_bytes(b"content" * 1000)
    fd = fs.open("f")
    with mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        mapped[:7] = b"CHANGED"
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == b"content" * 1000


def test_mapping_shared_for_writing(fs: KernelDriver, there: Path) -> None:
    (there / "f").write_bytes(b"." * 10_000)
    fd = fs.open("f", os.O_RDWR)
    with mmap.mmap(fd, 0) as mapped:
        mapped[5000:5007] = b"WRITTEN"
        mapped.flush()
    fs.close(fd)
    assert fs.read_file("f") == b"." * 5000 + b"WRITTEN" + b"." * 4993
    fs.land()
    assert (there / "f").read_bytes() == b"." * 5000 + b"WRITTEN" + b"." * 4993


def test_mapping_a_new_file(fs: KernelDriver, there: Path) -> None:
    fd = fs.open("f", os.O_RDWR | os.O_CREAT)
    fs.ftruncate(fd, 8192)
    with mmap.mmap(fd, 0) as mapped:
        mapped[8190:] = b"ab"
    fs.close(fd)
    fs.land()
    assert (there / "f").read_bytes() == bytes(8190) + b"ab"


# -- many at once ----------------------------------------------------------------------------------


def test_eight_threads_on_their_own_files(fs: KernelDriver, there: Path) -> None:
    def work(number: int) -> None:
        piece = b"%d" % number * 1000
        for turn in range(10):
            fs.append(f"f{number}", piece)
            assert fs.read_file(f"f{number}") == piece * (turn + 1)
        fs.rename(f"f{number}", f"g{number}")
        assert fs.stat(f"g{number}").st_size == 10 * len(piece)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    fs.land()
    for number in range(8):
        assert (there / f"g{number}").read_bytes() == b"%d" % number * 10_000


def test_eight_readers_of_one_file(fs: KernelDriver, there: Path, server: Server) -> None:
    content = os.urandom(500_000)
    (there / "f").write_bytes(content)
    server.set(latency=200.0)
    barrier = threading.Barrier(8)

    def read(_: int) -> bool:
        barrier.wait(10)
        return fs.read_file("f") == content

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert server.requests().count("ops/download") == 1


def test_slow_readers_do_not_hold_up_others(fs: KernelDriver, there: Path, server: Server) -> None:
    for number in range(12):
        (there / f"f{number}").write_bytes(b"x")
    (there / "d").mkdir()
    fs.listdir()
    fs.write_file("mine", b"local")
    rule = {"kind": "stall", "match": "ops/download", "seconds": 3.0, "count": -1}
    server.faults([rule])
    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(fs.read_file, f"f{number}") for number in range(12)]
        time.sleep(0.5)
        start = time.monotonic()
        assert fs.read_file("mine") == b"local"
        assert "mine" in fs.listdir()
        assert fs.status()["pid"]
        assert time.monotonic() - start < 1.0
        server.faults([])
        assert all(each.result() == b"x" for each in readers)


# -- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_program_that_waits_can_be_ended(
    fs: KernelDriver, there: Path, server: Server, number: signal.Signals
) -> None:
    (there / "f").write_bytes(b"content")
    fs.listdir()
    server.set(latency=3000.0)
    with subprocess.Popen(["cat", fs.path("f")], stdout=subprocess.PIPE) as cat:
        time.sleep(0.7)
        assert cat.poll() is None
        start = time.monotonic()
        cat.send_signal(number)
        assert cat.wait(10) == -number
        assert time.monotonic() - start < 1.0
    server.set(latency=0.0)
    assert fs.read_file("f") == b"content"


def test_ls_can_be_interrupted(fs: KernelDriver, there: Path, server: Server) -> None:
    (there / "d").mkdir()
    server.set(latency=3000.0)
    with subprocess.Popen(["ls", fs.path("d")], stdout=subprocess.PIPE) as ls:
        time.sleep(0.7)
        assert ls.poll() is None
        start = time.monotonic()
        ls.send_signal(signal.SIGINT)
        assert ls.wait(10) != 0
        assert time.monotonic() - start < 1.0
    server.set(latency=0.0)
    assert fs.listdir("d") == []


# -- growing files ---------------------------------------------------------------------------------


def test_tail_f(fs: KernelDriver, there: Path, tmp_path: Path) -> None:
    (there / "log").write_bytes(b"first\n")
    out = tmp_path / "out"
    with out.open("wb") as file:
        tail = subprocess.Popen(["tail", "-f", "-s", "0.2", fs.path("log")], stdout=file)
    try:
        assert wait_for(lambda: out.read_bytes() == b"first\n")
        for number in range(2):
            expected = out.read_bytes() + b"more %d\n" % number
            with (there / "log").open("ab") as log:
                log.write(b"more %d\n" % number)
            assert wait_for(lambda e=expected: out.read_bytes() == e, 12)  # type: ignore[misc]
    finally:
        tail.terminate()
        tail.wait(10)


# -- nothing to do ---------------------------------------------------------------------------------


def test_an_idle_mount_sends_nothing(fs: KernelDriver, there: Path, server: Server) -> None:
    fs.write_file("f", b"x")
    fs.land()
    with subprocess.Popen(["sleep", "60"], cwd=fs.path(), stdout=subprocess.DEVNULL) as shell:
        try:
            fd = fs.open("f")
            fs.read(fd, 10)
            server.requests(reset=True)
            time.sleep(3.0)
            assert server.requests() == []
            fs.close(fd)
        finally:
            shell.terminate()


# -- jobs ------------------------------------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "run.sh"
    path.write_text(SCRIPT)
    path.chmod(0o755)
    return path


def submitted(server: Server) -> int:
    return server.requests().count("jobs/submit")


@pytest.mark.parametrize("tool", ["cp", "cp -p", "install -m 755", "rsync --inplace", "rsync"])
def test_copying_a_script_submits_it_once(
    fs: KernelDriver, there: Path, server: Server, script: Path, tool: str
) -> None:
    done = run(fs, f"{tool} {script} .jobs/")
    assert done.returncode == 0, done.stderr
    assert submitted(server) == 1
    assert fs.read_file(".jobs/run.sh.jobid").strip().isdigit()
    home = server.info["systems"][0]["home"]
    assert wait_for(lambda: (there / "out.txt").exists(), 20)
    expected = f"it ran in {home}/{there.name}\n"
    assert wait_for(lambda: (there / "out.txt").read_text() == expected)


def test_the_output_of_a_job_appears(fs: KernelDriver, script: Path) -> None:
    assert not fs.exists("out.txt")
    done = run(fs, f"cp {script} .jobs/ && cat .jobs/$(cat .jobs/run.sh.jobid)/wait")
    assert (done.stdout, done.returncode) == ("COMPLETED 0\n", 0)
    assert fs.read_file("out.txt").startswith(b"it ran in ")


def test_a_script_that_several_programs_write(
    fs: KernelDriver, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "a").write_text("#!/bin/bash\necho a > out.txt\n")
    (tmp_path / "b").write_text("echo b >> out.txt\n")
    done = run(fs, f"{{ cat {tmp_path}/a; cat {tmp_path}/b; }} > .jobs/both")
    assert done.returncode == 0, done.stderr
    # The shell's own close decides nothing more, but release comes after it has ended.
    assert wait_for(lambda: submitted(server) > 0, 5)
    time.sleep(0.5)
    assert submitted(server) == 1
    assert fs.read_file(".jobs/both") == b"#!/bin/bash\necho a > out.txt\necho b >> out.txt\n"
    assert wait_for(lambda: fs.exists("out.txt") and fs.read_file("out.txt") == b"a\nb\n", 20)


def test_a_script_by_redirection(fs: KernelDriver, server: Server) -> None:
    assert run(fs, "printf '#!/bin/sh\\ntrue\\n' > .jobs/it").returncode == 0
    assert wait_for(lambda: submitted(server) == 1, 5)


def test_a_copy_of_what_is_no_script_fails(
    fs: KernelDriver, server: Server, tmp_path: Path
) -> None:
    (tmp_path / "data.bin").write_bytes(b"\x7fELF no script")
    done = run(fs, f"cp {tmp_path}/data.bin .jobs/")
    assert done.returncode != 0
    assert "Invalid argument" in done.stderr
    assert "#!" in fs.read_file(".jobs/data.bin.error").decode()
    assert submitted(server) == 0


def test_an_editor_in_jobs_submits_once(fs: KernelDriver, server: Server) -> None:
    command = "vim -es -u NONE -i NONE -c 'normal i#!/bin/sh' -c 'normal otrue' -c wq .jobs/new.sh"
    done = run(fs, command)
    assert done.returncode == 0, done.stderr
    assert wait_for(lambda: submitted(server) > 0, 5)
    time.sleep(0.5)
    assert submitted(server) == 1
    assert fs.read_file(".jobs/new.sh") == b"#!/bin/sh\ntrue\n"
