"""Removals on the cluster: what was seen goes, in few requests; what was not seen stays."""

from __future__ import annotations

import errno
import os

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.errors import is_transient
from firecrestfs.model import Attr, Kind
from firecrestfs.transfer.engine import TransferEngine, digest_of
from firecrestfs.transfer.removing import Remover, Unlinked

from .storing import counts
from .tools import Remote

FILES = ["t/a", "t/in/b", "t/in/deep/c", "t/in/deep/d"]
DIRECTORIES = ["t", "t/in", "t/in/deep", "t/none"]


@pytest.fixture
def remover(client: TypedClient, engine: TransferEngine) -> Remover:
    return Remover(client, "cluster", engine, lambda path: path.endswith("/.fcfs-ours.tar"))


@pytest.fixture
def tree(there: Remote) -> Remote:
    """A tree with files in it and a link, and a file beside it."""
    for name in DIRECTORIES:
        (there.local / name).mkdir()
    for name in FILES:
        (there.local / name).write_text(name)
    (there.local / "t/link").symlink_to("../beside")
    (there.local / "beside").write_text("stays")
    return there


def seen(client: TypedClient, there: Remote, *names: str) -> list[Unlinked]:
    """Return *names* as the mount knows and removes them: by listings."""
    found = []
    for name in names:
        path = there / name
        listed = {each.name: each.attr for each in client.list("cluster", path.rpartition("/")[0])}
        attr: Attr = listed[path.rpartition("/")[2]]
        found.append(Unlinked(path, attr.kind, attr))
    return found


def all_of(client: TypedClient, there: Remote) -> list[Unlinked]:
    return seen(client, there, *DIRECTORIES, *FILES, "t/link")


def codes(results: dict[str, OSError | None], there: Remote) -> dict[str, int | None]:
    """Return the errnos of those that stayed, by name."""
    return {
        path.removeprefix(there.path + "/"): failure.errno
        for path, failure in results.items()
        if failure is not None
    }


# -- trees ---------------------------------------------------------------------------------------


def test_a_tree_is_looked_at_and_removed_in_two_requests(
    remover: Remover, client: TypedClient, tree: Remote, emulator: Emulator
) -> None:
    wanted = all_of(client, tree)
    counts(emulator)
    results = remover.remove(wanted)
    assert results == dict.fromkeys(each.path for each in wanted)
    assert tree.names() == ["beside"]
    assert sum(counts(emulator).values()) == 2


def test_what_is_left_of_ours_goes_with_its_directory(
    remover: Remover, client: TypedClient, tree: Remote
) -> None:
    (tree.local / "t/in/.fcfs-ours.tar").write_text("an archive of this mount")
    results = remover.remove(all_of(client, tree))
    assert set(results.values()) == {None}
    assert tree.names() == ["beside"]


def test_what_another_mount_is_using_stays(
    remover: Remover, client: TypedClient, tree: Remote
) -> None:
    (tree.local / "t/in/.fcfs-theirs.tar").write_text("an archive of another mount")
    results = remover.remove(all_of(client, tree))
    assert codes(results, tree) == {"t": errno.ENOTEMPTY, "t/in": errno.ENOTEMPTY}
    assert os.listdir(tree.local / "t/in") == [".fcfs-theirs.tar"]


@pytest.mark.parametrize("what", ["file", "directory", "link", "deep"])
def test_a_stranger_in_a_tree_keeps_what_is_above_it(
    remover: Remover, client: TypedClient, tree: Remote, what: str
) -> None:
    wanted = all_of(client, tree)
    stranger = tree.local / ("t/in/deep/new" if what == "deep" else "t/in/new")
    match what:
        case "directory":
            stranger.mkdir()
        case "link":
            stranger.symlink_to("/")
        case _:
            stranger.write_text("theirs")
    results = remover.remove(wanted)
    kept = ["t", "t/in", *(["t/in/deep"] if what == "deep" else [])]
    assert codes(results, tree) == dict.fromkeys(kept, errno.ENOTEMPTY)
    left = sorted(str(each.relative_to(tree.local)) for each in tree.local.rglob("*"))
    assert left == sorted(["beside", *kept, str(stranger.relative_to(tree.local))])


def test_a_file_that_changed_in_a_tree_stays(
    remover: Remover, client: TypedClient, tree: Remote
) -> None:
    wanted = all_of(client, tree)
    (tree.local / "t/in/b").write_text("somebody's work")
    results = remover.remove(wanted)
    assert codes(results, tree) == {
        "t": errno.ENOTEMPTY,
        "t/in": errno.ENOTEMPTY,
        "t/in/b": errno.ESTALE,
    }
    assert sorted(os.listdir(tree.local / "t")) == ["in"]
    assert (tree.local / "t/in/b").read_text() == "somebody's work"


@pytest.mark.parametrize("was", ["t/in/b", "t/in/deep", "t/link"])
def test_what_has_become_something_else_stays(
    remover: Remover, client: TypedClient, tree: Remote, was: str
) -> None:
    """A file that is a directory now is not `rm -r`'s, nor the other way round."""
    wanted = all_of(client, tree)
    place = tree.local / was
    if place.is_dir():
        place.rename(tree.local / "moved")
        place.write_text("theirs")
    else:
        place.unlink()
        place.mkdir()
        (place / "theirs").write_text("x")
    results = remover.remove(wanted)
    failed = codes(results, tree)
    assert was in failed
    assert "t" in failed
    assert (place / "theirs").exists() or place.read_text() == "theirs"


def test_what_is_gone_already_is_fine(remover: Remover, client: TypedClient, tree: Remote) -> None:
    wanted = all_of(client, tree)
    (tree.local / "t/a").unlink()
    (tree.local / "t/none").rmdir()
    assert codes(remover.remove(wanted), tree) == {}
    assert codes(remover.remove(wanted), tree) == {}
    assert tree.names() == ["beside"]


def test_a_link_in_a_tree_leads_nobody_out_of_it(
    remover: Remover, client: TypedClient, tree: Remote
) -> None:
    (tree.local / "elsewhere").mkdir()
    (tree.local / "elsewhere/precious").write_text("x")
    (tree.local / "t/out").symlink_to("../elsewhere")
    wanted = [*all_of(client, tree), *seen(client, tree, "t/out")]
    assert codes(remover.remove(wanted), tree) == {}
    assert os.listdir(tree.local / "elsewhere") == ["precious"]


def test_a_directory_that_is_a_link_now_is_not_entered(
    remover: Remover, client: TypedClient, tree: Remote
) -> None:
    wanted = all_of(client, tree)
    (tree.local / "t").rename(tree.local / "renamed")
    (tree.local / "t").symlink_to("renamed")
    results = remover.remove(wanted)
    assert set(codes(results, tree).values()) == {errno.ENOTDIR}
    assert all(results.values())
    assert all((tree.local / name.replace("t/", "renamed/", 1)).exists() for name in FILES)
    assert (tree.local / "t").is_symlink()


@pytest.mark.parametrize("stranger", [False, True])
def test_a_tree_too_large_to_list_goes_by_steps(
    remover: Remover, client: TypedClient, tree: Remote, emulator: Emulator, stranger: bool
) -> None:
    wanted = all_of(client, tree)
    if stranger:
        (tree.local / "t/in/deep/new").write_text("theirs")
    emulator.faults.add("status", "ops/ls", status=408, count=1)
    failed = codes(remover.remove(wanted), tree)
    if stranger:
        assert set(failed) == {"t", "t/in", "t/in/deep"}
        assert (tree.local / "t/in/deep/new").read_text() == "theirs"
        assert not (tree.local / "t/a").exists()
    else:
        assert failed == {}
        assert tree.names() == ["beside"]


def test_what_will_go_later_keeps_what_is_above_it_for_later(
    remover: Remover, client: TypedClient, tree: Remote, emulator: Emulator
) -> None:
    """Else `rm -rf` of a large tree would leave empty directories, shown again one by one."""
    wanted = all_of(client, tree)
    emulator.faults.add("status", "ops/ls", status=408, count=2)
    results = remover.remove(wanted)
    waiting = [tree / name for name in ("t", "t/in", "t/in/deep")]
    assert {path for path, each in results.items() if each is not None} == set(waiting)
    for path in waiting:
        failure = results[path]
        assert failure is not None
        assert is_transient(failure)
    assert codes(remover.remove(wanted), tree) == {}
    assert tree.names() == ["beside"]


def test_a_server_that_is_away_is_a_transient_failure_of_all(
    remover: Remover, client: TypedClient, tree: Remote, emulator: Emulator
) -> None:
    wanted = all_of(client, tree)
    emulator.faults.add("drop", "ops/ls", count=-1)
    results = remover.remove(wanted)
    assert set(results) == {each.path for each in wanted}
    assert all(each is not None and is_transient(each) for each in results.values())
    assert sorted(os.listdir(tree.local / "t")) == ["a", "in", "link", "none"]


@pytest.mark.parametrize("fault", ["lost_answer", "late_status", "drop", "status"])
def test_a_lost_answer_to_the_removal_is_settled(
    remover: Remover, client: TypedClient, tree: Remote, emulator: Emulator, fault: str
) -> None:
    wanted = all_of(client, tree)
    emulator.faults.add(fault, "ops/rm", status=504, count=1)
    results = remover.remove(wanted)
    if codes(results, tree):
        assert codes(remover.remove(wanted), tree) == {}
    assert tree.names() == ["beside"]


def test_two_trees_and_a_file_have_results_of_their_own(
    remover: Remover, client: TypedClient, there: Remote
) -> None:
    for name in ("a", "b"):
        (there.local / name).mkdir()
    (there.local / "f").write_text("x")
    wanted = seen(client, there, "a", "b", "f")
    (there.local / "b/new").write_text("theirs")
    assert codes(remover.remove(wanted), there) == {"b": errno.ENOTEMPTY}
    assert there.names() == ["b"]


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3, 20])
def test_files_are_proven_singly_or_by_one_listing(
    remover: Remover, client: TypedClient, there: Remote, emulator: Emulator, number: int
) -> None:
    names = [f"f{each}" for each in range(number)]
    for name in names:
        (there.local / name).write_text(name)
    (there.local / "stays").write_text("x")
    wanted = seen(client, there, *names)
    counts(emulator)
    assert codes(remover.remove(wanted), there) == {}
    assert there.names() == ["stays"]
    assert counts(emulator)["ops/rm"] == number


@pytest.mark.parametrize("number", [1, 3])
def test_a_file_that_changed_stays(
    remover: Remover, client: TypedClient, there: Remote, number: int
) -> None:
    names = [f"f{each}" for each in range(number)]
    for name in names:
        (there.local / name).write_text("x")
    wanted = seen(client, there, *names)
    (there.local / "f0").write_text("theirs")
    assert codes(remover.remove(wanted), there) == {"f0": errno.ESTALE}
    assert there.names() == ["f0"]


def test_a_link_is_removed_and_not_what_it_leads_to(
    remover: Remover, client: TypedClient, there: Remote
) -> None:
    (there.local / "d").mkdir()
    (there.local / "d/f").write_text("x")
    (there.local / "link").symlink_to("d")
    assert codes(remover.remove(seen(client, there, "link")), there) == {}
    assert there.names() == ["d"]
    assert os.listdir(there.local / "d") == ["f"]


@pytest.mark.parametrize(
    ("now", "stays"), [(b"mine", False), (b"", False), (b"MINE", True), (b"theirs", True)]
)
def test_what_a_failed_store_left_is_removed_and_nothing_else(
    remover: Remover, there: Remote, now: bytes, stays: bool
) -> None:
    """A new file whose store failed was unlinked: only our own bytes go."""
    wanted = Unlinked(there / "f", Kind.FILE, None, [(4, digest_of(b"mine"))])
    assert remover.remove([wanted]) == {there / "f": None}
    (there.local / "f").write_bytes(now)
    assert codes(remover.remove([wanted]), there) == ({"f": errno.ESTALE} if stays else {})
    assert there.names() == (["f"] if stays else [])


def test_a_store_that_was_torn_before_the_unlink_is_ours(
    remover: Remover, client: TypedClient, there: Remote
) -> None:
    """The base is no more there, but what is there came from here."""
    (there.local / "f").write_text("base")
    [known] = seen(client, there, "f")
    (there.local / "f").write_text("newer of ours")
    ours = [(13, digest_of(b"newer of ours"))]
    wanted = Unlinked(known.path, Kind.FILE, known.base, ours)
    assert codes(remover.remove([wanted]), there) == {}
    assert there.names() == []


def test_a_file_without_base_or_store_is_nobodys_to_remove(remover: Remover, there: Remote) -> None:
    (there.local / "f").write_text("theirs")
    assert codes(remover.remove([Unlinked(there / "f", Kind.FILE, None)]), there) == {
        "f": errno.ESTALE
    }
    assert there.names() == ["f"]


def test_a_refusal_is_told_for_each(remover: Remover, client: TypedClient, there: Remote) -> None:
    for name in ("f0", "f1", "f2"):
        (there.local / name).write_text("x")
    wanted = seen(client, there, "f0", "f1", "f2")
    there.local.chmod(0o500)
    try:
        failed = codes(remover.remove(wanted), there)
    finally:
        there.local.chmod(0o755)
    assert failed == dict.fromkeys(["f0", "f1", "f2"], errno.EACCES)


# -- what stores may have left ---------------------------------------------------------------------


@pytest.mark.parametrize("text", ["a target", "another's"])
def test_a_link_that_may_have_been_made_is_known_by_its_text(
    remover: Remover, there: Remote, text: str
) -> None:
    (there.local / "link").symlink_to(text)
    path = there / "link"
    results = remover.remove([Unlinked(path, Kind.SYMLINK, None, link="a target")])
    if text == "a target":
        assert (results, there.names()) == ({path: None}, [])
    else:
        assert codes(results, there) == {"link": errno.ESTALE}
        assert there.names() == ["link"]


def test_links_of_a_tree_that_may_have_been_made(remover: Remover, there: Remote) -> None:
    (there.local / "t").mkdir()
    (there.local / "t/link").symlink_to("x")
    top = Unlinked(there / "t", Kind.DIRECTORY, None)
    results = remover.remove([top, Unlinked(there / "t/link", Kind.SYMLINK, None, link="x")])
    assert codes(results, there) == {}
    assert there.names() == []
