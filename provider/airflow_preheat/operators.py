"""Tasks that warm datasets.

Heavy imports (requests, aiohttp) wait until a task runs: DAG files import this module.
"""

from __future__ import annotations

import json
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import Asset, BaseOperator, Context, conf

from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat._watch import AFTER_CANCEL, JobEvent, JobWatch, Status, ended
from airflow_preheat.exceptions import (
    PreheatDeadlineError,
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatJobStoppedError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import Claim, Job, JobSpec, JobSummary, as_bool, as_int, human_size
from airflow_preheat.links import JOB_URL_XCOM_KEY, PreheatJobLink
from airflow_preheat.version_compat import TaskDeferralError, TaskDeferralTimeout

if TYPE_CHECKING:
    from airflow_preheat.hooks import PreheatHook
    from airflow_preheat.triggers import PreloadTrigger

JOB_ID_XCOM_KEY = "job_id"
MAX_DEADLINE = timedelta(days=7)
"""How long a task waits that sets no limit of its own; as Airflow's sensors."""

_ERRORS: Mapping[Status, type[PreheatError]] = {
    "failed": PreheatJobFailedError,
    "stopped": PreheatJobStoppedError,
    "deadline": PreheatDeadlineError,
    "lost": PreheatJobNotFoundError,
    "unavailable": PreheatUnavailableError,
    "error": PreheatError,
}


class _JobOperator(BaseOperator):
    """Submits one job, waits for its end, and returns a summary of it."""

    template_fields: Sequence[str] = ("preheat_conn_id", "path", "file_filter_regex")
    operator_extra_links = (PreheatJobLink(),)
    ui_color = "#f6d8ae"

    def __init__(
        self,
        *,
        path: str | list[str],
        preheat_conn_id: str = DEFAULT_CONN_ID,
        file_filter_regex: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        deadline: timedelta | None = None,
        poll_interval: float = 20.0,
        outage_tolerance: float = 300.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preheat_conn_id = preheat_conn_id
        self.path = path
        self.file_filter_regex = file_filter_regex
        self.deferrable = deferrable
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.outage_tolerance = outage_tolerance
        self.cancel_on_kill = cancel_on_kill
        self.job_id: str | None = None
        self._claim: Claim | None = None

    @abstractmethod
    def spec(self) -> JobSpec:
        """Return what to submit, with the templates rendered."""

    @cached_property
    def hook(self) -> PreheatHook:
        """The hook of the task's connection."""
        from airflow_preheat.hooks import PreheatHook  # noqa: PLC0415 - heavy, see above

        return PreheatHook(self.preheat_conn_id)

    def execute(self, context: Context) -> JobSummary:
        """Submit the job, then wait for its end, deferred or here.

        Raises:
            PreheatError: one of :mod:`airflow_preheat.exceptions`.
        """
        deadline = time.time() + self._time_limit().total_seconds()
        trigger = self._trigger(context, deadline) if self.deferrable else None
        job = self._submit(context)
        claim = self._claim_job(context, job["id"])
        event = ended(job)
        if event is None and trigger is not None:
            trigger.job_id = job["id"]
            trigger.not_before = time.time() + _report_seconds()
            self.defer(trigger=trigger, method_name="execute_complete")
        return self.execute_complete(context, cast("dict[str, Any]", event or self._wait(claim, deadline)))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> JobSummary:
        """Return the ended job's summary, and attach it to the outlets' events.

        Raises:
            PreheatError: the job did not succeed; one whose deadline has passed is cancelled first.
        """
        outcome = _checked(event)
        self.job_id = outcome["job_id"]
        if outcome["status"] == "deadline":
            self._cancel_job(self._claim_job(context, self.job_id))
        summary = outcome["job"]
        if outcome["status"] != "succeeded" or summary is None:
            raise _ERRORS[outcome["status"]](outcome["message"])
        self.log.info(
            "Preheat job %s succeeded: %s files, %s; %s loaded, %s were there; dataset version %s",
            self.job_id,
            summary["files"],
            human_size(summary["bytes"]),
            summary["loaded"],
            summary["skipped"],
            summary["dataset_version"],
        )
        self._describe_outlets(context, summary)
        return summary

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral; if the trigger itself broke, cancel the job: the task waits no longer."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            task_instance = context["ti"]
            self.job_id = task_instance.xcom_pull(key=JOB_ID_XCOM_KEY, map_indexes=task_instance.map_index)
            if self.job_id is not None:
                self._cancel_job(self._claim_job(context, self.job_id))
            raise

    def on_kill(self) -> None:
        """Cancel the job when the task is killed while it waits here."""
        if self.cancel_on_kill and self._claim is not None:
            self._cancel_job(self._claim)

    def _time_limit(self) -> timedelta:
        # Airflow does not enforce execution_timeout while a task is deferred, so it is part of the deadline.
        limits = (self.deadline, self.execution_timeout)
        return min((limit for limit in limits if limit is not None), default=MAX_DEADLINE)

    def _trigger(self, context: Context, deadline: float) -> PreloadTrigger:
        from airflow_preheat.triggers import PreloadTrigger  # noqa: PLC0415 - heavy, see above

        trigger = PreloadTrigger(
            job_id="",
            waiter=_waiter(context),
            preheat_conn_id=self.preheat_conn_id,
            deadline=deadline,
            poll_interval=self.poll_interval,
            outage_tolerance=self.outage_tolerance,
            cancel_on_kill=self.cancel_on_kill,
        )
        # A trigger that cannot be stored must fail here: after the submit, nobody would wait for the job.
        json.dumps(trigger.serialize())
        return trigger

    def _submit(self, context: Context) -> Job:
        task_instance = context["ti"]
        job = self.hook.submit(self.spec(), f"airflow-{task_instance.id}-{task_instance.try_number}")
        self.job_id = job["id"]
        verb = "Attached to the running" if job["attached"] else "Submitted"
        self.log.info("%s Preheat job %s for %s: %s", verb, job["id"], ", ".join(job["paths"]), job["url"])
        task_instance.xcom_push(key=JOB_ID_XCOM_KEY, value=job["id"])
        task_instance.xcom_push(key=JOB_URL_XCOM_KEY, value=job["url"])
        return job

    def _claim_job(self, context: Context, job_id: str) -> Claim:
        """Take the place of the process that waited before: this task's trigger, or that of its earlier try."""
        self._claim = claim = Claim(job_id=job_id, waiter=_waiter(context))
        try:
            self.hook.claim(claim)
        except PreheatError as error:  # who waits claims it again, and is patient
            self.log.warning("Preheat job %s could not be claimed: %s", job_id, error)
        return claim

    def _wait(self, claim: Claim, deadline: float) -> JobEvent:
        watch = JobWatch(
            claim=claim,
            deadline=deadline,
            poll_interval=self.poll_interval,
            outage_tolerance=self.outage_tolerance,
        )
        return self.hook.wait_for_job(watch)

    def _cancel_job(self, claim: Claim) -> None:
        try:
            self.hook.cancel(claim)
        except PreheatError as error:
            self.log.warning("Preheat job %s could not be cancelled: %s", claim.job_id, error)
        else:
            self.log.info("Preheat job %s was cancelled. %s", claim.job_id, AFTER_CANCEL)

    def _describe_outlets(self, context: Context, summary: JobSummary) -> None:
        for outlet in self.outlets:
            if isinstance(outlet, Asset):
                extra = cast("dict[str, Any]", {**summary, "path": self.path})
                context["outlet_events"][outlet].extra = extra

    def _paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else list(self.path)


class PreloadOperator(_JobOperator):
    """Loads datasets into the cache, and succeeds only if every object is there.

    It returns a :class:`~airflow_preheat.jobs.JobSummary`, which the events of its outlets carry too. A job
    of the same paths that runs already is joined. A retry submits again, and skips what is in the cache.

    Args:
        path: the dataset, e.g. ``s3://bucket/prefix/``, or several of them. Templated, as is every argument
            up to ``file_filter_regex``.
        preheat_conn_id: the Airflow connection of the coordinator.
        replicas: workers that hold each object.
        verify: read every object back, checksums included, before the job may succeed.
        skip_if_exists: leave cached copies of the same version alone.
        bandwidth: bytes per second and worker, a number or a size such as ``100MiB``; unlimited by default.
        batch_size: objects in one request to a worker; the coordinator's default by default.
        file_filter_regex: load only the objects whose keys match.
        deferrable: wait in the triggerer and not in a worker's slot; by default as Airflow is configured
            (``[operators] default_deferrable``).
        deadline: cancel the job and fail if it has not ended this long after its submit; ``execution_timeout``
            counts too, whichever is shorter, and 7 days if there is neither.
        poll_interval: seconds between two lines of progress in the log; the job's end is noticed at once.
        outage_tolerance: seconds that the coordinator may be away, e.g. for a restart, before the task fails.
        cancel_on_kill: cancel the job when the task is killed. A cancelled job goes on if other tasks wait for
            it, and if this one is cleared and runs again within a few seconds.
        kwargs: as for every Airflow operator.
    """

    template_fields: Sequence[str] = (
        *_JobOperator.template_fields,
        "replicas",
        "verify",
        "skip_if_exists",
        "bandwidth",
        "batch_size",
    )

    def __init__(
        self,
        *,
        replicas: int | str = 1,
        verify: bool | str = True,
        skip_if_exists: bool | str = True,
        bandwidth: int | str | None = None,
        batch_size: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.replicas = replicas
        self.verify = verify
        self.skip_if_exists = skip_if_exists
        self.bandwidth = bandwidth
        self.batch_size = batch_size

    def spec(self) -> JobSpec:
        """Return what to load."""
        options = {
            "replicas": as_int("replicas", self.replicas),
            "verify": as_bool("verify", self.verify),
            "skipIfExists": as_bool("skip_if_exists", self.skip_if_exists),
            "bandwidth": self.bandwidth or None,
            "batchSize": as_int("batch_size", self.batch_size),
            "fileFilterRegex": self.file_filter_regex or None,
        }
        return JobSpec(type="load", paths=self._paths(), options=options)


def _waiter(context: Context) -> str:
    """Name the task instance, without the try: the next one takes the place of the one before."""
    task_instance = context["ti"]
    return f"{task_instance.dag_id}/{task_instance.run_id}/{task_instance.task_id}/{task_instance.map_index}"


def _report_seconds() -> float:
    """Return how long a worker may take to report that a task deferred: it looks once per heartbeat."""
    return float(conf.getint("workers", "min_heartbeat_interval", fallback=5)) + 1.0


def _checked(event: Mapping[str, Any] | None) -> JobEvent:
    """Return the trigger's event, if it is one of ours: it has been through Airflow's database."""
    if not event or not event.get("job_id") or event.get("status") not in {"succeeded", *_ERRORS}:
        raise PreheatError(f"The trigger sent an event that this version of the provider does not know: {event!r}")
    return cast("JobEvent", event)
