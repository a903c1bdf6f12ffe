"""Ordinary programs in a mount of a real server; `place` sees what arrives on the cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from stat import S_IFREG, filemode

from firecrestfs.model import Kind

from ..harness import Mounted, mounted_type, wait_for
from .conftest import live_mount
from .place import ACCOUNT, SECOND, Place, Shell, member

SUMMER = 1719828000


# -- looking --------------------------------------------------------------------------------------


def test_the_top(mounted: Mounted, place: Place) -> None:
    with mounted.watching(60):
        assert place.system in os.listdir(mounted.path)
        home = mounted.path / place.system / "HOME"
        if home.is_symlink():
            assert home.is_dir()


def test_ls_l(shell: Shell, place: Place) -> None:
    place.plant(
        member("script", b"#!/bin/sh\n", mode=0o755, mtime=SUMMER),
        member("secret", b"x" * 1234, mode=0o600, mtime=SUMMER - 180 * 86400),
        member("dir/x", b"x"),
    )
    listed = shell.run("ls -ln --time-style=+%s").splitlines()[1:]
    rows = {line.split()[-1]: line.split() for line in listed}
    assert set(rows) == {"script", "secret", "dir"}
    shown = filemode(S_IFREG | 0o755 & ~place.umask())
    assert (rows["script"][0], rows["script"][4:6]) == (shown, ["10", str(SUMMER)])
    assert rows["secret"][0] == "-rw-------"
    assert rows["secret"][4:6] == ["1234", str(SUMMER - 180 * 86400)]
    assert rows["dir"][0].startswith("drwx")
    assert int(rows["script"][2]) == os.getuid()


def test_what_others_change_shows_after_a_refresh(shell: Shell, place: Place) -> None:
    place.put("file", b"old")
    assert shell.run("ls; cat file") == "file\nold"
    place.put("file", b"newer")
    place.put("another", b"x")
    shell.refresh()
    assert shell.run("ls; cat file") == "another\nfile\nnewer"


def test_grep_and_find(shell: Shell, place: Place) -> None:
    place.plant(
        *(
            member(f"d{n}/f{m}", b"needle\n" if n == m else b"hay\n")
            for n in range(4)
            for m in range(8)
        )
    )
    assert sorted(shell.run("grep -rl needle .").split()) == [f"./d{n}/f{n}" for n in range(4)]
    assert len(shell.run("find . -type f").split()) == 32


# -- content --------------------------------------------------------------------------------------


def test_cp_in_and_out(shell: Shell, place: Place, tmp_path: Path) -> None:
    for size in (1, 1024, 1_000_001, place.limits.download - 1, place.limits.download):
        (tmp_path / "in").write_bytes(os.urandom(size))
        shell.run('cp "$IN" file; cmp "$IN" file', IN=tmp_path / "in")
        shell.sync()
        assert place.get("file") == (tmp_path / "in").read_bytes()
        shell.refresh()
        shell.run('cp file "$OUT"; cmp "$IN" "$OUT"', IN=tmp_path / "in", OUT=tmp_path / "out")


def test_cp_p(shell: Shell, place: Place, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.write_bytes(b"content")
    source.chmod(0o640)
    os.utime(source, ns=(0, SUMMER * SECOND + 123_456_789))
    shell.run('cp -p "$IN" file', IN=source)
    shell.sync()
    found = place.stat("file")
    assert (found.mode, found.mtime_ns // SECOND) == (0o640, SUMMER)
    shell.refresh()
    assert shell.run("stat -c '%a %Y' file") == f"640 {SUMMER}\n"


def test_modes(shell: Shell, place: Place) -> None:
    shell.run("echo x > plain; chmod 640 plain; echo y > tool; chmod +x tool; mkdir -m 700 own")
    shell.sync()
    assert place.stat("plain").mode == 0o640
    assert place.stat("tool").mode & 0o111 == 0o111
    assert place.stat("own").mode == 0o700
    shell.run("chmod 444 plain; chmod 750 own")
    shell.sync()
    assert (place.stat("plain").mode, place.stat("own").mode) == (0o444, 0o750)


def test_empty_files(shell: Shell, place: Place) -> None:
    shell.run("touch a b; : > c; echo x > d")
    shell.sync()
    assert {name: place.stat(name).size for name in place.names()} == {
        "a": 0,
        "b": 0,
        "c": 0,
        "d": 2,
    }
    shell.run("chmod 640 d; : > d")
    shell.sync()
    assert (place.stat("d").size, place.stat("d").mode) == (0, 0o640)


def test_append(shell: Shell, place: Place) -> None:
    place.put("log", b"one\n")
    shell.run("echo two >> log; echo three >> log")
    shell.sync()
    assert place.get("log") == b"one\ntwo\nthree\n"


def test_a_large_text_and_what_is_appended_to_it(shell: Shell, place: Place) -> None:
    """More than one request carries, but not compressed; then a job of ours brings the rest."""
    size = place.limits.upload + 2_000_000
    shell.run(f"head -c {size} < <(yes 'a line of a log, much like all others') > log")
    shell.sync()
    assert place.stat("log").size == size
    before = place.stat("log").ino
    shell.refresh()
    shell.run("echo and more >> log")
    shell.sync()
    after = place.stat("log")
    assert (after.size, after.ino) == (size + 9, before)
    shell.refresh()
    assert shell.run("tail -c 9 log") == "and more\n"
    assert place.names() == ["log"]


def test_overwriting_keeps_the_file(shell: Shell, place: Place) -> None:
    place.put("file", b"old")
    place.client.chmod(place.system, place / "file", 0o604)
    before = place.stat("file")
    shell.run("echo new > file; sync file")
    shell.sync()
    after = place.stat("file")
    assert (after.ino, after.mode, place.get("file")) == (before.ino, 0o604, b"new\n")


def test_sed_in_place(shell: Shell, place: Place) -> None:
    place.put("input.toml", b"steps = 100\n")
    shell.run("sed -i 's/100/1000/' input.toml; cat input.toml")
    shell.sync()
    assert place.get("input.toml") == b"steps = 1000\n"
    assert place.names() == ["input.toml"]


# -- names ----------------------------------------------------------------------------------------


def test_rename_of_stored_files(shell: Shell, place: Place) -> None:
    place.put("a", b"content of a")
    place.put("b", b"content of b")
    place.mkdir("dir")
    inode = place.stat("a").ino
    shell.run("mv a moved; mv moved b; mv b dir/")
    assert shell.run("cat dir/b; ls") == "content of adir\n"
    shell.sync()
    assert place.names() == ["dir"]
    assert place.names("dir") == ["b"]
    assert (place.get("dir/b"), place.stat("dir/b").ino) == (b"content of a", inode)
    assert shell.run("cat dir/b") == "content of a"


def test_rename_of_directories(shell: Shell, place: Place) -> None:
    place.plant(member("dir/x", b"x"), member("dir/sub/y", b"y"))
    shell.run("mv dir moved")
    shell.sync()
    assert place.names() == ["moved"]
    assert (place.get("moved/x"), place.get("moved/sub/y")) == (b"x", b"y")


def test_unlink_while_open(shell: Shell, place: Place) -> None:
    place.put("file", b"content")
    assert shell.run("exec 3<file; rm file; ls -A; cat <&3; exec 3<&-; ls -A") == "content"
    shell.sync()
    assert place.wait(lambda: place.names() == [])


def test_unlink_while_written(shell: Shell, place: Place) -> None:
    place.put("file", b"content")
    assert shell.run("exec 3<>file; rm file; ls -A; cat <&3; echo more >&3") == "content"
    # The kernel tells of a descriptor's end a moment after it.
    assert wait_for(lambda: not os.listdir(shell.path))
    shell.sync()
    assert place.wait(lambda: place.names() == [])


def test_symlinks(shell: Shell, place: Place) -> None:
    place.put("file", b"content")
    place.mkdir("dir")
    shell.run('ln -s file rel; ln -s ../nowhere dangling; ln -s "$PWD/dir" abs; ln -s dir d')
    shell.sync()
    assert place.client.readlink(place.system, place / "rel") == "file"
    assert place.client.readlink(place.system, place / "dangling") == "../nowhere"
    assert shell.run("cat rel; readlink rel dangling d; test -d abs && echo yes") == (
        "contentfile\n../nowhere\ndir\nyes\n"
    )
    shell.fails("ln -s x rel")
    shell.refresh()
    assert shell.run("cat rel; readlink rel; test -d d && echo yes") == "contentfile\nyes\n"
    shell.run("rm rel dangling abs d")
    shell.sync()
    assert place.names() == ["dir", "file"]


def test_links_that_others_made(shell: Shell, place: Place) -> None:
    place.put("file", b"content")
    place.client.symlink(place.system, place / "file", place / "absolute")
    assert shell.run("cat absolute") == "content"
    assert not shell.run("readlink absolute").startswith("/")


def test_hard_links(shell: Shell, place: Place) -> None:
    place.put("file", b"content")
    shell.run("ln file link")
    shell.sync()
    assert place.stat("link").ino == place.stat("file").ino


def test_many_hard_links(shell: Shell, place: Place) -> None:
    shell.run("mkdir a b; for n in $(seq 20); do echo $n > a/$n; done")
    shell.sync()
    shell.run("for n in $(seq 20); do ln a/$n b/$n; done")
    shell.sync()
    assert [place.stat(f"b/{n}").ino for n in range(1, 21)] == [
        place.stat(f"a/{n}").ino for n in range(1, 21)
    ]
    shell.run("echo anew > a/7")
    shell.sync()
    assert place.get("b/7") == b"anew\n"


def test_a_time_for_a_file_that_is_stored(shell: Shell, place: Place) -> None:
    place.put("file", b"content")
    shell.run("touch -d '2020-02-02 02:02:02.123456789 UTC' file")
    shell.sync()
    assert place.stat("file").mtime_ns // 10**9 == 1_580_608_922


def test_directories(shell: Shell, place: Place) -> None:
    shell.run("mkdir -p a/b/c; rmdir a/b/c")
    shell.sync()
    assert place.names("a") == ["b"]
    assert "not empty" in shell.fails("rmdir a").lower()
    assert "exists" in shell.fails("mkdir a").lower()
    assert "no such" in shell.fails("rmdir nope").lower()


def test_rm_rf(shell: Shell, place: Place) -> None:
    place.plant(*(member(f"tree/d{n}/.h/f{m}", b"x") for n in range(4) for m in range(10)))
    place.put("kept", b"x")
    shell.run("rm -rf tree")
    shell.sync()
    assert place.names() == ["kept"]


def test_a_tree_of_odd_names(shell: Shell, place: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    names = ["a b", "ü", "日本", 'quo"te', "back\\slash", "new\nline", "#x", "$HOME", "a:b", "-rf"]
    if place.features.version == "1":
        names = ["ü", "日本", "a b", "#x", "a:b", "-rf"]
    for name in names:
        (tree / name / "sub").mkdir(parents=True)
        (tree / name / "sub" / name).write_bytes(name.encode())
    shell.run('cp -r "$TREE" .; diff -r "$TREE" tree', TREE=tree)
    shell.sync()
    assert place.names("tree") == sorted(names)
    for name in names:
        assert place.get(f"tree/{name}/sub/{name}") == name.encode()
    shell.refresh()
    shell.run('diff -r "$TREE" tree; rm -rf tree', TREE=tree)
    shell.sync()
    assert place.names() == []


def test_cp_a_of_many_small_files(shell: Shell, place: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for number in range(120):
        path = tree / f"d{number % 5}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(number * 40))
        path.chmod(0o644 if number % 3 else 0o755)
        os.utime(path, (SUMMER + number, SUMMER + number))
    shell.run('cp -a "$TREE" .', TREE=tree)
    shell.sync()
    for number in range(0, 120, 17):
        found = place.stat(f"tree/d{number % 5}/f{number}")
        assert (found.size, found.mtime_ns) == (number * 40, (SUMMER + number) * SECOND)
        assert found.mode == (0o644 if number % 3 else 0o755)
    shell.refresh()
    changed = shell.run('rsync -ai "$TREE/" tree/ | grep ^[\\<\\>] || true', TREE=tree)
    assert changed == ""
    shell.run('diff -r "$TREE" tree', TREE=tree)


def test_permissions(shell: Shell, place: Place) -> None:
    place.put("closed", b"x")
    place.client.chmod(place.system, place / "closed", 0)
    if os.getuid():
        assert "permission denied" in shell.fails("cat closed").lower()
    assert "not permitted" in shell.fails("chown 1 closed").lower()
    shell.run("rm -f closed")
    shell.sync()
    assert place.names() == []


# -- with others ----------------------------------------------------------------------------------


def test_tail_f(shell: Shell, place: Place) -> None:
    place.put("log", b"one\n")
    process = shell.start("exec tail -n +1 -s 0.3 -f log")
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"one\n"
        place.put("log", b"one\ntwo\n")
        assert process.stdout.readline() == b"two\n"
        place.put("log", b"one\ntwo\nthree\n")
        assert process.stdout.readline() == b"three\n"
    finally:
        process.terminate()
        process.communicate(timeout=20)


def test_conflict(shell: Shell, place: Place) -> None:
    place.put("file", b"base\n")
    assert shell.run("cat file") == "base\n"
    place.put("file", b"theirs, and longer\n")
    shell.run("exec 3>>file; echo ours >&3; exec 3>&-")
    with contextlib.suppress(AssertionError):
        shell.sync()
    copies = [name for name in place.names() if ".conflict-" in name]
    assert place.get("file") == b"theirs, and longer\n"
    assert [place.get(name) for name in copies] == [b"base\nours\n"]
    assert "conflict" in shell.errors() or "changed on the cluster" in shell.errors()


# -- jobs -----------------------------------------------------------------------------------------


def test_a_script_is_submitted(shell: Shell, place: Place, tmp_path: Path) -> None:
    account = f"#SBATCH --account={ACCOUNT}\n" if ACCOUNT else ""
    script = f"#!/bin/bash\n{account}cat input\ncat input > result\nsleep 1\n"
    (tmp_path / "run.sh").write_text(script)
    shell.run('echo fresh > input; cp "$RUN" .jobs/', RUN=tmp_path / "run.sh")
    job_id = shell.run("cat .jobs/run.sh.jobid").strip()
    assert re.fullmatch(r"\w[\w.\[\]-]*", job_id)
    assert job_id in shell.run("cat .jobs/queue") or place.job(job_id).ended
    # What a job wrote is seen as soon as its end is.
    assert shell.run(f"cat .jobs/{job_id}/wait && cat result") == "COMPLETED 0\nfresh\n"
    assert place.job(job_id).state == "COMPLETED"
    (output,) = [name for name in place.names() if name not in ("input", "result")]
    shell.refresh()
    assert shell.run('cat "$OUTPUT"', OUTPUT=output) == "fresh\n"


def test_a_script_that_is_refused(shell: Shell, place: Place, tmp_path: Path) -> None:
    (tmp_path / "bad.sh").write_text("#!/bin/bash\n#SBATCH --partition=no-such-partition\ntrue\n")
    (tmp_path / "none.sh").write_text("true\n")
    shell.fails('cp "$RUN" .jobs/', RUN=tmp_path / "bad.sh")
    assert "partition" in shell.run("cat .jobs/bad.sh.error").lower()
    shell.fails('cp "$RUN" .jobs/', RUN=tmp_path / "none.sh")
    assert "#!" in shell.run("cat .jobs/none.sh.error")


# -- the command line -----------------------------------------------------------------------------


def test_states(shell: Shell, place: Place) -> None:
    place.put("file", b"x")
    state = "getfattr --only-values -n user.firecrest.state"
    assert shell.run(f"{state} file") == "remote"
    shell.run("cat file > /dev/null; echo new > mine")
    assert shell.run(f"{state} file") == "cached"
    assert shell.run(f"{state} mine") in ("dirty", "storing")
    shell.sync()
    assert shell.run(f"{state} mine") == "cached"
    path = shell.run("getfattr --only-values -n user.firecrest.path mine")
    assert path.endswith(place / "mine")


def test_status(shell: Shell, place: Place) -> None:
    shell.run("echo new > mine")
    shell.sync()
    done = shell.mounted.cli("status", shell.mounted.path, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0
    assert found["pending"] == []
    assert place.system in json.dumps(found["systems"])


def test_unmounting_stores_everything(top: Place, place: Place, tmp_path: Path) -> None:
    with live_mount(tmp_path) as mounted:
        directory = Path(f"{mounted.path}/{place.system}{place.path}")
        with mounted.watching(100):
            for number in range(10):
                (directory / f"f{number}").write_bytes(b"x" * number)
        done = mounted.cli("umount", mounted.path, timeout=100)
        assert done.returncode == 0, done.stderr
        assert mounted_type(mounted.path) is None
    assert [place.stat(f"f{number}").size for number in range(10)] == list(range(10))


def test_a_killed_mount_stores_after_the_next_mount(place: Place, tmp_path: Path) -> None:
    with live_mount(tmp_path) as mounted:
        directory = Path(f"{mounted.path}/{place.system}{place.path}")
        with mounted.watching(60):
            (directory / "file").write_bytes(b"closed, not stored")
        mounted.kill()
        assert mounted.mount().returncode == 0
        with mounted.watching(100):
            assert (directory / "file").read_bytes() == b"closed, not stored"
            done = mounted.cli("sync", mounted.path, timeout=80)
            assert done.returncode == 0, done.stderr
    assert place.get("file") == b"closed, not stored"
    assert place.stat("file").kind is Kind.FILE


def test_doctor(mounted: Mounted) -> None:
    done = mounted.cli("doctor")
    assert done.returncode == 0, done.stdout
    assert "FAIL" not in done.stdout
