"""The script that writes what has landed into a file that keeps its inode, however it is run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from firecrestfs.model import Attr
from firecrestfs.transfer.placing import BEGUN, copy_script

from .large import blob
from .tools import make_attr

OLD = b"old bytes"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "it's $HOME").write_bytes(OLD)
    (tmp_path / "source").write_bytes(blob())
    return tmp_path / "it's $HOME"


def script_of(target: Path) -> str:
    now = target.stat()
    attr: Attr = make_attr(now.st_size, ino=now.st_ino, mtime_ns=int(now.st_mtime) * 10**9)
    source = target.with_name("source")
    return f"set -e\nexec 2>&1\n{copy_script(str(source), str(target), attr)}"


def test_a_second_job_comes_while_what_the_first_left_is_removed(target: Path) -> None:
    """An answer was lost, so two were submitted: that late one must not empty the file."""
    script = script_of(target)
    subprocess.run(["bash", "-c", script], check=True)
    begun = target.with_name(f"source{BEGUN}")
    assert target.read_bytes() == begun.read_bytes() == blob()
    # The first thing that the second one does with it is to compare; then it is gone.
    spy = f'cmp() {{ command cmp "$@"; local code=$?; rm -f -- "{begun}"; return $code; }}\n'
    subprocess.run(["bash", "-c", spy + script], check=False)
    assert target.read_bytes() == blob()


@pytest.mark.parametrize("left", [b"", blob()[:1000], blob()])
def test_one_that_was_cut_short_is_gone_on_with(target: Path, left: bytes) -> None:
    script, inode = script_of(target), target.stat().st_ino
    target.with_name("source").rename(target.with_name(f"source{BEGUN}"))
    with target.open("wb") as file:
        file.write(left)
    subprocess.run(["bash", "-c", script], check=True)
    assert target.read_bytes() == blob()
    assert target.stat().st_ino == inode


def test_what_has_changed_is_left_alone(target: Path) -> None:
    script = script_of(target)
    target.write_bytes(b"something else")
    done = subprocess.run(["bash", "-c", script], check=False, stdout=subprocess.PIPE)
    assert done.returncode == 3
    assert target.read_bytes() == b"something else"
