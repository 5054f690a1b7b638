"""A cluster as it stands in production: a NATS cluster, several coordinators and workers, each a process of its own.

Nothing supervises them: what a test kills stays dead until the test starts it again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.nats import NatsCluster
from testbed.ports import free_ports
from testbed.processes import ChildProcess, answers

_PREHEAT = Path(sys.executable).with_name("preheat")


class Part:
    """One coordinator or worker; it can be killed and started again on the same port and data."""

    def __init__(self, name: str, *arguments: str | Path, port: int, directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}"
        self._command = [_PREHEAT, *arguments, "--port", str(port)]
        self._log = directory / f"{name}.log"
        self._env = dict(env)
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start it, without waiting; see :meth:`wait_ready`."""
        self._process = ChildProcess(self._command, log=self._log, env=self._env, name=self.name)

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            StartupError: it ended, or does not answer.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started.")
        self._process.wait_ready(answers(f"{self.url}/v1/healthz"), timeout=60)

    @property
    def pid(self) -> int:
        """The id of its process."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not started.")
        return self._process.pid

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would. Idempotent."""
        if self._process:
            self._process.kill()

    def logged(self, action: str) -> list[dict[str, Any]]:
        """Return the log's entries of an action so far."""
        lines = self._log.read_text(errors="replace").splitlines()
        entries = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
        return [entry for entry in entries if entry["action"] == action]


@dataclass(frozen=True, kw_only=True)
class DistributedCluster:
    """A cluster that is up."""

    nats: NatsCluster
    coordinators: tuple[Part, ...]
    workers: tuple[Part, ...]


@contextmanager
def distributed_cluster(
    directory: Path, *, environment: Mapping[str, str], coordinators: int = 2, workers: int = 3
) -> Iterator[DistributedCluster]:
    """Run three NATS servers, some coordinators and some workers on free ports, and kill them at the end.

    Args:
        directory: for their data and logs.
        environment: how they reach the under store: ``AWS_...`` variables.
        coordinators: how many.
        workers: how many.
    """
    with ExitStack() as stack:
        nats = stack.enter_context(NatsCluster(directory))
        env = {**environment, "PREHEAT_NATS_URL": nats.url, "PREHEAT_NATS_REPLICAS": str(len(nats.nodes))}
        cluster = _describe(directory, nats, env, coordinators=coordinators, workers=workers)
        parts = cluster.coordinators + cluster.workers
        for part in parts:
            stack.callback(part.kill)
            part.start()
        for part in parts:
            part.wait_ready()
        yield cluster


def _describe(
    directory: Path, nats: NatsCluster, env: Mapping[str, str], *, coordinators: int, workers: int
) -> DistributedCluster:
    ports = free_ports(coordinators + workers)
    return DistributedCluster(
        nats=nats,
        coordinators=tuple(
            Part(f"coordinator-{n}", "coordinator", port=port, directory=directory, env=env)
            for n, port in enumerate(ports[:coordinators])
        ),
        workers=tuple(
            Part(
                f"worker-{n}",
                *(
                    "worker",
                    "--id",
                    f"worker-{n}",
                    "--data-dir",
                    directory / f"worker-{n}",
                    "--capacity",
                    "1GiB",
                    "--s3-port",
                    "0",
                ),
                port=port,
                directory=directory,
                env=env,
            )
            for n, port in enumerate(ports[coordinators:])
        ),
    )
