"""Stores over what somebody else has changed: names, links, and whose bytes are where then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firecrestfs.api import TypedClient
from firecrestfs.errors import ConflictError
from firecrestfs.transfer.bundle import Bundler
from firecrestfs.transfer.engine import TransferEngine

from .conftest import large_stores
from .large import Start
from .storing import existing, store
from .tools import SECOND, Remote


def test_a_conflict_copy_of_a_long_name_has_a_shorter_one(
    engine: TransferEngine, there: Remote
) -> None:
    name = "é" * 127
    (there.local / name).write_text("theirs")
    with pytest.raises(ConflictError) as info:
        store(engine, there / name, b"mine")
    copy = info.value.landed_as.rpartition("/")[2]
    assert copy.startswith("é" * 50)
    assert ".conflict-" in copy
    assert (there.local / copy).read_bytes() == b"mine"
    assert (there.local / name).read_bytes() == b"theirs"


def test_ours_overwrites_a_link_and_not_what_it_leads_to(
    client: TypedClient, bundler: Bundler, there: Remote, tmp_path: Path
) -> None:
    user, features = client.userinfo("cluster"), client.features("cluster")
    large, system = large_stores(client, tmp_path), client.system("cluster")
    engine = TransferEngine(client, system, user, bundler, features, large, "ours")
    base = existing(client, there)
    (there.local / "f").rename(there.local / "third")
    (there.local / "f").symlink_to("third")
    store(engine, there / "f", b"mine", base=base)
    assert not (there.local / "f").is_symlink()
    assert (there.local / "f").read_bytes() == b"mine"
    assert (there.local / "third").read_bytes() == b"base"


def test_a_link_is_not_taken_for_the_file_that_it_is_as_long_as(
    engine: TransferEngine, client: TypedClient, there: Remote
) -> None:
    """In a listing both have this size, and the second that they are of."""
    existing(client, there)
    base = {each.name: each.attr for each in client.list("cluster", there.path)}["f"]
    (there.local / "f").unlink()
    (there.local / "f").symlink_to("real")
    (there.local / "real").write_bytes(b"theirs")
    os.utime(there.local / "f", ns=(SECOND, 1_700_000_000 * SECOND), follow_symlinks=False)
    with pytest.raises(ConflictError):
        store(engine, there / "f", b"mine", base=base)
    assert (there.local / "real").read_bytes() == b"theirs"


@pytest.mark.parametrize("how", ["rename", "link"])
def test_a_long_name_that_was_taken_meanwhile(start: Start, there: Remote, how: str) -> None:
    files = start(write_back=1000.0)
    (there.local / "f").write_bytes(b"ours")
    files.refresh()
    files.stat("f")
    name = "n" * 250
    if how == "rename":
        files.ops.rename(files.path("f"), files.path(name))
    else:
        files.ops.link(files.path(name), files.path("f"))
    (there.local / name).write_bytes(b"theirs")
    assert files.sync() == {}
    assert files.mount.pending() == []
    [copy] = [each for each in there.names() if ".conflict-" in each]
    assert (there.local / copy).read_bytes() == b"ours"
    assert (there.local / name).read_bytes() == b"theirs"
