"""What users do while the cluster is told of what they did before; and what fails just then.

One request is held on the server, before or after its work. Meanwhile something is done to the same
names; then the request goes on, or fails, or its answer gets lost. In the end the cluster has what
a plain directory has to which the same was done, and the mount shows it, all the time.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from firecrestfs.transfer import writeback

from ..harness import Server, wait_for
from .deeds import FIRST, MEANWHILE, OLD, plant
from .drivers import Driver, KernelDriver, mode_of
from .held import Hold, install
from .sites import Site, Sites

DROPPED = {"kind": "drop"}
BUSY = {"kind": "status", "status": 503}
LOST = {"kind": "lost_answer"}
LATE = {"kind": "late_status", "status": 408}
#: Refused, for what the mount can tell for good. What was done before may be taken back then.
REFUSED = {"kind": "status", "status": 500, "body": "no"}

#: What has gone wrong once: what is landing, what is done meanwhile, the request that is held (like
#: which endpoint, after how many, after its work), what happens to it then.
Case = tuple[str, str, str, int, bool, Mapping[str, Any] | None]
CASES: list[Case] = [
    # All the mount's files were shown below the old name of what was unlinked.
    ("renamed", "unlink", "ops/stat", 1, False, REFUSED),
    # One of two that swap names stayed hidden under the name to which it had stepped aside.
    ("swapped", "nothing", "ops/stat", 12, False, REFUSED),
    ("swapped", "chmod", "ops/stat", 5, False, REFUSED),
    # Below a directory whose rename had no answer yet, names were looked for where it had been.
    ("in a renamed directory", "unlink and mkdir", "ops/stat", 4, True, LATE),
    ("in a renamed directory", "save over it", "jobs/get", 1, True, LATE),
    ("new in a renamed directory", "rename over it", "ops/stat", 1, False, LATE),
    # Two waited for each other for ever.
    ("renamed directory", "swap", "ops/stat", 4, True, LATE),
    ("edited and renamed over", "swap", "ops/stat", 3, False, BUSY),
    # What had been renamed over waited for ever for what had its old name again.
    ("renamed over", "rename to its old name", "ops/stat", 1, True, LATE),
    # A name that was gone was still listed.
    ("renamed and appended to", "old name again, over it", "ops/stat", 2, True, LATE),
    # A tree that was removed while it landed stayed, for what had landed.
    ("tree", "remove all above and make", "ops/ls", 0, True, None),
    # What was saved over one of two names went into the other as well.
    ("linked", "unlink and make", "ops/stat", 2, False, None),
    ("linked and saved", "nothing", "ops/stat", 0, True, LOST),
    ("one of two names saved", "nothing", "ops/rm", 0, True, LOST),
    ("one of two names saved", "nothing", "ops/upload", 0, False, BUSY),
]
#: How many of all combinations are tried besides, always the same.
SOME = 24
_LEFT_OUT = {
    # The kernel refuses to rename a directory into itself, or over one that it is in.
    ("renamed directory", "into a new directory"),
    ("new in a renamed directory", "rename to its old name"),
}


def drawn() -> list[Case]:
    """Return some of all combinations."""
    chance = random.Random(7)
    found: list[Case] = []
    while len(found) < SOME:
        first, then = chance.choice(list(FIRST)), chance.choice(list(MEANWHILE))
        after = chance.random() < 0.5
        fault = chance.choice([None, LOST, LATE] if after else [None, DROPPED, BUSY, LATE])
        if (first, then) not in _LEFT_OUT:
            found.append((first, then, "*", chance.randrange(8), after, fault))
    return found


@pytest.fixture(scope="session", params=["vfs"])
def kind(request: pytest.FixtureRequest) -> str:
    """No kernel takes part in this."""
    return str(request.param)


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that stores at once."""
    return sites.site(kind, write_back=0.02)


@pytest.fixture
def plain(tmp_path: Path) -> KernelDriver:
    """The plain directory to which the same is done."""
    return KernelDriver(tmp_path)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch, server: Server) -> Iterator[Callable[..., Hold]]:
    """Let one request be held; nobody waits long for another try."""
    monkeypatch.setattr(writeback, "_FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(writeback, "_BLOCKED_S", 0.05)
    server.set(queue_seconds=0.01, command_seconds=1.0)
    holds: list[Hold] = []

    def hold(*arguments: Any) -> Hold:
        holds.append(Hold(*arguments))
        install(holds[-1], monkeypatch)
        return holds[-1]

    yield hold
    for each in holds:
        each.end()


@pytest.mark.parametrize("case", [*CASES, *drawn()], ids=lambda case: "-".join(map(str, case[:5])))
def test_meanwhile(
    fs: Driver, there: Path, plain: KernelDriver, held: Callable[..., Hold], case: Case
) -> None:
    first, then, match, skip, after, fault = case
    act, subject, other = FIRST[first]
    for top in (there, plain.mountpoint):
        plant(top)
    fs.refresh()
    tree_of(fs)
    hold = held(match, skip, after, fault)
    assert outcome(lambda: act(fs)) == outcome(lambda: act(plain))
    landing = begun(fs.sync)
    while landing.is_alive() and not hold.reached.wait(0.02):
        pass
    results: list[object] = []
    meanwhile = MEANWHILE[then]
    doing = begun(lambda: results.append(outcome(lambda: meanwhile(fs, subject, other))))
    expected = outcome(lambda: meanwhile(plain, subject, other))
    # It may wait for what is held.
    doing.join(0.2)
    if hold.reached.is_set() and not doing.is_alive():
        looking = begun(lambda: results.append(tree_of(fs)))
        looking.join(0.2)
        hold.go.set()
        looking.join(20)
        if first not in ("linked", "one of two names saved"):
            # By other names of a file its changes show once the listing is asked for again.
            assert results[1:] == [tree_of(plain)]
    hold.go.set()
    for each in (doing, landing):
        each.join(20)
        assert not each.is_alive()
    hold.end()
    assert results[0] == expected
    fs.land()
    assert tree_of(KernelDriver(there)) == tree_of(plain)
    fs.refresh()
    assert tree_of(fs) == tree_of(plain)
    assert names_of_files(KernelDriver(there)) == names_of_files(plain)
    if fault is not REFUSED:
        assert fs.errors() == []


def test_the_last_name_is_not_removed_where_its_other_was_refused(
    fs: Driver, there: Path, held: Callable[..., Hold]
) -> None:
    """`ln a b; rm a` while the cluster says no to the link: nothing is left but `a`."""
    (there / "a").write_bytes(b"content")
    fs.listdir()
    hold = held("ops/stat", 0, False, REFUSED)
    fs.link("a", "b")
    landing = begun(fs.sync)
    assert hold.reached.wait(20)
    results: list[str] = []
    removing = begun(lambda: results.append(outcome(lambda: fs.unlink("a"))))
    removing.join(0.2)
    hold.end()
    for each in (removing, landing):
        each.join(20)
    assert results == ["EIO"]
    fs.land()
    assert fs.listdir() == os.listdir(there) == ["a"]
    assert any("not linked" in line for line in fs.errors())


@pytest.mark.parametrize(
    ("first", "then", "match"),
    [
        ("new", "rename", "ops/upload"),
        ("new", "rename and make", "ops/upload"),
        ("empty", "rename", "ops/extract"),
        ("directory", "rename", "ops/*"),
        ("symlink", "rename", "ops/*"),
        ("renamed", "rename", "ops/extract"),
        ("renamed", "rename to its old name", "ops/extract"),
        ("renamed", "unlink", "ops/extract"),
    ],
)
def test_a_name_given_up_while_it_lands_is_not_shown_again(
    fs: Driver,
    there: Path,
    plain: KernelDriver,
    held: Callable[..., Hold],
    first: str,
    then: str,
    match: str,
) -> None:
    """Somebody lists the directory anew when the cluster has it there and has not yet said so."""
    act, subject, other = FIRST[first]
    for top in (there, plain.mountpoint):
        plant(top)
    tree_of(fs)
    hold = held(match, 0, True)
    for each in (fs, plain):
        act(each)
    landing = begun(fs.sync)
    while not (there / subject).is_symlink() and not (there / subject).exists():
        assert landing.is_alive()
        landing.join(0.02)
    assert hold.reached.wait(20)
    for each in (fs, plain):
        MEANWHILE[then](each, subject, other)
    fs.refresh()
    try:
        assert tree_of(fs) == tree_of(plain)
    finally:
        hold.end()
        landing.join(20)
    fs.land()
    fs.refresh()
    assert tree_of(KernelDriver(there)) == tree_of(fs) == tree_of(plain)


def test_who_waits_for_a_rename_waits_until_it_is_heard_of(
    fs: Driver, there: Path, held: Callable[..., Hold]
) -> None:
    """The directory has its new name on the cluster, and the question for that goes unanswered."""
    plant(there)
    tree_of(fs)
    hold = held("jobs/get", 0, False, LATE)
    fs.rename("w/d", "w/n")
    landing = begun(fs.sync)
    assert hold.reached.wait(20)
    assert wait_for((there / "w/n").exists)
    fs.refresh()
    found: list[object] = []
    looking = begun(lambda: found.append(outcome(lambda: found.append(sorted(fs.listdir("w/n"))))))
    looking.join(0.3)
    hold.go.set()
    for each in (looking, landing):
        each.join(20)
    assert found == [["x", "y", "z"], "done"]


def test_a_job_of_which_nobody_heard_runs_late(
    fs: Driver, there: Path, server: Server, held: Callable[..., Hold]
) -> None:
    """It renames a directory that has got yet another name here, and is to have that."""
    plant(there)
    tree_of(fs)
    hold = held("transfer/mv", 0, True, LOST)
    server.set(queue_seconds=1.0)
    fs.rename("w/d", "w/n")
    landing = begun(fs.sync)
    assert hold.reached.wait(20)
    fs.rename("w/n", "w/z")
    hold.end()
    landing.join(20)
    fs.land()
    assert not (there / "w/d").exists()
    assert not (there / "w/n").exists()
    assert sorted(os.listdir(there / "w/z")) == sorted(fs.listdir("w/z")) == ["x", "y", "z"]
    assert fs.errors() == []


@pytest.mark.parametrize("then", ["rename back", "remove"])
def test_a_job_of_which_nobody_heard_is_not_wanted_any_more(
    fs: Driver, there: Path, server: Server, held: Callable[..., Hold], then: str
) -> None:
    """It would rename, when its turn comes, what has its old name again: it is cancelled."""
    plant(there)
    tree_of(fs)
    hold = held("transfer/mv", 0, True, LOST)
    server.set(queue_seconds=3.0)
    fs.rename("w/d", "w/n")
    landing = begun(fs.sync)
    assert hold.reached.wait(20)
    if then == "rename back":
        fs.rename("w/n", "w/d")
    else:
        for name in ("x", "y", "z"):
            fs.unlink(f"w/n/{name}")
        fs.rmdir("w/n")
        fs.mkdir("w/d")
        fs.write_file("w/d/new", b"new")
    hold.end()
    landing.join(20)
    fs.land()
    expected = ["x", "y", "z"] if then == "rename back" else ["new"]
    assert not wait_for((there / "w/n").exists, 4.0)
    assert sorted(os.listdir(there / "w/d")) == sorted(fs.listdir("w/d")) == expected
    assert fs.errors() == []


def begun(act: Callable[[], object]) -> threading.Thread:
    """Run *act* on another thread."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    return thread


def outcome(act: Callable[[], object]) -> str:
    """Return what a program is told."""
    try:
        act()
    except OSError as exc:
        return errno.errorcode.get(exc.errno or 0, str(exc))
    return "done"


def tree_of(fs: Driver, top: str = "") -> dict[str, tuple[Any, ...]]:
    """Return all that is shown: kinds, modes, contents, texts of links, times that were given."""
    found: dict[str, tuple[Any, ...]] = {}
    for name in sorted(fs.listdir(top)):
        path = f"{top}/{name}".lstrip("/")
        status = fs.lstat(path)
        if stat.S_ISLNK(status.st_mode):
            found[path] = ("link", fs.readlink(path))
        elif stat.S_ISDIR(status.st_mode):
            found[path] = ("directory", mode_of(status))
            found |= tree_of(fs, path)
        else:
            given = status.st_mtime_ns == OLD
            found[path] = ("file", mode_of(status), fs.read_file(path), given)
    return found


def names_of_files(fs: KernelDriver) -> dict[str, int]:
    """Return how many names each file has."""
    return {
        path: os.stat(fs.path(path)).st_nlink
        for path, each in tree_of(fs).items()
        if each[0] == "file"
    }
