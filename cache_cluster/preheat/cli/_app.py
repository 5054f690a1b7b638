"""The commands put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from preheat import __version__
from preheat.cli import _cluster, _jobs, _processes, _report
from preheat.cli._errors import run_reporting_errors

app = typer.Typer(
    name="preheat",
    help="Keep training data warm: run a cache cluster and preload datasets into it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_cluster.register(app)
_processes.register(app)
_jobs.register(app)
_report.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: these arguments, or those of the process."""
    run_reporting_errors(app, arguments)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if asked:
        typer.echo(f"preheat {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
