"""Tasks that wait for warm datasets, without warming them.

Heavy imports (requests, aiohttp) wait until a task runs: DAG files import this module.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    conf,
)

from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat._looks import Finding, JobLook, WarmthLook
from airflow_preheat._sensing import ERRORS, TIMEOUT, SensorEvent, SensorWait, SensorWatch
from airflow_preheat.exceptions import PreheatError, PreheatRequestError, PreheatUnavailableError
from airflow_preheat.jobs import as_fraction

if TYPE_CHECKING:
    from airflow_preheat.hooks import PreheatHook
    from airflow_preheat.sensor_triggers import LookTrigger

_BACKSTOP = timedelta(minutes=2)
"""How long after the timeout Airflow itself ends a deferral, in case that no triggerer is there to keep it."""


class _PreheatSensor(BaseSensorOperator):
    """Looks at something until it is as it should be; what ends that, and how, is the same in each mode."""

    template_fields: Sequence[str] = ("preheat_conn_id",)
    ui_color = "#f6d8ae"

    def __init__(
        self,
        *,
        preheat_conn_id: str = DEFAULT_CONN_ID,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        outage_tolerance: float = 300.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.preheat_conn_id = preheat_conn_id
        self.deferrable = deferrable
        self.outage_tolerance = outage_tolerance
        self._watch: SensorWatch | None = None

    @abstractmethod
    def look(self) -> JobLook | WarmthLook:
        """Return what to look at, with the templates rendered.

        Raises:
            PreheatRequestError: an argument is of no use.
        """

    @abstractmethod
    def trigger(self, wait: SensorWait) -> LookTrigger:
        """Return what looks while the task is deferred."""

    @cached_property
    def hook(self) -> PreheatHook:
        """The hook of the task's connection."""
        from airflow_preheat.hooks import PreheatHook  # noqa: PLC0415 - heavy, see above

        return PreheatHook(self.preheat_conn_id)

    def execute(self, context: Context) -> Any:
        """Wait, deferred or here; return what was found.

        Raises:
            PreheatError: one of :mod:`airflow_preheat.exceptions`.
            AirflowSensorTimeout: it was not as it should be in time.
            AirflowSkipException: instead of these, with ``soft_fail`` or ``never_fail``.
        """
        self._watch = watch = SensorWatch(wait=self._wait(context))
        try:
            return self._look_and_defer(watch) if self.deferrable else super().execute(context)
        except (PreheatError, AirflowSensorTimeout) as error:
            said = str(error) if watch.note in str(error) else f"{error} {watch.note}"  # Airflow's own timeout
            raise (AirflowSkipException if self.soft_fail or self.never_fail else type(error))(said) from error

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> Any:  # noqa: ARG002 - Airflow's signature
        """Return what the trigger found; raises as :meth:`execute` does."""
        if not event or event.get("error", "") not in {None, TIMEOUT, *ERRORS}:
            raise PreheatError(f"The trigger sent an event that this version of the provider does not know: {event!r}")
        outcome = cast("SensorEvent", event)
        if outcome["error"] is None:
            return outcome["result"]
        raise ERRORS.get(outcome["error"], AirflowSensorTimeout)(outcome["message"])

    def poke(self, context: Context) -> PokeReturnValue:
        """Return whether it is as it should be; a coordinator that is away is waited for.

        Raises:
            PreheatError: it cannot come true any more, or the coordinator is away for too long.
            AirflowSensorTimeout: the sensor's time is over before the coordinator is back.
        """
        watch = self._watch or SensorWatch(wait=self._wait(context))
        while True:
            asked_at = time.time()
            try:
                finding = self._look(watch)
            except PreheatError as error:
                if watch.is_final(error, time.time()) or not isinstance(error, PreheatUnavailableError):
                    raise
            else:
                return PokeReturnValue(finding.result is not None, finding.result)
            if not watch.time_left(time.time()):
                raise AirflowSensorTimeout(watch.expired()["message"])
            time.sleep(watch.pause(asked_at, time.time()))

    def _look_and_defer(self, watch: SensorWatch) -> Mapping[str, Any] | None:
        try:
            finding = self._look(watch)
        except PreheatError as error:
            if watch.is_final(error, time.time()):
                raise
        else:
            if finding.result is not None:
                return finding.result
        wait = replace(watch.wait, not_before=time.time() + _report_seconds())
        timeout = timedelta(seconds=watch.time_left(time.time())) + _BACKSTOP
        return cast("None", self.defer(trigger=self.trigger(wait), method_name="execute_complete", timeout=timeout))

    def _look(self, watch: SensorWatch) -> Finding:
        try:
            finding = self.hook.look(self.look())
        except PreheatError as error:
            self.log.warning("%s", error)
            raise
        self.log.info("%s", finding.note)
        watch.seen(finding.note)
        return finding

    def _wait(self, context: Context) -> SensorWait:
        seconds = float(self.timeout)
        if (
            self.deferrable and self.execution_timeout is not None
        ):  # Airflow does not enforce it while a task is deferred
            seconds = min(seconds, self.execution_timeout.total_seconds())
        rescheduled = not self.deferrable and self.reschedule and context["ti"].get_first_reschedule_date(context)
        return SensorWait(
            preheat_conn_id=self.preheat_conn_id,
            deadline=(rescheduled.timestamp() if rescheduled else time.time()) + seconds,
            poke_interval=self.poke_interval,
            outage_tolerance=self.outage_tolerance,
            silent=self.silent_fail,
        )


class PreloadSensor(_PreheatSensor):
    """Waits until a preload that somebody else submitted has succeeded, and returns its summary.

    It is a
    :class:`~airflow_preheat.jobs.JobSummary`. The sensor only looks: it neither keeps the job from being cancelled, nor
    cancels it. A job that ends without success fails the sensor; a job that does not exist does too if it was named by
    its id, and is waited for if by its path.

    Args:
        job_id: the job. Templated, as are the next three.
        path: in place of ``job_id``, a path as it was submitted; its last load counts.
        submitted_after: with ``path``, a time (ISO 8601 with an offset, e.g. ``{{ data_interval_end }}``) before
            which loads do not count: without it, yesterday's will do. An Alluxio does not tell: there, all count.
        preheat_conn_id: the Airflow connection of the coordinator.
        deferrable: wait in the triggerer, whatever ``mode`` says; by default as Airflow is configured
            (``[operators] default_deferrable``). There the job's end is noticed at once.
        outage_tolerance: seconds that the coordinator may be away, e.g. for a restart, before the task fails.
        kwargs: as for every Airflow sensor. ``soft_fail`` skips the task whatever went wrong. Deferred,
            ``execution_timeout`` ends the wait as ``timeout`` does, whichever is shorter.
    """

    template_fields: Sequence[str] = ("job_id", "path", "submitted_after", *_PreheatSensor.template_fields)

    def __init__(
        self,
        *,
        job_id: str | None = None,
        path: str | None = None,
        submitted_after: str | datetime | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id
        self.path = path
        self.submitted_after = submitted_after

    def look(self) -> JobLook:
        """Return which job's end to look for."""
        if bool(self.job_id) is bool(self.path):
            raise PreheatRequestError(f"job_id={self.job_id!r}, path={self.path!r}: give one of them.")
        if self.submitted_after and self.job_id:
            raise PreheatRequestError(f"submitted_after={self.submitted_after!r} is for a path. Leave it out.")
        after = _moment(self.submitted_after) if self.submitted_after else None
        return JobLook(job_id=self.job_id or None, path=self.path or None, submitted_after=after)

    def trigger(self, wait: SensorWait) -> LookTrigger:
        """Return what looks while the task is deferred."""
        from airflow_preheat.sensor_triggers import PreloadSensorTrigger  # noqa: PLC0415 - heavy, see above

        return PreloadSensorTrigger.of(self.look(), wait)


class DatasetWarmSensor(_PreheatSensor):
    """Waits until a dataset is warm now, by what the workers say, whoever warmed it.

    It returns a :class:`~airflow_preheat._looks.WarmthSummary`. In doubt the dataset is cold: what a worker holds that
    does not answer does not count, nor does another version of an object, and a dataset without objects or a version
    that is not known yet is waited for.

    Args:
        path: the dataset, e.g. ``s3://bucket/prefix/``. Templated, as are the next three.
        min_hot_fraction: the share of its objects that suffices, 0 to 1.
        version: the dataset version (``sha256:…``) that has to be warm; by default the pinned one, or else that of
            the path's last load. A path that no load has listed is listed at the under store each time.
        preheat_conn_id: the Airflow connection of the coordinator.
        deferrable: wait in the triggerer, whatever ``mode`` says; by default as Airflow is configured
            (``[operators] default_deferrable``).
        outage_tolerance: seconds that the coordinator may be away, e.g. for a restart, before the task fails.
        kwargs: as for every Airflow sensor. ``soft_fail`` skips the task whatever went wrong. Deferred,
            ``execution_timeout`` ends the wait as ``timeout`` does, whichever is shorter.
    """

    template_fields: Sequence[str] = ("path", "min_hot_fraction", "version", *_PreheatSensor.template_fields)

    def __init__(
        self, *, path: str, min_hot_fraction: float | str = 1.0, version: str | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.min_hot_fraction = min_hot_fraction
        self.version = version

    def look(self) -> WarmthLook:
        """Return what has to be how warm."""
        fraction = as_fraction("min_hot_fraction", self.min_hot_fraction)
        if not self.path or fraction is None:
            raise PreheatRequestError(f"path={self.path!r}, min_hot_fraction={self.min_hot_fraction!r}: give both.")
        return WarmthLook(path=self.path, min_hot_fraction=fraction, version=self.version or None)

    def trigger(self, wait: SensorWait) -> LookTrigger:
        """Return what looks while the task is deferred."""
        from airflow_preheat.sensor_triggers import DatasetWarmSensorTrigger  # noqa: PLC0415 - heavy, see above

        return DatasetWarmSensorTrigger.of(self.look(), wait)


def _moment(value: str | datetime) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value.strip())
    except ValueError as error:
        raise PreheatRequestError(f"submitted_after={value!r} is no time. Write ISO 8601 with an offset.") from error
    if moment.tzinfo is None:
        raise PreheatRequestError(f"submitted_after={value!r} has no offset. Write for example {value}Z.")
    return moment.isoformat()


def _report_seconds() -> float:
    """Return how long a worker may take to report that a task deferred: it looks once per heartbeat."""
    return float(conf.getint("workers", "min_heartbeat_interval", fallback=5)) + 1.0
