"""What all tasks have in common that submit a job and wait for its end.

Heavy imports (requests, aiohttp) wait until a task runs: DAG files import this module.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from airflow.providers.common.compat.sdk import BaseOperator, Context, conf

from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat._lineage import LineageMixin
from airflow_preheat._watch import JobEvent, JobWait, JobWatch, reached
from airflow_preheat.assets import describe_outlets
from airflow_preheat.deadlines import Deadline, give_up_at
from airflow_preheat.exceptions import PreheatDeadlineError, PreheatJobNotFoundError
from airflow_preheat.jobs import ENDED, Claim, Job, JobOptions, JobSpec, JobSummary, JobType, as_int, source
from airflow_preheat.links import JOB_URL_XCOM_KEY, PreheatJobLink
from airflow_preheat.operators import _claims, _durable, _outcomes, _task
from airflow_preheat.operators._task import LateCallback, waiter_of
from airflow_preheat.version_compat import TaskDeferralError, TaskDeferralTimeout

if TYPE_CHECKING:
    from airflow_preheat.hooks import PreheatHook

JOB_ID_XCOM_KEY = "job_id"


class JobOperator(LineageMixin, BaseOperator):
    """Submits one job, waits for its end, and returns a summary of it.

    Args:
        path: what the job is about, e.g. ``s3://bucket/prefix/``, or several of them. Templated, as are
            ``preheat_conn_id``, ``file_filter_regex``, ``batch_size``, ``priority`` and ``deadline``.
        preheat_conn_id: the Airflow connection of the coordinator.
        file_filter_regex: only the objects whose keys match.
        batch_size: objects in one request to a worker; the coordinator's default by default.
        priority: ``high``, ``normal`` or ``low``: which job goes first where several wait.
        deferrable: wait in the triggerer and not in a worker's slot; by default as Airflow is configured
            (``[operators] default_deferrable``).
        durable: keep the job's id in the task's state store (Airflow 3.3 and later), so that the next try goes on
            with the job of one whose worker died, also if that job has succeeded meanwhile.
        deadline: cancel the job and fail if it has not ended by then: a timedelta after the submit, a datetime, or
            a text such as ``06:00 Europe/Berlin`` (see :func:`airflow_preheat.deadlines.resolve`).
            ``execution_timeout`` counts too, whichever is earlier, and 7 days if there is neither.
        poll_interval: seconds between two lines of progress in the log; the job's end is noticed at once, except that
            an Alluxio is asked for it this often.
        outage_tolerance: seconds that the coordinator may be away, e.g. for a restart, before the task fails.
        lease: seconds that the job goes on after the last sign of life of whoever waits for it, in a worker or in the
            triggerer; at least 10. Then it is stopped, unless other tasks wait for it. ``None``, or
            ``cancel_on_kill=False``: it goes on for ever.
        on_lost: what to do if the coordinator does not know the job any more, because its state was lost, say, or
            if the ``lease`` has run out: ``resubmit`` it and wait on, or ``fail``, so that the task's next try
            submits it.
        cancel_on_kill: cancel the job when the task is killed. A cancelled job goes on if other tasks wait for
            it, and if this one is cleared and runs again within a few seconds.
        on_late_callback: called with the task's context, as Airflow's own callbacks are, once the job is foreseen to
            end after the deadline: one function, or several of them. A deferred task resumes for it, and waits on.
        kwargs: as for every Airflow operator.
    """

    job_type: ClassVar[JobType]
    template_fields: Sequence[str] = (
        "preheat_conn_id",
        "path",
        "file_filter_regex",
        "batch_size",
        "priority",
        "deadline",
    )
    operator_extra_links = (PreheatJobLink(),)
    ui_color = "#f6d8ae"
    partition: str | None = None
    """The partition of the outlets that is told of; see :func:`airflow_preheat.assets.describe_outlets`."""

    def __init__(
        self,
        *,
        path: str | list[str] | None,
        preheat_conn_id: str = DEFAULT_CONN_ID,
        file_filter_regex: str | None = None,
        batch_size: int | str | None = None,
        priority: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        durable: bool = True,
        deadline: Deadline | None = None,
        poll_interval: float = 20.0,
        outage_tolerance: float = 300.0,
        lease: float | None = _task.LEASE_SECONDS,
        on_lost: Literal["resubmit", "fail"] = "resubmit",
        cancel_on_kill: bool = True,
        on_late_callback: LateCallback | Sequence[LateCallback] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preheat_conn_id = preheat_conn_id
        self.path = path
        self.file_filter_regex = file_filter_regex
        self.batch_size = batch_size
        self.priority = priority
        self.deferrable = deferrable
        self.durable = durable
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.outage_tolerance = outage_tolerance
        self.lease = lease
        self.on_lost = on_lost
        self.cancel_on_kill = cancel_on_kill
        self.on_late_callback = on_late_callback
        self.job_id: str | None = None
        self.summary: JobSummary | None = None
        self._claim: Claim | None = None
        self._killed = False

    def options(self) -> JobOptions:
        """Return the job's options by their names in the API, with the templates rendered."""
        return {
            "batchSize": as_int("batch_size", self.batch_size),
            "fileFilterRegex": self.file_filter_regex or None,
            "priority": self.priority or None,
        }

    def spec(self) -> JobSpec:
        """Return what to submit, with the templates rendered."""
        paths = [self.path] if isinstance(self.path, str) else list(self.path or ())
        return JobSpec(type=self.job_type, paths=paths, options=self.options())

    @cached_property
    def hook(self) -> PreheatHook:
        """The hook of the task's connection."""
        from airflow_preheat.hooks import PreheatHook  # noqa: PLC0415 - heavy, see above

        return PreheatHook(self.preheat_conn_id)

    def execute(self, context: Context) -> Mapping[str, object]:
        """Submit the job, then wait for its end, deferred or here.

        Raises:
            PreheatError: one of :mod:`airflow_preheat.exceptions`.
        """
        return self._submit_and_wait(context)

    def _submit_and_wait(self, context: Context, lost: str = "") -> Mapping[str, object]:
        spec = self.spec()
        known = self._known_job(context, spec) if self.durable else None
        wait = self._wait(context, known)
        job = known or self._submit(context, spec, wait.claim(), lost)
        self._announce(context, job)
        return self._wait_for(context, job["id"], reached(job, wait.first), wait)

    def _wait_for(self, context: Context, job_id: str, event: JobEvent | None, wait: JobWait) -> Mapping[str, object]:
        wait = replace(wait, job_id=job_id, not_before=time.time() + _task.report_seconds())
        claim = self._claim_job(wait)
        if self._killed and self.cancel_on_kill:  # while it was submitted: there was nothing to cancel
            _claims.cancel(self.hook, claim)
        elif event is None and self.deferrable:
            self._defer(wait)
        event = event or self.hook.wait_for_job(JobWatch(wait=wait, claim=claim))
        return self.execute_complete(context, cast("dict[str, Any]", event))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Mapping[str, object]:
        """Return the ended job's summary, and attach it to the outlets' events.

        Raises:
            PreheatError: the job did not succeed; one whose deadline has passed is cancelled first.
        """
        outcome = _outcomes.checked(event)
        self.job_id = outcome["job_id"]
        if outcome["status"] in _outcomes.LOST and self.on_lost == "resubmit" and not self._killed:
            self.log.warning("%s It is submitted again.", outcome["message"])
            return self._submit_and_wait(context, lost=self.job_id)
        if outcome["status"] == "late":
            return self._wait_on_late(context, outcome)
        if outcome["status"] in _outcomes.LEFT:
            _claims.leave(self.hook, self.job_id, waiter_of(context))
        if outcome["status"] in {"failed", "unmet"}:
            _durable.forget(context)
        self.summary = outcome["job"]
        summary = _outcomes.success(outcome)
        self._claim = None  # a job that goes on is not to be cancelled by what happens to the task
        _durable.forget(context)
        self.log.info(_outcomes.describe(outcome, summary))
        extra = {**summary, "path": self.path}
        self.outlets = describe_outlets(context, self.outlets, extra, self.partition)
        return summary

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral; if the trigger itself broke, cancel the job: the task waits no longer."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self._leave_all(context)
            raise

    def on_kill(self) -> None:
        """Cancel the job when the task is killed while it submits it or waits here."""
        self._killed = True
        if self.cancel_on_kill and self._claim is not None:
            _claims.cancel(self.hook, self._claim)

    def _leave_all(self, context: Context) -> None:
        """Cancel what the task has submitted: nobody waits for it any more."""
        task_instance = context["ti"]
        self.job_id = task_instance.xcom_pull(key=JOB_ID_XCOM_KEY, map_indexes=task_instance.map_index)
        if self.job_id is not None:
            _claims.leave(self.hook, self.job_id, waiter_of(context))

    def _wait_on_late(self, context: Context, outcome: JobEvent) -> Mapping[str, object]:
        """Tell who wants to know that the job will be late, and wait on, no longer than before."""
        self.log.warning(outcome["message"])
        _task.tell(self.on_late_callback, context, self.log.exception)
        wait = replace(self._new_wait(context, outcome["deadline"]), tell_late=False)
        return self._wait_for(context, outcome["job_id"], None, wait)

    def _wait(self, context: Context, known: Job | None) -> JobWait:
        """Return how to wait for the job, which may still have to be submitted."""
        deadline = self._deadline(context)
        if deadline <= time.time() and not (known and known["state"] in ENDED):
            if known is not None:
                _claims.leave(self.hook, known["id"], waiter_of(context))
            raise PreheatDeadlineError(
                f"deadline={str(self.deadline)!r} has passed, so the task does not wait. Give a later one, or clear "
                "the DAG run: a time of the day counts from its start."
            )
        wait = self._new_wait(context, deadline)
        # A wait that cannot be stored must fail here: after the submit, nobody would wait for the job.
        json.dumps(asdict(wait))
        return wait

    def _new_wait(self, context: Context, deadline: float) -> JobWait:
        return JobWait(
            job_id="",
            waiter=waiter_of(context),
            preheat_conn_id=self.preheat_conn_id,
            deadline=deadline,
            poll_interval=self.poll_interval,
            outage_tolerance=self.outage_tolerance,
            cancel_on_kill=self.cancel_on_kill,
            tell_late=bool(self.on_late_callback),
            lease=self.lease,
        )

    def _deadline(self, context: Context) -> float:
        """Return when to give up, in seconds since the epoch."""
        run = context.get("dag_run")
        return give_up_at(
            self.deadline,
            self.execution_timeout,
            now=datetime.now(tz=UTC),
            since=run.start_date if run is not None else None,
        ).timestamp()

    def _known_job(self, context: Context, spec: JobSpec) -> Job | None:
        """Return the job of an earlier try that was cut off, unless it has ended without success."""
        job_id = _durable.recall(context, spec)
        return self._still_good(job_id) if job_id else None

    def _still_good(self, job_id: str, first: int | None = None) -> Job | None:
        try:
            job = self.hook.get_job(job_id)
        except PreheatJobNotFoundError:
            return None
        event = reached(job, first)
        if event is not None and not _outcomes.is_success(event):
            return None
        self.log.info("Going on with Preheat job %s of an earlier try, which is %s", job_id, job["state"])
        return job

    def _submit(self, context: Context, spec: JobSpec, claim: Claim, lost: str) -> Job:
        """Submit the job, and claim it in the same step: this process may be gone before the next one."""
        job = self.hook.submit(spec, _task.submit_key(context, lost), claim)
        if self.durable:
            _durable.remember(context, spec, job["id"])
        verb = "Attached to the running" if job["attached"] else "Submitted"
        self.log.info("%s Preheat job %s for %s: %s", verb, job["id"], ", ".join(source(job)), job["url"])
        return job

    def _announce(self, context: Context, job: Job) -> None:
        self.job_id = job["id"]
        context["ti"].xcom_push(key=JOB_ID_XCOM_KEY, value=job["id"])
        context["ti"].xcom_push(key=JOB_URL_XCOM_KEY, value=job["url"])

    def _claim_job(self, wait: JobWait) -> Claim:
        """Take the place of the process that waited before: this task's trigger, or that of its earlier try."""
        self._claim = claim = wait.claim()
        _claims.send(self.hook, claim)
        return claim

    def _defer(self, wait: JobWait) -> None:
        from airflow_preheat.triggers import PreloadTrigger  # noqa: PLC0415 - heavy, see above

        timeout = timedelta(seconds=max(0.0, wait.deadline - time.time())) + _task.BACKSTOP
        self.defer(trigger=PreloadTrigger(**asdict(wait)), method_name="execute_complete", timeout=timeout)
