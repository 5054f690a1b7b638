"""How results are printed: tables and panels for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

_UNCUT = 10_000
"""Columns when no terminal limits them: a program that reads our lines needs whole values."""


def result_console() -> Console:
    """Return the console of results: stdout."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_UNCUT)


def status_console() -> Console:
    """Return the console of progress and remarks: stderr."""
    return Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a typed value as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows below headers, without a frame."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    result_console().print(table)


def print_pairs(pairs: Sequence[tuple[str, str]], *, title: str = "") -> None:
    """Print names and values; with a title, in a panel if a terminal shows it."""
    console = result_console()
    if not console.is_terminal:
        width = max(len(name) for name, _ in pairs)
        typer.echo("\n".join([*filter(None, [title]), *(f"{name:<{width}}  {value}" for name, value in pairs)]))
        return
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(Text(name), Text(value))
    console.print(Panel.fit(grid, title=title, border_style="green") if title else grid)


def shown_time(moment: datetime | None) -> str:
    """Return a time in the reader's zone, or a dash."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S") if moment else "-"
