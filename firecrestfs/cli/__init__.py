"""The command line: parse, call one function, print.

Exit codes: 0 done · 1 not all of it was done, or a check failed · 2 wrong usage or a refusal, with
the reason on stderr · 130 interrupted.
"""

from __future__ import annotations

from typing import Any

import click

from . import changes, files, jobs, mounting, servers, states
from .places import readable


class _Group(click.Group):
    """Turns every `OSError` into one readable line and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except OSError as exc:
            click.echo(f"firecrestfs: {readable(exc)}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            ctx.exit(130)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Mount HPC clusters through FirecREST.

    Try it without a server:  firecrestfs demo
    """


for _each in (
    *(mounting.mount, mounting.umount, states.status, states.login),
    *(changes.sync, changes.refresh, changes.retry, changes.discard, changes.export),
    *(servers.systems, servers.doctor, servers.version, servers.serve, servers.demo),
    *files.COMMANDS,
    *jobs.COMMANDS,
):
    main.add_command(_each)
