"""The commands about jobs: parse, call one function of `jobcommands`, print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from .. import config, jobcommands, mountpoints

#: sbatch's options that are passed on, with their short forms and what they say.
_SBATCH = {
    "account": ("-A", "Account to charge."),
    "partition": ("-p", "Partition."),
    "job-name": ("-J", "Name of the job."),
    "time": ("-t", "Time limit: minutes, H:M:S or D-H:M:S."),
    "nodes": ("-N", "Number of nodes."),
    "ntasks": ("-n", "Number of tasks."),
    "ntasks-per-node": ("", "Tasks on each node."),
    "cpus-per-task": ("-c", "CPUs for each task."),
    "mem": ("", "Memory on each node."),
    "gpus": ("-G", "Number of GPUs."),
    "gres": ("", "Generic resources."),
    "constraint": ("-C", "Features that nodes must have."),
    "qos": ("-q", "Quality of service."),
    "reservation": ("", "Reservation."),
    "dependency": ("-d", "Start after other jobs: afterok:4211."),
    "array": ("-a", "Tasks of a job array: 0-9%2."),
    "output": ("-o", "File for the output."),
    "error": ("-e", "File for the errors."),
    "input": ("-i", "File to read from."),
    "mail-type": ("", "When to send mail."),
    "mail-user": ("", "Where to send it."),
    "export": ("", "Variables for a shell script: ALL,NAME=VALUE,…"),
}
_SBATCH_FLAGS = {
    "hold": ("-H", "Let it wait until it is released."),
    "exclusive": ("", "Share no node."),
    "requeue": ("", "Let it be started again."),
}


def _with_sbatch_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for flag, table in ((False, _SBATCH), (True, _SBATCH_FLAGS)):
        for name, (short, text) in reversed(table.items()):
            names = [*filter(None, [short]), f"--{name}"]
            variable = f"sbatch_{name.replace('-', '_')}"
            command = click.option(*names, variable, is_flag=flag, help=text)(command)
    return command


def _with_system(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("-S", "--system", default="", help="The system (FIRECREST_SYSTEM).")(
        command
    )


def _default_system() -> str:
    return config.load({}).default_system


@click.command(context_settings={"allow_interspersed_args": False})
@_with_sbatch_options
@click.option("-D", "--chdir", default="", help="Where it runs: in the mount, or on the cluster.")
@click.option("--wrap", default="", help="A command to be run instead of a script.")
@click.option("-W", "--wait", is_flag=True, help="Return when it has ended, with its exit code.")
@click.option("--parsable", is_flag=True, help="Print the id alone.")
@_with_system
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.argument("script", default="-", type=click.Path(dir_okay=False))
@click.argument("arguments", nargs=-1)
def submit(
    script: str,
    arguments: tuple[str, ...],
    chdir: str,
    wrap: str,
    wait: bool,
    parsable: bool,
    system: str,
    as_json: bool,
    **sbatch: str | bool | None,
) -> None:
    """Submit a batch script through the mount, with sbatch's options and arguments.

    It runs in the current directory where that lies in the mount; elsewhere in SCRATCH, or HOME.
    SCRIPT may lie anywhere; "-" is the standard input. Options are Slurm's.

    Example:  firecrestfs submit -p debug -t 10 run.sh input.dat
    """
    options = {
        name.removeprefix("sbatch_").replace("_", "-"): value
        for name, value in sbatch.items()
        if value
    }
    place = jobcommands.the_place(system, _default_system(), chdir, "" if wrap else script)
    name, text = _script(script, wrap, str(options.get("job-name") or ""))
    built = jobcommands.build_script(text, name, options, arguments)
    content = built.encode("utf-8", "surrogateescape")
    job = jobcommands.submit(place, name, content, lambda told: click.echo(told, err=True))
    _print_submitted(job, place.system, parsable, as_json)
    if wait:
        state, code = jobcommands.wait(job)
        sys.exit(code or int(state != "COMPLETED"))


def _script(script: str, wrap: str, job_name: str) -> tuple[str, str]:
    """Return name and text of what is to be submitted."""
    if wrap:
        return job_name or "wrap", f"#!/bin/sh\n{wrap}\n"
    if script == "-":
        content = sys.stdin.buffer.read()
        return job_name or "sbatch", content.decode("utf-8", "surrogateescape")
    path = Path(script)
    system, colon, remote = script.partition(":")
    if colon and remote.startswith("/") and not path.exists():
        path = Path(f"{mountpoints.the_mount()}/{system}{remote}")
    return job_name or path.name, path.read_bytes().decode("utf-8", "surrogateescape")


def _print_submitted(job: Path, system: str, parsable: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"jobid": job.name, "system": system, "directory": str(job)}))
    else:
        click.echo(job.name if parsable else f"Submitted batch job {job.name}")


@click.command()
@click.argument("system", nargs=-1)
@click.option("--active", is_flag=True, help="Only jobs that have not ended.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def jobs(system: tuple[str, ...], active: bool, as_json: bool) -> None:
    """List your jobs on SYSTEM, or on all systems of the mount.

    Example:  firecrestfs jobs --active
    """
    mountpoint = mountpoints.the_mount()
    names = system or jobcommands.systems(mountpoint)
    places = [jobcommands.Place(mountpoint, each) for each in names]
    if as_json:
        found = {each.system: json.loads((each.path / "queue.json").read_text()) for each in places}
        click.echo(json.dumps(found, indent=2))
        return
    for each in places:
        if len(places) > 1:
            click.echo(f"{each.system}:")
        click.echo(jobcommands.queue(each, active=active))


@click.command()
@click.argument("job", nargs=-1, required=True)
@_with_system
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cancel(job: tuple[str, ...], system: str, as_json: bool) -> None:
    """Cancel jobs, by id, SYSTEM:ID or path; take back a script that is not submitted yet.

    Example:  firecrestfs cancel 4211 ~/hpc/daint/.jobs/run.sh
    """
    failed = {}
    for each in job:
        try:
            jobcommands.cancel(jobcommands.job_directory(each, system, _default_system()))
        except OSError as exc:
            failed[each] = exc.strerror or str(exc)
            click.echo(f"{each}: not cancelled: {failed[each]}", err=True)
    if as_json:
        click.echo(json.dumps({"cancelled": [each for each in job if each not in failed]}))
    sys.exit(1 if failed else 0)


@click.command()
@click.argument("job", nargs=-1)
@_with_system
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def wait(job: tuple[str, ...], system: str, as_json: bool) -> None:
    """Return when jobs have ended, by default the latest; exit status 1 unless all have succeeded.

    Example:  firecrestfs wait 4211
    """
    rows = []
    for each in job or ("last",):
        directory = jobcommands.job_directory(each, system, _default_system())
        directory = directory.resolve() if each == "last" else directory
        state, code = jobcommands.wait(directory)
        rows.append({"jobid": directory.name, "state": state, "exit_code": code})
        if not as_json:
            click.echo(f"{directory.name} {state} {code}")
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    done = all(row["state"] == "COMPLETED" and not row["exit_code"] for row in rows)
    sys.exit(0 if done else 1)


COMMANDS = (submit, jobs, cancel, wait)
