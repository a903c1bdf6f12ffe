"""Orders to a mount about what waits: which path is meant, whatever it is called."""

from __future__ import annotations

import os

import pytest

from firecrestfs.cli.places import order

from .large import Start
from .test_out_of_reach import answer
from .tools import Remote
from .wired import Files


@pytest.fixture
def waiting(start: Start) -> Files:
    """A mount that stores nothing by itself for a while."""
    return start(write_back=1000.0)


def pending(files: Files) -> list[str]:
    return sorted(row["path"] for row in files.mount.pending())


def test_what_a_removed_link_led_to_is_not_given_up_with_it(waiting: Files, there: Remote) -> None:
    (there.local / "data").mkdir()
    (there.local / "link").symlink_to("data")
    waiting.refresh()
    waiting.stat("link")
    waiting.create("data/precious", b"x")
    waiting.ops.unlink(waiting.path("link"))
    rows = answer(waiting, f"pending {waiting.path('link')}")["pending"]
    assert [row["path"] for row in rows] == [waiting.path("link")]
    answer(waiting, f"discard {waiting.path('link')}")
    assert pending(waiting) == [waiting.path("data/precious")]


def test_what_is_in_a_directory_where_a_link_was_is_meant(waiting: Files, there: Remote) -> None:
    (there.local / "data").mkdir()
    (there.local / "run").symlink_to("data")
    waiting.refresh()
    waiting.stat("run")
    waiting.create("data/f", b"x")
    waiting.ops.unlink(waiting.path("run"))
    waiting.ops.mkdir(waiting.path("run"), 0o755)
    waiting.create("run/f", b"x")
    answer(waiting, f"discard {waiting.path('run/f')}")
    assert waiting.path("data/f") in pending(waiting)
    assert waiting.path("run/f") not in pending(waiting)


def test_a_link_still_stands_for_what_it_leads_to(waiting: Files, there: Remote) -> None:
    (there.local / "data").mkdir()
    (there.local / "link").symlink_to("data")
    waiting.refresh()
    waiting.stat("link")
    waiting.create("data/f", b"x")
    answer(waiting, f"discard {waiting.path('link/f')}")
    assert pending(waiting) == []


def test_a_link_is_stored_with_what_it_leads_to(waiting: Files, there: Remote) -> None:
    (there.local / "data").mkdir()
    waiting.refresh()
    waiting.create("data/f", b"x")
    waiting.ops.symlink(waiting.path("link"), "data")
    assert answer(waiting, f"sync {waiting.path('link')}") == {"failed": {}}
    assert os.readlink(there.local / "link") == "data"
    assert (there.local / "data" / "f").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["f ", "f\t", "f\r", "f\ng"], ids=["blank", "tab", "cr", "break"])
def test_the_file_that_is_named_is_given_up(waiting: Files, name: str) -> None:
    """Whatever its name ends in, and whatever is in it."""
    waiting.create("f", b"precious")
    waiting.create(name, b"junk")
    handle = waiting.mount.namespace.route("/.firecrestfs/ctl")[0].open("/ctl", os.O_RDWR)
    handle.write(order("discard", waiting.path(name)), 0)
    assert pending(waiting) == [waiting.path("f")]
