"""What was fsynced, or closed some seconds ago, survives a power loss; the rest is never half."""

from __future__ import annotations

import contextlib
import os
import random
import time
from pathlib import Path

import pytest

from .power import Power
from .site import Nursery, Site
from .writer import digest

pytestmark = pytest.mark.fuse

#: "Within seconds": everything that was closed longer ago is on the disk.
SEALED_S = 4.0


@pytest.fixture
def site(nursery: Nursery, tmp_path: Path, request: pytest.FixtureRequest) -> Site:
    """A site whose mounts store nothing by themselves."""
    site = Site(nursery, tmp_path / "site", tmp_path.name, write_back=600)
    request.addfinalizer(site.end)
    return site


def content(name: str, number: int) -> bytes:
    return f"{name} {number}\n".encode() * 2000


def save(path: Path, data: bytes, *, fsync: bool = False) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if fsync:
            os.fsync(file.fileno())


def check(site: Site, safe: dict[str, bytes], young: dict[str, list[bytes | None]]) -> None:
    """What is *safe* has landed; each of *young* is one of its versions, or absent and told of."""
    site.mount()
    assert site.drain() == {}
    found = site.on_cluster()
    for name, data in safe.items():
        assert found.pop(name, None) == digest(data), name
    for name, versions in young.items():
        allowed = [None if each is None else digest(each) for each in versions]
        assert found.pop(name, None) in allowed, name
    assert found == {}
    assert site.driver.pending() == {}
    site.kill()


@pytest.mark.parametrize("seed", range(6))
def test_what_was_fsynced(site: Site, seed: int) -> None:
    power = Power(site)
    chance = random.Random(seed)
    for number in range(4):
        (site.there / f"theirs-{number}").write_bytes(content("stored", number))
    site.mount()
    os.listdir(site.top)
    safe, young = {}, {}
    for number in range(8):
        data = content("new", number)
        save(site.top / f"new-{number}", data, fsync=number < 4)
        if number < 4:
            safe[f"new-{number}"] = data
        else:
            young[f"new-{number}"] = [data, None]
    for number in range(4):
        data = content("rewritten", number)
        save(site.top / f"theirs-{number}", data, fsync=number < 2)
        if number < 2:
            safe[f"theirs-{number}"] = data
        else:
            young[f"theirs-{number}"] = [data, content("stored", number)]
    power.fail(chance)
    check(site, safe, young)


@pytest.mark.parametrize("seed", range(3))
def test_what_was_closed_some_seconds_ago(site: Site, seed: int) -> None:
    power = Power(site)
    site.mount()
    os.listdir(site.top)
    safe = {f"old-{number}": content("old", number) for number in range(6)}
    for name, data in safe.items():
        save(site.top / name, data)
    os.mkdir(site.top / "d")
    save(site.top / "before", b"renamed")
    os.rename(site.top / "before", site.top / "d/after")
    safe["d/after"] = b"renamed"
    time.sleep(SEALED_S)
    power.remember_journal()
    young: dict[str, list[bytes | None]] = {}
    for number in range(6):
        save(site.top / f"young-{number}", content("young", number))
        young[f"young-{number}"] = [content("young", number), None]
    power.fail(random.Random(seed))
    site.mount()
    assert site.drain() == {}
    assert (site.there / "d").is_dir()
    site.kill()
    (site.there / "d/after").rename(site.there / "d-after")
    (site.there / "d").rmdir()
    safe["d-after"] = safe.pop("d/after")
    check(site, safe, young)


def test_nothing_that_was_doubtful_is_deleted(site: Site) -> None:
    power = Power(site)
    site.mount()
    os.listdir(site.top)
    data = content("kept", 0)
    for number in range(12):
        save(site.top / f"f{number}", data + b"%d" % number)
    power.fail(random.Random(9))
    left = {path.read_bytes() for path in (site.state_dir / "files").iterdir()}
    site.mount()
    assert site.drain() == {}
    landed = {path.read_bytes() for path in site.there.iterdir()}
    # Each is on the cluster whole, or its remains are in lost+found with a line about it.
    assert landed <= {data + b"%d" % number for number in range(12)}
    aside = set(site.set_aside())
    assert left <= landed | aside | {b""}
    told = "\n".join(site.errors())
    for number in range(12):
        assert data + b"%d" % number in landed or f"/f{number} " in told.replace(":", " ")


def fsynced_files(site: Site) -> dict[str, bytes]:
    """Save some files and return, once they are on this machine's disk, what is in each."""
    data = {f"f{number}": content("fsynced", number) for number in range(4)}
    for name in data:
        save(site.top / name, data[name], fsync=True)
    return data


@pytest.mark.parametrize("seed", range(5))
def test_what_was_fsynced_and_is_written_on(site: Site, seed: int) -> None:
    """The closed version is promised for as long as the next one isn't whole."""
    power = Power(site)
    site.mount()
    os.listdir(site.top)
    data = fsynced_files(site)
    files = [(site.top / name).open("r+b", buffering=0) for name in data]
    for file in files:
        file.write(b"HALF")
    time.sleep(SEALED_S)
    power.remember_journal()
    power.fail(random.Random(seed))
    for file in files:
        with contextlib.suppress(OSError):
            file.close()
    check(site, data, {})


@pytest.mark.parametrize("seed", range(5))
def test_what_is_written_on_in_that_moment_is_never_stored_half(site: Site, seed: int) -> None:
    """The disk may have new bytes of a file, and the journal know of the old ones only."""
    power = Power(site)
    site.mount()
    os.listdir(site.top)
    data = fsynced_files(site)
    power.remember_journal()
    files = [(site.top / name).open("r+b", buffering=0) for name in data]
    for file in files:
        file.write(b"HALF")
    power.fail(random.Random(seed))
    for file in files:
        with contextlib.suppress(OSError):
            file.close()
    check(site, {}, {name: [data[name], None] for name in data})
