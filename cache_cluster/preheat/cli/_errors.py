"""The one place where an error becomes what people see, and an exit code: 1, or 2 for a wrong command line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from preheat.errors import InvalidRequest, PreheatError
from preheat.units import parse_deadline, parse_size

_as_json: ContextVar[bool] = ContextVar("as_json", default=False)
"""Whether the command that runs was called with ``--json``."""


def run_reporting_errors(app: typer.Typer, arguments: Sequence[str] | None = None) -> None:
    """Run a command line; a :class:`PreheatError` ends it with a red line, or with ``--json`` as problem object."""
    _as_json.set(False)
    try:
        app(arguments)
    except PreheatError as error:
        show_error(error, as_json=_as_json.get())
        sys.exit(1)


def show_error(error: PreheatError, *, as_json: bool = False) -> None:
    """Print an error: for people on stderr, or as JSON on stdout, where the result would have been."""
    if as_json:
        typer.echo(json.dumps(error.problem(), indent=2))
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text(f"Error: {error.message}", style="bold red"))
    if error.remedy:
        console.print(Text(error.remedy))


@contextmanager
def usage_errors() -> Iterator[None]:
    """Report an :class:`InvalidRequest` of the block, made from the command line's values, as wrong usage."""
    try:
        yield
    except InvalidRequest as error:
        raise typer.BadParameter(str(error)) from error


def parse_capacity(text: str) -> int:
    """Read a size in an option."""
    with usage_errors():
        return parse_size(text, field="capacity")


def parse_size_option(text: str) -> int:
    """Read a number of bytes in an option."""
    with usage_errors():
        return parse_size(text, field="size")


def parse_bandwidth(text: str) -> int | None:
    """Read a rate in an option; an empty text is no limit, as Alluxio's default has it."""
    with usage_errors():
        return parse_size(text, field="bandwidth") if text.strip() else None


def parse_live_bandwidth(text: str) -> int:
    """Read a rate that may also be ``unlimited``: 0."""
    return 0 if text == "unlimited" else parse_bandwidth(text) or 0


def parse_deadline_option(text: str) -> float:
    """Read a deadline in an option, in seconds since the epoch."""
    with usage_errors():
        return parse_deadline(text, now=datetime.now(tz=UTC)).timestamp()


def _note_json(asked: bool) -> bool:  # noqa: FBT001 - Typer calls it so
    _as_json.set(asked)
    return asked


JsonFlag = Annotated[bool, typer.Option("--json", callback=_note_json, help="Print JSON, errors included.")]
"""A command's ``--json``; it also decides how the command's errors are shown."""
