"""The task that warms datasets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal

from airflow.providers.common.compat.sdk import Context

from airflow_preheat._watch import JobWait
from airflow_preheat.assets import VERSION
from airflow_preheat.exceptions import PreheatRequestError
from airflow_preheat.jobs import JobOptions, JobSpec, JobType
from airflow_preheat.operators._job import JobOperator
from airflow_preheat.operators._load import Load, WaitPolicy


class PreloadOperator(JobOperator):
    """Loads datasets into the cache, and succeeds only if they are there.

    It returns a :class:`~airflow_preheat.jobs.JobSummary`, which the events of its outlets carry too. A job
    of the same paths that runs already is joined. A retry skips what is in the cache.

    Besides those of :class:`~airflow_preheat.operators._job.JobOperator` it takes these arguments, all templated:

    Args:
        path: what to load, e.g. ``s3://bucket/prefix/``, or several of them.
        index: in its place, a file of the under store that names the objects, one a line, in the order in which they
            are to be loaded, e.g. that of the sampler (``docs/reference/rest-api.md``, "Jobs").
        replicas: workers that hold each object.
        verify: read every object back, checksums included, before the job may succeed.
        skip_if_exists: leave cached copies of the same version alone.
        bandwidth: bytes per second and worker, a number or a size such as ``100MiB``; unlimited by default.
        wait_policy: ``fully_hot``, the default: every object; or ``{"min_hot_fraction": 0.99}``,
            ``{"max_failed_files": 10}`` or both: the task succeeds although some files failed. ``{"first": 1000}``:
            it succeeds as soon as the first 1,000 files are hot, in the order of the index or of the keys, and the job
            goes on; what becomes of the rest is a :class:`~airflow_preheat.sensors.PreloadSensor`'s business.
        partition: the partition of the outlets' Assets that is warm now: ``{version}``, which stands for the dataset
            version, a text such as ``eu``, or both (Airflow 3.3 and later). A partition with the version has one event,
            however often that version is warmed.
        kwargs: those of all job operators.
    """

    job_type: ClassVar[JobType] = "load"
    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
        "index",
        "replicas",
        "verify",
        "skip_if_exists",
        "bandwidth",
        "wait_policy",
        "partition",
    )

    def __init__(
        self,
        *,
        path: str | list[str] | None = None,
        index: str | None = None,
        replicas: int | str = 1,
        verify: bool | str = True,
        skip_if_exists: bool | str = True,
        bandwidth: int | str | None = None,
        wait_policy: WaitPolicy | Literal["fully_hot"] = "fully_hot",
        partition: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(path=path, **kwargs)
        self.index = index
        self.replicas = replicas
        self.verify = verify
        self.skip_if_exists = skip_if_exists
        self.bandwidth = bandwidth
        self.wait_policy = wait_policy
        self.partition = partition

    def load(self) -> Load:
        """Return what to load and how, with the templates rendered."""
        return Load(**{field.name: getattr(self, field.name) for field in fields(Load)})

    def options(self) -> JobOptions:
        """Return how to load."""
        return self.load().options()

    def spec(self) -> JobSpec:
        """Return what to load, with the templates rendered."""
        return self.load().spec()

    def _new_wait(self, context: Context, deadline: float) -> JobWait:
        first = self.load().first
        self._check_first(first)
        return replace(super()._new_wait(context, deadline), first=first)

    def _check_first(self, first: int | None) -> None:
        """Refuse, before the submit, to wait for what the coordinator does not say."""
        if first is not None and not self.hook.dialect.in_order:
            raise PreheatRequestError(
                f"wait_policy={{'first': {first}}} is not for an Alluxio (dialect={self.hook.dialect.name}): it does "
                "not say which files are hot. Leave first out."
            )
        if VERSION in (self.partition or "") and (first is not None or self.hook.dialect.name != "preheat"):
            raise PreheatRequestError(
                f"partition={self.partition!r} needs the dataset version, which is not known before all of the dataset "
                "is listed (wait_policy with first), and never of an Alluxio. Name it otherwise, e.g. by the region."
            )
