"""Names: whatever a directory entry may be called, and names that stay on this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ..harness import Server
from .drivers import Driver

NAMES = [
    "with space",
    " leading and trailing ",
    "-rf",
    "--help",
    "ümläut",
    "日本",
    "😀",
    "a -> b",
    'quo"te',
    "new\nline",
    "tab\tstop",
    "back\\slash",
    "back\\nslash",
    "semi;colon && $(touch x) `touch y` | z",
    "a&b<c>d",
    "%41%2F",
    "#hash?query=1",
    "star*[a]?",
    "~",
    ".hidden-file",
    "...",
    "e\u0301 decomposed",
    "\u2028 and \u0085",
    "\x1b[31mred\x07",
    "n" * 255,
    "ä" * 127,
]


def short(name: str) -> str:
    """Return an id for a name that a terminal bears."""
    return ascii(name)[1:20]


@pytest.mark.parametrize("name", NAMES, ids=short)
def test_a_name_made_here(fs: Driver, there: Path, name: str) -> None:
    fs.write_file(name, b"content of it")
    assert fs.listdir() == [name]
    fs.land()
    assert os.listdir(there) == [name]
    assert (there / name).read_bytes() == b"content of it"
    fs.refresh()
    assert fs.listdir() == [name]
    assert fs.stat(name).st_size == 13
    fs.append(name, b", more")
    fs.land()
    assert (there / name).read_bytes() == b"content of it, more"
    fs.unlink(name)
    fs.land()
    assert os.listdir(there) == []


@pytest.mark.parametrize("name", NAMES, ids=short)
def test_a_name_of_the_cluster(fs: Driver, there: Path, name: str) -> None:
    (there / name).write_bytes(b"content")
    (there / "plain").write_bytes(b"")
    assert sorted(fs.listdir()) == sorted([name, "plain"])
    assert fs.lstat(name).st_size == 7
    assert fs.read_file(name) == b"content"
    fs.rename(name, "renamed")
    fs.land()
    assert sorted(os.listdir(there)) == ["plain", "renamed"]
    fs.rename("renamed", name)
    fs.land()
    assert sorted(os.listdir(there)) == sorted([name, "plain"])


@pytest.mark.parametrize("name", NAMES, ids=short)
def test_a_directory_of_this_name(fs: Driver, there: Path, name: str) -> None:
    fs.mkdir(name)
    fs.write_file(f"{name}/f", b"inside")
    fs.symlink("f", f"{name}/link")
    fs.land()
    assert (there / name / "f").read_bytes() == b"inside"
    fs.refresh()
    assert sorted(fs.listdir(name)) == ["f", "link"]
    assert fs.read_file(f"{name}/link") == b"inside"
    fs.unlink(f"{name}/f")
    fs.unlink(f"{name}/link")
    fs.rmdir(name)
    fs.land()
    assert os.listdir(there) == []


def test_odd_names_beside_each_other_are_told_apart(fs: Driver, there: Path) -> None:
    names = ["nl\nx", "nl\\nx", "ä", "plain"]
    for name in names:
        (there / name).write_bytes(name.encode())
    assert sorted(fs.listdir()) == sorted(names)
    for name in names:
        assert fs.read_file(name) == name.encode()


def test_many_odd_names_at_once(fs: Driver, there: Path) -> None:
    for name in NAMES:
        fs.write_file(name, name.encode())
    fs.land()
    assert sorted(os.listdir(there)) == sorted(NAMES)
    for name in NAMES:
        assert (there / name).read_bytes() == name.encode(), ascii(name)


UNSENDABLE = ["it's", "'", "$('x')", os.fsdecode(b"\xff\xfe latin")]


@pytest.mark.parametrize("name", UNSENDABLE, ids=ascii)
def test_names_that_no_request_can_carry_are_refused(fs: Driver, there: Path, name: str) -> None:
    (there / "f").write_bytes(b"x")
    attempts = [
        lambda: fs.write_file(name, b"x"),
        lambda: fs.mkdir(name),
        lambda: fs.symlink("f", name),
        lambda: fs.rename("f", name),
        lambda: fs.link("f", name),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as refusal:
            attempt()
        assert refusal.value.errno == errno.EINVAL
    assert not fs.exists(name)
    assert os.listdir(there) == ["f"]
    if fs.mounted_by_kernel:
        assert any("can't carry a name" in line for line in fs.errors())


def test_a_quote_in_a_name_of_the_cluster_does_no_harm(fs: Driver, there: Path) -> None:
    (there / "it's").write_bytes(b"x")
    (there / "d'ir").mkdir()
    (there / "plain").write_bytes(b"y")
    assert sorted(fs.listdir()) == ["d'ir", "it's", "plain"]
    assert fs.stat("it's").st_size == 1
    with pytest.raises(OSError) as refusal:
        fs.read_file("it's")
    assert refusal.value.errno == errno.EINVAL
    with pytest.raises(OSError) as refusal:
        fs.unlink("it's")
    assert refusal.value.errno == errno.EINVAL
    # A recursive listing from above may have told what no request could ask for.
    try:
        assert fs.listdir("d'ir") == []
    except OSError as exc:
        assert exc.errno == errno.EINVAL
    assert fs.read_file("plain") == b"y"


def test_a_name_that_is_not_utf8_does_no_harm(fs: Driver, there: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (there / name).write_bytes(b"x")
    (there / "plain").write_bytes(b"y")
    names = fs.listdir()
    assert len(names) == 2 and "plain" in names
    assert fs.read_file("plain") == b"y"
    (there / name).unlink()


def test_names_that_are_too_long(fs: Driver, there: Path) -> None:
    for name in ("n" * 256, "ä" * 128):
        with pytest.raises(OSError) as refusal:
            fs.write_file(name, b"x")
        assert refusal.value.errno == errno.ENAMETOOLONG
        with pytest.raises(OSError) as refusal:
            fs.mkdir(name)
        assert refusal.value.errno == errno.ENAMETOOLONG
    assert os.listdir(there) == []
    fs.land()


def test_deep_paths(fs: Driver, there: Path) -> None:
    path = "d"
    fs.mkdir(path)
    for _ in range(15):
        path += "/" + "e" * 100
        fs.mkdir(path)
    fs.write_file(f"{path}/f", b"deep")
    fs.land()
    assert (there / path / "f").read_bytes() == b"deep"


# -- names that never travel -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [".DS_Store", "._document.txt"])
def test_litter_of_desktops_stays_here(fs: Driver, there: Path, server: Server, name: str) -> None:
    fs.listdir()
    server.requests(reset=True)
    fs.write_file(name, b"litter")
    assert fs.read_file(name) == b"litter"
    assert name in fs.listdir()
    fs.land()
    assert os.listdir(there) == []
    fs.unlink(name)
    assert not fs.exists(name)
    assert server.requests() == []


@pytest.mark.parametrize("temporary", ["._big.x7Yz0Q", "._big.swp", "._big"])
def test_a_file_that_is_written_under_a_temporary_name(
    fs: Driver, there: Path, temporary: str
) -> None:
    # `._big.x7Yz0Q` is how rsync calls what becomes `_big`.
    size = 1_500_000 if temporary != "._big" else 1000
    fs.write_file(temporary, b"x" * size, mode=0o600)
    fs.utime(temporary, 0, 1_600_000_000_123_456_789)
    fs.chmod(temporary, 0o640)
    fs.rename(temporary, "_big")
    for _ in range(2):
        found = fs.lstat("_big")
        assert (found.st_size, found.st_mode & 0o777) == (size, 0o640)
        assert found.st_mtime_ns // 10**9 == 1_600_000_000
        fs.land()
        fs.refresh()
    landed = (there / "_big").stat()
    assert (landed.st_size, landed.st_mode & 0o777) == (size, 0o640)
    assert landed.st_mtime_ns == 1_600_000_000_123_456_789
    assert os.listdir(there) == ["_big"]


def test_litter_moves_with_its_directory(fs: Driver, there: Path) -> None:
    fs.mkdir("d")
    fs.write_file("d/._x", b"litter")
    fs.rename("d", "e")
    assert fs.listdir("e") == ["._x"]
    fs.mkdir("d")
    assert fs.listdir("d") == []
    assert fs.read_file("e/._x") == b"litter"
    fs.land()
    assert os.listdir(there / "e") == []


@pytest.mark.parametrize("name", [".Trash", ".Trash-0", f".Trash-{os.getuid()}"])
def test_there_is_no_bin_on_a_cluster(fs: Driver, there: Path, server: Server, name: str) -> None:
    assert not fs.exists(name)
    with pytest.raises(OSError) as refusal:
        fs.mkdir(name)
    assert refusal.value.errno in (errno.EPERM, errno.EACCES)
    assert os.listdir(there) == []


def test_probes_of_desktops_cost_nothing(fs: Driver, there: Path, server: Server) -> None:
    (there / "d").mkdir()
    fs.stat("d")
    server.requests(reset=True)
    for name in (".hidden", ".directory", ".xdg-volume-info", ".Trash-0", "._x", ".DS_Store"):
        assert not fs.exists(f"d/{name}")
    assert server.requests() == []


def test_names_of_the_machinery(fs: Driver, there: Path) -> None:
    (there / ".fcfs-archive.tar").write_bytes(b"x")
    (there / ".f7t_file_handling_job_1.log").write_bytes(b"x")
    (there / f".firecrest.{'0a' * 16}").write_bytes(b"x")
    (there / ".firecrest.toml").write_bytes(b"x")
    (there / "f").write_bytes(b"x")
    assert sorted(fs.listdir()) == [".firecrest.toml", "f"]
    with pytest.raises(OSError) as refusal:
        fs.write_file(".fcfs-mine", b"x")
    assert refusal.value.errno == errno.EPERM
    (there / ".fcfs-archive.tar").unlink()
    (there / ".f7t_file_handling_job_1.log").unlink()
    (there / f".firecrest.{'0a' * 16}").unlink()
