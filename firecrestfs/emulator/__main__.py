"""`python -m firecrestfs.emulator`: the emulator alone."""

from __future__ import annotations

import click

from .knobs import table
from .server import APIS, serve


def _knob_help() -> str:
    rows = [f"  {row.name} ({row.type}, {row.default!r}): {row.help}" for row in table()]
    return "\b\nSettings for --set:\n" + "\n".join(rows)


@click.command(epilog=_knob_help())
@click.option("--root", type=click.Path(file_okay=False), help="Directory for the clusters' files.")
@click.option("--port", default=0, show_default=True, help="TCP port; 0 picks a free one.")
@click.option("--api", type=click.Choice(APIS), default="v2", show_default=True)
@click.option("--latency", default=0.0, help="Milliseconds that every call takes on top.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@click.option("--system", "systems", multiple=True, default=("cluster",), help="A cluster's name.")
@click.option("--demo", is_flag=True, help="Fill the first cluster with things to play with.")
@click.option("--json", is_flag=True, help="Print one line of JSON when ready.")
def main(
    root: str | None,
    port: int,
    api: str,
    latency: float,
    settings: tuple[str, ...],
    systems: tuple[str, ...],
    demo: bool,
    json: bool,
) -> None:
    """Serve an emulated FirecREST on 127.0.0.1 until interrupted."""
    pairs = [setting.partition("=") for setting in settings]
    try:
        values = {name: value for name, _, value in pairs}
        serve(root, port, api, latency, values, json=json, systems=systems, demo=demo)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


if __name__ == "__main__":
    main()
