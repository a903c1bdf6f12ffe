"""Ordinary programs on whole trees: what arrives on the cluster is what they wrote."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from ..fs.drivers import Driver
from ..harness import COMMAND_S, Server

#: Requests that change nothing on the cluster.
LOOKS = ("ops/ls", "ops/stat", "ops/download", "ops/view", "ops/checksum", "ops/head", "ops/tail")
IDENTITY = "-c user.name=Demo -c user.email=demo@example.org -c safe.directory='*'"


def run(fs: Driver, command: str, **names: object) -> str:
    """Run *command* in the test's directory of the mount; *names* are its variables."""
    env = os.environ | {name: str(value) for name, value in names.items()} | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=fs.path(),  # type: ignore[attr-defined]
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def plant(top: Path) -> Path:
    """Make a tree of all that a project has: empty files, modes, links, odd names."""
    for directory in ("src/deep/deeper", "data", "empty", "bin", "with space/ü"):
        (top / directory).mkdir(parents=True)
    for number in range(12):
        (top / f"src/f{number}.txt").write_bytes(b"line %d\n" % number * 50)
    (top / "src/deep/deeper/leaf").write_bytes(b"leaf")
    (top / "data/zeros").write_bytes(bytes(300_000))
    (top / "data/random").write_bytes(os.urandom(200_001))
    (top / "data/nothing").write_bytes(b"")
    (top / "bin/tool").write_bytes(b"#!/bin/sh\necho tool\n")
    (top / "bin/tool").chmod(0o755)
    (top / "data/secret").write_bytes(b"secret")
    (top / "data/secret").chmod(0o600)
    (top / "data/readonly").write_bytes(b"readonly")
    (top / "data/readonly").chmod(0o444)
    (top / "with space/ü/a b").write_bytes(b"odd")
    (top / "src/link").symlink_to("f0.txt")
    (top / "src/up").symlink_to("../data")
    (top / "src/dangling").symlink_to("nowhere")
    for number, path in enumerate(sorted(top.rglob("*"))):
        if path.is_file() and not path.is_symlink():
            os.utime(path, ns=(0, 1_600_000_000_000_000_000 + number * 1_234_567_891))
    return top


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return plant(tmp_path / "tree")


def seen(top: Path, *, times: bool = False) -> dict[str, tuple[object, ...]]:
    """Return kind, mode and content of all below *top*, by relative path."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        name = str(path.relative_to(top))
        if stat.S_ISLNK(status.st_mode):
            found[name] = ("link", os.readlink(path))
        elif stat.S_ISDIR(status.st_mode):
            found[name] = ("directory", stat.S_IMODE(status.st_mode))
        else:
            what = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
            found[name] = (*what, status.st_mtime_ns) if times else what
    return found


def writes(server: Server) -> list[str]:
    return [each for each in server.requests(reset=True) if each not in LOOKS]


# -- copying ---------------------------------------------------------------------------------------


def test_cp_r_into_the_mount(fs: Driver, there: Path, tree: Path) -> None:
    run(fs, 'cp -r "$TREE" .', TREE=tree)
    assert seen(Path(fs.path("tree"))) == seen(tree)  # type: ignore[attr-defined]
    fs.land()
    assert seen(there / "tree") == seen(tree)


def test_cp_a_into_the_mount_keeps_times(fs: Driver, there: Path, tree: Path) -> None:
    run(fs, 'cp -a "$TREE" .', TREE=tree)
    fs.land()
    assert seen(there / "tree", times=True) == seen(tree, times=True)
    fs.refresh()
    mount = Path(fs.path("tree"))  # type: ignore[attr-defined]
    assert seen(mount, times=True) == seen(tree, times=True)


def test_cp_p_of_one_file(fs: Driver, there: Path, tree: Path) -> None:
    run(fs, 'cp -p "$TREE/data/secret" secret', TREE=tree)
    fs.land()
    before, after = (tree / "data/secret").stat(), (there / "secret").stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


def test_cp_r_out_of_the_mount(fs: Driver, there: Path, tmp_path: Path) -> None:
    plant(there / "tree")
    run(fs, 'cp -r tree "$OUT"', OUT=tmp_path / "out")
    assert seen(tmp_path / "out") == seen(there / "tree")


def test_cp_r_within_the_mount(fs: Driver, there: Path) -> None:
    plant(there / "tree")
    run(fs, "cp -r tree copy")
    fs.land()
    assert seen(there / "copy") == seen(there / "tree")


def test_copytree_of_python(fs: Driver, there: Path, tree: Path) -> None:
    shutil.copytree(tree, fs.path("tree"), symlinks=True)  # type: ignore[attr-defined]
    fs.land()
    assert seen(there / "tree", times=True) == seen(tree, times=True)


def test_tar_into_the_mount(fs: Driver, there: Path, tree: Path, tmp_path: Path) -> None:
    run(fs, 'tar cf "$OUT/tree.tar" --format=posix -C "$OUT" tree', OUT=tmp_path)
    run(fs, 'tar xpf "$OUT/tree.tar" --no-same-owner', OUT=tmp_path)
    fs.land()
    assert seen(there / "tree", times=True) == seen(tree, times=True)


def test_tar_out_of_the_mount(fs: Driver, there: Path, tmp_path: Path) -> None:
    plant(there / "tree")
    run(fs, 'tar cf "$OUT/tree.tar" tree; tar xpf "$OUT/tree.tar" -C "$OUT"', OUT=tmp_path)
    assert seen(tmp_path / "tree") == seen(there / "tree")


def test_tar_written_in_the_mount(fs: Driver, there: Path, tree: Path) -> None:
    run(fs, 'tar czf tree.tgz -C "$TREE" .; tar tzf tree.tgz > names', TREE=tree)
    fs.land()
    with tarfile.open(there / "tree.tgz") as archive:
        assert "./bin/tool" in archive.getnames()
    assert "./bin/tool\n" in (there / "names").read_text()


def test_rsync_twice(fs: Driver, there: Path, tree: Path, server: Server) -> None:
    # Owners aside: a user of the cluster can't give files away.
    command = 'rsync -rlpt --out-format=%n "$TREE/" tree/'
    run(fs, command, TREE=tree)
    fs.land()
    assert seen(there / "tree", times=True) == seen(tree, times=True)
    fs.refresh()
    server.requests(reset=True)
    sent = [name for name in run(fs, command, TREE=tree).splitlines() if not name.endswith("/")]
    assert sent == []
    fs.land()
    assert writes(server) == []


def test_rsync_a_of_ones_own_files(fs: Driver, there: Path, tree: Path, server: Server) -> None:
    run(fs, 'rsync -a "$TREE/src/" src/', TREE=tree)
    fs.land()
    assert seen(there / "src", times=True) == seen(tree / "src", times=True)
    (tree / "src/f3.txt").write_bytes(b"changed\n")
    server.requests(reset=True)
    run(fs, 'rsync -a "$TREE/src/" src/', TREE=tree)
    fs.land()
    assert seen(there / "src") == seen(tree / "src")
    assert writes(server).count("ops/upload") <= 1


# -- moving and removing ---------------------------------------------------------------------------


def test_mv_into_the_mount(fs: Driver, there: Path, tree: Path) -> None:
    expected = seen(tree, times=True)
    run(fs, 'mv "$TREE" tree', TREE=tree)
    fs.land()
    assert seen(there / "tree", times=True) == expected
    assert not tree.exists()


def test_mv_of_a_directory(fs: Driver, there: Path) -> None:
    plant(there / "tree")
    expected = seen(there / "tree")
    run(fs, "mv tree moved")
    fs.land()
    assert seen(there / "moved") == expected
    assert os.listdir(there) == ["moved"]


def test_mv_of_files_into_a_directory(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    for name in "abc":
        (there / name).write_bytes(name.encode())
    run(fs, "mv a b c d; mv d/a d/z")
    fs.land()
    assert seen(there / "d") == {
        "b": ("file", 0o644, b"b"),
        "c": ("file", 0o644, b"c"),
        "z": ("file", 0o644, b"a"),
    }


def test_rm_rf(fs: Driver, there: Path) -> None:
    plant(there / "tree")
    run(fs, "rm -rf tree")
    assert os.listdir(there) == []


def test_rm_rf_of_what_is_not_stored(fs: Driver, there: Path, tree: Path) -> None:
    run(fs, 'cp -r "$TREE" tree && rm -rf tree', TREE=tree)
    fs.land()
    assert os.listdir(there) == []


# -- editing ---------------------------------------------------------------------------------------


def test_sed_in_place(fs: Driver, there: Path, server: Server) -> None:
    (there / "input").write_bytes(b"steps = 100\n")
    (there / "input").chmod(0o640)
    run(fs, "sed -i 's/100/1000/' input")
    fs.land()
    assert (there / "input").read_bytes() == b"steps = 1000\n"
    assert stat.S_IMODE((there / "input").stat().st_mode) == 0o640
    assert writes(server).count("ops/upload") <= 1


def test_a_save_by_os_replace_is_one_upload(fs: Driver, there: Path, server: Server) -> None:
    (there / "config").write_bytes(b"old")
    Path(fs.path("config.tmp")).write_bytes(b"new")  # type: ignore[attr-defined]
    os.replace(fs.path("config.tmp"), fs.path("config"))  # type: ignore[attr-defined]
    fs.land()
    assert (there / "config").read_bytes() == b"new"
    assert writes(server) == ["ops/upload"]


def test_vim_saves(fs: Driver, there: Path, server: Server) -> None:
    (there / "notes").write_bytes(b"old line\n")
    (there / "notes").chmod(0o640)
    for number in range(3):
        run(fs, f"vim -es -u NONE -i NONE -c 'normal oline {number}' -c wq notes")
    fs.land()
    assert (there / "notes").read_bytes() == b"old line\nline 0\nline 1\nline 2\n"
    assert stat.S_IMODE((there / "notes").stat().st_mode) == 0o640
    assert os.listdir(there) == ["notes"]
    assert writes(server).count("ops/upload") <= 3


def test_dd_into_the_middle(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"." * 10_000)
    run(fs, "printf XYZ | dd of=f bs=1 seek=5000 conv=notrunc status=none")
    fs.land()
    assert (there / "f").read_bytes() == b"." * 5000 + b"XYZ" + b"." * 4997


def test_shell_redirections(fs: Driver, there: Path) -> None:
    run(fs, "echo one > f; echo two >> f; cat f f > g; : > empty; cat < f | tee h > /dev/null")
    fs.land()
    assert (there / "g").read_bytes() == b"one\ntwo\n" * 2
    assert (there / "h").read_bytes() == b"one\ntwo\n"
    assert (there / "empty").read_bytes() == b""


def test_a_program_that_is_run_from_the_mount(fs: Driver, there: Path) -> None:
    run(fs, "printf '#!/bin/sh\\necho it runs\\n' > tool; chmod +x tool")
    assert run(fs, "./tool") == "it runs\n"


# -- git -------------------------------------------------------------------------------------------


def test_git(fs: Driver, there: Path, tree: Path) -> None:
    shutil.copytree(tree / "src", fs.path("repo"), symlinks=True)  # type: ignore[attr-defined]
    git = f"git {IDENTITY}"
    run(fs, f"cd repo; {git} init -q; {git} add .; {git} commit -qm first")
    assert run(fs, f"cd repo; {git} status --porcelain") == ""
    run(fs, f"cd repo; echo more >> f1.txt; {git} commit -qam second")
    assert run(fs, f"cd repo; {git} status --porcelain; {git} log --format=%s") == "second\nfirst\n"
    fs.land()
    # Unknown inodes or times would make git read every file again; wrong bytes would fail fsck.
    check = f"git {IDENTITY} -C {there}/repo"
    run(fs, f"{check} fsck --strict --no-progress; {check} diff --quiet HEAD")


# -- looking ---------------------------------------------------------------------------------------


def test_find_over_fifty_directories(fs: Driver, there: Path, server: Server) -> None:
    for number in range(50):
        (there / f"d{number:02}").mkdir()
        (there / f"d{number:02}/f").write_bytes(b"x")
    found = run(fs, "find . -type f -newermt 2000-01-01").split()
    assert sorted(found) == [f"./d{number:02}/f" for number in range(50)]
    assert len(server.requests()) <= 5


def test_grep_r(fs: Driver, there: Path) -> None:
    plant(there / "tree")
    assert run(fs, "grep -rl 'line 7' tree") == "tree/src/f7.txt\n"


def test_du(fs: Driver, there: Path) -> None:
    (there / "d").mkdir()
    (there / "d/f").write_bytes(bytes(100_000))
    (there / "d/g").write_bytes(bytes(50_000))
    assert run(fs, "du -b d/f d/g").split() == ["100000", "d/f", "50000", "d/g"]
    blocks = int(run(fs, "du -sk d").split()[0])
    assert 146 <= blocks <= 170


def test_ls_and_stat_tell_the_truth(fs: Driver, there: Path) -> None:
    (there / "f").write_bytes(b"12345")
    (there / "f").chmod(0o751)
    os.utime(there / "f", (1_700_000_000, 1_700_000_000))
    (there / "link").symlink_to("f")
    assert run(fs, "stat -c '%F %a %s %Y' f") == "regular file 751 5 1700000000\n"
    assert run(fs, "readlink -f link").rstrip("\n").endswith("/f")
    assert run(fs, "df -P . | tail -1").strip()
