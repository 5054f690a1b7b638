"""A cluster whose every process a test can kill and start again: one NATS server, one coordinator, one worker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from testbed.airflow_client import poll
from testbed.distributed import Part
from testbed.nats import NatsServer
from testbed.ports import free_ports

_READY_SECONDS = 90.0


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """The cluster, and where its state is."""

    directory: Path
    nats: NatsServer
    coordinator: Part
    worker: Part

    @property
    def connection(self) -> str:
        """The Airflow connection of the coordinator."""
        return json.dumps({"conn_type": "preheat", "extra": {"url": self.coordinator.url}})

    def wait_ready(self) -> None:
        """Wait until the coordinator has its state and a worker."""
        poll(self._ready, seconds=_READY_SECONDS, what=f"the coordinator at {self.coordinator.url}")

    def lose_state(self) -> None:
        """Kill all of it, and start it again without what the engine had stored."""
        self.coordinator.kill()
        self.worker.kill()
        self.nats.kill()
        shutil.rmtree(self.directory / "nats" / "store")
        self.nats.start()
        self.worker.start()
        self.coordinator.start()
        self.wait_ready()

    def _ready(self) -> bool:
        try:
            return requests.get(f"{self.coordinator.url}/v1/readyz", timeout=5).ok
        except requests.ConnectionError:
            return False


@contextmanager
def control_plane(directory: Path, *, environment: Mapping[str, str]) -> Iterator[ControlPlane]:
    """Run the cluster on free ports; ``environment`` is how its worker reaches the under store."""
    coordinator_port, worker_port = free_ports(2)
    with ExitStack() as stack:
        nats = stack.enter_context(NatsServer(directory / "nats"))
        env = {**environment, "PREHEAT_NATS_URL": nats.url}
        coordinator = Part("coordinator", "coordinator", port=coordinator_port, directory=directory, env=env)
        options = ("worker", "--id", "worker-0", "--data-dir", directory / "worker", "--capacity", "1GiB", "--no-s3")
        worker = Part("worker", *options, port=worker_port, directory=directory, env=env)
        for part in (coordinator, worker):
            stack.callback(part.kill)
            part.start()
        plane = ControlPlane(directory=directory, nats=nats, coordinator=coordinator, worker=worker)
        plane.wait_ready()
        yield plane
