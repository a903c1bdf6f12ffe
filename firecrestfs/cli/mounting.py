"""`mount` and `umount`."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from .. import config, mountpoints
from ..kept import StateDirectory, state_directories
from .places import read_status, with_server


@click.command()
@click.argument("mountpoint", type=click.Path(file_okay=False))
@with_server
@click.option("-f", "--foreground", is_flag=True, help="Stay in front; log to stderr.")
@click.option("-o", "options", multiple=True, help="Settings as mount(8) passes them: k=v,k,…")
@click.option("--cache-dir", help="Where clean copies are kept.")
@click.option("--state-dir", help="Where changes wait until they are stored.")
@click.option(
    "--write-through", is_flag=True, default=None, help="Every close stores its file and waits."
)
@click.option(
    "--fsync",
    type=click.Choice(["local", "remote"]),
    help="fsync returns when this machine (the default) or the cluster has the file.",
)
@click.option(
    "--conflict",
    type=click.Choice(["copy", "ours", "theirs", "fail"]),
    help="A file changed here and on the cluster: keep both (the default), one, or stop there.",
)
@click.option(
    "--hydrate",
    type=click.Choice(["auto", "always", "explicit"]),
    help="Who may have large files staged by reading: all but file managers that look, all, none.",
)
@click.option(
    "--atomic-store",
    is_flag=True,
    default=None,
    help="Replace files as a whole, by a new inode; else they are written in place.",
)
def mount(
    mountpoint: str,
    profile: str | None,
    url: str | None,
    foreground: bool,
    options: tuple[str, ...],
    **given: Any,
) -> None:
    """Mount all systems of a server; return when the mount answers.

    Example:  firecrestfs mount ~/hpc -o ttl=60
    """
    from .. import daemon

    settings = _mount_options(options)
    given |= {"profile": profile, "url": url}
    settings.update({key: value for key, value in given.items() if value is not None})
    sys.exit(daemon.mount(config.load(settings), mountpoint, foreground=foreground))


#: What mount(8) and fstab pass and we have no use for.
_IGNORED_OPTIONS = frozenset(
    {"rw", "defaults", "auto", "noauto", "user", "nouser", "users", "exec", "noexec"}
    | {"suid", "nosuid", "dev", "nodev", "_netdev", "nofail"}
)


def _mount_options(options: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in ",".join(options).split(","):
        name, has_value, value = each.strip().partition("=")
        if name and name not in _IGNORED_OPTIONS and not name.startswith("x-"):
            found[name.replace("-", "_")] = value if has_value else True
    return found


@click.command()
@click.argument("mountpoint", required=False, type=click.Path())
@click.option("--now", is_flag=True, help="Don't wait for what is pending: it is kept, and told.")
@click.option("--timeout", type=float, help="Seconds to wait for what is pending.")
def umount(mountpoint: str | None, now: bool, timeout: float | None) -> None:
    """Store everything, then unmount. Exit status 1: something has not been stored.

    What is left is kept on this machine and stored after the next mount.

    Example:  firecrestfs umount ~/hpc
    """
    where = mountpoints.resolved(mountpoint) if mountpoint else mountpoints.the_mount()
    sys.exit(_umount(where, now, timeout))


def _umount(where: str, now: bool, timeout: float | None) -> int:
    record = mountpoints.read_record(where)
    if record is None:
        return _umount_dead(where)
    _signal(record.pid, signal.SIGUSR1 if now else signal.SIGTERM)
    _wait_for_end(record, timeout)
    report = StateDirectory(Path(record.state_dir)).last_exit()
    if report.get("pid") != record.pid:
        click.echo("the mount's process ended without a report; see its log", err=True)
        return 1
    return _tell_end(report, record.state_dir)


def _umount_dead(where: str) -> int:
    """Take away what a dead process left, or tell how the mount at *where* ended by itself."""
    if mountpoints.heal(where):
        click.echo(f"{where}: the mount's process was gone; unmounted")
        return 1
    latest = max(
        (each for each in state_directories() if each.origin().mountpoint == where),
        key=lambda each: each.mounted_at(),
        default=None,
    )
    if latest is None:
        raise OSError(22, "not mounted by firecrestfs", where)
    report = latest.last_exit()
    if not report:
        text = "not mounted any more; its process was killed: `firecrestfs status` tells what waits"
        click.echo(f"{where}: {text}", err=True)
        return 1
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(report.get("ended", 0)))
    click.echo(f"{where}: not mounted any more, since {when}", err=True)
    return _tell_end(report, str(latest.path))


def _wait_for_end(record: mountpoints.MountRecord, timeout: float | None) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    progress = _Progress(record.mountpoint)
    while mountpoints.is_alive(record.pid):
        time.sleep(0.05)
        progress.tell()
        if end is not None and time.monotonic() > end:
            _signal(record.pid, signal.SIGTERM)
            end = None
    progress.end()


class _Progress:
    """Tells what is still to be stored: in place on a terminal, now and then a line elsewhere."""

    def __init__(self, mountpoint: str) -> None:
        self._mountpoint = mountpoint
        self._terminal = sys.stderr.isatty()
        self._next = time.monotonic() + 1.0
        self._shown = ""

    def tell(self) -> None:
        """Say how far it is, if it is time to."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (0.5 if self._terminal else 5.0)
        try:
            found = read_status(self._mountpoint)
        except (OSError, ValueError):
            return
        line = _progress_line(found)
        if self._terminal:
            click.echo(f"\r\033[K{line}", nl=False, err=True)
        elif line != self._shown:
            click.echo(line, err=True)
        self._shown = line

    def end(self) -> None:
        """Leave the terminal's line."""
        if self._terminal and self._shown:
            click.echo("\r\033[K", nl=False, err=True)


def _progress_line(found: Mapping[str, Any]) -> str:
    pending = found["pending"]
    storing = sum(row["state"] == "storing" for row in pending)
    changes = "1 change" if len(pending) == 1 else f"{len(pending)} changes"
    line = f"{changes} to store, {storing} on the way …"
    trouble = found.get("unreachable") or found.get("credentials")
    if trouble:
        line += f" {trouble['reason']}; `firecrestfs umount --now` keeps them for the next mount"
    return line


def _tell_end(report: Mapping[str, Any], state_dir: str) -> int:
    failed, refused = report.get("failed", {}), report.get("refused", {})
    for path, reason in sorted((failed | refused).items()):
        click.echo(f"not stored: {path}: {reason}", err=True)
    if failed:
        click.echo(
            f"the bytes are kept in {state_dir} and stored after the next mount; without one: "
            "firecrestfs status, export, discard",
            err=True,
        )
    return 1 if failed or refused else 0


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return
