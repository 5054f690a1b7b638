"""`preheat up` as people use it: real processes, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

PREHEAT = (sys.executable, "-P", "-m", "preheat.cli")
UP = ("up", "--port", "0", "--worker-port", "0", "--capacity", "64MiB")
COMMAND_SECONDS = 120
WATCH_SECONDS = 30


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Watch foreign processes until the condition holds."""
    deadline = time.monotonic() + WATCH_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {WATCH_SECONDS} s: {what}"
        time.sleep(0.05)
    return value


@dataclass
class Lab:
    """A data directory and the processes that were started for it."""

    data_dir: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREHEAT_")}
        return {**own, "PREHEAT_DATA_DIR": str(self.data_dir)}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PREHEAT, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def up(self, *arguments: str) -> str:
        done = self.run(*UP, "--detach", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self) -> dict[str, Any]:
        return json.loads(self.run("status", "--json").stdout)

    def part(self, name: str) -> dict[str, Any]:
        return next(part for part in self.status()["parts"] if part["name"] == name)

    def processes(self) -> dict[int, str]:
        """Return pid and command line of what runs in the supervisor's session, or names the data directory."""
        lock = self.data_dir / "cluster.lock"
        supervisor = lock.read_text().strip() if lock.exists() else ""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                state, _, _, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state != "Z" and (session == supervisor or str(self.data_dir) in command):
                found[int(entry.name)] = command
        return found

    def logs(self) -> str:
        return "\n".join(f"== {log.name}\n{log.read_text()}" for log in self.data_dir.glob("logs/*.log"))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(data_dir=tmp_path / "data")
    yield lab
    for pid in lab.processes():
        os.kill(pid, signal.SIGKILL)


def test_a_detached_cluster_from_up_to_down(lab: Lab):
    printed = lab.up("--workers", "2")
    status = lab.status()
    assert status["healthy"] is True, lab.logs()
    assert status["url"] in printed
    assert f"AIRFLOW_CONN_PREHEAT_DEFAULT=preheat://{status['url'].removeprefix('http://')}" in printed
    assert {worker["id"] for worker in status["workers"] if worker["live"]} == {"worker-0", "worker-1"}
    for worker in status["workers"]:
        assert lab.part(worker["id"])["s3Url"] == worker["s3Url"]
        assert worker["s3Url"] in printed
        with pytest.raises(HTTPError):  # it answers
            urlopen(f"{worker['s3Url']}/nothing/here", timeout=10)

    commands = list(lab.processes().values())
    for kind, count in (("nats-server", 1), ("preheat.cli coordinator", 1), ("preheat.cli worker", 2)):
        assert sum(kind in command for command in commands) == count, commands
    token = (lab.data_dir / "nats" / "token").read_text()
    assert not any(token in command for command in commands)
    assert token not in lab.logs()

    second = lab.run(*UP, "--detach")
    assert second.returncode == 1
    assert f"pid {status['pid']}" in second.stderr

    down = lab.run("down")
    assert (down.returncode, f"pid {status['pid']}" in down.stdout) == (0, True)
    assert lab.processes() == {}
    assert lab.status()["running"] is False


def test_a_killed_worker_comes_back_with_its_id(lab: Lab):
    lab.up()
    before = lab.part("worker-0")
    os.kill(before["pid"], signal.SIGKILL)
    after = wait_until(
        lambda: (part := lab.part("worker-0"))["alive"] and part["pid"] != before["pid"] and part,
        "the worker was restarted",
    )
    assert (after["restarts"], after["url"]) == (1, before["url"])
    assert "worker-0 was killed by SIGKILL; restarting" in lab.logs()
    assert "--id worker-0" in lab.processes()[after["pid"]]


def test_nothing_outlives_a_killed_supervisor_and_the_next_up_works(lab: Lab):
    lab.up()
    token = (lab.data_dir / "nats" / "token").read_text()
    os.kill(lab.status()["pid"], signal.SIGKILL)
    wait_until(lambda: not lab.processes(), "all children ended with the supervisor")
    assert lab.status()["running"] is False
    lab.up()
    assert (lab.data_dir / "nats" / "token").read_text() == token
    assert lab.run("down").returncode == 0
    assert lab.processes() == {}


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_cluster_in_the_foreground_stops_with_a_signal(lab: Lab, stop: signal.Signals):
    with subprocess.Popen(
        [*PREHEAT, *UP],
        env=lab.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == "Preheat is ready\n"
        up.send_signal(stop)
        _, errors = up.communicate(timeout=COMMAND_SECONDS)
    assert up.returncode == 0, errors
    assert "Stopping the cluster." in errors
    assert lab.processes() == {}


def test_a_taken_port_is_named_and_nothing_is_left(lab: Lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = lab.run("up", "--detach", "--port", str(port), "--worker-port", "0")
    assert done.returncode == 1
    assert f"Port {port} of 127.0.0.1 is taken" in done.stderr
    assert "--port" in done.stderr
    assert lab.processes() == {}


def test_a_part_that_cannot_start_is_named_with_the_end_of_its_log(lab: Lab):
    (lab.data_dir / "nats").mkdir(parents=True)
    (lab.data_dir / "nats" / "store").write_text("a file where the engine needs a directory")
    done = lab.run(*UP, "--detach")
    assert done.returncode == 1
    assert "The cluster did not become ready: nats-server exited with 1, 6 times." in done.stderr
    assert str(lab.data_dir / "logs" / "nats-server.log") in done.stderr
    assert "not a directory" in done.stderr
    assert lab.processes() == {}


def test_workers_on_addresses_of_their_own_share_a_port(lab: Lab):
    lab.up("--worker-hosts", "127.0.0.2,127.0.0.3")
    hosts = [worker["url"].split(":")[1] for worker in lab.status()["workers"]]
    assert hosts == ["//127.0.0.2", "//127.0.0.3"]
    assert lab.run("down").returncode == 0
