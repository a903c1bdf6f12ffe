"""`status` and `login`: what waits, why, and how it goes on."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from .. import config, mountpoints
from ..errors import os_error
from ..kept import DISCARDED_S, Kept, StateDirectory
from .files import transfer_line
from .places import is_served, left_by, places, read_status, readable, tell, with_server

_SHOWN = 20


@click.command()
@click.argument("mountpoint", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Print again every two seconds.")
@click.option("--state-dir", help="Where changes wait, if not in the usual place.")
def status(mountpoint: str | None, as_json: bool, watch: bool, state_dir: str | None) -> None:
    """Tell what is pending, running and failed; also while nothing is mounted.

    Example:  firecrestfs status --watch
    """
    while True:
        if state_dir is None and is_served(mountpoint):
            where = mountpoints.mount_of(mountpoint) if mountpoint else mountpoints.the_mount()
            found = read_status(where)
            click.echo(json.dumps(found, indent=2) if as_json else _of_mount(found))
        else:
            _tell_kept(mountpoint, state_dir, as_json)
        if not watch:
            return
        time.sleep(2)


# -- of a mount ------------------------------------------------------------------------------------


def _of_mount(found: Mapping[str, Any]) -> str:
    lines = [f"{found['url']} at {found['mountpoint']} (process {found['pid']})"]
    lines.append(f"systems: {', '.join(found['systems'])}")
    away, refused = found.get("unreachable"), found.get("credentials")
    if away:
        lines.append(f"unreachable since {_when(away['since'])}: {away['reason']}")
        lines.append("  what is known stays readable; changes wait and are stored by themselves")
    if refused:
        lines.append(f"no access since {_when(refused['since'])}: {refused['reason']}")
        lines.append("  nothing is lost: renew the credentials, then run `firecrestfs login`")
    pending = found["pending"]
    lines.append(f"pending: {len(pending)}" if pending else "everything is stored")
    lines += [f"  {row['state']:8} {row['path']}  {row['error']}".rstrip() for row in pending]
    if any(row["state"] == "failed" for row in pending):
        lines.append("  failed ones: firecrestfs retry, discard or export --to DIR")
    lines += [f"  {transfer_line(row)}" for row in found["transfers"]]
    if found["errors"]:
        lines += ["lately:", *(f"  {line}" for line in found["errors"])]
    return "\n".join(lines)


def _when(epoch: float) -> str:
    """Return a moment as people say it: today by the hour, this week by the day."""
    then, age = time.localtime(epoch), time.time() - epoch
    if time.strftime("%F", then) == time.strftime("%F"):
        return time.strftime("%H:%M", then)
    return time.strftime("%A %H:%M" if age < 6 * 86400 else "%Y-%m-%d", then)


# -- of state directories --------------------------------------------------------------------------


def _tell_kept(mountpoint: str | None, state_dir: str | None, as_json: bool) -> None:
    found = left_by(mountpoint, state_dir)
    if mountpoint is not None and not found:
        raise os_error(22, mountpoint, "not in a mount of firecrestfs")
    reports = [_report(each) for each in found]
    if as_json:
        click.echo(json.dumps({"mounted": False, "servers": reports}, indent=2))
        return
    lines = [line for each in reports for line in _lines(each)]
    click.echo("\n".join(lines) if lines else "nothing is mounted, and nothing waits")


def _report(directory: StateDirectory) -> dict[str, Any]:
    origin = directory.origin()
    rows: Sequence[Kept] = []
    trouble = ""
    try:
        with directory.locked("firecrestfs status"):
            rows = directory.rows()
    except OSError as exc:
        trouble = readable(exc)
    return {
        "state_dir": str(directory.path),
        "url": origin.url,
        "mountpoint": origin.mountpoint,
        "error": trouble,
        "pending": [
            {"path": row.path, "kind": row.kind, "since": row.since, "error": row.error}
            for row in rows
        ],
        "lost_found": [str(each) for each in directory.lost()],
    }


def _lines(report: Mapping[str, Any]) -> list[str]:
    pending, lost = report["pending"], report["lost_found"]
    name = report["url"] or report["state_dir"]
    lines = []
    if report["error"]:
        lines.append(f"{name}: {report['error']}")
    if pending:
        since = min((row["since"] for row in pending if row["since"]), default=None)
        when = f" since {_when(since)}" if since else ""
        files = "1 file" if len(pending) == 1 else f"{len(pending)} files"
        mount = f"firecrestfs mount {report['mountpoint'] or 'MOUNTPOINT'}"
        lines.append(f"{name}: not mounted; {files} pending{when}; run {mount}")
        lines += [f"  {row['path']}  {row['error']}".rstrip() for row in pending[:_SHOWN]]
        if len(pending) > _SHOWN:
            lines.append(f"  … and {len(pending) - _SHOWN} more: --json shows all")
    if lost:
        days = round(DISCARDED_S / 86400)
        lines.append(f"{name}: {len(lost)} in lost+found (discarded ones go after {days} days)")
        lines += [f"  {each}" for each in lost[:_SHOWN]]
    return lines


# -- login -----------------------------------------------------------------------------------------


@click.command()
@click.argument("mountpoint", required=False, type=click.Path())
@with_server
def login(mountpoint: str | None, profile: str | None, url: str | None) -> None:
    """Check the credentials; a running mount takes them and goes on with what waits.

    They are those of the environment and of config.toml as they are now. A secret that the server
    rejected isn't tried again by the mount before this.

    Example:  firecrestfs login
    """
    settings = config.load({"profile": profile, "url": url})
    if is_served(mountpoint):
        sys.exit(_login_mount(mountpoint, settings))
    from .. import mount as wiring

    config.require_server(settings)
    names = ", ".join(each.name for each in wiring.make_client(settings).systems())
    click.echo(f"{settings.url} accepts the credentials; systems: {names}")


def _login_mount(mountpoint: str | None, settings: config.Config) -> int:
    where = places([mountpoint] if mountpoint else [])[0].mountpoint
    running = read_status(where)
    given: dict[str, str] = {}
    if settings.url.rstrip("/") == running["url"].rstrip("/"):
        given = {
            name: value
            for name in sorted(config.CREDENTIALS)
            if (value := str(getattr(settings, name)))
        }
    answer = tell(where, "login", json.dumps(given))
    if answer["error"]:
        click.echo(f"{where}: {answer['error']}", err=True)
        return 1
    click.echo(f"{where}: the server accepts the credentials; pending: {answer['pending']}")
    return 0
