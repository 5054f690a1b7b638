"""Tasks about what is in the cache, and about copies in the under store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

from airflow_preheat.jobs import JobOptions, JobSpec, JobType, as_bool, as_int
from airflow_preheat.operators._job import JobOperator


class FreeOperator(JobOperator):
    """Evicts what is cached below the paths, wherever it is; the under store keeps it.

    Its arguments are those of :class:`~airflow_preheat.operators._job.JobOperator`.
    """

    job_type: ClassVar[JobType] = "free"


class PersistOperator(JobOperator):
    """Gives the under store what was written to the cache first and is pending below the paths.

    Its arguments are those of :class:`~airflow_preheat.operators._job.JobOperator`.
    """

    job_type: ClassVar[JobType] = "persist"


class RebalanceOperator(JobOperator):
    """Moves what is cached below the paths to the workers that own it now, after workers joined.

    Each object keeps its number of copies, and never has fewer meanwhile. Its arguments are those of
    :class:`~airflow_preheat.operators._job.JobOperator`.
    """

    job_type: ClassVar[JobType] = "rebalance"


class ReplicateOperator(JobOperator):
    """Brings what is cached below the paths to a number of copies, from worker to worker.

    Args:
        replicas: workers that hold each object: missing copies are made, others dropped. Templated.
        kwargs: those of :class:`~airflow_preheat.operators._job.JobOperator`.
    """

    job_type: ClassVar[JobType] = "replicate"
    template_fields: Sequence[str] = (*JobOperator.template_fields, "replicas")

    def __init__(self, *, replicas: int | str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas

    def options(self) -> JobOptions:
        """Return how to replicate."""
        return {**super().options(), "replicas": as_int("replicas", self.replicas)}


class CopyOperator(JobOperator):
    """Writes what is below a path to another place of the under stores.

    Args:
        destination: where to, e.g. ``s3://archive/digits/``. Templated, as are the next two.
        skip_if_exists: leave a target alone that is the same already.
        bandwidth: bytes per second and worker, a number or a size such as ``100MiB``; unlimited by default. What an
            under store copies itself does not pass through a worker, and is not limited.
        kwargs: those of :class:`~airflow_preheat.operators._job.JobOperator`; its ``path`` is one path.
    """

    job_type: ClassVar[JobType] = "copy"
    template_fields: Sequence[str] = (*JobOperator.template_fields, "destination", "skip_if_exists", "bandwidth")

    def __init__(
        self,
        *,
        destination: str,
        skip_if_exists: bool | str = True,
        bandwidth: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.skip_if_exists = skip_if_exists
        self.bandwidth = bandwidth

    def options(self) -> JobOptions:
        """Return how to copy."""
        return {
            **super().options(),
            "skipIfExists": as_bool("skip_if_exists", self.skip_if_exists),
            "bandwidth": self.bandwidth or None,
        }

    def spec(self) -> JobSpec:
        """Return what to copy, and where to."""
        return replace(super().spec(), destination=self.destination)


class MoveOperator(CopyOperator):
    """Writes what is below a path to another place, and deletes it at the first when all of it is written.

    ``durable`` matters here: a second move finds nothing at the source. It takes the arguments of
    :class:`CopyOperator`.
    """

    job_type: ClassVar[JobType] = "move"
