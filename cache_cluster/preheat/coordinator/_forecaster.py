"""The forecast of one running job, on behalf of its owner, who writes it into the job's record."""

from __future__ import annotations

from dataclasses import replace

from preheat.coordinator._cluster import ClusterView
from preheat.coordinator._inventory import leaves_inventories
from preheat.forecasts import Pace
from preheat.inventories import Inventories
from preheat.jobs import Forecast, Job, Tally
from preheat.logs import get_logger
from preheat.paths import UfsPath

log = get_logger("coordinator")
_REFRESH_SECONDS = 10.0


class Forecaster:
    """Foresees the end of one job, again and again.

    Args:
        inventories: say what the last loads of the job's paths listed.
        cluster: says what is in flight.
        window_seconds: how far back the rate looks.
    """

    def __init__(self, inventories: Inventories, cluster: ClusterView, *, window_seconds: float) -> None:
        self._inventories = inventories
        self._cluster = cluster
        self._pace = Pace(window_seconds)
        self._written_at = 0.0

    def updated(self, job: Job, now: float) -> Job:
        """Return the job with its forecast as of ``now``, to be written."""
        self._written_at = now
        forecast = self._forecast(job, now)
        late_since = job.late_since
        if forecast.late and late_since is None:
            log.warning("A job will end after its deadline.", action="job_late", job=job.id, finish=forecast.finish_at)
            late_since = now
        return replace(job, forecast=forecast, late_since=late_since)

    def is_due(self, job: Job, now: float) -> bool:
        """Whether the forecast is to be written although nothing else has changed."""
        return now - self._written_at > _REFRESH_SECONDS or self._forecast(job, now).late != job.forecast.late

    def _forecast(self, job: Job, now: float) -> Forecast:
        if job.state.ended:
            return Forecast()
        fetched = sum(worker.transfers.get(job.id, 0) for worker in self._cluster.live())
        in_flight = fetched // job.spec.options.replicas
        return self._pace.forecast(job, now=now, in_flight=in_flight, expected=self._expected(job))

    def _expected(self, job: Job) -> Tally | None:
        """Return what the last loads of exactly these paths listed."""
        if job.work.listing_done or not leaves_inventories(job.spec):
            return None
        known = [(UfsPath.parse(uri), self._inventories.covering(uri)) for uri in job.spec.paths]
        total = Tally()
        for path, inventory in known:
            if inventory is None or inventory.path != str(path):
                return None
            total += Tally(objects=inventory.objects, bytes=inventory.bytes)
        return total
