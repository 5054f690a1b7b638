"""The processes of a local cluster and their command lines. Pure: nothing is started here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from preheat.cluster._ports import Address, Addresses
from preheat.cluster._settings import ClusterFiles, ClusterSettings

_PREHEAT = (sys.executable, "-P", "-m", "preheat.cli")
"""-P: the directory where the user happens to be is no place to import from."""
_NOT_INHERITED = (
    *(
        "PREHEAT_ID",
        "PREHEAT_PUBLIC_URL",
        "PREHEAT_CLUSTER_URL",
        "PREHEAT_S3",
        "PREHEAT_S3_PORT",
        "PREHEAT_NATS_REPLICAS",
        "PREHEAT_NATS_CREDENTIALS_FILE",
    ),
    *("PREHEAT_AUTH", "PREHEAT_ALLOW_ANONYMOUS", "PREHEAT_ADMIN_TOKEN_FILE", "PREHEAT_TOKEN", "PREHEAT_TOKEN_FILE"),
    *("PREHEAT_TLS_CERT", "PREHEAT_TLS_KEY", "PREHEAT_CA_FILE"),
)
"""Variables of a single coordinator or worker, which are wrong for the others, and those that the settings decide."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One process to keep alive."""

    name: str
    command: tuple[str, ...]
    url: str
    s3_url: str = ""
    """Of a worker: the endpoint for S3 clients, if it serves them."""
    log: Path
    environment: Mapping[str, str] = field(repr=False)
    """Holds the engine's and the admin's token: never shown."""
    stop_seconds: float
    """How long it may take to end before it is killed."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All parts, in the order in which they start; they stop in the opposite order."""

    nats: Part
    coordinator: Part
    workers: tuple[Part, ...]

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every part."""
        return (self.nats, self.coordinator, *self.workers)


def plan_cluster(
    settings: ClusterSettings,
    addresses: Addresses,
    *,
    nats_server: Path,
    nats_url: str,
    token: str = "",
    environment: Mapping[str, str],
) -> Plan:
    """Return what to start. The engine's URL and the token go by the environment, because command lines are public."""
    files = ClusterFiles(settings.data_dir)
    inherited = {name: value for name, value in environment.items() if name not in _NOT_INHERITED}
    inherited |= {"PREHEAT_NATS_URL": nats_url, **_access(settings, token)}
    return Plan(
        nats=Part(
            name="nats-server",
            command=(str(nats_server), "--config", str(files.nats / "nats.conf")),
            url=f"nats://{addresses.nats}",
            log=files.log("nats-server"),
            environment=environment,
            stop_seconds=10,
        ),
        coordinator=Part(
            name="coordinator",
            command=(*_PREHEAT, "coordinator", *_listen(addresses.coordinator), *_config(settings)),
            url=f"{settings.tls.scheme}://{addresses.coordinator}",
            log=files.log("coordinator"),
            environment=inherited,
            stop_seconds=10,
        ),
        workers=tuple(
            _worker(f"worker-{index}", address, s3, settings, inherited)
            for index, (address, s3) in enumerate(zip_longest(addresses.workers, addresses.s3))
        ),
    )


def _worker(
    worker_id: str, address: Address, s3: Address | None, settings: ClusterSettings, environment: Mapping[str, str]
) -> Part:
    files = ClusterFiles(settings.data_dir)
    options = ("--data-dir", str(files.worker(worker_id)), "--capacity", str(settings.capacity))
    s3_options = ("--s3-port", str(s3.port)) if s3 else ("--no-s3",)
    return Part(
        name=worker_id,
        command=(*_PREHEAT, "worker", "--id", worker_id, *_listen(address), *s3_options, *options),
        url=f"{settings.tls.scheme}://{address}",
        s3_url=f"{settings.tls.scheme}://{s3}" if s3 else "",
        log=files.log(worker_id),
        environment=environment,
        stop_seconds=20,  # it lets the batches in work end first (WorkerSettings.drain_seconds)
    )


def _access(settings: ClusterSettings, token: str) -> dict[str, str]:
    """Return the variables that say who is let in, and with what the parts are let in at each other."""
    access, tls = settings.access, settings.tls
    values = {
        "PREHEAT_AUTH": "true" if access.auth else "",
        "PREHEAT_ALLOW_ANONYMOUS": "true" if access.allow_anonymous else "",
        "PREHEAT_ADMIN_TOKEN_FILE": ClusterFiles(settings.data_dir).admin_token if access.auth else "",
        "PREHEAT_TOKEN": token,
        "PREHEAT_TLS_CERT": tls.cert or "",
        "PREHEAT_TLS_KEY": tls.key or "",
        "PREHEAT_CA_FILE": tls.ca or "",
    }
    return {name: str(value) for name, value in values.items() if value}


def _config(settings: ClusterSettings) -> tuple[str, ...]:
    return ("--config", str(settings.config_file)) if settings.config_file else ()


def _listen(address: Address) -> tuple[str, ...]:
    return ("--host", address.host, "--port", str(address.port))
