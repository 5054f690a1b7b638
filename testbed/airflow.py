"""A real Airflow: ``airflow standalone`` on SQLite, and ``dag.test()`` in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

from testbed.airflow_client import AirflowClient, AirflowError, poll
from testbed.ports import free_ports
from testbed.processes import ChildProcess

_START_SECONDS = 300.0
_STOP_SECONDS = 20.0
_DAG_TEST_SECONDS = 400.0
END_OF_RUN = "--- end of dag.test() ---"
"""What the process of ``dag.test()`` runs prints behind the log of each."""
_HEALTHY = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_PASSWORDS = "simple_auth_manager_passwords.json.generated"
_NO_PROXIES = {"http": "", "https": ""}
USERNAME = "admin"


def airflow_environment(*, home: Path, dags_folder: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of every Airflow process: only our own settings, and no words with the outside.

    Args:
        home: where Airflow keeps its database, logs and passwords.
        dags_folder: where the DAGs are.
        variables: more environment variables, such as ``AIRFLOW_CONN_...``.
    """
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    return inherited | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "NO_PROXY": "127.0.0.1,localhost",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "True",
        **(variables or {}),
    }


class AirflowStandalone:
    """``airflow standalone`` on free ports; a context manager that ends every process of it.

    Its API and UI listen on loopback, its log servers on all interfaces: for these Airflow has no setting.
    """

    def __init__(self, *, home: Path, dags_folder: Path, variables: Mapping[str, str] | None = None) -> None:
        port, worker_log_port, trigger_log_port = free_ports(3)
        self.home = home
        self.log = home / "standalone.log"
        self.url = f"http://127.0.0.1:{port}"
        self.ports = {"API and UI": port, "worker logs": worker_log_port, "trigger logs": trigger_log_port}
        settings = {
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(worker_log_port),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(trigger_log_port),
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # on a busy machine 5 s, the default, fail tasks
        }
        self._environment = airflow_environment(
            home=home, dags_folder=dags_folder, variables=settings | dict(variables or {})
        )

    def __enter__(self) -> Self:
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                ["airflow", "standalone"],
                env=self._environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            poll(self._healthy, seconds=_START_SECONDS, what=f"Airflow to start; its log is {self.log}")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def password(self) -> str:
        """The password that Airflow made for the user ``admin``."""
        passwords: dict[str, str] = json.loads((self.home / _PASSWORDS).read_text())
        return passwords[USERNAME]

    def client(self) -> AirflowClient:
        """Return a client that is logged in."""
        return AirflowClient(url=self.url, username=USERNAME, password=self.password)

    def another_triggerer(self) -> ChildProcess:
        """Start one more triggerer, which shares the triggers with the first; end it before Airflow."""
        return ChildProcess(
            ["airflow", "triggerer", "--skip-serve-logs"],
            log=self.home / "triggerer.log",
            env=self._environment,
            cwd=self.home,
        )

    def kill_triggerers(self) -> None:
        """End every triggerer, with what it started, as a crash would; standalone starts none again."""
        marker = f"AIRFLOW_HOME={self.home}".encode()
        for pid in _pids():
            with contextlib.suppress(OSError):  # it has ended, or is not ours
                process = Path(f"/proc/{pid}")
                if b"triggerer" in (process / "cmdline").read_bytes() and marker in (process / "environ").read_bytes():
                    os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End every process of Airflow's session.

        Standalone leaves its children behind when it gets SIGTERM, and a running task has a process group of
        its own: so the signal goes to each process of the session.
        """
        for number, seconds in ((signal.SIGTERM, _STOP_SECONDS), (signal.SIGKILL, _STOP_SECONDS)):
            _signal_session(self._process.pid, number)
            try:
                poll(self._ended, seconds=seconds, what="Airflow to stop")
            except AirflowError:
                continue
            return
        raise AirflowError(f"processes of Airflow's session {self._process.pid} do not end.")

    def _healthy(self) -> bool:
        if self._process.poll() is not None:
            raise AirflowError(f"airflow standalone ended with exit status {self._process.returncode}; see {self.log}.")
        try:
            answer = requests.get(f"{self.url}/api/v2/monitor/health", timeout=5, proxies=_NO_PROXIES)
        except requests.ConnectionError:
            return False
        return answer.ok and all(answer.json()[part]["status"] == "healthy" for part in _HEALTHY)

    def _ended(self) -> bool:
        self._process.poll()  # reaps it
        return not _session_processes(self._process.pid)


@dataclass(frozen=True, kw_only=True)
class DagTestResult:
    """What one ``dag.test()`` came to."""

    state: str
    """Of the run: success or failed."""
    tasks: dict[str, str]
    """The state of each task."""
    xcoms: dict[str, Any]
    """The value that each task returned."""
    asset_events: dict[str, dict[str, Any]]
    """The extra of each Asset event, by the Asset's URI."""
    partitions: dict[str, list[str | None]]
    """The partitions of the events of each Asset, by its URI."""
    log: str
    """What the tasks and the trigger logged."""


def run_dag_test(
    dag_id: str,
    *,
    home: Path,
    dags_folder: Path,
    conf: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
) -> DagTestResult:
    """Run a DAG with Airflow's ``dag.test()``: in a process of its own, on a database that is made at need.

    Raises:
        AirflowError: there was no run, because the DAG has an error, say.
    """
    (result,) = run_dag_tests([(dag_id, conf or {})], home=home, dags_folder=dags_folder, variables=variables)
    return result


def run_dag_tests(
    runs: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    home: Path,
    dags_folder: Path,
    variables: Mapping[str, str] | None = None,
) -> list[DagTestResult]:
    """Run several DAGs, each with its ``conf``, in one process and one after the other; raises as run_dag_test."""
    home.mkdir(parents=True, exist_ok=True)
    # The trigger runs inline, so there is no worker whose report it has to wait for.
    settings = {"AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0"}
    environment = airflow_environment(home=home, dags_folder=dags_folder, variables=settings | dict(variables or {}))
    if not (home / "airflow.db").exists():
        _run(["airflow", "db", "migrate"], environment)
    results = home / "dag_test.json"
    results.unlink(missing_ok=True)
    command = [sys.executable, "-m", "testbed.dag_test", json.dumps(runs, default=dict), str(results)]
    logs = _run(command, environment).split(END_OF_RUN)
    outcomes = json.loads(results.read_text())
    return [DagTestResult(log=log, **outcome) for log, outcome in zip(logs, outcomes, strict=False)]


def _run(command: list[str], environment: dict[str, str]) -> str:
    root = Path(__file__).parent.parent
    done = subprocess.run(
        command,
        env=environment,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_DAG_TEST_SECONDS,
        check=False,
    )
    if done.returncode:
        raise AirflowError(f"{' '.join(command[:4])} ended with exit status {done.returncode}:\n{done.stdout[-4000:]}")
    return done.stdout


def _session_processes(session: int) -> list[int]:
    return [pid for pid in _pids() if _session_of(pid) == session]


def _signal_session(session: int, number: signal.Signals) -> None:
    for pid in _session_processes(session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _session_of(pid: int) -> int | None:
    """Return a living process's session; a zombie has ended, and waits for its parent only."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, _parent, _group, session = stat.rpartition(")")[2].split()[:4]
    return None if state == "Z" else int(session)
