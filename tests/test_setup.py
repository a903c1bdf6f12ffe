"""The set-up and the demo, as somebody with a fresh clone meets them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from firecrestfs import mountpoints

ROOT = Path(__file__).parents[1]


def test_fuse_is_here() -> None:
    """Without FUSE most of what matters can't be tested: better red than skipped."""
    mountpoints.require_fuse()


# -- scripts/setup ---------------------------------------------------------------------------------

#: What the script may use of the machine; whatever else it finds is a stand-in.
TOOLS = (
    "cat",
    "cksum",
    "cp",
    "dirname",
    "env",
    "grep",
    "id",
    "mktemp",
    "mkdir",
    "rm",
    "sh",
    "sort",
)


#: What the tests let work in a mount.
PROGRAMS = ("vim", "nano", "emacs", "rsync", "git", "tar", "unzip", "sqlite3")


class Machine:
    """A checkout on a machine that has nothing but `TOOLS` and the stand-ins of the test."""

    def __init__(self, home: Path) -> None:
        self.checkout = home / "checkout"
        self.bin = home / "bin"
        self.log = home / "called"
        self.bin.mkdir(parents=True)
        (self.checkout / "scripts").mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup", self.checkout / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.checkout)
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, tool
            (self.bin / tool).symlink_to(found)
        self.stand_in("ldconfig", "true")
        self.stand_in("id", "echo 1000")

    def stand_in(self, name: str, body: str) -> None:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def give(self, *names: str) -> None:
        """Put in programs that write down how they were called."""
        for name in names:
            self.stand_in(name, f'echo "{name} $*" >>"{self.log}"')

    def give_fuse(self) -> None:
        self.give("fusermount3", "file", "bzip2", "xz", "pgrep", *PROGRAMS)
        self.stand_in("ldconfig", "echo libfuse3.so.3; echo libfuse.so.2")

    def give_venv(self, extras: str) -> None:
        """Put in a `.venv` as a finished set-up leaves it."""
        venv = self.checkout / ".venv"
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to(sys.executable)
        code = "import os, sys; print(os.getcwd(), sys.base_prefix, *sys.version_info[:2])"
        origin = subprocess.run(
            [venv / "bin" / "python", "-c", code],
            cwd=self.checkout,
            capture_output=True,
            check=True,
        )
        (venv / ".origin").write_bytes(origin.stdout)
        with open(self.checkout / "pyproject.toml", "rb") as stdin:
            stamp = subprocess.run(["cksum"], stdin=stdin, capture_output=True, check=True)
        (venv / f".installed-{extras}").write_bytes(stamp.stdout)

    def set_up(self, purpose: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["scripts/setup", purpose],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "TMPDIR": os.environ.get("TMPDIR", "/tmp")} | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def called(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    ("purpose", "extras"),
    [("demo", "fuse3,demo"), ("demo", "dev"), ("test", "dev"), ("dev", "dev")],
)
def test_when_all_is_there_nothing_is_said_or_done(
    machine: Machine, purpose: str, extras: str
) -> None:
    machine.give("apt-get", "sudo")
    machine.give_fuse()
    machine.give_venv(extras)
    done = machine.set_up(purpose)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert machine.called() == []


def test_without_an_administrator_the_command_is_printed(machine: Machine) -> None:
    machine.give("apt-get", "apt-cache")
    done = machine.set_up("test")
    assert done.returncode == 1
    assert (
        "  apt-get update && apt-get install -y --no-install-recommends --no-remove"
        " bzip2 emacs-nox file fuse3 git libfuse2t64 nano procps python3 python3-venv rsync"
        " sqlite3 tar unzip vim xz-utils\n"
    ) in done.stderr
    assert machine.called() == ["apt-cache show libfuse2t64"]


def test_what_is_missing_is_named_and_installed(machine: Machine) -> None:
    machine.give_venv("dev")
    machine.give("apt-get", "file", "bzip2", "xz", "pgrep", *PROGRAMS)
    machine.stand_in("apt-cache", "false")
    after = machine.log.with_name("fusermount3")
    machine.stand_in("ldconfig", f'[ ! -e "{after}" ] || echo libfuse3.so.4 libfuse.so.2')
    (machine.bin / "fusermount3").symlink_to(after)
    machine.stand_in(
        "sudo",
        f'echo "sudo $*" >>"{machine.log}"\n'
        f'case "$*" in *install*) cp "{machine.bin}/sudo" "{after}" ;; esac',
    )
    done = machine.set_up("test")
    assert machine.called() == [
        "sudo apt-get -qq update",
        "sudo env DEBIAN_FRONTEND=noninteractive "
        "apt-get install -y --no-install-recommends --no-remove fuse3 libfuse2",
    ]
    assert "missing: fusermount3, by which users mount" in done.stderr
    assert done.returncode == 0, done.stderr


def test_a_failed_installation_says_what_to_run(machine: Machine) -> None:
    machine.give_venv("dev")
    machine.stand_in("sudo", "echo 'you are not in the sudoers file' >&2; exit 1")
    machine.give("dnf")
    done = machine.set_up("demo")
    assert done.returncode == 1
    assert "you are not in the sudoers file" in done.stderr
    assert "run: dnf install -y --setopt=install_weak_deps=False fuse3 fuse3-libs" in done.stderr


def test_an_unknown_package_manager_leaves_a_list(machine: Machine) -> None:
    done = machine.set_up("demo")
    assert done.returncode == 1
    assert "with your system's package manager, then try again: fuse3 python3\n" in done.stderr


def test_an_old_python_names_the_remedy(machine: Machine) -> None:
    machine.give_fuse()
    machine.stand_in("python3", '[ "$1" = --version ] && echo Python 3.8.10')
    done = machine.set_up("demo")
    assert done.returncode == 1
    assert "python3 here is 3.8.10" in done.stderr
    assert "PYTHON=/path/to/python3.12 make" in done.stderr


def test_a_python_that_is_none_is_refused(machine: Machine) -> None:
    machine.give_fuse()
    machine.give_venv("dev")
    done = machine.set_up("demo", PYTHON="/nowhere/python3")
    assert done.returncode == 1
    assert done.stderr.startswith("setup: PYTHON=/nowhere/python3 is no Python")


# -- the demo --------------------------------------------------------------------------------------


class Demo:
    """`firecrestfs demo`, with its temporary files in a directory of the test's."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.temporary = home / "tmp"
        self.temporary.mkdir()
        self.environment: Mapping[str, str] = os.environ | {"TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "firecrestfs", "demo", *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def mountpoint(self) -> Path:
        """Wait until the demo says where it has mounted."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if " is mounted at " in line:
                return Path(line.split(" is mounted at ")[1].strip())
        raise AssertionError(f"the demo ended with {self.process.wait(10)}")

    def mounts(self) -> list[str]:
        return [
            each for each in mountpoints.mounted_types() if each.startswith(str(self.temporary))
        ]

    def processes(self) -> list[int]:
        """Return the processes that the demo has started, and itself: all inherit its TMPDIR."""
        mark = f"TMPDIR={self.temporary}".encode()
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (each / "environ").read_bytes().split(b"\0"):
                    found.append(int(each.name))
            except OSError:
                continue  # ended, or somebody else's
        return [pid for pid in found if mountpoints.is_alive(pid)]

    def end(self) -> None:
        """End what a failed test has left."""
        for each in self.mounts():
            mountpoints.unmount(each, lazy=True)
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    one = Demo(tmp_path)
    try:
        yield one
    finally:
        one.end()


def run(*command: str | Path) -> str:
    """Run a program on the mount; hung is failed."""
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


@pytest.mark.fuse
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_can_be_used_and_leaves_nothing_behind(demo: Demo, number: int) -> None:
    where = demo.mountpoint()
    system = where / run("ls", where).split()[0]
    assert "README.txt" in run("ls", "-l", f"{system}/HOME/")
    run("sh", "-c", f"echo a note >'{system}/HOME/note.txt'")
    os.killpg(demo.process.pid, number)
    assert demo.process.wait(40) == 0
    assert (demo.mounts(), demo.processes(), os.listdir(demo.temporary)) == ([], [], [])


@pytest.mark.fuse
def test_the_demo_ends_though_a_shell_sits_in_it(demo: Demo) -> None:
    where = demo.mountpoint()
    with subprocess.Popen(["sleep", "60"], cwd=where) as sitting:
        try:
            os.killpg(demo.process.pid, signal.SIGINT)
            assert demo.process.wait(40) == 0
            assert (demo.mounts(), os.listdir(demo.temporary)) == ([], [])
            end = time.monotonic() + 5
            while demo.processes() and time.monotonic() < end:
                time.sleep(0.05)
            assert demo.processes() == []
        finally:
            sitting.kill()


@pytest.mark.fuse
def test_the_demo_ends_when_it_is_unmounted_elsewhere(demo: Demo) -> None:
    where = demo.mountpoint()
    state = {"XDG_STATE_HOME": str(where.parent / "state")}
    command = [sys.executable, "-m", "firecrestfs", "umount", str(where)]
    subprocess.run(command, env=demo.environment | state, timeout=60, check=True)
    assert demo.process.wait(40) == 0
    assert (demo.mounts(), demo.processes(), os.listdir(demo.temporary)) == ([], [], [])


@pytest.mark.fuse
def test_the_demo_at_a_path_through_a_link(tmp_path: Path) -> None:
    # Mounts are listed by their real paths.
    (tmp_path / "tmp2").mkdir()
    (tmp_path / "link").symlink_to("tmp2")
    demo = Demo(tmp_path, str(tmp_path / "link" / "hpc"))
    try:
        assert demo.mountpoint().samefile(tmp_path / "tmp2" / "hpc")
        os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.process.wait(40) == 0
        assert os.listdir(tmp_path / "tmp2") == []
        assert (demo.processes(), os.listdir(demo.temporary)) == ([], [])
    finally:
        mountpoints.unmount(str(tmp_path / "tmp2" / "hpc"), lazy=True)
        demo.end()


@pytest.mark.fuse
def test_the_demo_names_a_program_that_another_terminal_finds(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    try:
        demo.mountpoint()
        assert demo.process.stdout is not None
        line = next(line for line in demo.process.stdout if line.endswith(" sync .\n"))
        program = line.split("&& ")[1].split(" sync")[0]
        assert "firecrestfs" in run("env", "-i", f"PATH={os.environ['PATH']}", program, "version")
    finally:
        demo.end()
