"""Archives that the cluster's tar unpacks: what is in them, links and renames made with them."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.model import Attr, Kind
from firecrestfs.transfer import bundle
from firecrestfs.transfer.bundle import Bundler, Member, make_archive
from firecrestfs.transfer.swept import Leftovers

from .tools import SECOND, Remote

ODD_NAMES = ["it's", 'say "hi"', "two\nlines", "tab\tand\\", "ünï", "\udcff\udc80raw", "-rf", "~"]


def unpack(archive: bytes, directory: Path) -> None:
    """Unpack as the cluster does: with GNU tar."""
    (directory / "archive").write_bytes(archive)
    command = ["tar", "-xf", "archive", "--no-same-owner"]
    subprocess.run(command, cwd=directory, check=True, umask=0o022, env={"LC_ALL": "C.UTF-8"})
    (directory / "archive").unlink()


# -- archives ------------------------------------------------------------------------------------


def test_content_mode_and_time_to_the_nanosecond(tmp_path: Path) -> None:
    mtime_ns = 1_600_000_000 * SECOND + 123_456_789
    member = Member("f", data=b"hello", mode=0o750, mtime_ns=mtime_ns)
    unpack(make_archive([member]), tmp_path)
    stat = (tmp_path / "f").stat()
    assert (tmp_path / "f").read_bytes() == b"hello"
    assert (stat.st_mode & 0o7777, stat.st_mtime_ns) == (0o750, mtime_ns)


@pytest.mark.parametrize(
    "mtime_ns", [0, 1, 999_999_999, 2**33 * SECOND + 5, -5 * SECOND, 1 - 5 * SECOND, -1]
)
def test_unusual_times(tmp_path: Path, mtime_ns: int) -> None:
    unpack(make_archive([Member("f", mtime_ns=mtime_ns)]), tmp_path)
    assert (tmp_path / "f").stat().st_mtime_ns == mtime_ns


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(tmp_path: Path, name: str) -> None:
    unpack(make_archive([Member(name, data=b"x")]), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_links_with_odd_texts(tmp_path: Path, name: str) -> None:
    unpack(make_archive([Member("link", Kind.SYMLINK, link=name)]), tmp_path)
    assert os.readlink(tmp_path / "link") == name


def test_long_names_and_links(tmp_path: Path) -> None:
    name, text = "n" * 255, "../" * 1000 + "end"
    unpack(make_archive([Member(name), Member("link", Kind.SYMLINK, link=text)]), tmp_path)
    assert (tmp_path / name).exists()
    assert os.readlink(tmp_path / "link") == text


def test_hard_links_and_directories(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("x")
    members = [Member("d", Kind.DIRECTORY, mode=0o700), Member("d/new", link="old")]
    unpack(make_archive(members), tmp_path)
    assert (tmp_path / "d/new").samefile(tmp_path / "old")
    assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700


def test_an_empty_archive_is_one(tmp_path: Path) -> None:
    unpack(make_archive([]), tmp_path)


# -- placing -------------------------------------------------------------------------------------


def test_placing_leaves_the_members_and_nothing_else(
    bundler: Bundler, there: Remote, emulator: Emulator
) -> None:
    names = [name for name in ODD_NAMES if name != "\udcff\udc80raw"]
    bundler.place([Member(name, data=b"x") for name in names], there.path, there.path)
    assert there.names() == sorted(names)
    assert emulator.requests.count() <= 4


@pytest.mark.parametrize("name", ["back\\slash", "\\101", "a\\b\\c", "end\\"])
def test_a_directory_with_a_backslash_is_that_directory(
    bundler: Bundler, there: Remote, name: str
) -> None:
    """tar reads escapes in the directory that it changes to."""
    place = there.local / name / "in"
    place.mkdir(parents=True)
    (place / "old").write_text("x")
    members = [
        Member("f", data=b"x"),
        Member("link", Kind.SYMLINK, link="f"),
        Member("new", link="old"),
    ]
    bundler.place(members, there / f"{name}/in", there / f"{name}/in")
    assert there.names() == [name]
    assert sorted(os.listdir(place)) == ["f", "link", "new", "old"]
    assert os.readlink(place / "link") == "f"
    assert (place / "new").samefile(place / "old")


def test_an_archive_that_could_not_be_removed_is_swept_later(
    bundler: Bundler, there: Remote, emulator: Emulator
) -> None:
    emulator.faults.add("status", "ops/rm", status=403, count=1)
    bundler.place([Member("f")], there.path, there.path)
    assert [name for name in there.names() if name.startswith(bundle.OUR_PREFIX)]
    bundler.sweep()
    assert there.names() == ["f"]
    asked = emulator.requests.count()
    bundler.sweep()
    assert emulator.requests.count() == asked


def test_a_sweep_that_fails_says_so_and_is_repeated(
    bundler: Bundler, there: Remote, emulator: Emulator
) -> None:
    emulator.faults.add("status", "ops/rm", status=403, count=2)
    bundler.place([Member("f")], there.path, there.path)
    with pytest.raises(OSError):
        bundler.sweep()
    bundler.sweep()
    assert there.names() == ["f"]


@pytest.mark.parametrize("kind", ["status", "lost_answer", "drop"])
@pytest.mark.parametrize("endpoint", ["ops/upload", "ops/extract"])
def test_a_failed_placing_leaves_no_archive(
    bundler: Bundler, there: Remote, emulator: Emulator, endpoint: str, kind: str
) -> None:
    emulator.faults.add(kind, endpoint, status=500, count=-1)
    with pytest.raises(OSError):
        bundler.place([Member("f")], there.path, there.path)
    emulator.faults.clear()
    bundler.sweep()
    assert [name for name in there.names() if name != "f"] == []


def test_what_is_made_is_written_down_before_and_forgotten_after(
    client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    """A death at any moment leaves a note of what is on the cluster."""
    noted: set[str] = set()
    leftovers = Leftovers((), noted.add, noted.discard)
    bundler = Bundler(client, "cluster", leftovers)
    real, seen = client.upload, []

    def upload(system: str, directory: str, name: str, data: bytes, *, new: bool) -> None:
        seen.append(f"{directory}/{name}" in noted)
        real(system, directory, name, data, new=new)

    client.upload = upload  # type: ignore[method-assign]
    try:
        bundler.place([Member("f")], there.path, there.path)
    finally:
        client.upload = real  # type: ignore[method-assign]
    assert seen == [True]
    assert noted == set()
    assert leftovers.unused() == []


def test_what_an_earlier_process_left_is_swept(client: TypedClient, there: Remote) -> None:
    noted = {there / ".fcfs-old.tar", there / ".fcfs-links", there / ".fcfs-gone.tar"}
    (there.local / ".fcfs-old.tar").write_text("x")
    (there.local / ".fcfs-links").mkdir()
    (there.local / ".fcfs-links/new").write_text("x")
    bundler = Bundler(client, "cluster", Leftovers(noted, removed=noted.discard))
    bundler.sweep(links=False)
    assert there.names() == [".fcfs-links"]
    assert noted == {there / ".fcfs-links"}
    bundler.sweep()
    assert (there.names(), noted) == ([], set())


# -- links ---------------------------------------------------------------------------------------


def test_a_link_is_the_same_file(bundler: Bundler, there: Remote) -> None:
    (there.local / "old").write_text("x")
    (there.local / "d").mkdir()
    attr = bundler.link(there / "old", there / "d/new")
    assert (there.local / "d/new").samefile(there.local / "old")
    assert attr.nlink == 2
    assert there.names() == ["d", "old"]


def test_a_link_that_is_refused_is_exdev(bundler: Bundler, there: Remote) -> None:
    (there.local / "old").write_text("x")
    (there.local / "d").mkdir()
    (there.local / "d").chmod(0o500)
    with pytest.raises(OSError) as info:
        bundler.link(there / "old", there / "d/new")
    assert info.value.errno in (errno.EXDEV, errno.EACCES)
    assert there.names() == ["d", "old"]


# -- renames -------------------------------------------------------------------------------------


def rename(bundler: Bundler, client: TypedClient, old: str, new: str) -> Attr | None:
    """Rename what is at *old* now over what is at *new* now."""
    source, target = stat_of(client, old), stat_of(client, new)
    assert source is not None
    return bundler.rename(old, new, source, target)


def stat_of(client: TypedClient, path: str) -> Attr | None:
    try:
        return client.stat("cluster", path)
    except FileNotFoundError:
        return None


@pytest.fixture
def two(there: Remote) -> Remote:
    """A source, a directory, and a target in it."""
    (there.local / "old").write_text("source")
    (there.local / "d").mkdir()
    (there.local / "d/new").write_text("target")
    return there


def test_a_rename_to_a_free_name(bundler: Bundler, client: TypedClient, there: Remote) -> None:
    (there.local / "old").write_text("x")
    ino = (there.local / "old").stat().st_ino
    attr = rename(bundler, client, there / "old", there / "new")
    assert attr is not None
    assert attr.ino == ino == (there.local / "new").stat().st_ino
    assert there.names() == ["new"]


@pytest.mark.parametrize("new", ["free", "d/new"])
def test_a_rename_tells_what_is_there_in_the_end(
    bundler: Bundler, client: TypedClient, two: Remote, new: str
) -> None:
    """Not with the links that were there meanwhile: the next look would find it changed."""
    attr = rename(bundler, client, two / "old", two / new)
    assert attr == client.stat("cluster", two / new)
    assert attr is not None
    assert attr.nlink == 1


def test_a_rename_over_a_target(bundler: Bundler, client: TypedClient, two: Remote) -> None:
    ino = (two.local / "old").stat().st_ino
    rename(bundler, client, two / "old", two / "d/new")
    assert (two.local / "d/new").read_text() == "source"
    assert (two.local / "d/new").stat().st_ino == ino
    assert two.names() == ["d"]
    assert os.listdir(two.local / "d") == ["new"]


def test_a_rename_of_a_link_moves_the_link(
    bundler: Bundler, client: TypedClient, there: Remote
) -> None:
    os.symlink("nowhere", there.local / "old")
    rename(bundler, client, there / "old", there / "new")
    assert os.readlink(there.local / "new") == "nowhere"
    assert there.names() == ["new"]


def test_two_names_of_one_file_stay(
    bundler: Bundler, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    (there.local / "old").write_text("x")
    os.link(there.local / "old", there.local / "new")
    assert rename(bundler, client, there / "old", there / "new") is None
    assert there.names() == ["new", "old"]
    assert emulator.requests.count("ops/upload") == 0


def survives(two: Remote) -> None:
    """Nothing has happened; or the way back was barred, and the target's link is kept."""
    assert (two.local / "old").read_text() == "source"
    if not (two.local / "d/new").exists() or (two.local / "d/new").read_text() != "target":
        kept = [each.read_text() for each in two.local.glob(f"d/{bundle.OUR_PREFIX}*/*")]
        assert "target" in kept, "the target is lost"


ALL_FAULTS = ["status", "late_status", "lost_answer", "drop"]
TROUBLES = [
    *[("ops/upload", fault, after) for fault in ALL_FAULTS for after in range(2)],
    *[("ops/extract", fault, after) for fault in ALL_FAULTS for after in range(2)],
    *[("ops/stat", "status", after) for after in range(5)],
    *[("ops/rm", fault, after) for fault in ("status", "late_status") for after in range(3)],
]


@pytest.mark.parametrize(("endpoint", "fault", "after"), TROUBLES)
def test_a_failed_rename_never_costs_the_target(
    bundler: Bundler,
    client: TypedClient,
    two: Remote,
    emulator: Emulator,
    endpoint: str,
    fault: str,
    after: int,
) -> None:
    """Every request in turn goes wrong: nothing is lost, and the next try does it."""
    source, target = (client.stat("cluster", two / name) for name in ("old", "d/new"))
    emulator.faults.add(fault, endpoint, status=500, after=after, count=3)
    try:
        bundler.rename(two / "old", two / "d/new", source, target)
    except OSError:
        survives(two)
        emulator.faults.clear()
        rename(bundler, client, two / "old", two / "d/new")
    new, old = two.local / "d/new", two.local / "old"
    assert new.read_text() == "source"
    # Two names of one file stay, as rename(2) leaves them: the first try had come that far.
    assert not old.exists() or old.samefile(new)


@pytest.mark.parametrize(("endpoint", "after"), [("ops/upload", 1), ("ops/extract", 1)])
def test_a_rename_that_failed_for_once_leaves_the_target_in_place(
    bundler: Bundler,
    client: TypedClient,
    two: Remote,
    emulator: Emulator,
    endpoint: str,
    after: int,
) -> None:
    emulator.faults.add("status", endpoint, status=500, after=after, count=1)
    with pytest.raises(OSError):
        rename(bundler, client, two / "old", two / "d/new")
    assert (two.local / "d/new").read_text() == "target"
    assert (two.local / "old").read_text() == "source"
    bundler.sweep()
    assert os.listdir(two.local / "d") == ["new"]


def test_links_that_could_not_be_removed_are_swept_later(
    bundler: Bundler, client: TypedClient, two: Remote, emulator: Emulator
) -> None:
    """Nobody sees them in the mount: their directory could never be removed."""
    emulator.faults.add("status", "ops/rm", status=403, after=3, count=1)
    rename(bundler, client, two / "old", two / "d/new")
    assert (two.local / "d/new").read_text() == "source"
    bundler.sweep()
    assert os.listdir(two.local / "d") == ["new"]


@pytest.mark.parametrize("then", ["nothing", "again"])
def test_links_of_a_rename_that_ended_out_of_reach_are_swept_later(
    bundler: Bundler, client: TypedClient, two: Remote, emulator: Emulator, then: str
) -> None:
    """The server is gone between two steps: nobody could look what had become of the target."""
    source, target = (client.stat("cluster", two / name) for name in ("old", "d/new"))
    emulator.faults.add("status", "ops/upload", status=500, after=1, count=1)
    emulator.faults.add("status", "ops/stat", status=500, after=2, count=2)
    with pytest.raises(OSError):
        bundler.rename(two / "old", two / "d/new", source, target)
    survives(two)
    emulator.faults.clear()
    if then == "again":
        rename(bundler, client, two / "old", two / "d/new")
    bundler.sweep()
    assert os.listdir(two.local / "d") == ["new"]
    assert (two.local / "d/new").read_text() == ("source" if then == "again" else "target")
    assert (two.local / "d/new").stat().st_nlink == 1


def test_links_of_a_rename_that_ended_out_of_reach_are_swept_by_the_next_mount(
    client: TypedClient, two: Remote, emulator: Emulator
) -> None:
    """The process dies before the server is back: what it was in doubt about is written down."""
    noted: set[str] = set()
    bundler = Bundler(client, "cluster", Leftovers((), noted.add, noted.discard))
    source, target = (client.stat("cluster", two / name) for name in ("old", "d/new"))
    emulator.faults.add("status", "ops/upload", status=500, after=1, count=1)
    emulator.faults.add("status", "ops/stat", status=500, after=2, count=2)
    with pytest.raises(OSError):
        bundler.rename(two / "old", two / "d/new", source, target)
    emulator.faults.clear()
    (two.local / "aside").hardlink_to(two.local / "d/new")
    (two.local / "d/new").unlink()
    bundler = Bundler(client, "cluster", Leftovers(noted, noted.add, noted.discard))
    bundler.sweep()
    # As long as the name is not there, the links are the only ones for certain.
    assert len(os.listdir(two.local / "d")) == 1
    (two.local / "aside").rename(two.local / "d/new")
    bundler = Bundler(client, "cluster", Leftovers(noted, noted.add, noted.discard))
    bundler.sweep()
    assert os.listdir(two.local / "d") == ["new"]
    assert (two.local / "d/new").stat().st_nlink == 1
    assert noted == set()


def test_a_refused_link_keeps_the_target(
    bundler: Bundler, client: TypedClient, two: Remote
) -> None:
    (two.local / "d").chmod(0o500)
    with pytest.raises(OSError):
        rename(bundler, client, two / "old", two / "d/new")
    (two.local / "d").chmod(0o755)
    survives(two)


def test_a_link_that_is_refused_after_tar_has_unlinked_the_target(
    bundler: Bundler, two: Remote, client: TypedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GNU tar unlinks what is in the way before it learns that it may not link."""
    real, calls = client.extract, []

    def extract(system: str, archive: str, directory: str, *, compression: str = "gzip") -> None:
        calls.append(archive)
        if len(calls) == 2:
            (two.local / "d/new").unlink()
            (two.local / "old").rename(two.local / "moved")
            try:
                real(system, archive, directory, compression=compression)
            finally:
                (two.local / "moved").rename(two.local / "old")
        else:
            real(system, archive, directory, compression=compression)

    monkeypatch.setattr(client, "extract", extract)
    with pytest.raises(OSError):
        rename(bundler, client, two / "old", two / "d/new")
    survives(two)
    bundler.sweep()
    assert os.listdir(two.local / "d") == ["new"]


def test_what_was_kept_of_a_target_is_removed_later(
    bundler: Bundler, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    """The source can't be removed, so the target is linked back; nor can its other link go."""
    (there.local / "old").write_text("source")
    (there.local / "new").write_text("target")
    source, target = (client.stat("cluster", there / name) for name in ("old", "new"))
    emulator.faults.add("status", "ops/rm", status=503, count=-1)
    with pytest.raises(OSError):
        bundler.rename(there / "old", there / "new", source, target)
    emulator.faults.clear()
    assert [(there.local / name).read_text() for name in ("old", "new")] == ["source", "target"]
    bundler.sweep()
    assert there.names() == ["new", "old"]
