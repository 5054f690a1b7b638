"""Starting, stopping and looking at the cluster of a data directory."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from preheat.access import Token
from preheat.cluster._nats import find_nats_server, write_config
from preheat.cluster._plan import plan_cluster
from preheat.cluster._ports import choose_addresses
from preheat.cluster._private import kept_secret
from preheat.cluster._process import ProcessIdentity, stop_gracefully
from preheat.cluster._settings import ClusterFiles, ClusterSettings
from preheat.cluster._signals import SignalInbox
from preheat.cluster._state import ClusterState, airflow_connection, hold_lock, read_state, write_state
from preheat.cluster._supervisor import StopRequested, Supervisor, last_lines
from preheat.errors import PreheatError, Unavailable, from_problem

_STOP_SECONDS = 60.0
"""More than the sum of all parts' stop_seconds, after which the supervisor kills them itself."""

_EXIT_SECONDS = 10.0
"""For the last steps of a supervisor that has nothing to stop any more."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a supervisor in the background tells the command that started it: one JSON line."""

    problem: dict[str, Any] | None = None
    """None when the cluster is ready."""


def run_cluster(
    settings: ClusterSettings, *, on_ready: Callable[[ClusterState], None], report: Callable[[str], None]
) -> None:
    """Start a cluster, keep it alive, and stop it when a signal asks for that.

    For the only thread of a process: another one would take the signals that this one waits for.

    Args:
        settings: what to start.
        on_ready: called once, when the cluster is ready.
        report: gets a sentence for each thing that happens later.

    Raises:
        Conflict: a cluster runs on this data directory already, or a port is taken.
        Unavailable: it did not become ready; everything was stopped again.
        PreheatError: nats-server is not installed.
    """
    files = ClusterFiles(settings.data_dir)
    files.make()
    nats_server = find_nats_server()
    with hold_lock(files), SignalInbox() as inbox:
        addresses = choose_addresses(settings)
        token = kept_secret(files.admin_token, lambda: Token.new().text) if settings.access.auth else ""
        plan = plan_cluster(
            settings,
            addresses,
            nats_server=nats_server,
            nats_url=write_config(files.nats, listen=addresses.nats),
            token=token,
            environment=os.environ,
        )
        try:
            with Supervisor(plan, inbox=inbox, report=report) as supervisor:
                _supervise(supervisor, _Record(settings, plan.coordinator.url, supervisor), settings, on_ready)
                report("Stopping the cluster.")
        finally:
            files.state.unlink(missing_ok=True)


class _Record:
    """Keeps the state file true."""

    def __init__(self, settings: ClusterSettings, url: str, supervisor: Supervisor) -> None:
        me = ProcessIdentity.of(os.getpid())
        assert me is not None
        self._me = me
        self._files = ClusterFiles(settings.data_dir)
        self._token_file = str(self._files.admin_token) if settings.access.auth else ""
        self._ca_file = str(settings.tls.ca or "")
        self._url = url
        self._supervisor = supervisor
        self.ready = False

    @property
    def state(self) -> ClusterState:
        return ClusterState(
            supervisor=self._me,
            ready=self.ready,
            url=self._url,
            parts=self._supervisor.states,
            data_dir=str(self._files.root),
            log_dir=str(self._files.logs),
            airflow_connection=airflow_connection(self._url, token_file=self._token_file, ca_file=self._ca_file),
            admin_token_file=self._token_file,
            ca_file=self._ca_file,
        )

    def write(self) -> None:
        write_state(self._files.state, self.state)


def _supervise(
    supervisor: Supervisor,
    record: _Record,
    settings: ClusterSettings,
    on_ready: Callable[[ClusterState], None],
) -> None:
    supervisor.on_change = record.write
    with suppress(StopRequested):
        supervisor.start(seconds=settings.ready_seconds)
        record.ready = True
        record.write()
        on_ready(record.state)
        supervisor.run()


def start_in_background(settings: ClusterSettings) -> ClusterState:
    """Start a cluster whose supervisor goes on after this process, and return when it is ready.

    Raises:
        PreheatError: as :func:`run_cluster`.
    """
    files = ClusterFiles(settings.data_dir)
    files.make()
    log = files.log("supervisor")
    supervisor = _launch_supervisor(settings, log)
    try:
        outcome = _read_outcome(supervisor, settings.ready_seconds + _STOP_SECONDS)
    except KeyboardInterrupt:
        supervisor.terminate()
        raise
    if outcome is not None and outcome.problem is not None:
        _end(supervisor)  # so that whoever mends the problem can start again at once
        raise from_problem(outcome.problem, PreheatError.status)
    state = read_state(files.state)
    if outcome is None or state is None:
        raise Unavailable("The supervisor ended early.", remedy="\n  ".join([f"See {log}:", *last_lines(log)]))
    return state


def _launch_supervisor(settings: ClusterSettings, log: Path) -> subprocess.Popen[bytes]:
    """Start the supervisor in a session of its own; its outcome will come on its stdout."""
    with log.open("ab") as errors:
        supervisor = subprocess.Popen(
            [sys.executable, "-P", "-m", "preheat.cluster"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
    assert supervisor.stdin is not None
    with supervisor.stdin as questions:
        questions.write(msgspec.json.encode(settings, enc_hook=str))
    return supervisor


def _read_outcome(supervisor: subprocess.Popen[bytes], seconds: float) -> Outcome | None:
    assert supervisor.stdout is not None
    with supervisor.stdout as answers:
        readable, _, _ = select.select([answers], [], [], seconds)
        line = answers.readline() if readable else b""
    return msgspec.json.decode(line, type=Outcome) if line else None


def _end(supervisor: subprocess.Popen[bytes]) -> None:
    """Wait for a supervisor that has stopped its parts; it lets go of the data directory by ending."""
    try:
        supervisor.wait(_EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()


def serve_in_background() -> None:
    """Be the process of :func:`start_in_background`: settings come on stdin, the outcome goes to stdout."""
    settings = msgspec.json.decode(
        sys.stdin.buffer.read(), type=ClusterSettings, dec_hook=lambda kind, value: kind(value)
    )
    try:
        run_cluster(settings, on_ready=lambda _: _answer(Outcome()), report=_log)
    except PreheatError as error:
        _log(str(error))
        _answer(Outcome(problem=error.problem()))
        sys.exit(1)


def stop_cluster(files: ClusterFiles) -> ClusterState | None:
    """Stop the cluster and wait until it ended; return what ran, or none if nothing did."""
    state = read_state(files.state)
    if state is None or not stop_gracefully(state.supervisor, seconds=_STOP_SECONDS):
        return None
    return state


def _answer(outcome: Outcome) -> None:
    """Write the one line that the starting command waits for, and let go of its pipe."""
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    sys.stdout.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _log(message: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(f"{now} {message}\n")
    sys.stderr.flush()
