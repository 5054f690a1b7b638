"""Dry runs: a listing that becomes sums instead of batches."""

from __future__ import annotations

import asyncio

from preheat.access import for_caller
from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._source import JobSource
from preheat.coordinator._validation import validate
from preheat.errors import DeadlineExceeded, InvalidRequest, ObjectNotFound
from preheat.estimates import Estimate, Estimator
from preheat.jobs import JobSpec, JobType, Progress

_AT_ONCE = 2
"""Listings for estimates; more would take the time of the jobs that run."""


class LoadEstimator:
    """Says what a load would do, without doing it."""

    def __init__(self, *, source: JobSource, cluster: ClusterView) -> None:
        self._source = source
        self._cluster = cluster
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def estimate(self, spec: JobSpec, *, seconds: float) -> Estimate:
        """List what a load would load and add it up.

        Raises:
            InvalidRequest: it is not a load, or one that a submit would refuse.
            DeadlineExceeded: the listing did not end in ``seconds``.
            ObjectNotFound: nothing is listed. Otherwise as :meth:`JobService.submit`.
        """
        if spec.type is not JobType.LOAD:
            raise InvalidRequest(f"type={spec.type} cannot be estimated.", remedy="Leave type out, or write load.")
        spec = for_caller(spec)
        validate(spec, live_workers=len(self._cluster.live()))
        estimator = Estimator(spec, self._cluster.placement)
        try:
            async with asyncio.timeout(seconds), self._gate:
                await self._list(spec, estimator)
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The listing did not end within {seconds:g} s.", remedy="Allow more time, or estimate a part of it."
            ) from error
        estimate = estimator.result(self._cluster.workers())
        if not estimate.listed.objects:
            raise ObjectNotFound(f"Nothing is listed below {', '.join(spec.paths) or spec.index}.")
        return estimate

    async def _list(self, spec: JobSpec, estimator: Estimator) -> None:
        async for page in self._source.pages(spec, Progress()):
            if page is not None:
                estimator.add(page.root, page.objects, missing=len(page.missing))
            await asyncio.sleep(0)  # others' turn, even if the listing never waits
