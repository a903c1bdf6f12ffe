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


#: What an upload can't carry on v1 besides.
UNSENDABLE_ON_V1 = ["report (1).pdf", "a & b", "two  blanks", "new\nline"]


@pytest.fixture(params=[*UNSENDABLE, *UNSENDABLE_ON_V1], ids=ascii)
def odd(request: pytest.FixtureRequest) -> str:
    """A name that no request can carry, to some servers at least."""
    return str(request.param)


def test_a_file_whose_name_no_request_can_carry(fs: Driver, there: Path, odd: str) -> None:
    fs.write_file(odd, b"content of it")
    fs.utime(odd, 10**18, 10**18)
    assert fs.listdir() == [odd]
    fs.land()
    assert os.listdir(there) == [odd]
    assert (there / odd).read_bytes() == b"content of it"
    assert os.stat(there / odd).st_mtime == 10**9
    fs.refresh()
    assert fs.stat(odd).st_size == 13
    fs.append(odd, b", more")
    fs.chmod(odd, 0o640)
    fs.land()
    assert (there / odd).read_bytes() == b"content of it, more"
    assert os.stat(there / odd).st_mode & 0o777 == 0o640
    fs.chmod(odd, 0o600)
    fs.utime(odd, 10**18, 10**18)
    fs.land()
    assert os.stat(there / odd).st_mode & 0o777 == 0o600
    assert os.stat(there / odd).st_mtime == 10**9
    fs.unlink(odd)
    fs.land()
    assert os.listdir(there) == []


def test_a_file_of_the_cluster_whose_name_no_request_can_carry(
    fs: Driver, there: Path, odd: str
) -> None:
    (there / odd).write_bytes(b"theirs")
    (there / odd).chmod(0o664)
    before = os.stat(there / odd)
    assert fs.read_file(odd) == b"theirs"
    fs.write_file(odd, b"ours now")
    fs.land()
    assert os.listdir(there) == [odd]
    assert (there / odd).read_bytes() == b"ours now"
    assert os.stat(there / odd).st_mode == before.st_mode
    (there / odd).write_bytes(b"theirs again")
    fs.refresh()
    assert fs.read_file(odd) == b"theirs again"


def test_a_file_with_more_names_keeps_them_whatever_they_are(
    fs: Driver, there: Path, odd: str
) -> None:
    (there / odd).write_bytes(b"old")
    os.link(there / odd, there / "plain")
    fs.write_file(odd, b"new content")
    fs.land()
    assert (there / "plain").read_bytes() == b"new content"
    assert sorted(os.listdir(there)) == sorted([odd, "plain"])


def test_a_conflict_under_a_name_that_no_request_can_carry(
    fs: Driver, there: Path, odd: str
) -> None:
    (there / odd).write_bytes(b"base")
    fd = fs.open(odd, os.O_RDWR)
    fs.pwrite(fd, b"ours", 0)
    (there / odd).write_bytes(b"somebody else's")
    fs.close(fd)
    fs.sync()
    assert (there / odd).read_bytes() == b"somebody else's"
    (copy,) = (name for name in os.listdir(there) if ".conflict-" in name)
    assert (there / copy).read_bytes() == b"ours"


def test_saving_by_a_rename_over_such_a_name(fs: Driver, there: Path, odd: str) -> None:
    """As editors and rsync do: what is renamed isn't on the cluster yet."""
    (there / odd).write_bytes(b"old")
    assert fs.read_file(odd) == b"old"
    fs.write_file("temporary", b"new content")
    fs.rename("temporary", odd)
    fs.land()
    assert os.listdir(there) == [odd]
    assert (there / odd).read_bytes() == b"new content"


@pytest.mark.parametrize("name", UNSENDABLE, ids=ascii)
def test_what_the_cluster_has_is_copied_to_such_a_name(fs: Driver, there: Path, name: str) -> None:
    (there / "f").write_bytes(b"x")
    (there / name).write_bytes(b"y")
    for old, new in (("f", name), (name, "g"), (name, "f")):
        with pytest.raises(OSError) as refusal:
            fs.rename(old, new)
        assert refusal.value.errno == errno.EXDEV
    assert sorted(os.listdir(there)) == sorted(["f", name])


def test_links_of_such_a_name(fs: Driver, there: Path, odd: str) -> None:
    fs.symlink("f", odd)
    fs.land()
    assert os.readlink(there / odd) == "f"
    fs.refresh()
    assert fs.readlink(odd) == "f"
    fs.unlink(odd)
    fs.land()
    assert os.listdir(there) == []


def test_many_such_names_at_once(fs: Driver, there: Path, server: Server) -> None:
    names = [*UNSENDABLE, "it's another", "plain"]
    fs.listdir()
    server.requests(reset=True)
    for name in names:
        fs.write_file(name, os.fsencode(name))
    fs.land()
    assert len(server.requests()) <= 6, server.requests()
    for name in names:
        assert (there / name).read_bytes() == os.fsencode(name)


def test_a_tree_with_such_names_is_removed(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    for name in UNSENDABLE:
        (there / "d" / name).write_bytes(b"x")
    for name in fs.listdir("d"):
        fs.unlink(f"d/{name}")
    fs.rmdir("d")
    fs.land()
    assert os.listdir(there) == []


@pytest.mark.parametrize("name", UNSENDABLE, ids=ascii)
def test_what_not_even_a_tar_carries_is_refused(fs: Driver, there: Path, name: str) -> None:
    (there / "f").write_bytes(b"x")
    (there / "d").mkdir()
    attempts = [
        lambda: fs.mkdir(name),
        lambda: fs.link("f", name),
        lambda: fs.rename("d", name),
    ]
    for attempt in attempts:
        with pytest.raises(OSError) as refusal:
            attempt()
        assert refusal.value.errno == errno.EINVAL
    assert not fs.exists(name)
    assert sorted(os.listdir(there)) == ["d", "f"]
    if fs.mounted_by_kernel:
        assert any("can't carry a name" in line for line in fs.errors())


def test_a_quote_in_a_name_of_the_cluster_does_no_harm(fs: Driver, there: Path) -> None:
    (there / "it's").write_bytes(b"x")
    (there / "d'ir").mkdir()
    (there / "plain").write_bytes(b"y")
    assert sorted(fs.listdir()) == ["d'ir", "it's", "plain"]
    assert fs.stat("it's").st_size == 1
    # A recursive listing from above may have told what no request could ask for.
    try:
        assert fs.listdir("d'ir") == []
    except OSError as exc:
        assert exc.errno == errno.EINVAL
    with pytest.raises(OSError) as refusal:
        fs.write_file("d'ir/f", b"x")
    assert refusal.value.errno in (errno.EINVAL, errno.EIO)
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
