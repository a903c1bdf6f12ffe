"""What a manifest of the writer says must be on the cluster, and how what is there differs."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .writer import digest

#: Path → digest of a file, "dir", or None where nothing is.
Tree = dict[str, str | None]
#: Names that are ours on a cluster.
OURS = re.compile(r"(^|/)(\.fcfs-|\.fuse_hidden)")
#: What system calls say whose mount has died.
DEATH = {"ENOTCONN", "ECONNABORTED"}


def tree_of(top: Path) -> Tree:
    """Return what is at and below *top*."""
    found: Tree = {}
    for where, dirs, files in os.walk(top):
        below = os.path.relpath(where, top)
        below = "" if below == "." else below
        found |= {os.path.join(below, name): "dir" for name in dirs}
        for name in files:
            found[os.path.join(below, name)] = digest((Path(where) / name).read_bytes())
    return found


@dataclass
class Told:
    """What a manifest says must be there: one of `trees`."""

    trees: list[Tree]
    cut: str = "nothing"
    steps: int = 0
    error: str = ""

    def wrong(self, found: Tree) -> list[str]:
        """Return what differs from the tree that fits best, a line each; nothing: all is well."""
        return min((_differences(each, found) for each in self.trees), key=len)


def read_manifest(path: Path, before: Tree) -> Told:
    """Return what must be there after the steps in *path*, which began with *before*."""
    lines = [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []
    tree, last = dict(before), None
    told = Told([tree])
    for line in lines:
        if "after" in line:
            last = line
        elif "done" in line and last is not None:
            tree |= last["after"]
            told.steps, last = told.steps + 1, None
        elif "error" in line:
            told.error = line["error"] if line["error"] in DEATH else line["text"]
    if last is not None:
        told.trees += [tree | each for each in (last["after"], *last["cut"])]
        told.cut = last["what"]
    return told


def _differences(expected: Tree, found: Tree) -> list[str]:
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        wanted, got = expected.get(path), found.get(path)
        if wanted != got:
            lines.append(f"{path}: {_word(got)} instead of {_word(wanted)}")
    return lines


def _word(state: str | None) -> str:
    return "nothing" if state is None else state[:8]


def is_ours(path: str) -> bool:
    """Tell whether *path* is an archive or a temporary name of ours, or lies below one."""
    return OURS.search(path) is not None
