"""The script that gives times: it touches the version that is known here, and no other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from firecrestfs.model import Attr, Kind, Source
from firecrestfs.transfer.touching import Touch, _script

from ..harness import wait_for

NOON = 1_700_000_000
WANTED = 1_234_567_890_123_456_789
#: What a listing tells of noon in a zone that is an hour before UTC.
LISTED = "2023-11-14T23:13:20"


def run(path: Path, base: Attr, given: tuple[int, ...] = ()) -> int:
    """Run the job for *path*, known as *base*; return the file's time then."""
    script = _script([Touch(str(path), base, WANTED)], {str(path): given})
    subprocess.run(["bash", "-c", script], env=os.environ | {"TZ": "Europe/Zurich"}, check=True)
    return path.stat().st_mtime_ns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "it's a file"
    path.write_bytes(b"content")
    os.utime(path, ns=(NOON * 10**9 + 7, NOON * 10**9 + 7))
    return path


def by_stat(size: int = 7, seconds: int = NOON) -> Attr:
    return Attr(Kind.FILE, 0o644, size, seconds * 10**9, source=Source.STAT)


def by_listing(listed: str, seconds: int = 0) -> Attr:
    return Attr(Kind.FILE, 0o644, 7, seconds * 10**9, source=Source.LS, listed=listed)


def test_a_version_known_by_stat(path: Path) -> None:
    assert run(path, by_stat()) == WANTED


@pytest.mark.parametrize("base", [by_stat(size=8), by_stat(seconds=NOON - 1)])
def test_another_version_stays(path: Path, base: Attr) -> None:
    assert run(path, base) == NOON * 10**9 + 7


def test_a_time_that_an_earlier_job_has_given(path: Path) -> None:
    assert run(path, by_stat(seconds=5), given=(NOON,)) == WANTED


def test_of_two_jobs_at_the_same_time_the_later_one_counts(path: Path, tmp_path: Path) -> None:
    """The earlier one has looked at the file already when the later one comes."""
    here, looked = str(path), tmp_path / "looked"
    earlier = _script([Touch(here, by_stat(), WANTED)], {})
    later = _script([Touch(here, by_stat(), WANTED + 10**12)], {here: (WANTED // 10**9,)})
    slow = f'touch() {{ : > "{looked}"; sleep 1; command touch "$@"; }}\n'
    with subprocess.Popen(["bash", "-c", slow + earlier]) as first:
        assert wait_for(looked.exists)
        subprocess.run(["bash", "-c", later], check=True)
        assert first.wait(30) == 0
    assert path.stat().st_mtime_ns == WANTED + 10**12


def test_a_file_that_may_not_be_read(path: Path) -> None:
    path.chmod(0o200)
    assert run(path, by_stat()) == WANTED


def test_a_listing_in_a_zone_that_was_not_known_then(path: Path) -> None:
    assert run(path, by_listing(LISTED, seconds=NOON + 3600)) == WANTED


def test_another_version_in_a_listing_stays(path: Path) -> None:
    assert run(path, by_listing("2023-11-14T23:13:21", seconds=5)) == NOON * 10**9 + 7


def test_what_is_gone_is_not_made(tmp_path: Path) -> None:
    script = _script([Touch(str(tmp_path / "gone"), by_stat(), WANTED)], {})
    subprocess.run(["bash", "-c", script], check=True)
    assert os.listdir(tmp_path) == []
