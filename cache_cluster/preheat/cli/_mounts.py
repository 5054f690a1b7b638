"""``preheat mount``: what is agreed about parts of the under store."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer

from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_pairs, print_table
from preheat.client import Client
from preheat.datasets import parse_freshness
from preheat.mounts import Freshness, WriteMode
from preheat.units import human_duration

_ROUTE = "/v1/mounts"
Name = Annotated[str, typer.Argument(metavar="NAME", help="The bucket as which the S3 port shows it.")]


class MountReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A mount as ``GET /v1/mounts`` describes it."""

    name: str
    path: str
    freshness: Freshness = Freshness.NEVER_CHECK
    max_age: float = 0.0
    writes: WriteMode = WriteMode.READ_ONLY
    write_replicas: int = 1
    temporary: tuple[str, ...] = ()


class MountPage(msgspec.Struct, frozen=True, kw_only=True):
    """All mounts, by name."""

    mounts: tuple[MountReport, ...] = ()


class MountClient(Client):
    """The client of an admin."""

    def mounts(self) -> MountPage:
        """Return the mounts."""
        return msgspec.json.decode(self._request("GET", _ROUTE).content, type=MountPage)

    def mount(self, name: str, **agreed: Any) -> MountReport:
        """Add a mount, or change the one of this name."""
        answer = self._request("PUT", f"{_ROUTE}/{quote(name, safe='')}", json=agreed)
        return msgspec.json.decode(answer.content, type=MountReport)

    def unmount(self, name: str) -> None:
        """Remove a mount."""
        self._request("DELETE", f"{_ROUTE}/{quote(name, safe='')}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    mounts = typer.Typer(
        no_args_is_help=True, help="Say how fresh reads below a path are, who may write, and which bucket S3 shows."
    )
    mounts.command("add")(add)
    mounts.command("ls")(list_mounts)
    mounts.command("rm")(remove)
    app.add_typer(mounts, name="mount")


def add(
    name: Name,
    path: Annotated[str, typer.Argument(metavar="PATH", help="All below it: s3://bucket/prefix/.")],
    *,
    freshness: Annotated[
        str, typer.Option(metavar="POLICY", help="never-check, max-age=10m, always-check or pinned.")
    ] = Freshness.NEVER_CHECK.value,
    writes: Annotated[
        WriteMode, typer.Option(help="Refused, to the under store first, or to the cache and persisted afterwards.")
    ] = WriteMode.READ_ONLY,
    write_replicas: Annotated[
        int, typer.Option(min=1, metavar="N", help="Workers that hold an async write before it is acknowledged.")
    ] = 1,
    temporary: Annotated[
        list[str] | None,
        typer.Option(metavar="PREFIX", help="Below it nothing is ever persisted, e.g. _tmp/; may be repeated."),
    ] = None,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Add a mount, or change the one of this name as a whole. Of several that cover a path the longest one counts."""
    with usage_errors():
        policy, max_age = parse_freshness(freshness)
    agreed = {
        "path": path,
        "freshness": policy,
        "maxAge": max_age,
        "writes": writes,
        "writeReplicas": write_replicas,
        "temporary": temporary or [],
    }
    with MountClient.from_environment(coordinator) as client:
        report = client.mount(name, **agreed)
    if as_json:
        print_json(report)
    else:
        print_pairs(_described(report))


def list_mounts(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """List the mounts."""
    with MountClient.from_environment(coordinator) as client:
        page = client.mounts()
    if as_json:
        print_json(page)
        return
    rows = ([value for _, value in _described(mount)] for mount in page.mounts)
    print_table(("NAME", "PATH", "FRESHNESS", "WRITES", "TEMPORARY"), rows)


def remove(name: Name, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Remove a mount. What is cached below it stays, and is read as if it had never been mounted."""
    with MountClient.from_environment(coordinator) as client:
        client.unmount(name)
    if as_json:
        print_json({"removed": name})
    else:
        typer.echo(f"Removed the mount {name}.")


def _described(mount: MountReport) -> list[tuple[str, str]]:
    age = f"={human_duration(mount.max_age)}" if mount.freshness is Freshness.MAX_AGE else ""
    held = f", {mount.write_replicas} workers" if mount.writes is WriteMode.ASYNC else ""
    return [
        ("name", mount.name),
        ("path", mount.path),
        ("freshness", f"{mount.freshness}{age}"),
        ("writes", f"{mount.writes}{held}"),
        ("temporary", " ".join(mount.temporary) or "-"),
    ]
