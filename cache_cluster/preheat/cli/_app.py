"""The commands put together."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from preheat import __version__
from preheat.cli import (
    _cluster,
    _datasets,
    _fs,
    _jobs,
    _leave,
    _mounts,
    _processes,
    _receipts,
    _report,
    _tokens,
    _workers,
)
from preheat.cli._errors import run_reporting_errors

app = typer.Typer(
    name="preheat",
    help="Keep training data warm: run a cache cluster and preload datasets into it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_cluster.register(app)
_processes.register(app)
_leave.register(app)
_jobs.register(app)
_receipts.register(app)
_fs.register(app)
_mounts.register(app)
_datasets.register(app)
_workers.register(app)
_report.register(app)
_tokens.register(app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line: these arguments, or those of the process."""
    run_reporting_errors(app, arguments)


def _show_version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if asked:
        typer.echo(f"preheat {__version__}")
        raise typer.Exit


def _trust(ca_file: Path | None) -> None:
    """Let every client of this process and of its children trust the file's authorities."""
    if ca_file is not None:
        os.environ["PREHEAT_CA_FILE"] = str(ca_file)


@app.callback()
def _root(
    *,
    _ca: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            envvar="PREHEAT_CA_FILE",
            callback=_trust,
            exists=True,
            dir_okay=False,
            resolve_path=True,
            help="Who signed the certificates of https:// coordinators and workers (PEM).",
            show_default=False,
        ),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
