"""A small client of Airflow's REST API: what the demo and the end-to-end tests ask of a running Airflow."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

import requests

T = TypeVar("T")
_REQUEST_SECONDS = 120.0
_POLL_SECONDS = 0.25
_FINAL = frozenset({"success", "failed"})


class AirflowError(Exception):
    """Airflow did not start, refused a request, or did not get to where it should in time."""


class AirflowClient:
    """Talks to one Airflow as one user."""

    def __init__(self, *, url: str, username: str, password: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False  # loopback needs no proxy
        answer = self._send("POST", "/auth/token", {"username": username, "password": password})
        self.token: str = answer["access_token"]
        """The login, also as the cookie ``_token`` of the web pages."""
        self._session.headers["Authorization"] = f"Bearer {self.token}"

    def wait_for_dags(self, *dag_ids: str, seconds: float = 60.0) -> None:
        """Wait until the DAG processor has read these DAGs.

        Raises:
            AirflowError: it has not, within ``seconds``, or a DAG file has an error.
        """

        def known() -> bool:
            if errors := self._get("/importErrors")["import_errors"]:
                raise AirflowError(f"{errors[0]['filename']}: {errors[0]['stack_trace']}")
            return set(dag_ids) <= {dag["dag_id"] for dag in self._get("/dags?limit=100")["dags"]}

        poll(known, seconds=seconds, what=f"the DAGs {', '.join(dag_ids)}")

    def unpause(self, dag_id: str) -> None:
        """Switch a DAG on."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run, with ``conf`` as its params, and return its id."""
        run = self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(run["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return self._get(f"/dags/{dag_id}/dagRuns/{quote(run_id)}")

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the runs of a DAG, the first one first; Airflow gives at most the first 50."""
        found: list[dict[str, Any]] = self._get(f"/dags/{dag_id}/dagRuns?order_by=id")["dag_runs"]
        return found

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """Answer the question of a task that waits for a human."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/-1/hitlDetails"
        self._send("PATCH", path, {"chosen_options": [option], "params_input": {}})

    def question(self, dag_id: str, run_id: str, task_id: str) -> dict[str, Any]:
        """Return the question of a task that waits for a human: ``subject``, ``body``, ``options``."""
        return self._get(f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/-1/hitlDetails")

    def wait_for_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        seconds: float,
        on_poll: Callable[[], None] = lambda: None,
    ) -> str:
        """Wait until a run has ended and return its state; ``on_poll`` is called in between.

        Raises:
            AirflowError: it has not ended within ``seconds``.
        """

        def final_state() -> str | None:
            on_poll()
            state = str(self.run(dag_id, run_id)["state"])
            return state if state in _FINAL else None

        return poll(final_state, seconds=seconds, what=f"the end of {dag_id}, run {run_id}")

    def wait_for_triggered_run(self, dag_id: str, *, source: tuple[str, str], seconds: float) -> str:
        """Return the id of the run of a DAG that an Asset event of ``source`` started: a DAG id and a run id.

        Raises:
            AirflowError: none was started within ``seconds``.
        """

        def started() -> str | None:
            # Airflow answers 500 for an Asset event that created a run which has not started yet.
            runs = self._get(f"/dags/{dag_id}/dagRuns?run_type=asset_triggered&order_by=-id")["dag_runs"]
            run_ids = [str(run["dag_run_id"]) for run in runs if run["start_date"]]
            return next((run_id for run_id in run_ids if source in self._sources(dag_id, run_id)), None)

        return poll(started, seconds=seconds, what=f"a run of {dag_id}, started by an Asset event")

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the task instances of a run."""
        tasks: list[dict[str, Any]] = self._get(f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances")[
            "task_instances"
        ]
        return tasks

    def mark(self, dag_id: str, run_id: str, task_id: str, state: str) -> None:
        """Set the state of a task, as a user does who marks it ``failed`` or ``success``."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}"
        self._send("PATCH", path, {"new_state": state})

    def mark_run(self, dag_id: str, run_id: str, state: str) -> None:
        """Set the state of a run, as a user does who stops it: ``failed``, ``success`` or ``queued``."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id)}", {"state": state})

    def clear(self, dag_id: str, run_id: str, task_id: str) -> None:
        """Clear a task, whatever its state: it runs again, in a new try."""
        body = {"dry_run": False, "only_failed": False, "dag_run_id": run_id, "task_ids": [task_id]}
        self._send("POST", f"/api/v2/dags/{dag_id}/clearTaskInstances", body)

    def delete_dag(self, dag_id: str) -> None:
        """Delete a DAG with its runs, one that waits included; its file makes it known again."""
        self._send("DELETE", f"/api/v2/dags/{dag_id}")

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value") -> Any:
        """Return a value that a task left for others."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        return self._get(path + "?deserialize=true")["value"]

    def triggering_events(self, dag_id: str) -> list[dict[str, Any]]:
        """Return the Asset events that have started the runs of a DAG, those of the first run first."""
        # Airflow answers 500 for an Asset event that created a run which has not started yet.
        answer = self._get(f"/dags/{dag_id}/dagRuns?run_type=asset_triggered&order_by=id")
        runs = [quote(run["dag_run_id"]) for run in answer["dag_runs"] if run["start_date"]]
        answers = (self._get(f"/dags/{dag_id}/dagRuns/{run_id}/upstreamAssetEvents") for run_id in runs)
        return [event for answer in answers for event in answer["asset_events"]]

    def asset_events(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the Asset events that the tasks of a run emitted."""
        query = f"source_dag_id={dag_id}&source_run_id={quote(run_id, safe='')}"
        events: list[dict[str, Any]] = self._get(f"/assets/events?{query}")["asset_events"]
        return events

    def task_log(self, dag_id: str, run_id: str, task_id: str, *, try_number: int = 1) -> str:
        """Return the log of one try of a task, a line an event."""
        path = f"/dags/{dag_id}/dagRuns/{quote(run_id)}/taskInstances/{task_id}/logs/{try_number}"
        return "\n".join(_log_line(event) for event in self._get(path)["content"])

    def failure(self, dag_id: str, run_id: str) -> str:
        """Return the end of the log of each failed task of a run."""
        failed = [task for task in self.task_instances(dag_id, run_id) if task["state"] == "failed"]
        logs = [self.task_log(dag_id, run_id, task["task_id"], try_number=task["try_number"]) for task in failed]
        return "\n".join(f"{task['task_id']}: {log[-2000:]}" for task, log in zip(failed, logs, strict=True))

    def _sources(self, dag_id: str, run_id: str) -> list[tuple[str, str]]:
        events = self._get(f"/dags/{dag_id}/dagRuns/{quote(run_id)}/upstreamAssetEvents")["asset_events"]
        return [(event["source_dag_id"], event["source_run_id"]) for event in events]

    def _get(self, path: str) -> dict[str, Any]:
        return self._send("GET", f"/api/v2{path}")

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        try:
            response = self._session.request(method, f"{self._url}{path}", json=body, timeout=_REQUEST_SECONDS)
        except requests.RequestException as error:
            raise AirflowError(f"{method} {path}: {error}") from error
        if not response.ok:
            raise AirflowError(f"{method} {path}: {response.status_code} {response.text[:500]}")
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer


def poll(check: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """Return the first true value of ``check``.

    Raises:
        AirflowError: there was none within ``seconds``.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := check():
            return value
        time.sleep(_POLL_SECONDS)
    raise AirflowError(f"waited {seconds:.0f} s in vain for {what}.")


def _log_line(event: dict[str, Any]) -> str:
    details = event.get("error_detail") or []
    errors = [f"{error.get('exc_type')}: {error.get('exc_value')}" for error in details]
    return " ".join([str(event["event"]), *errors])
