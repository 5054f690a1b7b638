"""``POST /v1/estimates``: what a load would do."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import APIRouter, Query
from pydantic import ConfigDict, Field

from preheat.api._schemas import Duration, Schema, Submit, Text
from preheat.coordinator import Coordinator, LoadEstimator
from preheat.estimates import Estimate, Prices, WorkerEstimate, cost

_MAX_SECONDS = 600.0
_DEFAULTS = Prices()


class PriceList(Schema):
    """What requests to the under store cost, if not as at AWS."""

    list_per_1000: float = Field(_DEFAULTS.list_per_1000, ge=0, le=1e6)
    get_per_1000: float = Field(_DEFAULTS.get_per_1000, ge=0, le=1e6)
    currency: Text = Field(_DEFAULTS.currency, max_length=16)
    basis: Text = Field(_DEFAULTS.basis, max_length=1000, description="Where the prices are from.")

    def to_prices(self) -> Prices:
        """Return the prices as the estimate takes them."""
        return Prices(**self.model_dump())


class EstimateBody(Submit):
    """The body of a submit, and prices."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"path": "s3://datasets/digits/", "options": {"bandwidth": "100MiB"}}]}
    )

    prices: PriceList = PriceList()


class Requests(Schema):
    """Requests to under stores that charge for them."""

    list: int
    get: int


class Cost(Schema):
    """What the requests cost."""

    list: float
    get: float
    total: float
    currency: str
    basis: str


class WorkerShareView(Schema):
    """What one worker would hold, and its room."""

    id: str
    objects: int
    bytes: int
    free: int = Field(description="Bytes that nothing occupies.")
    evictable: int = Field(description="Bytes of other data that would make room.")
    fits: bool

    @classmethod
    def of(cls, worker: WorkerEstimate) -> Self:
        """Show a worker's share."""
        return cls(
            id=worker.id,
            objects=worker.load.objects,
            bytes=worker.load.bytes,
            free=worker.free,
            evictable=worker.evictable,
            fits=worker.fits,
        )


class EstimateView(Schema):
    """What a load would do if nothing of it were cached."""

    objects: int
    bytes: int
    missing: int = Field(description="Objects that an index file names and that are not there.")
    requests: Requests
    cost: Cost
    seconds: float | None = Field(
        description="For the worker with the most bytes at options.bandwidth; null without one: nothing to reckon with."
    )
    fits: bool
    workers: list[WorkerShareView]
    dataset_version: str | None

    @classmethod
    def of(cls, estimate: Estimate, prices: Prices) -> Self:
        """Show an estimate."""
        lists, gets = cost(estimate, prices)
        return cls(
            objects=estimate.listed.objects,
            bytes=estimate.listed.bytes,
            missing=estimate.missing,
            requests=Requests(list=estimate.list_requests, get=estimate.get_requests),
            cost=Cost(list=lists, get=gets, total=round(lists + gets, 9), currency=prices.currency, basis=prices.basis),
            seconds=estimate.seconds,
            fits=estimate.fits,
            workers=[WorkerShareView.of(worker) for worker in estimate.workers],
            dataset_version=estimate.dataset_version,
        )


def estimates_router(coordinator: Coordinator) -> APIRouter:
    """Return the route of the estimates."""
    router = APIRouter(tags=["jobs"])
    estimator = LoadEstimator(source=coordinator.source, cluster=coordinator.cluster)

    @router.post("/estimates")
    async def estimate(
        body: EstimateBody,
        timeout: Annotated[  # noqa: ASYNC109 - a parameter of the request
            Duration, Query(gt=0, le=_MAX_SECONDS, description="How long the listing may take; else 504.")
        ] = _MAX_SECONDS,
    ) -> EstimateView:
        """List what a load would load, and say what that takes: a dry run, without a job."""
        result = await estimator.estimate(body.to_spec(), seconds=timeout)
        return EstimateView.of(result, body.prices.to_prices())

    return router
