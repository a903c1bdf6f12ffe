"""What programs cost: requests for a save, a copied tree, a removed one, counted by the server.

A save of an existing file is one upload and no rename, however many names the editor takes.
"""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest

from ..fs.drivers import KernelDriver
from ..fs.sites import Site, Sites
from ..harness import Server
from . import programs
from .programs import NEW, OLD, Save, shell
from .test_editors import BACKUPS, every_save

IDENTITY = "-c user.name=Demo -c user.email=demo@example.org -c safe.directory='*'"
#: Looks into the directory above all homes: two names that it lacks, then a listing, and another
#: one where the program took longer than absences are believed.
LOOKS_ABOVE = 4
#: Requests by which a rename is made: a tar that is unpacked, or the cluster's own mv.
RENAMES = ("ops/extract", "transfer/extract", "transfer/mv", "utilities/rename")


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that stores when it is told to: a slow machine costs no more requests."""
    return sites.site(kind, write_back=600.0)


def count(server: Server, *names: str) -> int:
    return sum(each in names for each in server.requests())


@every_save
def test_a_save_is_one_upload(fs: KernelDriver, there: Path, server: Server, save: Save) -> None:
    (there / "notes").write_bytes(OLD)
    (there / "notes").chmod(0o640 if save is not programs.by_rsync else 0o644)
    fs.listdir()
    fs.read_file("notes")
    server.requests(reset=True)
    save(fs, "notes")
    # Nothing waits for the cluster: a save is as fast as on a local disk.
    assert count(server, "ops/upload", "ops/rm", "ops/chmod", *RENAMES) == 0
    fs.land()
    assert (there / "notes").read_bytes() == NEW
    assert count(server, "ops/upload") == 1
    # What rsync brings has a time of its own, which travels in a tar. Emacs looks for version
    # control in each directory above, Python for its environment: some looks outside of ours.
    budget = 6 if save is programs.by_rsync else 3
    assert len(server.requests()) <= budget + LOOKS_ABOVE, server.requests()


@every_save
def test_saves_in_a_row_are_one_upload(
    fs: KernelDriver, there: Path, server: Server, save: Save
) -> None:
    """Two saves before the first is due; a new file's mode or time may take a tar."""
    (there / "notes").write_bytes(b"")
    fs.listdir()
    fs.write_file("notes", OLD)
    server.requests(reset=True)
    save(fs, "notes")
    fs.land()
    assert count(server, "ops/upload") == 1
    assert len(server.requests()) <= 6 + LOOKS_ABOVE, server.requests()


@pytest.mark.parametrize("save", BACKUPS.values(), ids=BACKUPS.keys())
def test_a_save_with_a_backup(fs: KernelDriver, there: Path, server: Server, save: Save) -> None:
    (there / "notes").write_bytes(OLD)
    fs.listdir()
    fs.read_file("notes")
    server.requests(reset=True)
    save(fs, "notes")
    assert count(server, "ops/upload", "ops/rm", "ops/chmod", *RENAMES) == 0
    fs.land()
    # The backup is a second file; whether by a rename or an upload, not by both.
    assert count(server, "ops/upload") <= 3
    assert len(server.requests()) <= 12 + LOOKS_ABOVE, server.requests()


# -- trees -----------------------------------------------------------------------------------------


def make_tree(top: Path, number: int = 500, directories: int = 10) -> Path:
    """Make *number* files of 4 KiB in some directories."""
    for each in range(number):
        path = top / f"d{each % directories}" / f"f{each:03}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((b"%d\n" % each * 4096)[:4096])
        os.utime(path, (10**9 + each, 10**9 + each))
    return top


def test_copying_a_tree(fs: KernelDriver, there: Path, server: Server, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    shell(fs, 'cp -r "$TREE" tree', TREE=tree)
    fs.land()
    assert len(server.requests()) <= 12, server.requests()
    shell(fs, 'diff -r "$TREE" "$THERE/tree"', TREE=tree, THERE=there)


def test_copying_a_tree_of_one_directory(
    fs: KernelDriver, there: Path, server: Server, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", directories=1)
    shell(fs, 'cp -r "$TREE" tree', TREE=tree)
    fs.land()
    assert len(server.requests()) <= 12, server.requests()
    shell(fs, 'diff -r "$TREE" "$THERE/tree"', TREE=tree, THERE=there)


def test_rsync_the_second_time(
    fs: KernelDriver, there: Path, server: Server, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree")
    shell(fs, 'rsync -a "$TREE/" tree/', TREE=tree)
    fs.land()
    fs.refresh()
    fs.stat()
    server.requests(reset=True)
    shell(fs, 'rsync -a "$TREE/" tree/', TREE=tree)
    fs.land()
    assert count(server, "ops/upload", *RENAMES) == 0
    assert len(server.requests()) <= 2, server.requests()


@pytest.mark.parametrize("known", [False, True], ids=["as found", "as copied"])
def test_removing_a_tree(fs: KernelDriver, there: Path, server: Server, known: bool) -> None:
    make_tree(there / "tree", directories=1)
    if known:
        shell(fs, "ls -R tree")
    server.requests(reset=True)
    shell(fs, "rm -rf tree")
    assert fs.listdir() == []
    fs.land()
    assert os.listdir(there) == []
    assert len(server.requests()) <= 6, server.requests()


def test_removing_a_tree_that_was_never_stored(
    fs: KernelDriver, there: Path, server: Server, tmp_path: Path
) -> None:
    tree = make_tree(tmp_path / "tree", 20, 2)
    fs.listdir()
    server.requests(reset=True)
    shell(fs, 'cp -r "$TREE" tree && rm -rf tree', TREE=tree)
    fs.land()
    assert [each for each in server.requests() if each not in ("ops/ls", "ops/stat")] == []


def test_tar_x(fs: KernelDriver, there: Path, server: Server, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", 60, 6)
    (tree / "empty").touch()
    (tree / "link").symlink_to("d0/f000")
    shell(fs, 'tar cf "$OUT/tree.tar" -C "$OUT" tree', OUT=tmp_path)
    fs.listdir()
    server.requests(reset=True)
    shell(fs, 'tar xf "$OUT/tree.tar"', OUT=tmp_path)
    fs.land()
    assert len(server.requests()) <= 12, server.requests()
    assert os.readlink(there / "tree/link") == "d0/f000"
    assert (there / "tree/d5/f005").stat().st_mtime == 10**9 + 5


def test_unzip(fs: KernelDriver, there: Path, server: Server, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "tree.zip", "w") as archive:
        for number in range(30):
            info = zipfile.ZipInfo(f"tree/d{number % 3}/f{number}", (2020, 2, 2, 20, 20, 20))
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, b"%d\n" % number)
    fs.listdir()
    server.requests(reset=True)
    shell(fs, 'unzip -q "$ZIP"', ZIP=tmp_path / "tree.zip")
    fs.land()
    assert len(server.requests()) <= 12, server.requests()


def test_git(fs: KernelDriver, there: Path, server: Server, tmp_path: Path) -> None:
    make_tree(tmp_path / "tree", 20, 2)
    git = f"git {IDENTITY}"
    fs.listdir()
    server.requests(reset=True)
    shell(fs, f'cp -r "$TREE" repo; cd repo; {git} init -q', TREE=tmp_path / "tree")
    shell(fs, f"cd repo; {git} add .; {git} commit -qm first")
    fs.land()
    # Git makes each object by link and unlink, which leave one new file each.
    assert len(server.requests()) <= 30, server.requests()
    server.requests(reset=True)
    assert shell(fs, f"cd repo; {git} status --porcelain") == ""
    fs.land()
    # A file as young as the index is read once more by git itself.
    assert count(server, "ops/download") <= 2
    # Then git may write the index anew, which is one store.
    assert count(server, "ops/upload", *RENAMES) <= 1
    check = f"git {IDENTITY} -C {there}/repo"
    shell(fs, f"{check} fsck --strict --no-progress; {check} diff --quiet HEAD")
    fs.refresh()
    shell(fs, f"{git} -C repo fsck --strict --no-progress; {git} -C repo diff --quiet HEAD")


@pytest.mark.parametrize("way", ["", "file://"], ids=["files", "pack"])
def test_git_clone(fs: KernelDriver, there: Path, server: Server, tmp_path: Path, way: str) -> None:
    """Nothing of a clone waits for the cluster, whichever way git brings its objects."""
    tree, git = make_tree(tmp_path / "tree", 200), f"git {IDENTITY}"
    shell(fs, f'cd "$TREE"; {git} init -q; {git} add .; {git} commit -qm first', TREE=tree)
    fs.listdir()
    server.requests(reset=True)
    shell(fs, f'{git} clone -q "{way}$TREE" repo', TREE=tree)
    assert [each for each in server.requests() if each not in ("ops/ls", "ops/stat")] == []
    fs.land()
    assert len(server.requests()) <= 30, server.requests()
    check = f"git {IDENTITY} -C {there}/repo"
    shell(fs, f"{check} fsck --strict --no-progress; {check} diff --quiet HEAD")
    assert shell(fs, f"{git} -C repo status --porcelain") == ""


def test_sqlite(fs: KernelDriver, there: Path, server: Server) -> None:
    """The journal that comes and goes with every transaction costs nothing."""
    fs.listdir()
    server.requests(reset=True)
    script = "create table t (n); " + "".join(f"insert into t values ({n}); " for n in range(10))
    shell(fs, f'sqlite3 data.db "{script}"')
    fs.land()
    assert os.listdir(there) == ["data.db"]
    assert count(server, "ops/upload") == 1
    assert len(server.requests()) <= 5, server.requests()
