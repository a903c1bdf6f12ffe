"""Commands about a server, real or embedded, and about this program."""

from __future__ import annotations

import json
import sys

import click

from .. import __version__, config
from .places import with_server


@click.command()
@with_server
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def systems(profile: str | None, url: str | None, as_json: bool) -> None:
    """List the systems that the server offers.

    Example:  firecrestfs systems
    """
    from .. import mount as wiring

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


@click.command()
@with_server
def doctor(profile: str | None, url: str | None) -> None:
    """Check this machine and the way to the server; each trouble comes with its remedy.

    Example:  firecrestfs doctor
    """
    from .. import doctor as checks

    results = checks.run({"profile": profile, "url": url})
    for each in results:
        click.echo(f"{'ok  ' if each.ok else 'FAIL'} {each.name}: {each.text}")
    sys.exit(0 if all(each.ok for each in results) else 1)


@click.command()
def version() -> None:
    """Print the version, and those of what it stands on.

    Example:  firecrestfs version
    """
    from .. import doctor as checks

    click.echo(f"firecrestfs {__version__}")
    for line in checks.versions():
        click.echo(line)


class _ServeCommand(click.Command):
    """Its help ends with what can be set, as the emulator has it."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        from .. import demo as embedded

        try:
            paragraphs = embedded.knobs_help()
        except OSError as exc:  # the extra isn't installed: that is what there is to say
            paragraphs = [str(exc.strerror)]
        for paragraph in paragraphs:
            formatter.write_paragraph()
            formatter.write(paragraph + "\n")


@click.command(cls=_ServeCommand)
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
    from .. import demo as embedded

    if "help" in settings:
        click.echo("\n\n".join(embedded.knobs_help()))
        return
    embedded.serve(root, port, api, latency, settings, faults, as_json)


@click.command()
@click.argument("mountpoint", required=False, type=click.Path())
def demo(mountpoint: str | None) -> None:
    """Start an embedded FirecREST with populated clusters and mount it; Ctrl-C ends both.

    Example:  firecrestfs demo
    """
    from .. import demo as embedded

    sys.exit(embedded.run(mountpoint))
