"""Commands for files of a running mount: bringing them here, and moving them on the cluster."""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
import time
from typing import Any

import click

from .. import mountpoints
from .places import read_status, refresh_at, tell


def _order(mountpoint: str, verb: str, text: str) -> None:
    """Give a command that may fail for a reason worth reading. Raises that."""
    refusal = tell(mountpoint, verb, text)
    if refusal:
        raise OSError(refusal["errno"], refusal["error"], refusal["path"] or None)


def transfer_line(row: dict[str, Any]) -> str:
    """Return one transfer of status.json as a line."""
    percent = 100 * row["done"] // row["total"] if row["total"] else 100
    text = f"{row['direction']:4} {row['stage']:8} {row['path']}  {percent} % of {row['total']:,}"
    text += f" bytes, {row['rate'] / 1e6:.1f} MB/s" if row["rate"] else " bytes"
    return text + (f", {row['left']} s left" if row["left"] is not None else "")


@click.command()
@click.argument("path", nargs=-1, required=True, type=click.Path())
def fetch(path: tuple[str, ...]) -> None:
    """Bring files here, whole, all of them at the same time; directories with all below them.

    Example:  firecrestfs fetch ~/hpc/daint/scratch/me/run/*.h5
    """
    files = [each for one in path for each in _files_of(one)]
    failed: dict[str, str] = {}
    threads = [threading.Thread(target=_fetch, args=(each, failed), daemon=True) for each in files]
    for thread in threads:
        thread.start()
    _show(threads, files)
    for name, reason in sorted(failed.items()):
        click.echo(f"not fetched: {name}: {reason}", err=True)
    sys.exit(1 if failed else 0)


def _files_of(path: str) -> list[str]:
    where = mountpoints.resolved(path)
    if not os.path.isdir(where):
        return [where]
    return [os.path.join(folder, name) for folder, _, names in os.walk(where) for name in names]


def _fetch(path: str, failed: dict[str, str]) -> None:
    try:
        mountpoint = mountpoints.mount_of(path)
        try:
            _order(mountpoint, "fetch", path[len(mountpoint) :])
        except FileNotFoundError:
            # The mount may only remember that there was none: who orders a file knows better.
            refresh_at(mountpoint, os.path.dirname(path)[len(mountpoint) :])
            _order(mountpoint, "fetch", path[len(mountpoint) :])
    except OSError as exc:
        failed[path] = exc.strerror or str(exc)


def _show(threads: list[threading.Thread], files: list[str]) -> None:
    """Show how far the transfers are until all *threads* have ended."""
    started, told = time.monotonic(), 0.0
    terminal = sys.stderr.isatty()
    while any(thread.is_alive() for thread in threads):
        next(thread for thread in threads if thread.is_alive()).join(0.2)
        now = time.monotonic()
        if now - told > (0.5 if terminal else 10.0) and now - started > 0.5:
            told = now
            done = sum(not thread.is_alive() for thread in threads)
            line = f"{done} of {len(files)} files{_moving(files)}"
            click.echo(f"\r\x1b[K{line}" if terminal else line, err=True, nl=not terminal)
    if terminal and told:
        click.echo("\r\x1b[K", err=True, nl=False)


def _moving(files: list[str]) -> str:
    """Return how far what is under way is."""
    mountpoint = mountpoints.mount_of(files[0])
    try:
        status = read_status(mountpoint)
    except (OSError, ValueError):
        return ""
    rows: list[dict[str, Any]] = [
        row for row in status["transfers"] if mountpoint + row["path"] in files
    ]
    done, total = (sum(row[name] for row in rows) for name in ("done", "total"))
    rate = sum(row["rate"] for row in rows)
    waiting = sum(row["stage"] != "moving" for row in rows)
    text = f", {done / 1e6:,.0f} of {total / 1e6:,.0f} MB, {rate / 1e6:.1f} MB/s" if rows else ""
    return text + (f", {waiting} waiting for the cluster" if waiting else "")


# -- on the cluster itself -------------------------------------------------------------------------


def _onsite(verb: str, paths: tuple[str, ...]) -> None:
    where = [mountpoints.resolved(path) for path in paths]
    mountpoint = mountpoints.mount_of(where[0])
    outside = [each for each in where if not each.startswith(mountpoint + "/")]
    if outside:
        raise OSError(errno.EXDEV, "not in the mount: use the system's own cp", outside[0])
    inside = [each[len(mountpoint) :] for each in where]
    _order(mountpoint, "onsite", json.dumps([verb, *inside]))


@click.command()
@click.argument("path", nargs=-1, required=True, type=click.Path())
def cp(path: tuple[str, ...]) -> None:
    """Copy files and trees on the cluster itself: SOURCE… TARGET, as `cp -a` does there.

    Example:  firecrestfs cp ~/hpc/daint/scratch/me/run ~/hpc/daint/users/me/kept
    """
    _with_target("cp", path)


@click.command()
@click.argument("path", nargs=-1, required=True, type=click.Path())
def mv(path: tuple[str, ...]) -> None:
    """Move files and trees on the cluster itself: SOURCE… TARGET, across its file systems, too.

    Example:  firecrestfs mv ~/hpc/daint/scratch/me/run ~/hpc/daint/users/me/
    """
    _with_target("mv", path)


def _with_target(verb: str, paths: tuple[str, ...]) -> None:
    if len(paths) < 2:
        raise click.UsageError("SOURCE… and TARGET are wanted")
    _onsite(verb, paths)


@click.command()
@click.argument("path", nargs=-1, required=True, type=click.Path())
@click.option("-r", "tree", is_flag=True, help="Directories with all that is in them.")
def rm(path: tuple[str, ...], tree: bool) -> None:
    """Remove files on the cluster itself; trees by one job, whatever they hold.

    Example:  firecrestfs rm -r ~/hpc/daint/scratch/me/old
    """
    _onsite("rmtree" if tree else "rm", path)


COMMANDS = (fetch, cp, mv, rm)
