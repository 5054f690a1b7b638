"""Real NATS JetStream servers: one as `preheat up` starts it, or a cluster of three."""

from __future__ import annotations

import json
import secrets
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from preheat.cluster._nats import find_nats_server, write_config
from preheat.cluster._ports import Address
from testbed.ports import free_port, free_ports
from testbed.processes import ChildProcess, answers, listens

_LOOPBACK = "127.0.0.1"
_MONITOR_SECONDS = 5.0
_NODE_CONFIG = """\
server_name: {name}
listen: {listen}
http: {monitor}
jetstream {{
  store_dir: {store}
  sync_interval: always
}}
max_payload: 8MB
authorization {{
  token: {token}
}}
cluster {{
  name: "preheat"
  listen: {cluster}
  routes: {routes}
  authorization {{ user: "route", password: {token}, timeout: 5 }}
}}
"""


class NatsServer:
    """One node on loopback, synced always, with a token; use it as a context manager.

    Args:
        directory: holds its configuration, its store and its log; a restart on it brings the state back.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self.url = write_config(directory, listen=Address(host=_LOOPBACK, port=self._port))
        self.process: ChildProcess

    def start(self) -> None:
        """Start it and wait until it listens."""
        config = self._directory / "nats.conf"
        self.process = ChildProcess([find_nats_server(), "-c", config], log=self._directory / "nats.log")
        self.process.wait_ready(listens(self._port))

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        self.process.kill()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.stop()


@contextmanager
def run_nats(directory: Path, config: str, *, port: int | None = None) -> Iterator[str]:
    """Run one node on loopback with a configuration of the caller's, besides its port and store; yield its address."""
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    address = f"{_LOOPBACK}:{port}"
    store = json.dumps(str(directory / "store"))
    (directory / "nats.conf").write_text(f"listen: {address}\njetstream {{ store_dir: {store} }}\n{config}")
    command = [find_nats_server(), "-c", directory / "nats.conf"]
    with ChildProcess(command, log=directory / "nats.log") as process:
        process.wait_ready(listens(port))
        yield address


class NatsNode:
    """One server of a :class:`NatsCluster`."""

    def __init__(self, directory: Path, *, name: str, listen: int, monitor: int) -> None:
        self.name = name
        self.address = f"{_LOOPBACK}:{listen}"
        self.monitor = f"{_LOOPBACK}:{monitor}"
        self.directory = directory
        self.process: ChildProcess | None = None

    def start(self) -> None:
        """Start it on its directory, and wait until it listens."""
        log = self.directory / "nats.log"
        self.process = ChildProcess([find_nats_server(), "-c", self.directory / "nats.conf"], log=log, name=self.name)
        self.process.wait_ready(answers(f"http://{self.monitor}/varz"))

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would. Idempotent."""
        if self.process:
            self.process.kill()

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.process is not None and self.process.running


class NatsCluster:
    """Nodes on loopback that replicate to each other, synced always, with a token; use it as a context manager.

    Args:
        directory: holds a directory for each node; a restart on it brings the state back.
        size: how many nodes; three survive the loss of one.
    """

    def __init__(self, directory: Path, *, size: int = 3) -> None:
        ports = free_ports(3 * size)
        self._token = secrets.token_hex(24)
        self._routes = [f"nats-route://route:{self._token}@{_LOOPBACK}:{port}" for port in ports[2 * size :]]
        self.nodes = [
            NatsNode(directory / f"nats-{n}", name=f"nats-{n}", listen=ports[n], monitor=ports[size + n])
            for n in range(size)
        ]
        for node, port in zip(self.nodes, ports[2 * size :], strict=True):
            self._write_config(node, port)

    @property
    def url(self) -> str:
        """What a client needs: every node, token included."""
        return ",".join(f"nats://{self._token}@{node.address}" for node in self.nodes)

    def leader(self, stream: str) -> NatsNode:
        """Return the node that leads a stream.

        Raises:
            LookupError: no node knows of a leader.
        """
        for node in self.nodes:
            name = _known_leader(node, stream) if node.running else None
            if leader := next((node for node in self.nodes if node.name == name), None):
                return leader
        raise LookupError(f"The stream {stream} has no leader.")

    def _write_config(self, node: NatsNode, cluster_port: int) -> None:
        node.directory.mkdir(parents=True)
        values = {
            "name": node.name,
            "listen": node.address,
            "monitor": node.monitor,
            "store": str(node.directory / "store"),
            "token": self._token,
            "cluster": f"{_LOOPBACK}:{cluster_port}",
            "routes": self._routes,
        }
        quoted = {name: json.dumps(value) for name, value in values.items()}
        (node.directory / "nats.conf").write_text(_NODE_CONFIG.format(**quoted))

    def __enter__(self) -> Self:
        for node in self.nodes:
            node.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()


def _known_leader(node: NatsNode, stream: str) -> str | None:
    url = f"http://{node.monitor}/jsz?accounts=true&streams=true"
    with urllib.request.urlopen(url, timeout=_MONITOR_SECONDS) as response:
        accounts = json.load(response).get("account_details") or []
    found = (item for account in accounts for item in account.get("stream_detail") or [] if item["name"] == stream)
    return next((str(item.get("cluster", {}).get("leader", "")) for item in found), None)
