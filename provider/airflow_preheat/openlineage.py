"""What a task tells OpenLineage. Import it only where ``airflow.providers.openlineage`` is installed.

A dataset of an under store is named as OpenLineage's naming conventions have it, e.g. ``s3://BUCKET`` and ``PREFIX``,
and what is cached of it as its Asset: ``preheat://BUCKET`` and ``PREFIX``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    RunFacet,
    dataset_version_dataset,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
)

from airflow_preheat.jobs import JobSummary, JobType

if TYPE_CHECKING:
    from airflow_preheat.operators._job import JobOperator

Place: TypeAlias = Literal["origin", "cache", "destination"]

_WAYS: Mapping[JobType, tuple[Place, Place]] = {
    "load": ("origin", "cache"),
    "free": ("cache", "cache"),
    "persist": ("cache", "origin"),
    "copy": ("origin", "destination"),
    "move": ("origin", "destination"),
    "replicate": ("cache", "cache"),
    "rebalance": ("cache", "cache"),
}
"""Of each type of job, where it reads and where it writes."""
_S3 = {"s3a": "s3", "s3n": "s3"}


@attrs.define(kw_only=True)
class PreheatJobRunFacet(RunFacet):
    """The run facet ``preheat_job``: the job that a task waited for, and how far it got."""

    jobId: str | None  # noqa: N815 - as in the coordinator's API, like all names here
    jobType: str  # noqa: N815
    paths: list[str]
    url: str | None = None
    files: int | None = None
    bytes: int | None = None
    loaded: int | None = None
    skipped: int | None = None
    failed: int | None = None
    hotFraction: float | None = None  # noqa: N815
    datasetVersion: str | None = None  # noqa: N815


def lineage_of(operator: JobOperator) -> OperatorLineage[Dataset, RunFacet]:
    """Return what a task's job read and wrote, as far as the job got."""
    paths = list(operator.spec().paths)
    source, target = _WAYS[operator.job_type]
    destination = getattr(operator, "destination", None)
    return OperatorLineage(
        inputs=[_input(dataset_at(path, source, destination), operator, paths) for path in paths],
        outputs=[_output(dataset_at(path, target, destination), operator, paths) for path in paths],
        run_facets={"preheat_job": _job_facet(operator, paths)},
    )


def dataset_at(path: str, place: Place, destination: str | None = None) -> tuple[str, str]:
    """Return the namespace and the name of a dataset: at the under store, in the cache, or where a copy goes."""
    uri = destination if place == "destination" and destination else path
    scheme, _, rest = uri.partition("://")
    if scheme == "file" and place != "cache":
        return "file", rest.rstrip("/") or "/"
    bucket, _, prefix = rest.strip("/").partition("/")
    namespace = "preheat" if place == "cache" else _S3.get(scheme, scheme)
    return f"{namespace}://{bucket}", prefix or "/"


def _input(names: tuple[str, str], operator: JobOperator, paths: Sequence[str]) -> InputDataset:
    return InputDataset(*names, facets=_version(operator.summary, paths))


def _output(names: tuple[str, str], operator: JobOperator, paths: Sequence[str]) -> OutputDataset:
    """Describe what was written; a version and sizes only if the job has one path, whose they are."""
    facets, summary = _version(operator.summary, paths), operator.summary
    if operator.job_type == "free":
        change = lifecycle_state_change_dataset.LifecycleStateChange.DROP
        facets["lifecycleStateChange"] = lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(change)
    if summary is None or len(paths) > 1 or operator.job_type == "free":
        return OutputDataset(*names, facets=facets)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        size=summary["bytes"], fileCount=summary["files"]
    )
    return OutputDataset(*names, facets=facets, outputFacets={"outputStatistics": statistics})


def _version(summary: JobSummary | None, paths: Sequence[str]) -> dict[str, DatasetFacet]:
    if summary is None or summary["dataset_version"] is None or len(paths) > 1:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(summary["dataset_version"])}


def _job_facet(operator: JobOperator, paths: list[str]) -> PreheatJobRunFacet:
    summary = operator.summary
    if summary is None:
        return PreheatJobRunFacet(jobId=operator.job_id, jobType=operator.job_type, paths=paths)
    return PreheatJobRunFacet(
        jobId=summary["job_id"],
        jobType=operator.job_type,
        paths=paths,
        url=summary["url"],
        files=summary["files"],
        bytes=summary["bytes"],
        loaded=summary["loaded"],
        skipped=summary["skipped"],
        failed=summary["failed"],
        hotFraction=summary["hot_fraction"],
        datasetVersion=summary["dataset_version"],
    )
