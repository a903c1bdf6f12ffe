"""The command line: parse, call one function, print.

Exit codes: 0 done · 1 not all of it was done, or a check failed · 2 wrong usage or a refusal, with
the reason on stderr · 130 interrupted.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from . import __version__, cli_jobs, config, mountpoints

_SERVER_OPTIONS = [
    click.option("--profile", help="Table of config.toml to use (default: [default])."),
    click.option("--url", help="FirecREST's base URL (FIRECREST_URL)."),
]


class _Group(click.Group):
    """Turns every `OSError` into one readable line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as exc:
            click.echo(f"firecrestfs: {_line(exc)}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            ctx.exit(130)


def _line(exc: OSError) -> str:
    text = exc.strerror or str(exc)
    return f"{exc.filename}: {text}" if exc.filename else text


def _with_server(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_SERVER_OPTIONS):
        command = option(command)
    return command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Mount HPC clusters through FirecREST.

    Try it without a server:  firecrestfs demo
    """


# -- mounting --------------------------------------------------------------------------------------


@main.command()
@click.argument("mountpoint", type=click.Path(file_okay=False))
@_with_server
@click.option("-f", "--foreground", is_flag=True, help="Stay in front; log to stderr.")
@click.option("-o", "options", multiple=True, help="Settings as mount(8) passes them: k=v,k,…")
@click.option("--cache-dir", help="Where clean copies are kept.")
@click.option("--state-dir", help="Where changes wait until they are stored.")
def mount(
    mountpoint: str,
    profile: str | None,
    url: str | None,
    foreground: bool,
    options: tuple[str, ...],
    cache_dir: str | None,
    state_dir: str | None,
) -> None:
    """Mount all systems of a server; return when the mount answers.

    Example:  firecrestfs mount ~/hpc -o ttl=60
    """
    from . import daemon

    settings = _mount_options(options)
    given = {"profile": profile, "url": url, "cache_dir": cache_dir, "state_dir": state_dir}
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


@main.command()
@click.argument("mountpoint", required=False, type=click.Path())
@click.option("--now", is_flag=True, help="Don't wait for what is pending.")
@click.option("--timeout", type=float, help="Seconds to wait for what is pending.")
def umount(mountpoint: str | None, now: bool, timeout: float | None) -> None:
    """Store everything, then unmount. Exit status 1: something has not been stored.

    Example:  firecrestfs umount ~/hpc
    """
    where = mountpoints.resolved(mountpoint) if mountpoint else mountpoints.the_mount()
    sys.exit(_umount(where, now, timeout))


def _umount(where: str, now: bool, timeout: float | None) -> int:
    record = mountpoints.read_record(where)
    if record is None:
        if mountpoints.heal(where):
            click.echo(f"{where}: the mount's process was gone; unmounted")
            return 1
        raise OSError(22, "not mounted by firecrestfs", where)
    os.kill(record.pid, signal.SIGTERM)
    if now:
        time.sleep(0.3)
        _kill(record.pid, signal.SIGTERM)
    _wait_for_end(record, timeout)
    return _report_end(record)


def _wait_for_end(record: mountpoints.MountRecord, timeout: float | None) -> None:
    end = None if timeout is None else time.monotonic() + timeout
    told = time.monotonic() + 1.0
    while mountpoints.is_alive(record.pid):
        time.sleep(0.05)
        if time.monotonic() > told:
            told += 5.0
            _tell_progress(record)
        if end is not None and time.monotonic() > end:
            _kill(record.pid, signal.SIGTERM)
            end = None


def _tell_progress(record: mountpoints.MountRecord) -> None:
    try:
        pending = _status(record.mountpoint)["pending"]
    except OSError:
        return
    click.echo(f"{len(pending)} files to store …", err=True)


def _report_end(record: mountpoints.MountRecord) -> int:
    try:
        report = json.loads((Path(record.state_dir) / "last-exit.json").read_text())
    except (OSError, ValueError):
        report = {}
    if report.get("pid") != record.pid:
        click.echo("the mount's process ended without a report; see its log", err=True)
        return 1
    for path, reason in sorted(report["failed"].items()):
        click.echo(f"not stored: {path}: {reason}", err=True)
    if report["failed"]:
        click.echo(f"the bytes are kept in {record.state_dir}/files", err=True)
    return 1 if report["failed"] else 0


def _kill(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


# -- talking to a mount ----------------------------------------------------------------------------


def _status(mountpoint: str) -> dict[str, Any]:
    text = Path(mountpoint, ".firecrestfs", "status.json").read_text()
    found: dict[str, Any] = json.loads(text)
    return found


@main.command()
@click.argument("mountpoint", required=False, type=click.Path())
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--watch", is_flag=True, help="Print again every two seconds.")
def status(mountpoint: str | None, as_json: bool, watch: bool) -> None:
    """Tell what is pending, running and failed.

    Example:  firecrestfs status --watch
    """
    where = mountpoints.mount_of(mountpoint) if mountpoint else mountpoints.the_mount()
    while True:
        found = _status(where)
        click.echo(json.dumps(found, indent=2) if as_json else _readable_status(found))
        if not watch:
            return
        time.sleep(2)


def _readable_status(found: dict[str, Any]) -> str:
    lines = [f"{found['url']} at {found['mountpoint']} (process {found['pid']})"]
    lines.append(f"systems: {', '.join(found['systems'])}")
    pending = found["pending"]
    lines.append(f"pending: {len(pending)}" if pending else "everything is stored")
    lines += [f"  {row['state']:8} {row['path']}  {row['error']}".rstrip() for row in pending]
    if found["errors"]:
        lines += ["lately:", *(f"  {line}" for line in found["errors"])]
    return "\n".join(lines)


@main.command()
@click.argument("path", nargs=-1, type=click.Path())
def sync(path: tuple[str, ...]) -> None:
    """Return when the cluster has everything at and below PATH (default: all of the mount).

    Example:  firecrestfs sync ~/hpc/daint/users/me/run
    """
    failed: dict[str, str] = {}
    for each in path or (mountpoints.the_mount(),):
        failed |= _sync(each)
    for name, reason in sorted(failed.items()):
        click.echo(f"not stored: {name}: {reason}", err=True)
    sys.exit(1 if failed else 0)


def _sync(path: str) -> dict[str, str]:
    mountpoint = mountpoints.mount_of(path)
    inside = mountpoints.resolved(path)[len(mountpoint) :] or "/"
    fd = os.open(os.path.join(mountpoint, ".firecrestfs", "ctl"), os.O_RDWR)
    try:
        os.write(fd, os.fsencode(f"sync {inside}\n"))
        answer = b""
        while piece := os.pread(fd, 65536, len(answer)):
            answer += piece
    finally:
        os.close(fd)
    failed: dict[str, str] = json.loads(answer)["failed"]
    return failed


@main.command()
@click.argument("path", nargs=-1, type=click.Path())
def refresh(path: tuple[str, ...]) -> None:
    """Forget what is remembered of the cluster at and below PATH: the next look asks it.

    Example:  firecrestfs refresh ~/hpc/daint/scratch/me
    """
    for each in path or (mountpoints.the_mount(),):
        mountpoint = mountpoints.mount_of(each)
        inside = mountpoints.resolved(each)[len(mountpoint) :] or "/"
        with open(os.path.join(mountpoint, ".firecrestfs", "refresh"), "wb", buffering=0) as file:
            file.write(os.fsencode(inside + "\n"))


# -- looking at a server ---------------------------------------------------------------------------


@main.command()
@_with_server
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def systems(profile: str | None, url: str | None, as_json: bool) -> None:
    """List the systems that the server offers.

    Example:  firecrestfs systems
    """
    from . import mount as wiring

    settings = config.load({"profile": profile, "url": url})
    config.require_server(settings)
    found = wiring.make_client(settings).systems()
    if as_json:
        rows = [
            {
                "name": each.name,
                "file_systems": [root.path for root in each.roots],
                "scheduler": each.scheduler,
                "problem": each.problem,
            }
            for each in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    for each in found:
        paths = " ".join(root.path for root in each.roots)
        click.echo(f"{each.name:16} {each.scheduler:8} {paths}  {each.problem}".rstrip())


@main.command()
@_with_server
def doctor(profile: str | None, url: str | None) -> None:
    """Check this machine and the way to the server; each trouble comes with its remedy.

    Example:  firecrestfs doctor
    """
    from . import doctor as checks

    results = checks.run({"profile": profile, "url": url})
    for each in results:
        click.echo(f"{'ok  ' if each.ok else 'FAIL'} {each.name}: {each.text}")
    sys.exit(0 if all(each.ok for each in results) else 1)


@main.command()
def version() -> None:
    """Print the version, and those of what it stands on.

    Example:  firecrestfs version
    """
    from . import doctor as checks

    click.echo(f"firecrestfs {__version__}")
    for line in checks.versions():
        click.echo(line)


# -- the embedded FirecREST ------------------------------------------------------------------------


class _ServeCommand(click.Command):
    """Its help ends with what can be set, as the emulator has it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from . import demo

        try:
            paragraphs = demo.knobs_help()
        except OSError as exc:  # the extra isn't installed: that is what there is to say
            paragraphs = [str(exc.strerror)]
        for paragraph in paragraphs:
            formatter.write_paragraph()
            formatter.write(paragraph + "\n")


@main.command(cls=_ServeCommand)
@click.option("--root", type=click.Path(file_okay=False), help="Directory of the clusters' files.")
@click.option("--port", type=int, default=0, help="Port on 127.0.0.1 (default: a free one).")
@click.option("--api", type=click.Choice(["v1", "v2"]), default="v2", show_default=True)
@click.option("--latency", type=float, default=0.0, help="Milliseconds added to every call.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a knob; they are listed below.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="RULE",
    help="Let requests go wrong; the kinds are listed below.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON once it answers.")
def serve(
    root: str | None,
    port: int,
    api: str,
    latency: float,
    settings: tuple[str, ...],
    faults: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the embedded FirecREST alone, until SIGTERM or Ctrl-C.

    Example:  firecrestfs serve --root /tmp/cluster --latency 50
    """
    from . import demo

    if "help" in settings:
        click.echo("\n\n".join(demo.knobs_help()))
        return
    demo.serve(root, port, api, latency, settings, faults, as_json)


@main.command(name="demo")
@click.argument("mountpoint", required=False, type=click.Path())
def demo_command(mountpoint: str | None) -> None:
    """Start an embedded FirecREST with populated clusters and mount it; Ctrl-C ends both.

    Example:  firecrestfs demo
    """
    from . import demo

    sys.exit(demo.run(mountpoint))


for _command in cli_jobs.COMMANDS:
    main.add_command(_command)
