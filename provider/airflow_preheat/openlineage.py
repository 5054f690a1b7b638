"""What a task tells OpenLineage. Import it only where ``airflow.providers.openlineage`` is installed.

A dataset of an under store is named as OpenLineage's naming conventions have it, e.g. ``s3://BUCKET`` and ``PREFIX``,
and what is cached of it as its Asset: ``preheat://BUCKET`` and ``PREFIX``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

import attrs
from airflow.providers.common.compat.sdk import Asset
from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    OutputDatasetFacet,
    RunFacet,
    dataset_version_dataset,
    lifecycle_state_change_dataset,
    output_statistics_output_dataset,
)

from airflow_preheat.jobs import JobSummary, JobType

if TYPE_CHECKING:
    from airflow_preheat.operators._job import JobOperator

Place: TypeAlias = Literal["origin", "cache"]

_WAYS: Mapping[JobType, tuple[Place, Place]] = {
    "load": ("origin", "cache"),
    "free": ("cache", "cache"),
    "persist": ("cache", "origin"),
    "copy": ("origin", "origin"),
    "move": ("origin", "origin"),
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
    receipt: str | None = None


def lineage_of(operator: JobOperator, *, succeeded: bool) -> OperatorLineage[Dataset, RunFacet]:
    """Return what a task's job read and wrote; of one that has failed, what it was to, and how far it got."""
    spec = operator.spec()
    source, target = _WAYS[operator.job_type]
    summary = operator.summary if succeeded else None
    single = summary if len(spec.paths) == 1 else None
    outputs = [dataset_at(spec.destination or path, target) for path in spec.paths]
    if spec.index:
        outputs = [dataset_at(asset.uri, "cache") for asset in operator.outlets if isinstance(asset, Asset)]
    return OperatorLineage(
        inputs=[InputDataset(*dataset_at(path, source), facets=_version(single)) for path in spec.source],
        outputs=[
            OutputDataset(*names, facets=_facets(operator.job_type, single), outputFacets=_statistics(single))
            for names in outputs
        ],
        run_facets={"preheat_job": _job_facet(operator, spec.source)},
    )


def dataset_at(uri: str, place: Place) -> tuple[str, str]:
    """Return the namespace and the name of a dataset, at an under store or in the cache."""
    scheme, _, rest = uri.partition("://")
    if scheme == "file" and place == "origin":
        return "file", rest.rstrip("/") or "/"
    bucket, _, prefix = rest.strip("/").partition("/")
    namespace = "preheat" if place == "cache" else _S3.get(scheme, scheme)
    return f"{namespace}://{bucket}", prefix or "/"


def _facets(job_type: JobType, single: JobSummary | None) -> dict[str, DatasetFacet]:
    if job_type != "free":
        return _version(single)
    change = lifecycle_state_change_dataset.LifecycleStateChange.DROP
    return {"lifecycleStateChange": lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet(change)}


def _version(single: JobSummary | None) -> dict[str, DatasetFacet]:
    """Return the version of a dataset that is the only one of its job: of several, the job has one version for all."""
    if single is None or single["dataset_version"] is None:
        return {}
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(single["dataset_version"])}


def _statistics(single: JobSummary | None) -> dict[str, OutputDatasetFacet]:
    if single is None:
        return {}
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        size=single["bytes"], fileCount=single["files"]
    )
    return {"outputStatistics": statistics}


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
        receipt=summary.get("receipt"),
    )
