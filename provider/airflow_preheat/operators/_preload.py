"""The task that warms datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, TypedDict

from airflow_preheat.exceptions import PreheatRequestError
from airflow_preheat.jobs import JobOptions, JobType, as_bool, as_fraction, as_int
from airflow_preheat.operators._job import JobOperator


class WaitPolicy(TypedDict, total=False):
    """What is warm enough; with several keys, all must hold."""

    min_hot_fraction: float | str | None
    """The share of the files, 0 to 1, that must be hot."""
    max_failed_files: int | str | None
    """How many files may fail."""


class PreloadOperator(JobOperator):
    """Loads datasets into the cache, and succeeds only if they are there.

    It returns a :class:`~airflow_preheat.jobs.JobSummary`, which the events of its outlets carry too. A job
    of the same paths that runs already is joined. A retry skips what is in the cache.

    Besides those of :class:`~airflow_preheat.operators._job.JobOperator` it takes these arguments, all templated:

    Args:
        replicas: workers that hold each object.
        verify: read every object back, checksums included, before the job may succeed.
        skip_if_exists: leave cached copies of the same version alone.
        bandwidth: bytes per second and worker, a number or a size such as ``100MiB``; unlimited by default.
        wait_policy: ``fully_hot``, the default: every object; or ``{"min_hot_fraction": 0.99}``,
            ``{"max_failed_files": 10}`` or both: the task succeeds although some files failed.
        partition: the partition of the outlets' Assets that is warm now: ``{version}``, which stands for the dataset
            version, a text such as ``eu``, or both (Airflow 3.3 and later). A partition with the version has one event,
            however often that version is warmed.
        kwargs: those of all job operators.
    """

    job_type: ClassVar[JobType] = "load"
    template_fields: Sequence[str] = (
        *JobOperator.template_fields,
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
        replicas: int | str = 1,
        verify: bool | str = True,
        skip_if_exists: bool | str = True,
        bandwidth: int | str | None = None,
        wait_policy: WaitPolicy | Literal["fully_hot"] = "fully_hot",
        partition: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas
        self.verify = verify
        self.skip_if_exists = skip_if_exists
        self.bandwidth = bandwidth
        self.wait_policy = wait_policy
        self.partition = partition

    def options(self) -> JobOptions:
        """Return how to load."""
        return {
            **super().options(),
            "replicas": as_int("replicas", self.replicas),
            "verify": as_bool("verify", self.verify),
            "skipIfExists": as_bool("skip_if_exists", self.skip_if_exists),
            "bandwidth": self.bandwidth or None,
            **_criterion(self.wait_policy),
        }


def _criterion(policy: WaitPolicy | str) -> JobOptions:
    """Return a wait policy as the options of the API.

    Raises:
        PreheatRequestError: it is none.
    """
    if policy == "fully_hot":
        return {}
    known = WaitPolicy.__annotations__
    if not isinstance(policy, Mapping) or not known.keys() >= policy.keys():
        raise PreheatRequestError(
            f"wait_policy={policy!r} is not known. Write fully_hot, or a mapping with {' and '.join(known)}."
        )
    return {
        "minHotFraction": as_fraction("min_hot_fraction", policy.get("min_hot_fraction")),
        "maxFailedFiles": as_int("max_failed_files", policy.get("max_failed_files")),
    }
