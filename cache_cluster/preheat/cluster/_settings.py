"""What a local cluster is made of, and where its files are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from preheat.errors import InvalidRequest
from preheat.settings import COORDINATOR_PORT, DATA_PORT, S3_PORT, AccessSettings, TlsSettings

_MAX_PORT = 65535
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """A coordinator, its engine and some workers on one machine."""

    data_dir: Path
    workers: int = 1
    port: int = COORDINATOR_PORT
    """The coordinator's; 0 chooses a free one."""
    worker_port: int = DATA_PORT
    """The first worker's data port, the others count up from it; 0 chooses free ones."""
    worker_s3_port: int | None = S3_PORT
    """The first worker's S3 port, as ``worker_port``; none leaves S3 out."""
    worker_hosts: tuple[str, ...] = ()
    """One address per worker, all on the same ports; empty puts all on 127.0.0.1."""
    capacity: int = 50 << 30
    """Bytes of cached data per worker."""
    config_file: Path | None = None
    """Declares datasets and mounts to the coordinator."""
    access: AccessSettings = field(default_factory=AccessSettings)
    """With ``auth``, the admin token is made and kept in the data directory."""
    tls: TlsSettings = field(default_factory=TlsSettings)
    """Of the coordinator and the workers; ``ca`` is whom clients on this machine trust."""
    ready_seconds: float = 60.0
    """How long the whole start may take."""

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise InvalidRequest(f"workers={self.workers}: a cluster has at least one.")
        if self.capacity <= 0:
            raise InvalidRequest(f"capacity={self.capacity}: a worker needs room for its data.")
        if self.worker_hosts:
            self._check_hosts()
        _check_port("port", self.port)
        count = 1 if self.worker_hosts else self.workers
        _check_port("worker-port", self.worker_port, count=count)
        _check_port("worker-s3-port", self.worker_s3_port or 0, count=count)

    def _check_hosts(self) -> None:
        if len(set(self.worker_hosts)) != self.workers:
            raise InvalidRequest(
                f"worker-hosts={','.join(self.worker_hosts)} must be {self.workers} different addresses, "
                "one for each worker."
            )
        for host in self.worker_hosts:
            try:
                ip_address(host)
            except ValueError as error:
                raise InvalidRequest(
                    f"worker-hosts has {host!r}, which is no IP address.", remedy="Write 127.0.0.2, say."
                ) from error


@dataclass(frozen=True)
class ClusterFiles:
    """The files of a cluster below its data directory."""

    root: Path

    @property
    def state(self) -> Path:
        """What runs now: see :class:`preheat.cluster.ClusterState`."""
        return self.root / "cluster.json"

    @property
    def lock(self) -> Path:
        """Held by the supervisor as long as it lives; its text is the supervisor's pid."""
        return self.root / "cluster.lock"

    @property
    def logs(self) -> Path:
        """One log file per process."""
        return self.root / "logs"

    @property
    def nats(self) -> Path:
        """The engine's configuration, token and store."""
        return self.root / "nats"

    @property
    def admin_token(self) -> Path:
        """The token of this cluster's admin, if it runs with ``--auth``; a secret."""
        return self.root / "admin.token"

    def make(self) -> None:
        """Make the data directory, if it does not exist.

        Raises:
            InvalidRequest: this user may not write there.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self.lock.touch()
        except OSError as error:
            raise InvalidRequest(
                f"data-dir={self.root} cannot be used: {error.strerror}.", remedy="Choose another --data-dir."
            ) from error

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def worker(self, worker_id: str) -> Path:
        """One worker's page store."""
        return self.root / "workers" / worker_id


def default_data_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return where `preheat up` keeps a cluster: ``$XDG_DATA_HOME/preheat`` or ``~/.local/share/preheat``."""
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if base else Path.home() / ".local" / "share") / "preheat"


def _check_port(option: str, first: int, *, count: int = 1) -> None:
    if not 0 <= first <= _MAX_PORT - count + 1:
        raise InvalidRequest(f"{option}={first}: ports go up to {_MAX_PORT}.", remedy=f"Choose another --{option}.")
