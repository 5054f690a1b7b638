"""Fluid's DataLoad resources: what to ask for, and what their status means. Pure.

The fields are those of https://github.com/fluid-cloudnative/fluid, ``api/v1alpha1/dataload_types.go``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from http import HTTPStatus
from typing import Any, Literal, TypedDict

from airflow_preheat.exceptions import (
    PreheatError,
    PreheatJobNotFoundError,
    PreheatRequestError,
    PreheatUnavailableError,
)

GROUP, VERSION, PLURAL, KIND = "data.fluid.io", "v1alpha1", "dataloads", "DataLoad"
Standing = Literal["ours", "replace", "foreign"]
Status = Literal["complete", "failed", "deadline", "lost", "unavailable", "error"]
_NAME_CHARACTERS = 53
"""Fluid makes a Helm release of each DataLoad, whose name has no more."""
_DIGEST_CHARACTERS = 10
_TASK, _RUN = "preheat.airflow/task", "preheat.airflow/run"
"""Annotations that name the task instance that a DataLoad was made for."""


class FluidResult(TypedDict):
    """What a task returns."""

    name: str
    namespace: str
    dataset: str
    phase: str
    duration: str


class FluidEvent(TypedDict):
    """How the wait for a DataLoad ended; the payload of the trigger's event."""

    status: Status
    message: str
    result: FluidResult | None


@dataclass(frozen=True, kw_only=True, slots=True)
class FluidWait:
    """Which DataLoad to wait for, and how long: plain values, since a trigger is stored with them.

    Times are seconds since the epoch. None of them is secret.
    """

    name: str
    namespace: str
    kubernetes_conn_id: str
    deadline: float
    poll_interval: float
    """Seconds between two looks."""
    outage_tolerance: float
    """Seconds that the API server may be away before the wait is given up."""
    delete_on_kill: bool
    in_cluster: bool | None = None
    cluster_context: str | None = None
    not_before: float = 0.0
    """When a trigger may fire at the earliest; see :class:`airflow_preheat._watch.JobWait`."""


@dataclass(kw_only=True, slots=True)
class FluidWatch:
    """One process that waits for the end of one DataLoad."""

    wait: FluidWait
    _away_since: float | None = field(default=None, init=False)

    def pause(self, now: float) -> float:
        """Return how long to sleep before the next look."""
        return max(0.0, min(self.wait.poll_interval, self.wait.deadline - now))

    def seen(self, resource: Mapping[str, Any], now: float) -> FluidEvent | None:
        """Take a look's result; return how the wait ended, if it did."""
        self._away_since = None
        return ended(resource) or self._expired(now)

    def missed(self, error: PreheatError, now: float) -> FluidEvent | None:
        """Take a look's failure; return how the wait ended, if it did."""
        if not isinstance(error, PreheatUnavailableError):
            status: Status = "lost" if isinstance(error, PreheatJobNotFoundError) else "error"
            return {"status": status, "message": str(error), "result": None}
        self._away_since = now if self._away_since is None else self._away_since
        away = now - self._away_since
        if away < self.wait.outage_tolerance:
            return self._expired(now)
        message = f"{error} Waited {away:.0f} s for it to come back."
        return {"status": "unavailable", "message": message, "result": None}

    def _expired(self, now: float) -> FluidEvent | None:
        if now < self.wait.deadline:
            return None
        message = (
            f"DataLoad {self.wait.namespace}/{self.wait.name} had not ended by the task's deadline; it is deleted."
        )
        return {"status": "deadline", "message": message, "result": None}


def owner_of(dag_id: str, run_id: str, task_id: str, map_index: int) -> Mapping[str, str]:
    """Return the annotations of a task instance's DataLoad, the same in all of its tries."""
    return {_TASK: f"{dag_id}/{task_id}/{map_index}", _RUN: run_id}


def standing(known: Mapping[str, Any], owner: Mapping[str, str]) -> Standing:
    """Say what to do with a DataLoad that has the name already: a name that somebody chose may be anyone's.

    It is ``ours`` to go on with; or to ``replace``, if it failed or an earlier run of this task left it when it ended;
    or else it is ``foreign``.
    """
    annotations = known["metadata"].get("annotations") or {}
    if annotations.get(_TASK) != owner[_TASK]:
        return "foreign"
    if annotations.get(_RUN) == owner[_RUN]:
        return "replace" if phase_of(known) == "Failed" else "ours"
    return "replace" if ended(known) else "foreign"


def taken(namespace: str, name: str) -> PreheatRequestError:
    """Return that a name is somebody else's."""
    return PreheatRequestError(
        f"DataLoad {namespace}/{name} was made by somebody else, or an earlier run of this task waits for it. Leave "
        "name out, or put {{ ts_nodash | lower }} into it."
    )


def manifest(
    name: str,
    dataset: str,
    *,
    owner: Mapping[str, str],
    namespace: str,
    dataset_namespace: str | None,
    targets: Sequence[str | Mapping[str, Any]],
    load_metadata: bool,
    spec: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a DataLoad to create.

    Raises:
        PreheatRequestError: a target is neither a path nor a mapping with one.
    """
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "airflow"},
            "annotations": dict(owner),
        },
        "spec": {
            "dataset": {"name": dataset, "namespace": dataset_namespace or namespace},
            "loadMetadata": load_metadata,
            "target": [_target(target) for target in targets],
            **spec,
        },
    }


def name_of(dag_id: str, run_id: str, task_id: str, map_index: int) -> str:
    """Return the name of a task's DataLoad, the same in all of its tries: so the next one finds that of the last."""
    digest = sha256(f"{dag_id}/{run_id}/{task_id}/{map_index}".encode()).hexdigest()[:_DIGEST_CHARACTERS]
    words = re.sub(r"[^a-z0-9]+", "-", f"{dag_id}-{task_id}".lower()).strip("-")
    words = words[: _NAME_CHARACTERS - len(digest) - 1].strip("-")
    return f"{words}-{digest}" if words and words[0].isalpha() else f"preheat-{digest}"


def phase_of(resource: Mapping[str, Any]) -> str:
    """Return how far a DataLoad is: ``Pending``, ``Executing``, ``Complete`` or ``Failed``; it begins with none."""
    return str((resource.get("status") or {}).get("phase") or "Pending")


def ended(resource: Mapping[str, Any]) -> FluidEvent | None:
    """Return how a DataLoad ended, or ``None`` if it has not."""
    phase = phase_of(resource)
    if phase == "Complete":
        return {"status": "complete", "message": "", "result": _result(resource)}
    if phase == "Failed":
        return {"status": "failed", "message": _explain(resource), "result": _result(resource)}
    return None


def api_error(status: int | None, reason: str, what: str) -> PreheatError:
    """Return what is wrong with a request to Kubernetes; without a ``status`` nobody answered."""
    if status == HTTPStatus.NOT_FOUND:
        return PreheatJobNotFoundError(
            f"{what} is not there ({reason}). If it never was: is Fluid installed, with its DataLoad resources?"
        )
    if status is None or status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return PreheatUnavailableError(f"Kubernetes does not answer about {what} ({reason}).")
    return PreheatRequestError(
        f"Kubernetes refused {what} with HTTP {status} ({reason}). May the Airflow connection's account create, get "
        f"and delete {PLURAL}.{GROUP} there?"
    )


def _target(target: str | Mapping[str, Any]) -> dict[str, Any]:
    given = {"path": target} if isinstance(target, str) else dict(target)
    if not given.get("path") or not given.keys() <= {"path", "replicas"}:
        raise PreheatRequestError(f"target={target!r} is not known. Write a path, or a mapping with path and replicas.")
    return given


def _result(resource: Mapping[str, Any]) -> FluidResult:
    metadata, status = resource["metadata"], resource.get("status") or {}
    return {
        "name": str(metadata["name"]),
        "namespace": str(metadata.get("namespace", "")),
        "dataset": str(resource["spec"]["dataset"]["name"]),
        "phase": phase_of(resource),
        "duration": str(status.get("duration") or ""),
    }


def _explain(resource: Mapping[str, Any]) -> str:
    metadata = resource["metadata"]
    name, namespace = metadata["name"], metadata.get("namespace", "")
    said = [
        " ".join(str(condition[key]) for key in ("reason", "message") if condition.get(key))
        for condition in (resource.get("status") or {}).get("conditions") or ()
        if condition.get("type") == "Failed"
    ]
    why = "; ".join(filter(None, said)) or "It does not say why."
    return f"DataLoad {namespace}/{name} failed. {why} Look at it: kubectl -n {namespace} describe dataload {name}"
