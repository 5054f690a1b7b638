"""``preheat fs warmth``: how much of a dataset is hot now."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._errors import JsonFlag
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_pairs, shown_time
from preheat.client import Client
from preheat.reports import Count, WarmthReport
from preheat.units import human_size


def register(files: typer.Typer) -> None:
    """Add the command."""
    files.command("warmth")(warmth)


def warmth(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A dataset, or a part of one.")],
    *,
    version: Annotated[
        str, typer.Option(metavar="sha256:…", help="Which dataset version.  [default: the pinned one, or the last]")
    ] = "",
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Ask the workers how much of a path is hot now, in the versions that belong to it; exit 1 if not all is."""
    with Client.from_environment(coordinator) as client:
        report = client.warmth(path, version=version)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report.hot_fraction < 1.0:
        raise typer.Exit(1)


def _print(report: WarmthReport) -> None:
    listed = f", {shown_time(report.listed_at)}" if report.listed_at else ""
    pairs = [
        ("path", report.path),
        ("version", f"{report.version} ({report.source}{listed})"),
        ("hot", _shown(report.hot)),
        ("expected", _shown(report.expected)),
        ("fewest copies", "-" if report.fewest_copies is None else str(report.fewest_copies)),
    ]
    print_pairs([*pairs, ("reason", report.reason)] if report.reason else pairs)


def _shown(count: Count) -> str:
    return f"{count.files} files, {human_size(count.bytes)}"
