"""Who may have large files staged by reading them, and the explicit way to have them here."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ..fs.drivers import Driver, KernelDriver
from ..fs.sites import Site
from ..harness import Server
from .conftest import KINDS, LargeSites
from .test_reading import MIB, blob, orders

#: Opens a file, reads so much at a time from it, and prints what came of it.
READER = """
import os, sys
fd, size, whole = os.open(sys.argv[1], os.O_RDONLY), int(sys.argv[2]), sys.argv[3] == "whole"
total = 0
try:
    while True:
        data = os.read(fd, size)
        total += len(data)
        if not data or not whole:
            break
except OSError as exc:
    print(exc.errno)
else:
    print(-total)
"""


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a program that may be called by any name."""
    folder = tmp_path_factory.mktemp("programs")
    (folder / "reader.py").write_text(READER)
    return folder


def read_as(programs: Path, name: str, path: str, size: int, *, whole: bool = False) -> int:
    """Read *path* in a process of that *name*; return its errno, or minus the bytes read."""
    program = programs / name
    if not program.exists():
        shutil.copy(os.path.realpath(sys.executable), program)
    home = str(Path(os.path.realpath(sys.executable)).parents[1])
    done = subprocess.run(
        [program, "-S", programs / "reader.py", path, str(size), "whole" if whole else "once"],
        env={"PYTHONHOME": home, "LD_LIBRARY_PATH": f"{home}/lib"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.parametrize("name", ["nautilus", "tracker-extract-3"])
def test_a_look_is_no_reason_to_stage(
    fs: Driver, there: Path, server: Server, programs: Path, name: str
) -> None:
    assert isinstance(fs, KernelDriver)
    for number in range(5):
        (there / f"f{number}").write_bytes(blob(MIB))
    fs.listdir()
    server.requests(reset=True)
    for number in range(5):
        assert read_as(programs, name, fs.path(f"f{number}"), 4096) == errno.EAGAIN
    assert server.requests() in ([], ["ops/ls"], ["utilities/ls"])


def test_a_copy_is(fs: Driver, there: Path, server: Server, programs: Path) -> None:
    assert isinstance(fs, KernelDriver)
    (there / "f").write_bytes(blob(MIB))
    assert read_as(programs, "thunar", fs.path("f"), 65536, whole=True) == -MIB
    assert orders(server) == 1
    # And what is here may be looked at.
    assert read_as(programs, "thunar", fs.path("f"), 4096) == -4096


def test_a_thumbnailer_copies_nothing(
    fs: Driver, there: Path, server: Server, programs: Path
) -> None:
    assert isinstance(fs, KernelDriver)
    (there / "f").write_bytes(blob(MIB))
    assert read_as(programs, "tumblerd", fs.path("f"), 65536) == errno.EAGAIN
    assert orders(server) == 0


def test_small_files_are_for_everyone(fs: Driver, there: Path, programs: Path) -> None:
    assert isinstance(fs, KernelDriver)
    (there / "f").write_bytes(b"small")
    assert read_as(programs, "tumblerd", fs.path("f"), 65536) == -5


@pytest.mark.parametrize("mode", ["always", "explicit"])
def test_other_rules(
    large_sites: LargeSites,
    kind: str,
    fs: Driver,
    there: Path,
    server: Server,
    programs: Path,
    mode: str,
) -> None:
    driver = large_sites.site(*KINDS[kind], f"hydrate={mode}").driver.at(fs.base)
    assert isinstance(driver, KernelDriver)
    driver.refresh(fs.base.rpartition("/")[0])
    (there / "f").write_bytes(blob(MIB))
    if mode == "always":
        assert read_as(programs, "tumblerd", driver.path("f"), 4096) == -4096
        return
    with pytest.raises(OSError, match="."):
        driver.read_file("f")
    assert orders(server) == 0


def test_a_pinned_file_stays(
    large_sites: LargeSites, kind: str, fs: Driver, there: Path, server: Server
) -> None:
    driver = large_sites.site(*KINDS[kind], "cache_size=8M").driver.at(fs.base)
    driver.refresh(fs.base.rpartition("/")[0])
    for name in ("pinned", "other", "third"):
        (there / name).write_bytes(blob(5 * MIB))
    driver.setxattr("pinned", "user.firecrest.pin", b"1")
    for name in ("other", "third"):
        assert driver.read_file(name) == blob(5 * MIB)
    assert driver.getxattr("pinned", "user.firecrest.state") == b"cached"
    assert driver.getxattr("pinned", "user.firecrest.pin") == b"1"
    driver.setxattr("pinned", "user.firecrest.pin", b"0")
    with pytest.raises(OSError, match="."):
        driver.setxattr("pinned", "user.firecrest.pin", b"perhaps")


def test_fetching(fs: Driver, there: Path, server: Server, site: Site) -> None:
    assert isinstance(fs, KernelDriver)
    assert site.mounted is not None
    (there / "d").mkdir()
    for name in ("a", "d/b", "d/c"):
        (there / name).write_bytes(blob(2 * MIB))
    done = site.mounted.cli("fetch", fs.path("a"), fs.path("d"))
    assert done.returncode == 0, done.stderr
    assert orders(server) == 3
    server.requests(reset=True)
    for name in ("a", "d/b", "d/c"):
        assert fs.getxattr(name, "user.firecrest.state") == b"cached"
        assert fs.read_file(name) == blob(2 * MIB)
    assert orders(server) == 0
    # What the cluster has got a moment ago is found, although the mount remembers none.
    assert not fs.exists("late")
    (there / "late").write_bytes(b"here")
    done = site.mounted.cli("fetch", fs.path("late"))
    assert done.returncode == 0, done.stderr
    assert fs.read_file("late") == b"here"
    done = site.mounted.cli("fetch", fs.path("none"))
    assert done.returncode == 1
    assert "none" in done.stderr
