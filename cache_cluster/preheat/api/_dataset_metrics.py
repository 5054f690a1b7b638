"""Prometheus metrics of declared datasets."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily, Metric

from preheat.api._dataset_views import job_of
from preheat.coordinator import Coordinator
from preheat.datasets import Phase, heat_of, progress_of


def dataset_metrics(coordinator: Coordinator) -> Iterator[Metric]:
    """Yield the metrics of the datasets as they are now."""
    phases = GaugeMetricFamily("preheat_dataset_phase", "1 for the dataset's phase.", labels=["dataset", "phase"])
    progress = GaugeMetricFamily("preheat_dataset_progress", "Share of its load that is done.", labels=["dataset"])
    hot = GaugeMetricFamily("preheat_dataset_hot_fraction", "Share of its files that is hot.", labels=["dataset"])
    success = GaugeMetricFamily(
        "preheat_dataset_last_success_timestamp_seconds", "When it was loaded last.", labels=["dataset"]
    )
    conditions = GaugeMetricFamily(
        "preheat_dataset_condition", "1 if the condition holds.", labels=["dataset", "condition"]
    )
    for record in coordinator.datasets.list():
        name, job = record.dataset.name, job_of(record, coordinator.service)
        for phase in Phase:
            if phase:
                phases.add_metric([name, phase], phase is record.phase)
        progress.add_metric([name], progress_of(record, job))
        hot.add_metric([name], heat_of(record, job))
        if record.loaded:
            success.add_metric([name], record.loaded.at)
        for condition in record.conditions:
            conditions.add_metric([name, condition.type], condition.status)
    yield from (phases, progress, hot, success, conditions)
