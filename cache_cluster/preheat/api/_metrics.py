"""Prometheus metrics of a coordinator, collected when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from fastapi import Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from preheat.coordinator import Coordinator
from preheat.jobs import JobState


class CoordinatorCollector:
    """Reads the coordinator's views; keeps no state of its own."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        jobs = GaugeMetricFamily("preheat_jobs", "Jobs known, by state.", labels=["state"])
        states = Counter(known.job.state for known in self._coordinator.service.list())
        for state in JobState:
            jobs.add_metric([state], states[state])
        yield jobs
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


def metrics_route(coordinator: Coordinator) -> Callable[[], Response]:
    """Return the handler of ``/metrics``."""
    registry = CollectorRegistry()
    registry.register(CoordinatorCollector(coordinator))

    def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return metrics
