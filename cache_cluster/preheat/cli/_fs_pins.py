"""``preheat fs pin``, ``pins``, ``unpin`` and ``drift``: which version of a dataset is read, and if the origin's is."""

from __future__ import annotations

from typing import Annotated

import typer

from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_pairs, print_table, shown_time
from preheat.client import Client
from preheat.paths import UfsPath
from preheat.reports import DriftReport, ObjectVersion
from preheat.units import human_size

Loaded = Annotated[str, typer.Argument(metavar="PATH", help="The path of a load that has succeeded.")]


def register(files: typer.Typer) -> None:
    """Add the commands."""
    files.command("pin")(pin)
    files.command("pins")(list_pins)
    files.command("unpin")(unpin)
    files.command("drift")(drift)


def pin(
    path: Loaded,
    *,
    job: Annotated[str, typer.Option(metavar="ID", help="Which load.  [default: the last one]")] = "",
    version: Annotated[
        str, typer.Option(metavar="sha256:…", help="Which dataset version.  [default: what was listed last]")
    ] = "",
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Bind a path to the dataset version of a finished load: its copies stay, and nothing else is read there."""
    with Client.from_environment(coordinator) as client:
        report = client.pin(path, job=job, version=version)
    if as_json:
        print_json(report)
    else:
        print_pairs([("path", report.path), ("version", report.version), ("pinned", shown_time(report.pinned_at))])


def list_pins(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """List what is pinned."""
    with Client.from_environment(coordinator) as client:
        page = client.pins()
    if as_json:
        print_json(page)
        return
    rows = ((pinned.path, pinned.version, shown_time(pinned.pinned_at)) for pinned in page.pins)
    print_table(("PATH", "VERSION", "PINNED"), rows)


def unpin(
    path: Annotated[str, typer.Argument(metavar="PATH", help="The path, as it was pinned.")],
    *,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Let what is cached below a path be evicted and replaced again."""
    with usage_errors():
        UfsPath.parse(path)
    with Client.from_environment(coordinator) as client:
        report = client.unpin(path)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{report.path} is not pinned any more.")


def drift(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A path that was loaded, or one below it.")],
    *,
    limit: Annotated[int, typer.Option(min=0, max=1000, help="How many changes are named.")] = 20,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Compare the under store with the pinned version of a path, or else with its last load; exit 1 if it differs."""
    with Client.from_environment(coordinator) as client:
        report = client.drift(path, limit=limit)
    if as_json:
        print_json(report)
    else:
        _print_drift(report)
    if report.drift:
        raise typer.Exit(1)


def _print_drift(report: DriftReport) -> None:
    against = "the pinned version" if report.pinned else "the last load"
    pairs = [
        ("path", report.path),
        ("listed", f"{shown_time(report.listed_at)}, {against}"),
        ("version", report.version),
        ("origin", "the same" if not report.drift else report.origin_version),
        ("unchanged", f"{report.unchanged.files} files, {human_size(report.unchanged.bytes)}"),
        *((name, str(getattr(report, name))) for name in ("changed", "added", "deleted")),
    ]
    print_pairs(pairs)
    if report.examples:
        typer.echo("")
        rows = ((item.change, item.key, _shown(item.old), _shown(item.new)) for item in report.examples)
        print_table(("CHANGE", "KEY", "LISTED", "NOW"), rows)


def _shown(version: ObjectVersion | None) -> str:
    return f"{human_size(version.size)} {version.etag}" if version else "-"
