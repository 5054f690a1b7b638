"""The task that warms many datasets."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import Any, cast

from airflow.providers.common.compat.sdk import Asset, Context

from airflow_preheat._many import (
    Outcomes,
    Quorum,
    explain,
    given_up,
    is_good,
    news,
    refused,
    summarize,
)
from airflow_preheat._watch import JobEvent, JobWait, JobWatch, reached
from airflow_preheat.assets import describe_outlets
from airflow_preheat.exceptions import (
    PreheatDeadlineError,
    PreheatError,
    PreheatJobFailedError,
    PreheatRequestError,
)
from airflow_preheat.jobs import Claim, JobSpec
from airflow_preheat.operators import _claims, _durable, _outcomes
from airflow_preheat.operators._load import Load
from airflow_preheat.operators._preload import PreloadOperator
from airflow_preheat.operators._task import BACKSTOP, report_seconds, submit_key, waiter_of

JOB_IDS_XCOM_KEY = "job_ids"
_POLL_SECONDS = 2.0
"""Between two rounds of looks at the jobs, of a task that does not defer."""
_EACH = frozenset({"path", "index"})
"""What a dataset does not have by default."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Dataset:
    """One of the datasets, and in whose name its job is claimed."""

    name: str
    spec: JobSpec
    first: int | None
    waiter: str

    @property
    def key(self) -> str:
        """Tells its job from those of the others."""
        return self.spec.digest()[:16]

    def wait(self, common: JobWait) -> JobWait:
        """Return how to wait for its job, which may still have to be submitted."""
        return replace(common, waiter=self.waiter, first=self.first)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Begun:
    """What became of a submit."""

    job_id: str = ""
    """Empty if there is no job."""
    outcome: JobEvent | None = None
    """``None`` if the job is to be waited for."""


class PreloadManyOperator(PreloadOperator):
    """Loads many datasets with one task, one deferral and one job each, and returns what became of each.

    It submits some of them at once, defers until all have ended, and succeeds if enough of them are warm. It returns a
    :class:`~airflow_preheat._many.ManySummary`; the events of its outlets are those of the datasets that are warm. If
    the task is killed, each of its jobs is cancelled.

    A task for each dataset, with a retry and a log of its own, is what ``PreloadOperator.partial(…).expand(path=[…])``
    makes. This one is for so many that their tasks would be a burden, and for "most of them".

    Args:
        datasets: paths, or mappings with ``path`` or ``index`` and any of ``replicas``, ``verify``, ``skip_if_exists``,
            ``bandwidth``, ``wait_policy``, ``file_filter_regex``, ``batch_size`` and ``priority``. Templated.
        min_succeeded: how many of them have to be warm: a number, or a share below 1; by default all. Templated.
        fail_fast: as soon as that cannot be any more, cancel the jobs that go on and fail.
        parallel_submits: how many are submitted at once.
        kwargs: those of :class:`PreloadOperator` but ``path``, ``index`` and ``on_late_callback``; what is about one
            load holds for each that does not say otherwise.
    """

    template_fields: Sequence[str] = (
        *(name for name in PreloadOperator.template_fields if name not in _EACH),
        "datasets",
        "min_succeeded",
    )

    def __init__(
        self,
        *,
        datasets: Sequence[str | Mapping[str, Any]],
        min_succeeded: float | str | None = None,
        fail_fast: bool = False,
        parallel_submits: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if kwargs.keys() & {*_EACH, "on_late_callback"}:
            raise TypeError("PreloadManyOperator takes datasets, and neither path, index nor on_late_callback.")
        self.datasets = datasets
        self.min_succeeded = min_succeeded
        self.fail_fast = fail_fast
        self.parallel_submits = parallel_submits
        self._claims: list[Claim] = []

    def spec(self) -> JobSpec:
        """Return all that is loaded, as if one job did it."""
        specs = [load.spec() for load in self.loads()]
        return JobSpec(type="load", paths=[path for spec in specs for path in spec.source], options={})

    def loads(self) -> list[Load]:
        """Return what to load and how, with the templates rendered.

        Raises:
            PreheatRequestError: something that is said of one of the datasets cannot be used.
        """
        if isinstance(self.datasets, str | Mapping) or not isinstance(self.datasets, Sequence):
            raise PreheatRequestError(
                f"datasets={self.datasets!r} is not a list. One that a template makes needs "
                "DAG(render_template_as_native_obj=True)."
            )
        defaults = {field.name: getattr(self, field.name) for field in fields(Load) if field.name not in _EACH}
        return [Load.of(dataset, defaults) for dataset in self.datasets]

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Mapping[str, object]:
        """Return what became of each dataset, and attach it to the outlets' events.

        Raises:
            PreheatError: too few of them are warm; jobs that go on are cancelled first.
        """
        datasets = self._all(context)
        outcomes = cast("Outcomes", (event or {}).get("outcomes") or [])
        if len(outcomes) != len(datasets) or None in outcomes:
            raise PreheatError(f"The trigger sent an event that this version of the provider does not know: {event!r}")
        return self._conclude(context, datasets, cast("list[JobEvent]", outcomes))

    def on_kill(self) -> None:
        """Cancel the jobs when the task is killed while it submits or waits here."""
        self._killed = True
        for claim in list(self._claims) if self.cancel_on_kill else ():
            _claims.cancel(self.hook, claim)

    def _submit_and_wait(self, context: Context, lost: str = "") -> Mapping[str, object]:
        datasets = self._all(context)
        wait = self._wait_or_leave(context)
        quorum = self._quorum(len(datasets))
        begun = self._begin_all(context, datasets, wait, lost)
        outcomes: Outcomes = [each.outcome for each in begun]
        wait = replace(wait, not_before=time.time() + report_seconds())
        waits = [
            replace(dataset.wait(wait), job_id=each.job_id)
            for dataset, each in zip(datasets, begun, strict=True)
            if each.outcome is None
        ]
        if self.deferrable and not self._killed and not quorum.is_over(outcomes):
            self._defer_all(wait, waits, outcomes, quorum)
        return self._conclude(context, datasets, self._wait_here(waits, outcomes, quorum))

    def _wait_or_leave(self, context: Context) -> JobWait:
        """Return how to wait; if it is too late for that, cancel the jobs of an earlier try."""
        try:
            return self._wait(context, None)
        except PreheatDeadlineError:
            self._leave_each(context, _durable.recall_all(context) if self.durable else {})
            raise

    def _new_wait(self, context: Context, deadline: float) -> JobWait:
        return replace(super()._new_wait(context, deadline), tell_late=False)

    def _all(self, context: Context) -> list[_Dataset]:
        loads = self.loads()
        self._check_first(next((load.first for load in loads if load.first), None))
        specs = [(load, load.spec()) for load in loads]
        task = waiter_of(context)
        return [
            _Dataset(name=load.name, spec=spec, first=load.first, waiter=f"{task}/{spec.digest()[:16]}")
            for load, spec in specs
        ]

    def _quorum(self, count: int) -> Quorum:
        return Quorum.of(count, self.min_succeeded, fail_fast=self.fail_fast)

    def _begin_all(self, context: Context, datasets: Sequence[_Dataset], wait: JobWait, lost: str) -> list[_Begun]:
        """Submit each load, or find the one of an earlier try; a refusal is its outcome."""
        known = _durable.recall_all(context) if self.durable else {}
        self.log.info(
            "Warming %s datasets by dialect %s", len(datasets), self.hook.dialect.name
        )  # asked before threads do

        def begin(dataset: _Dataset) -> _Begun:
            key = submit_key(context, dataset.key, lost)
            return self._begin(dataset, known.get(dataset.key), key, dataset.wait(wait).claim())

        with ThreadPoolExecutor(max(1, self.parallel_submits)) as pool:
            begun = list(pool.map(begin, datasets))
        job_ids = {dataset.key: each.job_id for dataset, each in zip(datasets, begun, strict=True) if each.job_id}
        if self.durable:
            _durable.remember_all(context, job_ids)
        context["ti"].xcom_push(key=JOB_IDS_XCOM_KEY, value=job_ids)
        return begun

    def _begin(self, dataset: _Dataset, known_id: str | None, key: str, claim: Claim) -> _Begun:
        return _Begun(outcome=given_up("")) if self._killed else self._begin_job(dataset, known_id, key, claim)

    def _begin_job(self, dataset: _Dataset, known_id: str | None, key: str, claim: Claim) -> _Begun:
        try:
            known = self._still_good(known_id, dataset.first) if known_id else None
            job = known or self.hook.submit(dataset.spec, key, claim)
        except PreheatError as error:
            return _Begun(outcome=refused(error))
        self._claims.append(claim := replace(claim, job_id=job["id"]))
        _claims.send(self.hook, claim)
        if self._killed and self.cancel_on_kill:  # while it was submitted: there was nothing to cancel
            _claims.cancel(self.hook, claim)
        self.log.info("%s is Preheat job %s: %s", dataset.name, job["id"], job["url"])
        return _Begun(job_id=job["id"], outcome=reached(job, dataset.first))

    def _defer_all(self, common: JobWait, waits: Sequence[JobWait], outcomes: Outcomes, quorum: Quorum) -> None:
        from airflow_preheat.many_trigger import PreloadManyTrigger  # noqa: PLC0415 - heavy

        task = f"{common.waiter}/"
        jobs = [(wait.job_id, wait.waiter.removeprefix(task), wait.first) for wait in waits]
        trigger = PreloadManyTrigger(wait=asdict(common), jobs=jobs, outcomes=outcomes, quorum=asdict(quorum))
        timeout = timedelta(seconds=max(0.0, common.deadline - time.time())) + BACKSTOP
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)

    def _wait_here(self, waits: Sequence[JobWait], outcomes: Outcomes, quorum: Quorum) -> list[JobEvent]:
        """Look at all the jobs in turn until there is nothing to wait for."""
        watches = [
            JobWatch(wait=wait, claim=claim) for wait, claim in zip(waits, self._open_claims(waits), strict=True)
        ]
        places = [place for place, outcome in enumerate(outcomes) if outcome is None]
        outcomes = list(outcomes)
        while not quorum.is_over(outcomes):
            for place, watch in zip(places, watches, strict=True):
                if outcomes[place] is None:
                    outcomes[place] = self.hook.look_at_job(watch)
            self.log.info("%s of %s datasets are warm", sum(map(is_good, outcomes)), len(outcomes))
            if not quorum.is_over(outcomes):
                time.sleep(_POLL_SECONDS)
        job_ids = dict(zip(places, waits, strict=True))
        return [outcome or given_up(job_ids[place].job_id) for place, outcome in enumerate(outcomes)]

    def _open_claims(self, waits: Sequence[JobWait]) -> list[Claim]:
        by_waiter = {claim.waiter: claim for claim in self._claims}
        return [by_waiter[wait.waiter] for wait in waits]

    def _conclude(
        self, context: Context, datasets: Sequence[_Dataset], outcomes: Sequence[JobEvent]
    ) -> Mapping[str, object]:
        lost = [outcome["job_id"] for outcome in outcomes if outcome["status"] in _outcomes.LOST]
        if lost and self.on_lost == "resubmit" and not self._killed:
            self.log.warning("Some jobs were lost, or stopped as if nobody waited: they are submitted again.")
            return self._submit_and_wait(context, lost=lost[0])
        for dataset, outcome in zip(datasets, outcomes, strict=True):
            if outcome["status"] in _outcomes.LEFT and outcome["job_id"]:
                _claims.leave(self.hook, outcome["job_id"], dataset.waiter)
        self._claims = []
        summary = summarize([dataset.name for dataset in datasets], outcomes)
        if not self._quorum(len(datasets)).is_met(list(outcomes)):
            late = any(outcome["status"] == "deadline" for outcome in outcomes)
            raise (PreheatDeadlineError if late else PreheatJobFailedError)(explain(summary))
        if summary["failed"]:
            self.log.warning(explain(summary))
        _durable.forget_all(context)
        self._describe_all(context, datasets, outcomes)
        return summary

    def _describe_all(self, context: Context, datasets: Sequence[_Dataset], outcomes: Sequence[JobEvent]) -> None:
        """Let the events of the outlets of warm datasets say so; those of others have none."""
        jobs = news([dataset.spec.source for dataset in datasets], outcomes)
        outlets = list[Any]()
        for outlet in self.outlets:
            extra = jobs.get(outlet.uri, {}) if isinstance(outlet, Asset) else {}
            if extra is not None:
                outlets += describe_outlets(context, [outlet], extra, self.partition if extra else None)
        self.outlets = outlets

    def _leave_all(self, context: Context) -> None:
        task_instance = context["ti"]
        job_ids = task_instance.xcom_pull(key=JOB_IDS_XCOM_KEY, map_indexes=task_instance.map_index) or {}
        self._leave_each(context, job_ids)

    def _leave_each(self, context: Context, job_ids: Mapping[str, str]) -> None:
        for key, job_id in job_ids.items():
            _claims.leave(self.hook, job_id, f"{waiter_of(context)}/{key}")
