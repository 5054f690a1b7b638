"""Quotas of declared datasets: ``/v1/quotas``; the access middleware asks for the role admin where they are changed."""

from __future__ import annotations

from typing import Self

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from preheat.access import parse_prefix
from preheat.api._datasets import Quota
from preheat.api._schemas import Schema, Text
from preheat.coordinator import Coordinator
from preheat.datasets import ConditionType, Record


class QuotaBody(Schema):
    """How much of the cache a path may have."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"path": "s3://datasets/images/", "quota": "2TiB"}]})

    path: Text = Field(max_length=2000, description="The path of a declared dataset.")
    quota: Quota = Field(description="Bytes of all copies at most, a number or a size such as 10GiB; null lifts it.")


class QuotaView(Schema):
    """How much of the cache a dataset may have, and how much it needs."""

    dataset: str
    path: str
    quota: int | None
    needed: int | None = Field(description="Bytes that all its copies take, as it was listed last; null before.")
    exceeded: bool = Field(description="It was not loaded, because that is more than the quota.")

    @classmethod
    def of(cls, record: Record) -> Self:
        """Show a dataset's quota."""
        dataset, listed = record.dataset, record.listed
        return cls(
            dataset=dataset.name,
            path=dataset.path,
            quota=dataset.quota,
            needed=listed.bytes * dataset.replicas if listed else None,
            exceeded=record.holds(ConditionType.QUOTA_EXCEEDED),
        )


class QuotaList(Schema):
    """The quotas, by dataset."""

    quotas: list[QuotaView]


def quotas_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of the quotas."""
    router = APIRouter(prefix="/quotas", tags=["datasets"])
    datasets = coordinator.datasets

    @router.get("")
    async def list_quotas() -> QuotaList:
        """List the quotas of declared datasets, by name."""
        return QuotaList(quotas=[QuotaView.of(item) for item in datasets.list() if item.dataset.quota is not None])

    @router.put("")
    async def set_quota(body: QuotaBody) -> QuotaList:
        """Set the quota of the datasets that are declared at a path; 404 if none is."""
        return QuotaList(
            quotas=[QuotaView.of(item) for item in await datasets.set_quota(parse_prefix(body.path), body.quota)]
        )

    return router
