"""Prometheus metrics of a coordinator, collected when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from preheat.api._dataset_metrics import dataset_metrics
from preheat.coordinator import Coordinator
from preheat.jobs import JobState


class CoordinatorCollector:
    """Reads the coordinator's views; keeps no state of its own."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        known_jobs = [known.job for known in self._coordinator.service.list()]
        jobs = GaugeMetricFamily("preheat_jobs", "Jobs known, by state.", labels=["state"])
        states = Counter(job.state for job in known_jobs)
        for state in JobState:
            jobs.add_metric([state], states[state])
        yield jobs
        late = sum(job.forecast.late for job in known_jobs)
        yield GaugeMetricFamily("preheat_jobs_late", "Jobs that will end after their deadline.", value=late)
        cluster = self._coordinator.cluster
        yield GaugeMetricFamily("preheat_workers_live", "Workers that are live.", value=len(cluster.live()))
        yield GaugeMetricFamily("preheat_placement_epoch", "Epoch of the placement map.", value=cluster.placement.epoch)
        capacity = GaugeMetricFamily("preheat_worker_capacity_bytes", "Capacity.", labels=["worker"])
        used = GaugeMetricFamily("preheat_worker_used_bytes", "Bytes of cached objects.", labels=["worker"])
        for worker in cluster.workers():
            capacity.add_metric([worker.id], worker.capacity)
            used.add_metric([worker.id], worker.used)
        yield capacity
        yield used
        yield from dataset_metrics(self._coordinator)


def metrics_route(coordinator: Coordinator) -> Callable[[], Response]:
    """Return the handler of ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(CoordinatorCollector(coordinator))

    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return metrics
