"""``preheat fs setQuota`` and ``quotas``: how much of the cache a declared dataset may have."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from preheat.cli._errors import JsonFlag, usage_errors
from preheat.cli._options import DEFAULT_COORDINATOR, Coordinator
from preheat.cli._output import print_json, print_table
from preheat.client import Client
from preheat.units import human_size, parse_size

_ROUTE = "/v1/quotas"
_UNLIMITED = "unlimited"


class QuotaReport(msgspec.Struct, frozen=True, kw_only=True):
    """A quota as ``GET /v1/quotas`` describes it."""

    dataset: str
    path: str
    quota: int | None
    needed: int | None
    exceeded: bool


class QuotaPage(msgspec.Struct, frozen=True, kw_only=True):
    """The quotas, by dataset."""

    quotas: tuple[QuotaReport, ...] = ()


class QuotaClient(Client):
    """What these commands ask."""

    def quotas(self) -> QuotaPage:
        """Return the quotas."""
        return msgspec.json.decode(self._request("GET", _ROUTE).content, type=QuotaPage)

    def set_quota(self, path: str, quota: int | None) -> QuotaPage:
        """Set the quota of the datasets that are declared at a path, in bytes; none lifts it."""
        answer = self._request("PUT", _ROUTE, json={"path": path, "quota": quota})
        return msgspec.json.decode(answer.content, type=QuotaPage)


def register(files: typer.Typer) -> None:
    """Add the commands."""
    files.command("setQuota")(set_quota)
    files.command("quotas")(list_quotas)


def set_quota(
    path: Annotated[str, typer.Argument(metavar="PATH", help="Of a declared dataset: s3://bucket/prefix/.")],
    quota: Annotated[str, typer.Argument(metavar="SIZE", help="Of all its copies: 10GiB, or unlimited.")],
    *,
    coordinator: Coordinator = DEFAULT_COORDINATOR,
    as_json: JsonFlag = False,
) -> None:
    """Say how much of the cache the dataset that is declared at a path may have; with more it is not loaded."""
    with usage_errors():
        size = None if quota == _UNLIMITED else parse_size(quota, field="quota")
    with QuotaClient.from_environment(coordinator) as client:
        _show(client.set_quota(path, size), as_json=as_json)


def list_quotas(*, coordinator: Coordinator = DEFAULT_COORDINATOR, as_json: JsonFlag = False) -> None:
    """List the quotas of declared datasets, and what they need."""
    with QuotaClient.from_environment(coordinator) as client:
        _show(client.quotas(), as_json=as_json)


def _show(page: QuotaPage, *, as_json: bool) -> None:
    if as_json:
        print_json(page)
        return
    rows = (
        (
            each.dataset,
            _UNLIMITED if each.quota is None else human_size(each.quota),
            "-" if each.needed is None else human_size(each.needed),
            "yes" if each.exceeded else "no",
            each.path,
        )
        for each in page.quotas
    )
    print_table(("DATASET", "QUOTA", "NEEDED", "EXCEEDED", "PATH"), rows)
