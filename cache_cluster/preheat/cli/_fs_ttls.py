"""``preheat fs setTtl``, ``unsetTtl`` and ``ttls``: when what is cached below a path is freed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec
import typer

from preheat.access import parse_lifetime
from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._fs_listing import Path, parse_path
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_table, shown_time
from preheat.client import Client

_ROUTE = "/v1/ttls"


class TtlReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A time to live as ``GET /v1/ttls`` describes it."""

    path: str
    seconds: float
    set_at: datetime
    due_at: datetime
    job: str | None = None


class TtlPage(msgspec.Struct, frozen=True, kw_only=True):
    """All of them, the next one that is due first."""

    ttls: tuple[TtlReport, ...] = ()


class TtlClient(Client):
    """What these commands ask."""

    def ttls(self) -> TtlPage:
        """Return the times to live."""
        return msgspec.json.decode(self._request("GET", _ROUTE).content, type=TtlPage)

    def set_ttl(self, path: str, seconds: float) -> TtlReport:
        """Free what is cached below a path in so many seconds."""
        answer = self._request("PUT", _ROUTE, json={"path": path, "ttl": seconds})
        return msgspec.json.decode(answer.content, type=TtlReport)

    def unset_ttl(self, path: str) -> None:
        """Let what is cached below a path stay."""
        self._request("DELETE", _ROUTE, params={"path": path})


def register(files: typer.Typer) -> None:
    """Add the commands."""
    files.command("setTtl")(set_ttl)
    files.command("unsetTtl")(unset_ttl)
    files.command("ttls")(list_ttls)


def set_ttl(
    path: Path,
    ttl: Annotated[str, typer.Argument(metavar="TIME", help="From now on: 7d, 12h or 90m.")],
    *,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Free what is cached at and below a path when its time is over. The under store is not touched."""
    parsed = parse_path(path)
    with usage_errors():
        seconds = parse_lifetime(ttl, field="time")
    with TtlClient.from_environment(coordinator) as client:
        report = client.set_ttl(str(parsed), seconds)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"What is cached of {report.path} is freed at {shown_time(report.due_at)}.")


def unset_ttl(path: Path, *, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """Let what is cached at and below a path stay, whatever time was set for it."""
    parsed = parse_path(path)
    with TtlClient.from_environment(coordinator) as client:
        client.unset_ttl(str(parsed))
    if as_json:
        print_json({"removed": str(parsed)})
    else:
        typer.echo(f"What is cached of {parsed} stays.")


def list_ttls(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """List when which paths are freed, and what was freed lately."""
    with TtlClient.from_environment(coordinator) as client:
        page = client.ttls()
    if as_json:
        print_json(page)
        return
    rows = ((shown_time(each.due_at), each.job or "-", each.path) for each in page.ttls)
    print_table(("FREED AT", "JOB", "PATH"), rows)
