"""Times that programs give: the cluster has them in the end, whenever they were given."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from ..fs.drivers import KernelDriver
from ..fs.sites import Site, Sites
from ..harness import Server
from .programs import shell

WHEN = 1_234_567_890


@pytest.fixture
def stored(fs: KernelDriver, there: Path, server: Server) -> KernelDriver:
    """The driver, with a file that was stored from here some time ago."""
    fs.write_file("f", b"content\n")
    fs.land()
    server.requests(reset=True)
    return fs


def content(server: Server) -> int:
    return sum(each in ("ops/upload", "transfer/upload") for each in server.requests())


@pytest.mark.parametrize(
    "command",
    [
        f"touch -d @{WHEN} f",
        f"touch -d @{WHEN} ref; touch -r ref f; rm ref",
        f"python3 -c 'import os; os.utime(\"f\", ({WHEN}, {WHEN}))'",
        f'printf "content\\n" > "$OUT/f"; touch -d @{WHEN} "$OUT/f"; rsync -ac "$OUT/f" f',
        f'touch -d @{WHEN} "$OUT/ref"; cp --attributes-only -p "$OUT/ref" f',
    ],
    ids=["touch -d", "touch -r", "os.utime", "rsync -ac", "cp --attributes-only"],
)
def test_a_time_for_a_stored_file(
    stored: KernelDriver, there: Path, server: Server, tmp_path: Path, command: str
) -> None:
    shell(stored, command, OUT=tmp_path)
    assert stored.stat("f").st_mtime == WHEN
    stored.land()
    assert os.listdir(there) == ["f"]
    assert (there / "f").stat().st_mtime == WHEN
    assert (there / "f").read_bytes() == b"content\n"
    assert content(server) == 0
    assert stored.stat("f").st_mtime == WHEN


def test_touch_makes_it_now(stored: KernelDriver, there: Path, server: Server) -> None:
    os.utime(there / "f", (WHEN, WHEN))
    stored.refresh()
    shell(stored, "touch f")
    shown = stored.stat("f").st_mtime_ns
    stored.land()
    assert (there / "f").stat().st_mtime_ns == shown
    assert shown > WHEN * 10**9
    assert content(server) == 0


# -- where each close waits for the cluster ------------------------------------------------------


@pytest.fixture
def through(sites: Sites, kind: str) -> Site:
    return sites.site(kind, write_through="true")


@pytest.mark.parametrize("program", ["unzip", "tar", "rsync", "cp"])
def test_times_that_come_after_the_store(
    through: Site, server: Server, there: Path, tmp_path: Path, program: str
) -> None:
    """unzip sets times once it has closed a file, and so does everyone to files that are read."""
    (tmp_path / "f").write_bytes(b"content\n")
    os.utime(tmp_path / "f", (WHEN, WHEN))
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        archive.write(tmp_path / "f", "f")
    with tarfile.open(tmp_path / "f.tar", "w") as tar:
        tar.add(tmp_path / "f", "f")
    command = {
        "unzip": 'TZ=UTC0 unzip -q "$OUT/f.zip"',
        "tar": 'tar xf "$OUT/f.tar"',
        "rsync": 'rsync -a "$OUT/f" f',
        "cp": 'cp -p "$OUT/f" f',
    }[program]
    driver = through.driver.at(f"/cluster{server.info['systems'][0]['home']}/{there.name}")
    assert isinstance(driver, KernelDriver)
    driver.refresh()
    shell(driver, command, OUT=tmp_path)
    driver.land()
    assert (there / "f").read_bytes() == b"content\n"
    assert (there / "f").stat().st_mtime == WHEN
    assert os.listdir(there) == ["f"]
