"""`python -m firecrestfs.emulator`: the emulator alone."""

from __future__ import annotations

import click

from .manual import faults_help, settings_help
from .server import APIS, serve


def _epilog() -> str:
    return "\n\n".join(
        f"\b\n{each}" for each in f"{settings_help()}\n\n{faults_help()}".split("\n\n")
    )


@click.command(epilog=_epilog())
@click.option("--root", type=click.Path(file_okay=False), help="Directory for the clusters' files.")
@click.option("--port", default=0, show_default=True, help="TCP port; 0 picks a free one.")
@click.option("--api", type=click.Choice(APIS), default="v2", show_default=True)
@click.option("--latency", default=0.0, help="Milliseconds that every call takes on top.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--fault", "faults", multiple=True, metavar="RULE", help="May be repeated.")
@click.option("--system", "systems", multiple=True, default=("cluster",), help="A cluster's name.")
@click.option("--demo", is_flag=True, help="Fill the first cluster with things to play with.")
@click.option("--json", is_flag=True, help="Print one line of JSON when ready.")
def main(
    root: str | None,
    port: int,
    api: str,
    latency: float,
    settings: tuple[str, ...],
    faults: tuple[str, ...],
    systems: tuple[str, ...],
    demo: bool,
    json: bool,
) -> None:
    """Serve an emulated FirecREST on 127.0.0.1 until interrupted."""
    pairs = [setting.partition("=") for setting in settings]
    try:
        values = {name: value for name, _, value in pairs}
        serve(
            root,
            port,
            api,
            latency,
            values,
            json=json,
            systems=systems,
            demo=demo,
            faults=faults,
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


if __name__ == "__main__":
    main()
