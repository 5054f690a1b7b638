"""How one triggerer bears deferred preloads: ``python -m tests.e2e.deferred [NUMBER …]``, 100 and 1,000 by default.

A real triggerer, its database, a real cluster and as many real jobs; only the workers that would have deferred the
tasks are spared, and their rows are written (:mod:`tests.e2e.deferred_rows`). The jobs wait in the coordinator's
queue behind slow ones until all triggers watch; then they run, and each end is looked up in the log of its trigger.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import quantiles
from typing import Any

import requests

from demo import dataset
from testbed.airflow import airflow_environment
from testbed.airflow_client import poll
from testbed.processes import ChildProcess
from testbed.s3 import SeaweedFS
from tests.e2e.control_plane import ControlPlane, control_plane
from tests.e2e.counting_proxy import CountingProxy, counting_proxy

_SECONDS = 600.0
_OBSERVED_SECONDS = 45.0
_SLOTS = 8
"""Jobs that a coordinator runs at once."""
_DAG = """
from airflow.sdk import DAG
from airflow_preheat.operators import PreloadOperator

with DAG("deferred", schedule=None):
    paths = [f"s3://{bucket}/n/{{n}}/" for n in range({number})]
    PreloadOperator.partial(task_id="warm", deferrable=True).expand(path=paths)
"""
_MAP_INDEX = re.compile(r"map_index=(\d+)")
_FIRED = "Trigger fired event"
_STARTED = "trigger starting"
_WATCHED = "Preheat job"
"""What a trigger logs of its job as soon as it waits for it."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of so many deferred tasks."""

    number: int
    blocked_at_start: int
    blocked: int
    """How often Airflow warned that its event loop was blocked, until all triggers watched and after that."""
    p50: float
    p99: float
    slowest: float
    """Seconds from the end of a job to its trigger's event."""
    claim_requests: float
    """Requests to the coordinator for each trigger until all watched."""
    requests: float
    connections: int
    """Requests a second to the coordinator, and open connections, while nothing ended."""
    coordinator_cpu: float
    triggerer_cpu: float
    """Seconds of processor time a second, while nothing ended."""

    def __str__(self) -> str:
        return (
            f"{self.number} deferred preloads in one triggerer\n"
            f"  'async thread was blocked' warnings   {self.blocked}, and {self.blocked_at_start} while it started\n"
            f"  from a job's end to its event         p50 {self.p50:.2f} s, p99 {self.p99:.2f} s, "
            f"max {self.slowest:.2f} s\n"
            f"  requests to begin with, a trigger     {self.claim_requests:.2f}\n"
            f"  while nothing ends: requests/s        {self.requests:.2f} over {self.connections} connections\n"
            f"  while nothing ends: processor         coordinator {self.coordinator_cpu:.1%}, "
            f"triggerer {self.triggerer_cpu:.1%} of a core"
        )


def measure(number: int, directory: Path) -> Measured:
    """Let so many preloads wait in one triggerer, and end."""
    with SeaweedFS(directory / "origin") as origin, control_plane(directory, environment=origin.environment()) as plane:
        _upload(origin, number)
        slow = [_submit(plane, f"slow/{n}", bandwidth="1KiB", batchSize=1, verify=False) for n in range(_SLOTS)]
        with ThreadPoolExecutor(8) as pool:
            job_ids = list(pool.map(lambda n: _submit(plane, f"n/{n}", verify=False), range(number)))
        with counting_proxy(plane.coordinator.url) as proxy, _triggerer(directory, proxy.url, job_ids) as triggerer:
            return _observe(directory, plane, proxy, triggerer, slow, job_ids)


def blocked_by_airflow(number: int, directory: Path) -> int:
    """Return the warnings while a triggerer starts as many of Airflow's own triggers, which wait for a time."""
    with _triggerer(directory, "http://127.0.0.1:1", [""] * number, "airflow") as triggerer:
        poll(lambda: len(_logs(directory, _STARTED)) == number, seconds=_SECONDS, what=f"{number} triggers")
        return _blocked(triggerer)


def _observe(
    directory: Path,
    plane: ControlPlane,
    proxy: CountingProxy,
    triggerer: ChildProcess,
    slow: Sequence[str],
    job_ids: Sequence[str],
) -> Measured:
    number = len(job_ids)
    poll(lambda: len(_logs(directory, _WATCHED)) == number, seconds=_SECONDS, what=f"{number} triggers")
    began_with, blocked = proxy.requests / number, _blocked(triggerer)
    idle = _Idle.begin(plane, proxy, triggerer)
    time.sleep(_OBSERVED_SECONDS)  # this is what is measured
    rates = idle.end(plane, proxy, triggerer)
    for job_id in slow:
        requests.post(f"{plane.coordinator.url}/v1/jobs/{job_id}/stop", timeout=60)
    poll(lambda: _deferred(directory) == 0, seconds=_SECONDS, what="the last end")
    poll(lambda: len(_fired(directory)) == number, seconds=_SECONDS, what="the last line of the logs")
    ends = {job["id"]: datetime.fromisoformat(job["finishedAt"]) for job in _jobs(plane) if job["finishedAt"]}
    fired = _fired(directory)
    latencies = [(fired[index] - ends[job_id]).total_seconds() for index, job_id in enumerate(job_ids)]
    percentiles = quantiles(latencies, n=100, method="inclusive")
    return Measured(
        number=number,
        blocked_at_start=blocked,
        blocked=_blocked(triggerer) - blocked,
        p50=percentiles[49],
        p99=percentiles[98],
        slowest=max(latencies),
        claim_requests=began_with,
        **rates,
    )


@dataclass(frozen=True, kw_only=True)
class _Idle:
    """Counters at the beginning of a time in which nothing ends."""

    at: float
    requests: int
    coordinator: float
    triggerer: float

    @classmethod
    def begin(cls, plane: ControlPlane, proxy: CountingProxy, triggerer: ChildProcess) -> _Idle:
        return cls(
            at=time.monotonic(),
            requests=proxy.requests,
            coordinator=_cpu_seconds(plane.coordinator.pid),
            triggerer=_cpu_seconds(_event_loop(triggerer)),
        )

    def end(self, plane: ControlPlane, proxy: CountingProxy, triggerer: ChildProcess) -> dict[str, Any]:
        now = self.begin(plane, proxy, triggerer)
        seconds = now.at - self.at
        return {
            "requests": (now.requests - self.requests) / seconds,
            "connections": proxy.open,
            "coordinator_cpu": (now.coordinator - self.coordinator) / seconds,
            "triggerer_cpu": (now.triggerer - self.triggerer) / seconds,
        }


def _blocked(triggerer: ChildProcess) -> int:
    return triggerer.log.read_text(errors="replace").count("async thread was blocked")


def _upload(origin: SeaweedFS, number: int) -> None:
    s3 = origin.client()
    s3.create_bucket(Bucket=dataset.BUCKET)
    names = [f"n/{n}/0" for n in range(number)] + [f"slow/{n}/{k}" for n in range(_SLOTS) for k in range(60)]

    def put(name: str) -> None:
        s3.put_object(Bucket=dataset.BUCKET, Key=name, Body=bytes(16 if name.startswith("n/") else 2**13))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, names))


def _submit(plane: ControlPlane, name: str, **options: Any) -> str:
    body = {"type": "load", "path": f"s3://{dataset.BUCKET}/{name}/", "options": options}
    answer = requests.post(f"{plane.coordinator.url}/v1/jobs", json=body, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["id"])


def _jobs(plane: ControlPlane) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    while cursor is not None:
        query = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
        page = requests.get(f"{plane.coordinator.url}/v1/jobs", params=query, timeout=60).json()
        yield from page["jobs"]
        cursor = page["next"]


@contextmanager
def _triggerer(directory: Path, url: str, job_ids: Sequence[str], triggers: str = "preheat") -> Iterator[ChildProcess]:
    """Run a triggerer that finds a deferred task for each job; see :mod:`tests.e2e.deferred_rows`."""
    home, dags = directory / "airflow", directory / "dags"
    for folder in (home, dags):
        folder.mkdir()
    (dags / "deferred.py").write_text(_DAG.format(bucket=dataset.BUCKET, number=len(job_ids)))
    (directory / "jobs.json").write_text(json.dumps(job_ids))
    connection = json.dumps({"conn_type": "preheat", "extra": {"url": url}})
    environment = airflow_environment(
        home=home, dags_folder=dags, variables={"AIRFLOW_CONN_PREHEAT_DEFAULT": connection}
    )
    rows = [sys.executable, "-m", "tests.e2e.deferred_rows", str(directory / "jobs.json"), triggers]
    for command in (["airflow", "db", "migrate"], ["airflow", "dags", "reserialize"], rows):
        subprocess.run(command, env=environment, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL)
    with ChildProcess(
        ["airflow", "triggerer", "--skip-serve-logs"], log=directory / "triggerer.log", env=environment
    ) as triggerer:
        yield triggerer


def _logs(directory: Path, text: str) -> dict[int, datetime]:
    """Return when each trigger first logged a line with this text, by the task's map index."""
    found = {}
    for log in (directory / "airflow" / "logs").glob("dag_id=deferred/*/task_id=warm/map_index=*/*.trigger.*"):
        line = next((line for line in log.read_text().splitlines() if text in line), None)
        if line is not None:
            index = int(log.parent.name.removeprefix("map_index="))
            found[index] = datetime.fromisoformat(json.loads(line)["timestamp"])
    return found


def _fired(directory: Path) -> dict[int, datetime]:
    """Return when each trigger fired; some of the lines Airflow writes into the triggerer's own log."""
    lines = (directory / "triggerer.log").read_text(errors="replace").splitlines()
    found = ((_MAP_INDEX.search(line), line.split()[0]) for line in lines if _FIRED in line)
    return {int(index[1]): datetime.fromisoformat(at) for index, at in found if index} | _logs(directory, _FIRED)


def _deferred(directory: Path) -> int:
    with closing(sqlite3.connect(directory / "airflow" / "airflow.db", timeout=60)) as database:
        (count,) = database.execute("SELECT count(*) FROM task_instance WHERE state = 'deferred'").fetchone()
    return int(count)


def _event_loop(triggerer: ChildProcess) -> int:
    """Return the process that the triggerer runs its triggers in."""
    (child,) = Path(f"/proc/{triggerer.pid}/task/{triggerer.pid}/children").read_text().split()
    return int(child)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(numbers: Sequence[str]) -> None:
    """Print what came of each number."""
    for number in map(int, numbers or ("100", "1000")):
        with tempfile.TemporaryDirectory() as directory:
            print(measure(number, Path(directory)), flush=True)  # noqa: T201 - a command for people
        with tempfile.TemporaryDirectory() as directory:
            blocked = blocked_by_airflow(number, Path(directory))
            line = f"  to compare: {number} of Airflow's DateTimeTrigger   {blocked} warnings while it started"
            print(line, flush=True)  # noqa: T201 - a command for people


if __name__ == "__main__":
    main(sys.argv[1:])
