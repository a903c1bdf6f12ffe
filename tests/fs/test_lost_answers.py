"""A store is carried out and nobody hears of it; what happens to the file here goes on meanwhile.

None of it is somebody else's change: our own earlier version is known again, whatever the file
holds by now.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ..harness import Server, wait_for
from .drivers import Driver
from .sites import WITHOUT_KERNEL, Site, Sites

FIRST = b"the first version\n"
FAULTS = {
    "lost": {"kind": "lost_answer"},
    "torn": {"kind": "torn", "status": 408, "bytes": 7},
}
#: What is done after the answer was lost, and what the cluster shall have in the end.
Then = tuple[Callable[[Driver], None], dict[str, bytes]]


def longer(fs: Driver) -> None:
    fs.write_file("f", b"the second version, longer\n")


def shorter(fs: Driver) -> None:
    fs.write_file("f", b"2\n")


def appended(fs: Driver) -> None:
    fs.append("f", b"more\n")


def removed(fs: Driver) -> None:
    fs.unlink("f")


def made_anew(fs: Driver) -> None:
    fs.unlink("f")
    fs.write_file("f", b"anew\n")


def renamed(fs: Driver) -> None:
    fs.rename("f", "g")


def renamed_and_made_anew(fs: Driver) -> None:
    fs.rename("f", "g")
    fs.write_file("f", b"anew\n")


def renamed_over(fs: Driver) -> None:
    fs.write_file("temporary", b"by way of another name\n")
    fs.rename("temporary", "f")


def emptied(fs: Driver) -> None:
    fs.truncate("f", 0)


@pytest.fixture(scope="session", params=WITHOUT_KERNEL)
def kind(request: pytest.FixtureRequest) -> str:
    """No kernel takes part in this."""
    return str(request.param)


@pytest.fixture
def site(sites: Sites, kind: str) -> Site:
    """A mount that stores soon."""
    return sites.site(kind, write_back=0.1)


CASES: list[Then] = [
    (longer, {"f": b"the second version, longer\n"}),
    (shorter, {"f": b"2\n"}),
    (appended, {"f": FIRST + b"more\n"}),
    (removed, {}),
    (made_anew, {"f": b"anew\n"}),
    (renamed, {"g": FIRST}),
    (renamed_and_made_anew, {"f": b"anew\n", "g": FIRST}),
    (renamed_over, {"f": b"by way of another name\n"}),
    (emptied, {"f": b""}),
]


@pytest.mark.parametrize("existed", [False, True], ids=["new", "over"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("then", CASES, ids=lambda each: each[0].__name__)
def test_what_is_done_after_a_lost_answer(
    fs: Driver, there: Path, server: Server, then: Then, fault: str, existed: bool
) -> None:
    act, expected = then
    if existed:
        (there / "f").write_bytes(b"there before\n")
    fs.listdir()
    server.requests(reset=True)
    server.faults([{"match": "*/upload", **FAULTS[fault]}])
    fs.write_file("f", FIRST)
    assert wait_for(lambda: any(each.endswith("/upload") for each in server.requests()))
    assert wait_for(lambda: any(row["error"] for row in fs.pending().values()))
    act(fs)
    assert {name: fs.read_file(name) for name in fs.listdir()} == expected
    fs.land()
    assert {name: (there / name).read_bytes() for name in os.listdir(there)} == expected


@pytest.mark.parametrize("fault", FAULTS)
def test_somebody_elses_change_after_a_lost_answer_is_kept(
    fs: Driver, there: Path, server: Server, fault: str
) -> None:
    """And what is theirs isn't taken for ours."""
    fs.listdir()
    server.requests(reset=True)
    server.faults([{"match": "*/upload", **FAULTS[fault]}])
    fs.write_file("f", FIRST)
    assert wait_for(lambda: any(row["error"] for row in fs.pending().values()))
    (there / "f").write_bytes(b"theirs, which is nobody else's\n")
    fs.write_file("f", b"the second version, longer\n")
    fs.land()
    assert (there / "f").read_bytes() == b"theirs, which is nobody else's\n"
    [copy] = [name for name in os.listdir(there) if name != "f"]
    assert copy.startswith("f.conflict-")
    assert (there / copy).read_bytes() == b"the second version, longer\n"


def test_it_is_renamed_before_the_answer_is_lost(fs: Driver, there: Path, server: Server) -> None:
    """Where it may be, and where it shall be, are two names then."""
    fs.listdir()
    server.set(latency=1000.0)
    server.faults([{"match": "*/upload", "kind": "lost_answer"}])
    fs.write_file("f", FIRST)
    assert wait_for(lambda: fs.getxattr("f", "user.firecrest.state") == b"storing")
    fs.rename("f", "g")
    assert wait_for(lambda: any(row["error"] for row in fs.pending().values()), 20)
    server.set(latency=0.0)
    fs.refresh()
    assert fs.listdir() == ["g"]
    fs.land()
    assert os.listdir(there) == ["g"]
    assert (there / "g").read_bytes() == FIRST
