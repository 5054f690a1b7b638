"""The task that lets Fluid load a dataset, in Kubernetes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import BaseOperator, Context, conf

from airflow_preheat._fluid import (
    FluidEvent,
    FluidResult,
    FluidWait,
    FluidWatch,
    Status,
    ended,
    manifest,
    name_of,
    owner_of,
    phase_of,
    standing,
    taken,
)
from airflow_preheat.deadlines import Deadline, give_up_at
from airflow_preheat.exceptions import (
    PreheatDeadlineError,
    PreheatError,
    PreheatJobFailedError,
    PreheatJobNotFoundError,
    PreheatUnavailableError,
)
from airflow_preheat.jobs import as_bool
from airflow_preheat.operators._task import BACKSTOP, instance_of, report_seconds
from airflow_preheat.version_compat import TaskDeferralError, TaskDeferralTimeout

if TYPE_CHECKING:
    from airflow_preheat._fluid_client import DataLoads

_ERRORS: Mapping[Status, type[PreheatError]] = {
    "failed": PreheatJobFailedError,
    "deadline": PreheatDeadlineError,
    "lost": PreheatJobNotFoundError,
    "unavailable": PreheatUnavailableError,
    "error": PreheatError,
}
_REPLACE_SECONDS = 60.0
"""How long an earlier DataLoad may take to be gone."""
_REPLACE_PAUSE = 0.5


class FluidDataLoadOperator(BaseOperator):
    """Creates a `Fluid <https://github.com/fluid-cloudnative/fluid>`_ DataLoad and waits for its end.

    For datasets that Fluid caches in Kubernetes, with an engine of its own. It needs the extra ``fluid``: ``pip install
    'airflow-provider-preheat[fluid]'``, and an account that may create, get and delete ``dataloads.data.fluid.io``.

    The DataLoad is named for the task instance, so the next try of a task that was cut off goes on with it; one that
    has failed is replaced. It returns a :class:`~airflow_preheat._fluid.FluidResult`. A DataLoad tells neither how far
    it is nor how much it has loaded.

    Args:
        dataset: the name of the Fluid Dataset. Templated, as are all arguments up to ``spec``, and ``deadline``.
        targets: what to load of it: paths, or mappings with ``path`` and ``replicas``.
        namespace: where the DataLoad is made; by default the connection's namespace, or else ``default``.
        dataset_namespace: where the Dataset is; by default the same.
        load_metadata: let Fluid look at the under store anew first.
        name: of the DataLoad, in the place of one that is made from the task instance's. What an earlier run of the
            task left under it is replaced once it has ended; what anybody else did is refused.
        spec: further fields of the DataLoad's spec, such as ``options``, ``affinity`` or ``ttlSecondsAfterFinished``.
        kubernetes_conn_id: the Airflow connection of the Kubernetes cluster.
        in_cluster: use the account of the pod that the task runs in; by default as the connection says.
        cluster_context: of the kubeconfig; by default as the connection says.
        deferrable: wait in the triggerer and not in a worker's slot; by default as Airflow is configured.
        deadline: delete it and fail if it has not ended by then; as for a ``PreloadOperator``.
        poll_interval: seconds between two looks.
        outage_tolerance: seconds that the API server may be away before the task fails.
        delete_on_kill: delete it, and with it its pods, when the task is killed.
        delete_when_complete: delete it when it is complete, so that a task that is cleared loads again.
        kwargs: as for every Airflow operator.
    """

    template_fields: Sequence[str] = (
        "kubernetes_conn_id",
        "dataset",
        "targets",
        "namespace",
        "dataset_namespace",
        "load_metadata",
        "name",
        "spec",
        "deadline",
    )
    ui_color = "#f6d8ae"

    def __init__(
        self,
        *,
        dataset: str,
        targets: Sequence[str | Mapping[str, Any]] = ("/",),
        namespace: str | None = None,
        dataset_namespace: str | None = None,
        load_metadata: bool | str = True,
        name: str | None = None,
        spec: Mapping[str, Any] | None = None,
        kubernetes_conn_id: str = "kubernetes_default",
        in_cluster: bool | None = None,
        cluster_context: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        deadline: Deadline | None = None,
        poll_interval: float = 10.0,
        outage_tolerance: float = 300.0,
        delete_on_kill: bool = True,
        delete_when_complete: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.targets = targets
        self.namespace = namespace
        self.dataset_namespace = dataset_namespace
        self.load_metadata = load_metadata
        self.name = name
        self.spec = spec
        self.kubernetes_conn_id = kubernetes_conn_id
        self.in_cluster = in_cluster
        self.cluster_context = cluster_context
        self.deferrable = deferrable
        self.deadline = deadline
        self.poll_interval = poll_interval
        self.outage_tolerance = outage_tolerance
        self.delete_on_kill = delete_on_kill
        self.delete_when_complete = delete_when_complete
        self._created: str | None = None

    @cached_property
    def loads(self) -> DataLoads:
        """The DataLoads of the namespace.

        Raises:
            PreheatRequestError: the extra is not installed.
        """
        from airflow_preheat._fluid_client import DataLoads  # noqa: PLC0415 - an extra, and heavy

        return DataLoads(
            self.kubernetes_conn_id,
            self.namespace or None,
            in_cluster=self.in_cluster,
            cluster_context=self.cluster_context,
        )

    def execute(self, context: Context) -> FluidResult:
        """Create the DataLoad, or find that of an earlier try, then wait for its end, deferred or here.

        Raises:
            PreheatError: one of :mod:`airflow_preheat.exceptions`.
        """
        name = self._name(context)
        wait = self._wait(context, name)
        json.dumps(asdict(wait))  # a wait that cannot be stored must fail before there is a DataLoad
        resource = self._begin(context, name)
        event = ended(resource)
        if event is None and self.deferrable:
            from airflow_preheat.fluid_trigger import FluidDataLoadTrigger  # noqa: PLC0415 - heavy

            timeout = timedelta(seconds=max(0.0, wait.deadline - time.time())) + BACKSTOP
            trigger = FluidDataLoadTrigger(**asdict(wait))
            self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)
        return self.execute_complete(context, cast("dict[str, Any]", event or self._ended_here(wait)))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> FluidResult:
        """Return what has become of the DataLoad.

        Raises:
            PreheatError: it is not complete; one whose deadline has passed is deleted first.
        """
        if not event or event.get("status") not in {"complete", *_ERRORS}:
            raise PreheatError(f"The trigger sent an event that this version of the provider does not know: {event!r}")
        outcome = cast("FluidEvent", event)
        name, result = self._name(context), outcome["result"]
        self._created = None
        if outcome["status"] == "deadline" or (outcome["status"] == "complete" and self.delete_when_complete):
            self._delete(name)
        if outcome["status"] != "complete" or result is None:
            raise _ERRORS[outcome["status"]](outcome["message"])
        self.log.info("DataLoad %s/%s is complete after %s", result["namespace"], name, result["duration"] or "no time")
        return result

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the deferral; if the trigger itself broke, delete the DataLoad: the task waits no longer."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, TaskDeferralTimeout):
            self._delete(self._name(context))
            raise

    def on_kill(self) -> None:
        """Delete the DataLoad when the task is killed while it waits here."""
        if self.delete_on_kill and self._created is not None:
            self._delete(self._created)

    def _name(self, context: Context) -> str:
        return self.name or name_of(*instance_of(context))

    def _wait(self, context: Context, name: str) -> FluidWait:
        run, now = context.get("dag_run"), datetime.now(tz=UTC)
        since = run.start_date if run is not None else None
        deadline = give_up_at(self.deadline, self.execution_timeout, now=now, since=since)
        if deadline <= now:
            self._delete_own(context, name)
            raise PreheatDeadlineError(
                f"deadline={str(self.deadline)!r} has passed, so nothing is loaded. Give a later one."
            )
        return FluidWait(
            name=name,
            namespace=self.loads.namespace,
            kubernetes_conn_id=self.kubernetes_conn_id,
            deadline=deadline.timestamp(),
            poll_interval=self.poll_interval,
            outage_tolerance=self.outage_tolerance,
            delete_on_kill=self.delete_on_kill,
            in_cluster=self.in_cluster,
            cluster_context=self.cluster_context,
            not_before=time.time() + report_seconds(),
        )

    def _begin(self, context: Context, name: str) -> Mapping[str, Any]:
        """Create the DataLoad, or return that of an earlier try; one that has failed or is about to go is replaced."""
        owner = owner_of(*instance_of(context))
        body = manifest(
            name,
            self.dataset,
            owner=owner,
            namespace=self.loads.namespace,
            dataset_namespace=self.dataset_namespace,
            targets=self.targets,
            load_metadata=as_bool("load_metadata", self.load_metadata),
            spec=self.spec or {},
        )
        give_up = time.monotonic() + _REPLACE_SECONDS
        while not self.loads.create(body):
            known = self._known(name)
            what = standing(known, owner) if known is not None else "replace"
            if what == "foreign":
                raise taken(self.loads.namespace, name)
            if known is not None and what == "ours":
                self.log.info("Going on with DataLoad %s of an earlier try, which is %s", name, phase_of(known))
                self._created = name
                return known
            if known is not None:
                self._delete(name)
            if time.monotonic() > give_up:
                raise PreheatError(
                    f"The earlier DataLoad {self.loads.namespace}/{name} is not gone {_REPLACE_SECONDS:.0f} s after it "
                    f"was deleted. Look at it: kubectl -n {self.loads.namespace} describe dataload {name}"
                )
            time.sleep(_REPLACE_PAUSE)
        self._created = name
        self.log.info("Created DataLoad %s/%s for the Dataset %s", self.loads.namespace, name, self.dataset)
        return body

    def _known(self, name: str) -> Mapping[str, Any] | None:
        """Return the DataLoad of an earlier try, unless it is gone or about to be."""
        try:
            known = self.loads.get(name)
        except PreheatJobNotFoundError:
            return None
        return None if known["metadata"].get("deletionTimestamp") else known

    def _ended_here(self, wait: FluidWait) -> FluidEvent:
        watch = FluidWatch(wait=wait)
        while True:
            try:
                event = watch.seen(self.loads.get(wait.name), time.time())
            except PreheatError as error:
                event = watch.missed(error, time.time())
            if event is not None:
                return event
            time.sleep(watch.pause(time.time()))

    def _delete_own(self, context: Context, name: str) -> None:
        known = self._known(name)
        if known is not None and standing(known, owner_of(*instance_of(context))) != "foreign":
            self._delete(name)

    def _delete(self, name: str) -> None:
        try:
            self.loads.delete(name)
        except PreheatJobNotFoundError:
            return
        except PreheatError as error:
            self.log.warning("DataLoad %s could not be deleted: %s", name, error)
        else:
            self.log.info("DataLoad %s was deleted.", name)
