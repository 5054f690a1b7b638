"""``preheat dataset``: datasets that are declared once and kept loaded."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from preheat.cli._dataset_client import DatasetClient, DatasetReport
from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_pairs, print_table, shown_time
from preheat.datasets import Rewarm
from preheat.errors import InvalidRequest
from preheat.units import human_duration, human_size

Name = Annotated[str, typer.Argument(metavar="NAME", help="As which it was declared.")]
File = Annotated[
    str, typer.Option("--file", "-f", metavar="FILE", help="TOML with [datasets.NAME] tables; - is standard input.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    datasets = typer.Typer(no_args_is_help=True, help="Declare datasets, which the cluster then keeps loaded.")
    datasets.command("apply")(apply)
    datasets.command("ls")(list_datasets)
    datasets.command("status")(status)
    datasets.command("rm")(remove)
    app.add_typer(datasets, name="dataset")


def apply(
    *,
    file: File = "",
    name: Annotated[str, typer.Option(metavar="NAME", help="Instead of a file: one dataset, by options.")] = "",
    path: Annotated[str, typer.Option(metavar="PATH", help="All below it: s3://bucket/prefix/.")] = "",
    sub_path: Annotated[
        list[str] | None, typer.Option(metavar="PREFIX", help="Only this of it; may be repeated.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, metavar="N", help="Workers that hold each object.")] = 1,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="Free it so long after its last load: 7d.")] = "",
    quota: Annotated[str, typer.Option(metavar="SIZE", help="Bytes of all copies at most: 10GiB.")] = "",
    freshness: Annotated[
        str, typer.Option(metavar="POLICY", help="never-check, max-age=10m, always-check or pinned.")
    ] = "",
    preload: Annotated[bool, typer.Option("--preload/--no-preload", help="Whether it is loaded.")] = False,
    schedule: Annotated[
        str, typer.Option(metavar="CRON", help="When, as in '0 2 * * *'.  [default: as soon as it can be]")
    ] = "",
    timezone: Annotated[str, typer.Option(metavar="ZONE", help="Of the schedule: Europe/Berlin.")] = "UTC",
    order: Annotated[str, typer.Option(metavar="URI", help="A file that names the objects in order.")] = "",
    deadline: Annotated[
        str, typer.Option(metavar="TIME", help="By when a load ends: 2h, or '06:00 Europe/Berlin'.")
    ] = "",
    rewarm: Annotated[Rewarm, typer.Option(help="After what else it is loaded again.")] = Rewarm.ALL,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Declare datasets, each as a whole: those of a file, or one by options. What is not in the file stays."""
    with usage_errors():
        if bool(file) is bool(name):
            raise InvalidRequest("Give either --file or --name.", remedy="preheat dataset apply -f preheat.toml")
        if name and not path:
            raise InvalidRequest("--path is missing.", remedy="Write --path s3://bucket/prefix/.")
        given = {
            "enabled": preload,
            "schedule": schedule,
            "timezone": timezone,
            "order": order,
            "deadline": deadline,
            "rewarm": rewarm,
        }
        declared = {
            "path": path,
            "subPaths": sub_path,
            "replicas": replicas,
            "ttl": ttl,
            "quota": quota,
            "freshness": freshness,
            "preload": _without_nothing(given),
        }
        tables = _tables(file) if file else {name: _without_nothing(declared)}
    with DatasetClient.from_environment(coordinator) as client:
        reports = [client.declare(each, table) for each, table in tables.items()]
    if as_json:
        print_json({"datasets": reports})
    else:
        _print_table(reports)


def list_datasets(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """List the declared datasets and how far they are."""
    with DatasetClient.from_environment(coordinator) as client:
        page = client.datasets()
    if as_json:
        print_json(page)
    else:
        _print_table(page.datasets)


def status(name: Name, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Show a dataset, what has become of it, and what is in its way."""
    with DatasetClient.from_environment(coordinator) as client:
        report = client.dataset(name)
    if as_json:
        print_json(report)
        return
    print_pairs(_described(report))
    typer.echo("")
    rows = (
        (item.type, "yes" if item.status else "no", item.reason, shown_time(item.since), item.message)
        for item in report.status.conditions
    )
    print_table(("CONDITION", "HOLDS", "REASON", "SINCE", "MESSAGE"), rows)


def remove(name: Name, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Remove a declaration. What is cached stays, and is freed when its time to live is over."""
    with DatasetClient.from_environment(coordinator) as client:
        client.remove_dataset(name)
    if as_json:
        print_json({"removed": name})
    else:
        typer.echo(f"The dataset {name} is no longer declared.")


def _tables(file: str) -> dict[str, dict[str, Any]]:
    """Return the datasets of a file as the coordinator takes them, which checks them."""
    try:
        content = tomllib.loads(sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest(
            f"{file} cannot be read: {error}.", remedy="Write [datasets.NAME] tables in TOML."
        ) from error
    tables = content.get("datasets", {})
    if not tables or not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise InvalidRequest(f"{file} has no table [datasets.NAME].")
    if others := content.keys() - {"datasets", "mounts"}:
        raise InvalidRequest(f"{file}: {', '.join(sorted(others))} is not known here.")
    return tables


def _without_nothing(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value not in (None, "", [])}


def _print_table(reports: list[DatasetReport] | tuple[DatasetReport, ...]) -> None:
    rows = (
        (
            report.name,
            report.status.phase or "-",
            f"{report.status.progress:.1%}",
            f"{report.status.hot_fraction:.1%}",
            shown_time(report.status.last_success),
            shown_time(report.status.next_load),
            report.path,
        )
        for report in reports
    )
    print_table(("NAME", "PHASE", "PROGRESS", "HOT", "LAST SUCCESS", "NEXT LOAD", "PATH"), rows)


def _described(report: DatasetReport) -> list[tuple[str, str]]:
    known, preload = report.status, report.preload
    listed = f"{known.listed.files} files, {human_size(known.listed.bytes)}" if known.listed else "-"
    when = f"{preload.schedule} {preload.timezone}" if preload.schedule else "as soon as it can be"
    return [
        ("name", report.name),
        ("path", report.path),
        ("sub-paths", " ".join(report.sub_paths) or "-"),
        ("replicas", str(report.replicas)),
        ("time to live", human_duration(report.ttl) if report.ttl else "-"),
        ("quota", human_size(report.quota) if report.quota else "-"),
        ("freshness", report.freshness or "-"),
        ("preload", when if preload.enabled else "not enabled"),
        ("declared by", report.declared_by),
        ("phase", known.phase or "-"),
        ("progress", f"{known.progress:.1%}"),
        ("hot", f"{known.hot_fraction:.1%}"),
        ("listed", listed),
        ("version", known.version or "-"),
        ("last success", shown_time(known.last_success)),
        ("next load", shown_time(known.next_load)),
        ("job", known.job_id or "-"),
        *([("next try", shown_time(known.retry_at))] if known.retry_at else []),
        *([("problem", known.problem)] if known.problem else []),
    ]
