"""Text files of any size by single requests: exact to the byte, and nothing is staged."""

from __future__ import annotations

import base64
import subprocess
import time
from pathlib import Path

import pytest

from ..fs.drivers import Driver, KernelDriver
from ..fs.sites import Site
from ..harness import Server
from .conftest import KINDS, LargeSites
from .test_reading import MIB, blob, orders
from .test_writing import uploads

GIB = 1 << 30


@pytest.fixture
def site(large_sites: LargeSites, kind: str) -> Site:
    """A mount of a server with the usual limit: with less, text can't be cut far inside a file."""
    return large_sites.site(*KINDS[kind], direct=5 * MIB)


def lines(count: int, first: int = 0) -> bytes:
    """Return lines that are all different."""
    return b"".join(b"%09d a line of a log, \xc3\xa4\n" % number for number in range(first, count))


def run(fs: Driver, *command: str) -> bytes:
    """Run a program in the test's directory."""
    assert isinstance(fs, KernelDriver)
    done = subprocess.run(command, cwd=fs.path(), capture_output=True, timeout=60, check=True)
    return done.stdout


def make_log(path: Path, size: int, end: bytes) -> None:
    """Make a huge file with text at its beginning and its end; NULs are text, too."""
    with path.open("wb") as file:
        file.write(lines(1000))
        file.seek(size - len(end))
        file.write(end)


def test_tail_of_a_huge_log(fs: Driver, there: Path, server: Server) -> None:
    make_log(there / "log", 10 * GIB + 12345, lines(2000))
    # What a command does once is not what is counted: the directory's own listing.
    server.requests(reset=True)
    assert run(fs, "tail", "-n", "20", "log") == lines(2000, 1980)
    assert orders(server) == 0
    assert len(server.requests()) <= 2


def test_head_of_a_huge_log(fs: Driver, there: Path, server: Server) -> None:
    make_log(there / "log", 10 * GIB, b"end\n")
    server.requests(reset=True)
    assert run(fs, "head", "-n", "5", "log") == lines(5)
    assert orders(server) == 0
    assert len(server.requests()) <= 3


def test_a_person_looks_around(fs: Driver, there: Path, server: Server, kind: str) -> None:
    data = lines(200_000)
    (there / "log").write_bytes(data)
    fd = fs.open("log")
    spots = [0, len(data) - 1000]
    if kind.startswith("v2"):  # v1 can't tell the middle
        spots.insert(1, len(data) // 2 + 3)
    for at in spots:
        assert fs.pread(fd, 1000, at) == data[at : at + 1000]
    fs.close(fd)
    assert orders(server) == 0


def test_all_of_it_is_staged(fs: Driver, there: Path, server: Server) -> None:
    """What fits no request even compressed: else see test_compressed_reads."""
    data = base64.b64encode(blob(6 * MIB))
    (there / "log").write_bytes(data)
    assert fs.read_file("log") == data
    assert orders(server) == 1


def test_what_is_no_text_is_staged(fs: Driver, there: Path, server: Server) -> None:
    data = blob(6 * MIB)
    (there / "f").write_bytes(data)
    fd = fs.open("f")
    assert fs.pread(fd, 10, 0) == data[:10]
    fs.close(fd)
    assert orders(server) == 1


def test_tail_f(fs: Driver, there: Path, server: Server) -> None:
    data = lines(200_000)
    (there / "log").write_bytes(data)
    assert isinstance(fs, KernelDriver)
    tail = subprocess.Popen(
        ["tail", "-n", "2", "-f", fs.path("log")], stdout=subprocess.PIPE, bufsize=0
    )
    try:
        assert tail.stdout is not None
        assert tail.stdout.readline() + tail.stdout.readline() == lines(200_000, 199_998)
        with (there / "log").open("ab") as file:
            file.write(lines(200_001, 200_000))
        assert tail.stdout.readline() == lines(200_001, 200_000)
    finally:
        tail.kill()
        tail.communicate()
    assert orders(server) == 0


def test_a_log_that_grows_while_it_is_read(fs: Driver, there: Path, server: Server) -> None:
    data = lines(200_000)
    (there / "log").write_bytes(data)
    fd = fs.open("log")
    assert fs.read(fd, 1000) == data[:1000]
    with (there / "log").open("ab") as file:
        file.write(lines(200_500, 200_000))
    rest = b""
    while piece := fs.read(fd, 1 << 17):
        rest += piece
    fs.close(fd)
    assert rest in (data[1000:], lines(200_500)[1000:])
    fs.refresh()
    assert fs.read_file("log") == lines(200_500)


def test_two_versions_are_not_mixed(fs: Driver, there: Path, server: Server) -> None:
    (there / "log").write_bytes(lines(200_000))
    fd = fs.open("log")
    assert fs.pread(fd, 100, 0) == lines(200_000)[:100]
    time.sleep(1.1)
    (there / "log").write_bytes(lines(200_000).upper())
    with pytest.raises(OSError, match="tale"):
        fs.pread(fd, 100, 500_000)
    fs.close(fd)
    assert fs.read_file("log") == lines(200_000).upper()


def test_appending_to_a_huge_log(fs: Driver, there: Path, server: Server) -> None:
    size = 10 * GIB + 12345
    make_log(there / "log", size, lines(2000))
    fs.listdir()
    assert run(fs, "tail", "-n", "20", "log") == lines(2000, 1980)
    server.set(queue_seconds=600.0)
    run(fs, "sh", "-c", "echo more >> log")
    # It is read before it has landed: the old from there, the new from here.
    assert fs.stat("log").st_size == size + 5
    assert run(fs, "tail", "-n", "20", "log") == lines(2000, 1981) + b"more\n"
    assert run(fs, "head", "-n", "5", "log") == lines(5)
    server.set(queue_seconds=0.0)
    run(fs, "python3", "-c", "open('log', 'a').write('and more\\n')")
    fs.land()
    assert run(fs, "tail", "-n", "20", "log") == lines(2000, 1982) + b"more\nand more\n"
    with (there / "log").open("rb") as file:
        file.seek(size - 100)
        assert file.read() == lines(2000)[-100:] + b"more\nand more\n"
    assert orders(server) == uploads(server) == 0
