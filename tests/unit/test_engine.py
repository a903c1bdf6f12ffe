"""Which way each file goes to and from the cluster, and how it is proven to have arrived."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.emulator import Emulator
from firecrestfs.errors import ConflictError, is_transient
from firecrestfs.model import Attr, StoreItem
from firecrestfs.transfer.engine import TransferEngine, digest_of

from .storing import counts, existing, mode_of, store
from .tools import SECOND, Remote

# -- fetching ------------------------------------------------------------------------------------


def test_a_small_file_is_one_request(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    attr = existing(client, there, bytes(range(256)))
    counts(emulator)
    assert engine.fetch(there / "f", attr) == bytes(range(256))
    assert counts(emulator) == {"ops/download": 1}


def test_an_empty_file_is_none(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    attr = existing(client, there, b"")
    counts(emulator)
    assert engine.fetch(there / "f", attr) == b""
    assert counts(emulator) == {}


def test_a_file_over_the_limit_is_refused_without_a_request(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    limit = client.system("cluster").limits.download
    attr = existing(client, there, bytes(limit + 1))
    counts(emulator)
    with pytest.raises(OSError, match=f"{limit + 1:,}") as info:
        engine.fetch(there / "f", attr)
    assert info.value.errno == errno.EFBIG
    assert counts(emulator) == {}
    assert len(engine.fetch(there / "f", existing(client, there, bytes(limit)))) == limit


# -- storing one file ----------------------------------------------------------------------------


def test_a_new_file_is_one_upload(
    engine: TransferEngine, there: Remote, emulator: Emulator
) -> None:
    attr = store(engine, there / "f", b"hello", mode=0o644)
    assert (there.local / "f").read_bytes() == b"hello"
    assert (attr.size, attr.mode) == (5, 0o644)
    assert counts(emulator) == {"ops/stat": 2, "ops/upload": 1}


def test_an_overwrite_goes_in_place(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    base = existing(client, there, mode=0o600)
    os.link(there.local / "f", there.local / "other")
    base = client.stat("cluster", there / "f")
    counts(emulator)
    attr = store(engine, there / "f", b"new content", base=base)
    assert (attr.ino, attr.mode, attr.nlink) == (base.ino, 0o600, 2)
    assert (there.local / "other").read_bytes() == b"new content"
    assert counts(emulator) == {"ops/stat": 2, "ops/upload": 1}


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o700])
def test_a_strict_mode_is_never_open_for_a_moment(
    engine: TransferEngine, there: Remote, emulator: Emulator, mode: int
) -> None:
    attr = store(engine, there / "f", b"secret", mode=mode)
    assert attr.mode == mode == mode_of(there)
    found = counts(emulator)
    assert found["ops/extract"] == 1
    assert "ops/chmod" not in found


@pytest.mark.parametrize("mode", [0o755, 0o664, 0o666, 0o4755])
def test_a_wider_mode_is_given_after_the_upload(
    engine: TransferEngine, there: Remote, emulator: Emulator, mode: int
) -> None:
    attr = store(engine, there / "f", b"hello", mode=mode, exact_mode=True)
    assert attr.mode == mode == mode_of(there)
    found = counts(emulator)
    assert found["ops/chmod"] == 1
    assert "ops/extract" not in found


@pytest.mark.parametrize(("mode", "left"), [(0o664, 0o644), (0o666, 0o644), (0o646, 0o644)])
def test_a_umask_takes_from_a_new_file_without_a_request(
    engine: TransferEngine, there: Remote, emulator: Emulator, mode: int, left: int
) -> None:
    """Half of all desktops have the umask 002: a mode that nobody asked for is an upper bound."""
    attr = store(engine, there / "f", b"hello", mode=mode)
    assert attr.mode == left == mode_of(there)
    assert "ops/chmod" not in counts(emulator)


@pytest.mark.parametrize(
    ("theirs", "mode", "left"),
    [("077", 0o644, 0o600), ("077", 0o444, 0o400), ("027", 0o644, 0o640), ("007", 0o664, 0o660)],
)
def test_a_strict_umask_takes_all_of_a_class(
    engine: TransferEngine, there: Remote, emulator: Emulator, theirs: str, mode: int, left: int
) -> None:
    emulator.knobs.put("umask", theirs)
    attr = store(engine, there / "f", b"hello", mode=mode)
    assert attr.mode == left == mode_of(there)
    assert "ops/chmod" not in counts(emulator)
    assert store(engine, there / "g", b"hello", mode=mode, exact_mode=True).mode == mode


@pytest.mark.parametrize(("mode", "left"), [(0o755, 0o755), (0o777, 0o755), (0o775, 0o755)])
def test_a_new_program_can_be_run(
    engine: TransferEngine, there: Remote, mode: int, left: int
) -> None:
    """What no umask of a cluster takes is given."""
    assert store(engine, there / "f", b"hello", mode=mode).mode & left == left
    assert mode_of(there) & ~mode == 0


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o666])
def test_an_empty_file_has_the_mode_that_was_asked_for(
    engine: TransferEngine, there: Remote, mode: int
) -> None:
    assert store(engine, there / "f", b"", mode=mode, exact_mode=True).mode == mode
    assert mode_of(there) == mode


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o666])
def test_a_mode_is_inherited_exactly(
    engine: TransferEngine, client: TypedClient, there: Remote, mode: int
) -> None:
    """The file was removed meanwhile: it comes back as it was, whatever the umask says."""
    base = existing(client, there, mode=mode)
    (there.local / "f").unlink()
    assert store(engine, there / "f", b"edited", base=base).mode == mode
    assert mode_of(there) == mode


@pytest.mark.parametrize("data", [b"", b"hello"])
def test_a_time_lands_to_the_nanosecond(engine: TransferEngine, there: Remote, data: bytes) -> None:
    mtime_ns = 1_500_000_000 * SECOND + 987_654_321
    store(engine, there / "f", data, mode=0o644, mtime_ns=mtime_ns)
    assert (there.local / "f").stat().st_mtime_ns == mtime_ns


def test_an_empty_file_is_no_empty_upload(
    engine: TransferEngine, there: Remote, emulator: Emulator
) -> None:
    assert store(engine, there / "f", b"", mode=0o644).size == 0
    assert counts(emulator)["ops/extract"] == 1


@pytest.mark.parametrize("name", ['say "hi"', "two\nlines", "back\\slash", "ü", "-rf", " "])
def test_odd_names_land(engine: TransferEngine, there: Remote, name: str) -> None:
    store(engine, there / name, b"x", mode=0o644)
    assert there.names() == [name]


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o664])
@pytest.mark.parametrize("data", [b"", b"new"])
def test_an_overwrite_with_a_time_keeps_the_mode(
    engine: TransferEngine, client: TypedClient, there: Remote, mode: int, data: bytes
) -> None:
    """`cp -p` onto a private file, or `: > file`, must not open it to the world."""
    base = existing(client, there, mode=mode)
    attr = store(engine, there / "f", data, base=base, mtime_ns=1_600_000_000 * SECOND)
    assert (there.local / "f").read_bytes() == data
    assert attr.mode == mode == mode_of(there)


def test_emptying_keeps_the_mode(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    base = existing(client, there, mode=0o600)
    store(engine, there / "f", b"", base=base)
    assert mode_of(there) == 0o600


def test_emptying_a_file_with_two_names_empties_both(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    existing(client, there)
    os.link(there.local / "f", there.local / "other")
    store(engine, there / "f", b"", base=client.stat("cluster", there / "f"))
    assert (there.local / "f").read_bytes() == b""
    assert (there.local / "other").read_bytes() == b""


def test_a_private_file_that_was_removed_meanwhile_comes_back_private(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    base = existing(client, there, mode=0o600)
    (there.local / "f").unlink()
    store(engine, there / "f", b"edited", base=base)
    assert mode_of(there) == 0o600


def test_a_file_over_the_limit_stays_here_where_nothing_can_carry_it(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator
) -> None:
    system = client.system("cluster")
    engine._large.system = replace(system, transfer_method="streamer")
    with pytest.raises(OSError, match="by streamer only") as info:
        store(engine, there / "f", bytes(system.limits.upload + 1))
    assert info.value.errno == errno.EOPNOTSUPP
    assert not is_transient(info.value)
    assert counts(emulator) == {}


def test_the_size_is_proven(
    engine: TransferEngine, there: Remote, client: TypedClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upload(system: str, directory: str, name: str, data: bytes) -> None:
        (there.local / name).write_bytes(data[:2])

    monkeypatch.setattr(client, "upload", upload)
    with pytest.raises(OSError, match="2 bytes of 5") as info:
        store(engine, there / "f", b"hello", mode=0o644)
    assert info.value.errno == errno.EIO


def test_a_full_cluster_is_told(engine: TransferEngine, there: Remote, emulator: Emulator) -> None:
    emulator.knobs.put("disk_full", True)
    with pytest.raises(OSError) as info:
        store(engine, there / "f", b"hello", mode=0o644)
    assert info.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("now", "ours"), [(b"mine", True), (b"", True), (b"MINE", False), (b"theirs", False)]
)
def test_what_an_earlier_store_left_is_known_again(
    engine: TransferEngine, client: TypedClient, there: Remote, now: bytes, ours: bool
) -> None:
    sent = [(5, digest_of(b"other")), (4, digest_of(b"mine"))]
    assert engine.holds(there / "f", existing(client, there, now), sent) is ours


def test_an_earlier_version_of_ours_is_no_conflict(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    """Its answer got lost, and the file was written again before the next try."""
    base = existing(client, there)
    (there.local / "f").write_bytes(b"earlier")
    sent = ((7, digest_of(b"earlier")),)
    assert store(engine, there / "f", b"later", base=base, sent=sent).size == 5
    assert there.names() == ["f"]
    assert (there.local / "f").read_bytes() == b"later"


# -- conflicts -----------------------------------------------------------------------------------


def conflict(engine: TransferEngine, there: Remote, base: Attr | None, data: bytes) -> str:
    """Store over what someone else wrote; return the name of the copy."""
    with pytest.raises(ConflictError) as info:
        store(engine, there / "f", data, base=base)
    copy = info.value.landed_as.rpartition("/")[2]
    assert copy.startswith("f.conflict-")
    assert copy in str(info.value.strerror)
    assert (there.local / copy).read_bytes() == data
    assert info.value.attr.size == len(data)
    return copy


@pytest.mark.parametrize("data", [b"mine", b""])
def test_a_change_by_someone_else_keeps_both(
    engine: TransferEngine, client: TypedClient, there: Remote, data: bytes
) -> None:
    base = existing(client, there)
    (there.local / "f").write_text("theirs!")
    conflict(engine, there, base, data)
    assert (there.local / "f").read_text() == "theirs!"


def test_a_name_that_someone_else_took_keeps_both(engine: TransferEngine, there: Remote) -> None:
    (there.local / "f").write_text("theirs")
    conflict(engine, there, None, b"mine")
    assert (there.local / "f").read_text() == "theirs"


def test_a_conflict_copy_is_as_private_as_the_file(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    base = existing(client, there, mode=0o600)
    (there.local / "f").write_text("theirs!")
    assert mode_of(there, conflict(engine, there, base, b"mine")) == 0o600


def test_a_listing_is_compared_with_a_listing(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    existing(client, there)
    base = {each.name: each.attr for each in client.list("cluster", there.path)}["f"]
    assert store(engine, there / "f", b"mine", base=base).size == 4


def test_a_torn_upload_of_ours_is_no_conflict(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    base = existing(client, there)
    os.truncate(there.local / "f", 0)
    assert store(engine, there / "f", b"mine", base=base).size == 4


@pytest.mark.parametrize("kept", [1, 5, 9])
def test_a_prefix_of_ours_is_no_conflict(
    engine: TransferEngine, client: TypedClient, there: Remote, emulator: Emulator, kept: int
) -> None:
    """The upload was cut (or its answer lost): the cluster has our own bytes, not another's."""
    base = existing(client, there)
    emulator.faults.add("drop", "ops/upload", count=3)
    with pytest.raises(OSError):
        store(engine, there / "f", b"my change", base=base)
    emulator.faults.clear()
    (there.local / "f").write_bytes(b"my change"[:kept])
    store(engine, there / "f", b"my change", base=base)
    assert there.names() == ["f"]
    assert (there.local / "f").read_bytes() == b"my change"


@pytest.mark.parametrize("fault", ["lost_answer", "late_status"])
@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("data", [b"mine", b""])
def test_a_lost_answer_is_no_conflict(
    engine: TransferEngine,
    client: TypedClient,
    there: Remote,
    emulator: Emulator,
    new: bool,
    fault: str,
    data: bytes,
) -> None:
    base = None if new else existing(client, there)
    for endpoint in ("ops/upload", "ops/extract"):
        emulator.faults.add(fault, endpoint, status=504, count=1)
    for _ in range(4):
        result = engine.store([StoreItem(1, there / "f", data, mode=0o644, base=base)])[1]
        if isinstance(result, Attr):
            break
    assert isinstance(result, Attr), result
    assert there.names() == ["f"]
    assert (there.local / "f").read_bytes() == data
