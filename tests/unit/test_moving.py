"""Renames on the cluster, on both versions: proven, never at the cost of the target."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from firecrestfs.api import ClientCredentialsAuth, Firecrest, TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.errors import is_transient
from firecrestfs.model import Attr, Kind
from firecrestfs.transfer.bundle import OUR_PREFIX, Bundler
from firecrestfs.transfer.engine import TransferEngine, digest_of
from firecrestfs.transfer.moving import Expected, Mover, OneFileError

from .conftest import SETTINGS, large_stores
from .storing import counts
from .tools import Remote, code_of


@pytest.fixture(scope="session")
def on_v1(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with Emulator(tmp_path_factory.mktemp("v1"), settings=SETTINGS, api="v1") as emulator:
        yield emulator


@pytest.fixture(params=["v1", "v2"])
def emulator(request: pytest.FixtureRequest, emulator: Emulator) -> Iterator[Emulator]:
    """One of each version; the jobs of both start at once."""
    chosen: Emulator = request.getfixturevalue("on_v1") if request.param == "v1" else emulator
    before = chosen.knobs.as_dict()
    chosen.knobs.put("queue_seconds", 0.05)
    yield chosen
    for name, value in before.items():
        chosen.knobs.put(name, value)
    chosen.faults.clear()
    assert chosen.alarms == []


@pytest.fixture
def client(emulator: Emulator) -> TypedClient:
    auth = ClientCredentialsAuth(emulator.client_id, emulator.client_secret, emulator.token_url)
    client = TypedClient(Firecrest(emulator.url, auth))
    client.systems()
    return client


class Moves:
    """A mover, and what it noted as begun."""

    def __init__(self, client: TypedClient, there: Remote, directory: Path) -> None:
        user, features = client.userinfo("cluster"), client.features("cluster")
        self.bundler = Bundler(client, "cluster")
        system = client.system("cluster")
        large = large_stores(client, directory)
        engine = TransferEngine(client, system, user, self.bundler, features, large)
        self.mover = Mover(client, "cluster", self.bundler, engine, features)
        self.client, self.there = client, there
        self.begun: list[Attr] = []
        self.sent: list[tuple[int, str]] = []

    def stat(self, name: str) -> Attr:
        return self.client.stat("cluster", self.there / name)

    def move(
        self,
        old: str,
        new: str,
        kind: Kind = Kind.FILE,
        expected: Attr | None = None,
        begun: tuple[str, int, int] | None = None,
    ) -> Attr:
        old, new = self.there / old, self.there / new
        known = None if expected is None else Expected(expected, self.sent)
        return self.mover.move(old, new, kind, known, begun, self.begun.append)

    def again(self, old: str, new: str, kind: Kind, expected: Attr | None = None) -> Attr:
        """Try again after a failure, knowing what was noted."""
        noted = self.begun[-1] if self.begun else None
        begun = (self.there / new, noted.dev, noted.ino) if noted else None
        return self.move(old, new, kind, expected, begun)


@pytest.fixture
def moves(client: TypedClient, there: Remote, emulator: Emulator, tmp_path: Path) -> Moves:
    moves = Moves(client, there, tmp_path)
    emulator.requests.clear()
    return moves


@pytest.fixture
def two(there: Remote) -> Remote:
    """A source, a directory, and a target in it."""
    (there.local / "old").write_text("source")
    (there.local / "d").mkdir()
    (there.local / "d/new").write_text("target")
    return there


# -- what can be renamed -------------------------------------------------------------------------


def test_a_file_to_a_free_name(moves: Moves, there: Remote) -> None:
    (there.local / "old").write_text("x")
    ino = (there.local / "old").stat().st_ino
    after = moves.move("old", "new")
    assert there.names() == ["new"]
    assert after.ino == ino == (there.local / "new").stat().st_ino
    assert [each.ino for each in moves.begun] == [ino]


def test_a_file_over_the_one_that_was_expected(moves: Moves, two: Remote) -> None:
    ino = (two.local / "old").stat().st_ino
    moves.move("old", "d/new", expected=moves.stat("d/new"))
    assert two.names() == ["d"]
    assert os.listdir(two.local / "d") == ["new"]
    assert (two.local / "d/new").read_text() == "source"
    assert (two.local / "d/new").stat().st_ino == ino


def test_a_link_is_moved_not_what_it_leads_to(moves: Moves, there: Remote) -> None:
    (there.local / "f").write_text("x")
    (there.local / "old").symlink_to("f")
    moves.move("old", "new", Kind.SYMLINK)
    assert there.names() == ["f", "new"]
    assert os.readlink(there.local / "new") == "f"


def test_a_directory_with_all_that_is_in_it(moves: Moves, there: Remote) -> None:
    (there.local / "old/in").mkdir(parents=True)
    (there.local / "old/in/f").write_text("x")
    ino = (there.local / "old").stat().st_ino
    after = moves.move("old", "new", Kind.DIRECTORY)
    assert there.names() == ["new"]
    assert (there.local / "new/in/f").read_text() == "x"
    assert (after.kind, after.ino) == (Kind.DIRECTORY, ino)


@pytest.mark.parametrize("name", ["with space", "a'b", "ünï", "-rf"])
def test_odd_names_of_directories_are_moved_or_known_to_be_unmovable(
    moves: Moves, there: Remote, name: str
) -> None:
    (there.local / "old").mkdir()
    try:
        movable = moves.mover.can_move_tree(there / "old", there / name)
        if movable:
            moves.move("old", name, Kind.DIRECTORY)
    except OSError as exc:
        assert exc.errno == errno.EINVAL
        movable = False
    assert there.names() == ([name] if movable else ["old"])


# -- what is refused -----------------------------------------------------------------------------


def test_nothing_there_to_rename(moves: Moves, there: Remote) -> None:
    assert code_of(moves.move, "old", "new") == errno.ENOENT
    assert moves.begun == []


@pytest.mark.parametrize("what", ["unknown", "changed", "other kind", "directory"])
def test_a_name_that_somebody_else_has_taken(moves: Moves, two: Remote, what: str) -> None:
    expected = moves.stat("d/new") if what != "unknown" else None
    place = two.local / "d/new"
    match what:
        case "changed":
            place.write_text("somebody's work")
        case "other kind":
            place.unlink()
            place.symlink_to("nowhere")
        case "directory":
            place.unlink()
            place.mkdir()
    assert code_of(moves.move, "old", "d/new", Kind.FILE, expected) == errno.EEXIST
    assert moves.begun == []
    assert two.names() == ["d", "old"]
    assert os.listdir(two.local / "d") == ["new"]
    assert (two.local / "old").read_text() == "source"
    if what in ("unknown", "changed"):
        assert place.read_text() == ("target" if what == "unknown" else "somebody's work")


@pytest.mark.parametrize("what", ["empty", "full", "file", "link"])
def test_a_directory_goes_neither_over_nor_into_something(
    moves: Moves, there: Remote, what: str
) -> None:
    """`mv` and the servers would put it inside."""
    (there.local / "old").mkdir()
    if what == "link":
        (there.local / "elsewhere").mkdir()
        (there.local / "new").symlink_to("elsewhere")
    elif what == "file":
        (there.local / "new").write_text("x")
    else:
        (there.local / "new").mkdir()
        if what == "full":
            (there.local / "new/f").touch()
    before = sorted(each.name for each in there.local.rglob("*"))
    assert code_of(moves.move, "old", "new", Kind.DIRECTORY, moves.stat("new")) == errno.EEXIST
    assert sorted(each.name for each in there.local.rglob("*")) == before


def test_what_a_store_of_ours_left_may_be_replaced(moves: Moves, two: Remote) -> None:
    """Its answer got lost, then the file was renamed over: that is no change of another's."""
    expected = moves.stat("d/new")
    (two.local / "d/new").write_text("a later one of ours")
    moves.sent = [(19, digest_of(b"a later one of ours"))]
    moves.move("old", "d/new", expected=expected)
    assert (two.local / "d/new").read_text() == "source"
    assert two.names() == ["d"]


def test_two_names_of_one_file_stay(moves: Moves, there: Remote) -> None:
    (there.local / "old").write_text("x")
    os.link(there.local / "old", there.local / "new")
    with pytest.raises(OneFileError):
        moves.move("old", "new", expected=moves.stat("new"))
    assert there.names() == ["new", "old"]
    assert moves.begun == []


# -- trouble -------------------------------------------------------------------------------------


def test_a_begun_move_that_is_done_is_done(moves: Moves, there: Remote, emulator: Emulator) -> None:
    """The mount died before it heard of it."""
    (there.local / "new").write_text("x")
    now = moves.stat("new")
    counts(emulator)
    after = moves.move("old", "new", begun=(there / "new", now.dev, now.ino))
    assert after.ino == now.ino
    assert moves.begun == []
    assert there.names() == ["new"]
    assert sum(counts(emulator).values()) <= 2


def test_a_begun_move_that_got_half_way_is_ended(moves: Moves, there: Remote) -> None:
    """Of a hard link both names are left: the old one goes."""
    (there.local / "old").write_text("x")
    os.link(there.local / "old", there.local / "new")
    now = moves.stat("new")
    after = moves.move("old", "new", begun=(there / "new", now.dev, now.ino))
    assert there.names() == ["new"]
    assert after.nlink == 1


def test_a_begun_move_that_did_nothing_is_done_now(moves: Moves, two: Remote) -> None:
    source, target = moves.stat("old"), moves.stat("d/new")
    moves.move("old", "d/new", expected=target, begun=(two / "d/new", source.dev, source.ino))
    assert (two.local / "d/new").read_text() == "source"
    assert two.names() == ["d"]


def test_a_move_that_was_begun_to_another_name_is_no_excuse(moves: Moves, two: Remote) -> None:
    """It was renamed once more before the first had landed."""
    os.link(two.local / "old", two.local / "first")
    source = moves.stat("old")
    moves.move("old", "second", begun=(two / "first", source.dev, source.ino))
    assert "second" in two.names()
    assert "old" not in two.names()


def test_a_begun_move_over_somebody_elses_file_stays_undone(moves: Moves, two: Remote) -> None:
    source, target = moves.stat("old"), moves.stat("d/new")
    (two.local / "d/new").write_text("somebody's work")
    begun = (two / "d/new", source.dev, source.ino)
    assert code_of(moves.move, "old", "d/new", Kind.FILE, target, begun) == errno.EEXIST
    assert (two.local / "d/new").read_text() == "somebody's work"


FAULTS = ["status", "late_status", "lost_answer", "drop"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", range(9))
def test_trouble_at_any_request_costs_neither_file(
    moves: Moves, two: Remote, emulator: Emulator, fault: str, after: int, count: int
) -> None:
    expected = moves.stat("d/new")
    emulator.faults.add(fault, "*", status=504, after=after, count=count)
    try:
        moves.move("old", "d/new", expected=expected)
    except OSError:
        everything = [each.read_bytes() for each in two.local.rglob("*") if each.is_file()]
        assert b"source" in everything
        assert b"target" in everything or (two.local / "d/new").read_bytes() == b"source"
    emulator.faults.clear()
    ends(moves, two, Kind.FILE, expected)
    assert (two.local / "d/new").read_text() == "source"
    moves.bundler.sweep()
    assert [name for name in os.listdir(two.local / "d") if not name.startswith(OUR_PREFIX)] == [
        "new"
    ]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", range(6))
def test_trouble_with_a_directory_ends_in_one_directory(
    moves: Moves, there: Remote, emulator: Emulator, fault: str, after: int
) -> None:
    (there.local / "old").mkdir()
    (there.local / "old/f").write_text("x")
    emulator.faults.add(fault, "*", status=504, after=after, count=1)
    try:
        moves.move("old", "new", Kind.DIRECTORY)
    except OSError:
        emulator.faults.clear()
        ends(moves, there, Kind.DIRECTORY, None, "new")
    assert there.names() == ["new"]
    assert (there.local / "new/f").read_text() == "x"


def test_a_job_that_ends_between_two_looks(
    moves: Moves, there: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told that the directory was gone, of which the new name had just been seen."""
    (there.local / "old").mkdir()
    (there.local / "old/f").write_text("x")
    moves.begun.append(moves.stat("old"))
    real = moves.client.stat

    def stat(system: str, path: str, *, follow: bool = False) -> Attr:
        found = real(system, path, follow=follow)
        if (there.local / "old").exists():
            (there.local / "old").rename(there.local / "new")
        return found

    monkeypatch.setattr(moves.client, "stat", stat)
    after = moves.again("old", "new", Kind.DIRECTORY)
    assert after.ino == moves.begun[0].ino
    assert (there.local / "new/f").read_text() == "x"


def ends(
    moves: Moves, there: Remote, kind: Kind, expected: Attr | None, new: str = "d/new"
) -> None:
    """Try again until it is done, as the queue does; a few tries must do."""
    for _ in range(4):
        try:
            moves.again("old", new, kind, expected)
            break
        except OSError as exc:
            assert is_transient(exc), exc
    assert not os.path.lexists(there.local / "old")


def test_a_refusal_leaves_both(moves: Moves, two: Remote) -> None:
    expected = moves.stat("d/new")
    (two.local / "d").chmod(0o500)
    try:
        with pytest.raises(OSError):
            moves.move("old", "d/new", expected=expected)
    finally:
        (two.local / "d").chmod(0o755)
    assert (two.local / "old").read_text() == "source"
    assert (two.local / "d/new").read_text() == "target"
    assert os.listdir(two.local / "d") == ["new"]


def test_a_hidden_name_is_beside_and_never_the_same(moves: Moves, tmp_path: Path) -> None:
    first, second = moves.mover.aside("/a/b"), moves.mover.aside("/a/b")
    assert first != second
    assert first.startswith(f"/a/{OUR_PREFIX}")
    assert moves.mover.aside("/b").startswith(f"/{OUR_PREFIX}")
