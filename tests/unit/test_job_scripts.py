"""What `firecrestfs submit` makes of a script, sbatch's options and arguments."""

from __future__ import annotations

import errno
import subprocess

import pytest

from firecrestfs.jobcommands import build_script

from .tools import code_of

SCRIPT = '#!/bin/bash\n# a comment\n#SBATCH -t 5\n\necho "$#:$2:$A"\n'


def test_options_come_behind_the_script_s_own() -> None:
    built = build_script(SCRIPT, "run.sh", {"time": "10", "hold": True, "output": "a b"}, [])
    assert built.splitlines() == [
        "#!/bin/bash",
        "# a comment",
        "#SBATCH -t 5",
        "",
        "#SBATCH --time=10",
        "#SBATCH --hold",
        '#SBATCH --output="a b"',
        "#SBATCH --job-name=run.sh",
        'echo "$#:$2:$A"',
    ]


@pytest.mark.parametrize(
    "own", ["#SBATCH -J mine", "#SBATCH -t 5 --job-name=mine", "#SBATCH -Jmine"]
)
def test_a_script_keeps_its_name(own: str) -> None:
    assert "run.sh" not in build_script(f"#!/bin/sh\n#SBATCH {own}\n", "run.sh", {}, [])
    assert "=given" in build_script(
        f"#!/bin/sh\n#SBATCH {own}\n", "run.sh", {"job-name": "given"}, []
    )


def test_arguments_and_variables_arrive_as_they_were_given() -> None:
    options = {"export": "ALL,A=it's $HOME"}
    built = build_script(SCRIPT, "x", options, ["one", "two 'words' $(ls)"])
    done = subprocess.run(["bash"], input=built, capture_output=True, text=True, check=True)
    assert done.stdout == "2:two 'words' $(ls):it's $HOME\n"


def test_a_script_without_a_last_line_break() -> None:
    assert build_script("#!/bin/sh", "x", {"hold": True}, ["a"]).splitlines() == [
        "#!/bin/sh",
        "#SBATCH --hold",
        "#SBATCH --job-name=x",
        "set -- a",
    ]


def test_what_cannot_be_passed_on() -> None:
    assert code_of(build_script, "#!/usr/bin/env python3\n", "x", {}, ["a"]) == errno.EINVAL
    assert code_of(build_script, SCRIPT, "x", {"export": "NONE"}, []) == errno.EINVAL
    assert code_of(build_script, SCRIPT, "x", {"output": 'a"b'}, []) == errno.EINVAL
    assert "set --" in build_script("#!/usr/bin/env bash\n", "x", {}, ["a"])
