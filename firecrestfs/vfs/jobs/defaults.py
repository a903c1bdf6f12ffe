"""`defaults.toml`: what jobs are submitted with that say nothing themselves."""

from __future__ import annotations

import errno
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from firecrestfs.errors import os_error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

WAIT_FOR = ("all", "workdir", "none")
TEMPLATE = """\
# What jobs are submitted with that are dropped into .jobs. A script's own #SBATCH lines come first.

# account = "proj1"
# partition = "normal"
# reservation = "course"
# working_directory = "/scratch/me"    # of scripts dropped at the system's root

# What must be stored before a job is submitted: "all" that is pending, what lies below its
# "workdir", or "none".
# wait_for = "all"

# [environment]
# OMP_NUM_THREADS = "8"
"""
_TEXTS = ("account", "partition", "reservation", "working_directory")


@dataclass(frozen=True, slots=True)
class Defaults:
    """The settings; empty: none."""

    account: str = ""
    partition: str = ""
    reservation: str = ""
    working_directory: str = ""
    wait_for: str = "all"
    environment: Mapping[str, str] = field(default_factory=dict)


def parse(text: str) -> Defaults:
    """Read the file. Raises EINVAL with what is wrong, and where."""
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _wrong(str(exc)) from None
    environment = table.pop("environment", {})
    if not isinstance(environment, dict):
        raise _wrong("[environment] is a table of variables")
    for name, value in table.items():
        if name not in (*_TEXTS, "wait_for"):
            raise _wrong(f"unknown setting {name!r}; there are {', '.join(_TEXTS)}, wait_for")
        if not isinstance(value, str):
            raise _wrong(f"{name} is a text, in quotes")
    if table.get("wait_for", "all") not in WAIT_FOR:
        raise _wrong(f"wait_for is one of {', '.join(WAIT_FOR)}")
    if not table.get("working_directory", "/").startswith("/"):
        raise _wrong("working_directory is a path on the cluster, from the root")
    return Defaults(
        **table, environment={name: _text(name, value) for name, value in environment.items()}
    )


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong(f"the variable {name} is a text or a number")
    return str(value)


def _wrong(text: str) -> OSError:
    return os_error(errno.EINVAL, "defaults.toml", f"defaults.toml: {text}")
