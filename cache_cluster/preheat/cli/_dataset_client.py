"""What the commands of ``preheat dataset`` ask, and what they are told."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from urllib.parse import quote

import msgspec

from preheat.client import Client, Count
from preheat.datasets import ConditionType, Owner, Phase, Rewarm

_ROUTE = "/v1/datasets"


class ConditionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of a dataset besides its phase."""

    type: ConditionType
    status: bool
    reason: str
    message: str
    since: datetime


class DatasetStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What has become of a dataset."""

    phase: Phase
    progress: float
    hot_fraction: float
    version: str | None
    last_success: datetime | None
    job_id: str | None
    cause: str | None
    listed: Count | None
    next_load: datetime | None
    retry_at: datetime | None
    looked_at: datetime | None
    problem: str
    conditions: tuple[ConditionReport, ...]


class PreloadReport(msgspec.Struct, frozen=True, kw_only=True):
    """Whether, what and when it is loaded."""

    enabled: bool
    path: str | None
    schedule: str | None
    timezone: str
    order: str | None
    deadline: str | None
    rewarm: Rewarm


class DatasetReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A dataset as ``GET /v1/datasets`` describes it."""

    name: str
    path: str
    sub_paths: tuple[str, ...]
    replicas: int
    ttl: float | None
    quota: int | None
    freshness: str | None
    preload: PreloadReport
    declared_by: Owner
    declared_at: datetime
    status: DatasetStatus


class DatasetPage(msgspec.Struct, frozen=True, kw_only=True):
    """All datasets, by name."""

    datasets: tuple[DatasetReport, ...] = ()


class DatasetClient(Client):
    """Declares datasets."""

    def datasets(self) -> DatasetPage:
        """Return the declared datasets."""
        return msgspec.json.decode(self._request("GET", _ROUTE).content, type=DatasetPage)

    def dataset(self, name: str) -> DatasetReport:
        """Return a dataset; raises NotFound if none of this name is declared."""
        return msgspec.json.decode(self._request("GET", _address(name)).content, type=DatasetReport)

    def declare(self, name: str, declared: dict[str, Any]) -> DatasetReport:
        """Declare a dataset, or change the one of this name as a whole.

        Raises:
            Conflict: the coordinator's configuration file declares it.
        """
        answer = self._request("PUT", _address(name), json=declared)
        return msgspec.json.decode(answer.content, type=DatasetReport)

    def remove_dataset(self, name: str) -> None:
        """Remove a declaration; raises as :meth:`declare`, and NotFound."""
        self._request("DELETE", _address(name))


def _address(name: str) -> str:
    return f"{_ROUTE}/{quote(name, safe='')}"
