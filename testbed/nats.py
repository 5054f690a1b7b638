"""A real NATS JetStream server, as `preheat up` starts it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from preheat.cluster._nats import find_nats_server, write_config
from preheat.cluster._ports import Address
from testbed.ports import free_port
from testbed.processes import ChildProcess, listens


class NatsServer:
    """One node on loopback, synced always, with a token; use it as a context manager.

    Args:
        directory: holds its configuration, its store and its log; a restart on it brings the state back.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self.url = write_config(directory, listen=Address(host="127.0.0.1", port=self._port))
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
