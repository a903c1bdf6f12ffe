"""Commands about changes: `sync`, `refresh`, `retry`, `discard`, `export`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from ..cache.asides import LOST_NAME
from ..errors import os_error
from ..kept import Kept, StateDirectory, copy_out, state_directories
from ..paths import is_below
from .places import (
    Place,
    control_file,
    is_served,
    kept_path,
    places,
    readable,
    refresh_at,
    tell,
)

_paths = click.argument("path", nargs=-1, type=click.Path())
_state_dir = click.option("--state-dir", help="Where changes wait, if not in the usual place.")


@click.command()
@_paths
def sync(path: tuple[str, ...]) -> None:
    """Return when the cluster has everything at and below PATH (default: all of the mount).

    Example:  firecrestfs sync ~/hpc/daint/users/me/run
    """
    failed: dict[str, str] = {}
    for each in places(path):
        failed |= tell(each.mountpoint, "sync", each.inside)["failed"]
    sys.exit(_tell_failures(failed))


@click.command()
@_paths
def refresh(path: tuple[str, ...]) -> None:
    """Forget what is remembered of the cluster at and below PATH: the next look asks it.

    Example:  firecrestfs refresh ~/hpc/daint/scratch/me
    """
    for each in places(path):
        refresh_at(each.mountpoint, each.inside)


@click.command()
@_paths
def retry(path: tuple[str, ...]) -> None:
    """Try again at once what could not be stored at and below PATH (default: all).

    Exit status 1: something can't be stored still, with the reason.

    Example:  firecrestfs retry daint:/users/me/run
    """
    if not is_served(path[0] if path else None):
        raise os_error(
            22, None, "not mounted: what waits is tried after the next `firecrestfs mount`"
        )
    failed: dict[str, str] = {}
    tried = 0
    for each in places(path):
        answer = tell(each.mountpoint, "retry", each.inside)
        failed |= answer["failed"]
        tried += len(answer["tried"])
    click.echo(f"tried again: {tried}, stored: {tried - len(failed)}")
    sys.exit(_tell_failures(failed))


def _tell_failures(failed: dict[str, str]) -> int:
    for name, reason in sorted(failed.items()):
        click.echo(f"not stored: {name}: {reason}", err=True)
    return 1 if failed else 0


# -- giving up -------------------------------------------------------------------------------------


@click.command()
@_paths
@click.option("--yes", is_flag=True, help="Don't ask.")
@_state_dir
def discard(path: tuple[str, ...], yes: bool, state_dir: str | None) -> None:
    """Give up changes at and below PATH that have not been stored; lost+found keeps them 7 days.

    Works on a mount and, while nothing is mounted, on what waits for the next one.

    Example:  firecrestfs discard daint:/users/me/run/broken.dat
    """
    if not path:
        raise os_error(22, None, "which changes? Name a PATH; `firecrestfs status` lists them")
    if state_dir is None and is_served(path[0]):
        sys.exit(_discard_mounted(places(path), yes))
    with _kept(path, state_dir) as found:
        _confirm([row.path for _, row in found], yes)
        for directory, rows in groupby(found, lambda each: each[0]):
            for row, where in directory.discard(*(row for _, row in rows)):
                _say_discarded(row.path, str(where or ""))


def _discard_mounted(wanted: Sequence[Place], yes: bool) -> int:
    """Give up what waits at *wanted*; return 1 where some was refused, 2 where all was."""
    rows = [
        (each, row["path"])
        for each in wanted
        for row in tell(each.mountpoint, "pending", each.inside)["pending"]
    ]
    _confirm([path for _, path in rows], yes)
    failures = 0
    for each, path in rows:
        answer = tell(each.mountpoint, "discard", path)
        for gone, where in answer.get("discarded", {}).items():
            _say_discarded(gone, where)
        if "error" in answer:
            failures += 1
            click.echo(f"not discarded: {path}: {answer['error']}", err=True)
    return 2 if failures == len(rows) else min(failures, 1)


def _confirm(paths: Sequence[str], yes: bool) -> None:
    if not paths:
        raise os_error(2, None, "nothing waits to be stored there")
    for each in paths:
        click.echo(f"  {each}")
    if not yes:
        click.confirm(f"Never store these {len(paths)}?", abort=True)


def _say_discarded(path: str, where: str) -> None:
    click.echo(f"discarded: {path}" + (f"; for 7 days in {where}" if where else ""))


# -- copying out -----------------------------------------------------------------------------------


@click.command()
@_paths
@click.option(
    "--to",
    "target",
    required=True,
    type=click.Path(file_okay=False),
    help="Directory on this machine to copy into; nothing there is overwritten.",
)
@_state_dir
def export(path: tuple[str, ...], target: str, state_dir: str | None) -> None:
    """Copy what waits, has failed or lies in lost+found to a directory on this machine.

    With PATH only what waits at and below it. Nothing is changed here or on the cluster.

    Example:  firecrestfs export --to ~/rescued
    """
    top = Path(target).expanduser().absolute()
    if state_dir is None and is_served(path[0] if path else None):
        sources = _from_mounts(places(path), with_lost=not path)
        sys.exit(_copy_all(sources, top))
    with _kept(path, state_dir) as found:
        rows = [(row.local, row.path, row.start) for _, row in found if row.local is not None]
        rows += [(row.unclosed, f"{row.path}.unclosed", 0) for _, row in found if row.unclosed]
        lost = [
            (each, f"/{LOST_NAME}/{each.relative_to(directory.path / LOST_NAME)}", 0)
            for directory in (() if path else state_directories(state_dir))
            for each in directory.lost()
        ]
        sys.exit(_copy_all([*rows, *lost], top))


def _from_mounts(wanted: Sequence[Place], *, with_lost: bool) -> Iterator[tuple[Path, str, int]]:
    """Yield what to copy out of mounts, with the path below the target, and from where on."""
    for each in wanted:
        for row in tell(each.mountpoint, "pending", each.inside)["pending"]:
            yield from _from_row(each.mountpoint, row)
        lost = Path(control_file(each.mountpoint, LOST_NAME))
        for found in sorted(lost.rglob("*")) if with_lost else ():
            if found.is_file():
                yield found, f"/{LOST_NAME}/{found.relative_to(lost)}", 0


def _from_row(mountpoint: str, row: Mapping[str, Any]) -> Iterator[tuple[Path, str, int]]:
    """Yield what there is to copy of one change: as the mount shows it, else where its bytes are.

    Its directory may be gone from the cluster, or the cluster out of reach.
    """
    shown = Path(mountpoint + row["path"])
    if not row.get("start") and _is_copyable(shown):
        yield shown, row["path"], 0
    elif "local" in row:
        yield Path(row["local"]), row["path"], row["start"]
        if row["later"]:
            yield Path(row["later"]), f"{row['path']}.unclosed", 0


def _is_copyable(path: Path) -> bool:
    try:
        return path.is_symlink() or (path.exists() and not path.is_dir())
    except OSError:
        return False


def _copy_all(sources: Iterable[tuple[Path, str, int]], top: Path) -> int:
    failures = 0
    for source, name, start in sources:
        target = top.joinpath(*[p for p in name.split("/") if p != ".."][1:])
        try:
            copied = copy_out(source, target, start)
        except OSError as exc:
            failures += 1
            click.echo(f"not copied: {name}: {readable(exc)}", err=True)
        else:
            click.echo(f"{name} -> {copied}")
    return 1 if failures else 0


@contextmanager
def _kept(
    paths: Sequence[str], state_dir: str | None
) -> Iterator[list[tuple[StateDirectory, Kept]]]:
    """Lock the state directories that *paths* are about; give what they keep there."""
    with ExitStack() as locks:
        found = []
        for each in state_directories(state_dir):
            wanted = [kept_path(each, path) for path in paths] if paths else ["/"]
            tops = [top for top in wanted if top is not None]
            if tops:
                locks.enter_context(each.locked("firecrestfs"))
                rows = each.rows()
                found += [
                    (each, row) for row in rows if any(is_below(row.path, top) for top in tops)
                ]
        yield found
