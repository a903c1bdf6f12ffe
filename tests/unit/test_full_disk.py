"""A disk that somebody else has filled, to the last byte: `full_disk`, `full_state` work on one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


@pytest.mark.parametrize("program", ["full_disk", "full_state"])
def test_a_disk_that_is_full_to_the_last_byte(tmp_path: Path, program: str) -> None:
    namespace = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    command = [*namespace, sys.executable, "-m", f"tests.unit.{program}", str(tmp_path)]
    done = subprocess.run(
        command, cwd=TOP, capture_output=True, text=True, timeout=90, start_new_session=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "all is well\n"
