"""What editors and scripts do with names, and how little of it the cluster is told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.emulator import Emulator
from firecrestfs.mount import build

from .storing import counts
from .tools import SECOND, Remote
from .wired import BINDING, OMIT, Files, make_config

READS = ("ops/stat", "ops/ls", "ops/download", "ops/checksum", "status/userinfo")


@pytest.fixture
def calm(emulator: Emulator, there: Remote, tmp_path: Path) -> Iterator[Files]:
    """A mount that tells the cluster nothing until it is asked to."""
    mount = build(make_config(emulator, tmp_path, write_back=1000.0), BINDING, "/mnt/hpc")
    files = Files(mount, there)
    files.stat("")
    yield files
    mount.stop()
    mount.journal.close()


def planted(calm: Files, there: Remote, name: str = "f", text: str = "old") -> int:
    """Make a file on the cluster that the mount knows; return its inode there."""
    (there.local / name).write_text(text)
    (there.local / name).chmod(0o640)
    calm.refresh()
    calm.stat(name)
    return (there.local / name).stat().st_ino


def landed(calm: Files, emulator: Emulator) -> dict[str, int]:
    """Let all land; return which changes the cluster was asked for."""
    counts(emulator)
    assert calm.sync() == {}
    return {name: number for name, number in counts(emulator).items() if name not in READS}


def mode_of(there: Remote, name: str) -> int:
    return (there.local / name).stat().st_mode & 0o7777


# -- saves ---------------------------------------------------------------------------------------


def test_a_save_by_way_of_a_backup_is_one_upload(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    ino = planted(calm, there)
    calm.ops.rename(calm.path("f"), calm.path("f~"))
    calm.create("f", b"new", 0o640)
    calm.ops.unlink(calm.path("f~"))
    assert landed(calm, emulator) == {"ops/upload": 1}
    assert there.names() == ["f"]
    assert (there.local / "f").read_text() == "new"
    assert (there.local / "f").stat().st_ino == ino
    assert mode_of(there, "f") == 0o640


def test_a_save_that_keeps_its_backup_keeps_both_contents(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    planted(calm, there)
    calm.ops.rename(calm.path("f"), calm.path("f~"))
    calm.create("f", b"new", 0o640)
    landed(calm, emulator)
    assert (there.local / "f").read_text() == "new"
    assert (there.local / "f~").read_text() == "old"
    assert there.names() == ["f", "f~"]


@pytest.mark.parametrize("mode", [0o640, 0o600, 0o644])
def test_a_save_by_way_of_a_temporary_file_is_one_upload(
    calm: Files, there: Remote, emulator: Emulator, mode: int
) -> None:
    """It has the mode of the file that was renamed, as locally."""
    ino = planted(calm, there)
    calm.create(".f.tmp", b"new", mode)
    calm.ops.rename(calm.path(".f.tmp"), calm.path("f"))
    found = landed(calm, emulator)
    assert found == {"ops/upload": 1} | ({} if mode == 0o640 else {"ops/chmod": 1})
    assert there.names() == ["f"]
    assert (there.local / "f").stat().st_ino == ino
    assert mode_of(there, "f") == mode


@pytest.mark.parametrize("where", ["d", "d/in/deep"])
def test_a_save_in_a_renamed_directory_is_one_upload(
    calm: Files, there: Remote, emulator: Emulator, where: str
) -> None:
    (there.local / where).mkdir(parents=True)
    ino = planted(calm, there, f"{where}/f")
    calm.ops.rename(calm.path("d"), calm.path("e"))
    shown = where.replace("d", "e", 1)
    calm.ops.unlink(calm.path(f"{shown}/f"))
    calm.create(f"{shown}/f", b"new", 0o640)
    emulator.knobs.put("queue_seconds", 0.05)
    assert landed(calm, emulator)["ops/upload"] == 1
    assert there.names() == ["e"]
    assert (there.local / shown / "f").read_text() == "new"
    assert (there.local / shown / "f").stat().st_ino == ino


def test_a_temporary_file_costs_nothing(calm: Files, there: Remote, emulator: Emulator) -> None:
    calm.create("tmp", b"x")
    calm.ops.rename(calm.path("tmp"), calm.path("tmp2"))
    calm.ops.mkdir(calm.path("d"), 0o755)
    calm.ops.rename(calm.path("tmp2"), calm.path("d/tmp"))
    calm.ops.symlink(calm.path("d/link"), "tmp")
    for name in ("d/link", "d/tmp"):
        calm.ops.unlink(calm.path(name))
    calm.ops.rmdir(calm.path("d"))
    counts(emulator)
    assert calm.sync() == {}
    assert counts(emulator) == {}
    assert calm.mount.journal.records() == []


def test_undone_renames_and_modes_cost_nothing(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    planted(calm, there)
    calm.ops.rename(calm.path("f"), calm.path("g"))
    calm.ops.rename(calm.path("g"), calm.path("f"))
    assert landed(calm, emulator) == {}
    assert calm.mount.journal.records() == []


# -- names ---------------------------------------------------------------------------------------


def test_two_files_that_swap_names(calm: Files, there: Remote, emulator: Emulator) -> None:
    inodes = [planted(calm, there, name, name) for name in "ab"]
    for old, new in (("a", "t"), ("b", "a"), ("t", "b")):
        calm.ops.rename(calm.path(old), calm.path(new))
    landed(calm, emulator)
    assert there.names() == ["a", "b"]
    assert [(there.local / name).stat().st_ino for name in "ba"] == inodes
    assert (there.local / "a").read_text() == "b"


def test_three_directories_in_a_ring(calm: Files, there: Remote, emulator: Emulator) -> None:
    for name in "abc":
        (there.local / name).mkdir()
        planted(calm, there, f"{name}/f", name)
    for old, new in (("a", "t"), ("c", "a"), ("b", "c"), ("t", "b")):
        calm.ops.rename(calm.path(old), calm.path(new))
    emulator.knobs.put("queue_seconds", 0.05)
    landed(calm, emulator)
    assert there.names() == ["a", "b", "c"]
    assert [(there.local / name / "f").read_text() for name in "abc"] == ["c", "a", "b"]


def test_a_directory_over_a_removed_link_to_a_directory(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    """`rm link; mv d link`: it must not end up in what the link led to."""
    for name in ("d", "elsewhere"):
        (there.local / name).mkdir()
    (there.local / "link").symlink_to("elsewhere")
    planted(calm, there, "d/f")
    calm.ops.unlink(calm.path("link"))
    calm.ops.rename(calm.path("d"), calm.path("link"))
    emulator.knobs.put("queue_seconds", 0.05)
    landed(calm, emulator)
    assert there.names() == ["elsewhere", "link"]
    assert not (there.local / "link").is_symlink()
    assert os.listdir(there.local / "elsewhere") == []
    assert os.listdir(there.local / "link") == ["f"]


def test_a_file_over_a_removed_link_leaves_what_that_led_to(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    planted(calm, there, "precious", "precious")
    (there.local / "link").symlink_to("precious")
    calm.refresh()
    calm.ops.unlink(calm.path("link"))
    calm.create("link", b"new")
    landed(calm, emulator)
    assert (there.local / "precious").read_text() == "precious"
    assert not (there.local / "link").is_symlink()
    assert (there.local / "link").read_text() == "new"


def test_renamed_again_and_again_on_the_cluster(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    """Each rename by links leaves another ctime; none of them is somebody else's change."""
    planted(calm, there, "target", "0")
    for number in range(1, 6):
        calm.create("next", b"%d" % number, 0o640)
        assert calm.sync() == {}
        calm.ops.rename(calm.path("next"), calm.path("target"))
        assert calm.sync() == {}
        assert there.names() == ["target"]
        assert (there.local / "target").read_text() == str(number)


def test_a_written_file_goes_with_its_renamed_directory(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    (there.local / "d").mkdir()
    planted(calm, there, "d/f")
    calm.ops.rename(calm.path("d"), calm.path("e"))
    calm.create("e/new", b"x")
    info = calm.open("e/f", os.O_WRONLY | os.O_TRUNC)
    calm.ops.write(calm.path("e/f"), b"edited", 0, info)
    calm.close("e/f", info)
    calm.ops.rename(calm.path("e"), calm.path("g"))
    emulator.knobs.put("queue_seconds", 0.05)
    landed(calm, emulator)
    assert there.names() == ["g"]
    assert (there.local / "g/f").read_text() == "edited"
    assert (there.local / "g/new").read_text() == "x"


# -- trees ---------------------------------------------------------------------------------------


def test_a_new_tree_is_one_archive_and_no_mode(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    calm.ops.mkdir(calm.path("t"), 0o755)
    for number in range(5):
        calm.ops.mkdir(calm.path(f"t/d{number}"), 0o755 if number else 0o700)
        calm.create(f"t/d{number}/f", b"x")
    calm.ops.symlink(calm.path("t/link"), "d0/f")
    assert landed(calm, emulator) == {"ops/upload": 1, "ops/extract": 1, "ops/rm": 1}
    assert mode_of(there, "t/d0") == 0o700
    assert mode_of(there, "t/d1") == 0o755
    assert os.readlink(there.local / "t/link") == "d0/f"
    assert len(list((there.local / "t").rglob("f"))) == 5
    assert calm.mount.journal.records() == []


def test_what_a_shared_directory_passes_on_is_kept(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    there.local.chmod(0o2775)
    calm.refresh()
    for name in ("t", "t/in", "empty", "t/none"):
        calm.ops.mkdir(calm.path(name), 0o755)
    for number in range(4):
        calm.create(f"t/in/f{number}", b"x")
    landed(calm, emulator)
    assert [mode_of(there, name) for name in ("t", "t/in", "empty", "t/none")] == [0o2755] * 4


def test_a_removed_tree_is_two_requests(calm: Files, there: Remote, emulator: Emulator) -> None:
    names = [f"t/d{number}" for number in range(5)]
    for name in names:
        (there.local / name).mkdir(parents=True)
        (there.local / name / "f").write_text("x")
    calm.refresh()
    for name in names:
        calm.ops.readdir(calm.path(name), 0)
        calm.ops.unlink(calm.path(f"{name}/f"))
        calm.ops.rmdir(calm.path(name))
    calm.ops.rmdir(calm.path("t"))
    counts(emulator)
    assert calm.sync() == {}
    assert sum(counts(emulator).values()) == 2
    assert there.names() == []
    assert calm.mount.journal.records() == []


def test_a_strangers_file_in_a_removed_tree_shows_again(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    (there.local / "t").mkdir()
    planted(calm, there, "t/f")
    calm.ops.unlink(calm.path("t/f"))
    calm.ops.rmdir(calm.path("t"))
    (there.local / "t/theirs").write_text("x")
    landed(calm, emulator)
    assert os.listdir(there.local / "t") == ["theirs"]
    assert calm.stat("t/theirs")["st_size"] == 1
    assert any("not removed" in line for line in calm.mount.errors.lines())
    assert calm.mount.journal.records() == []


def test_a_file_that_is_removed_while_it_is_written_down_elsewhere(
    calm: Files, there: Remote, emulator: Emulator
) -> None:
    """Times and modes that were given to what goes need nobody."""
    planted(calm, there)
    calm.ops.chmod(calm.path("f"), 0o600)
    calm.ops.utimens(calm.path("f"), (OMIT, 1_000_000_000 * SECOND))
    calm.ops.unlink(calm.path("f"))
    assert landed(calm, emulator) == {"ops/rm": 1}
    assert there.names() == []
