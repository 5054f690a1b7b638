"""What can be set, grouped by part. Built once at the edge (CLI, environment) and passed down."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from preheat.errors import InvalidRequest

COORDINATOR_PORT = 19999
DATA_PORT = 28080
S3_PORT = 29998


def _process_name(kind: str) -> str:
    return f"{kind}-{socket.gethostname()}-{os.getpid()}"


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine alone; a name other than ``localhost`` counts as public."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, kw_only=True)
class TlsSettings:
    """PEM files: who this side is, and whom it trusts."""

    cert: Path | None = None
    """Of a server, which takes a renewed one over within a minute, or of a client that shows one."""
    key: Path | None = None
    ca: Path | None = None
    """Authorities that a client trusts; by default the system's."""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidRequest("A TLS certificate and its key belong together.", remedy="Give both, or neither.")

    @property
    def scheme(self) -> str:
        """Of the URLs of a server with these settings."""
        return "https" if self.cert else "http"


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Who is let in."""

    auth: bool = False
    """Ask every request for a token."""
    allow_anonymous: bool = False
    """Listen on an address that others reach without asking for a token."""
    admin_token_file: Path | None = None
    """Holds a token that is to be an admin's, so that there is a first one."""
    token: str = field(default="", repr=False)
    """What this process shows to the other parts of the cluster."""
    adopt_token: bool = False
    """A coordinator makes ``token`` valid, with the role submit, unless it is known."""

    def check_host(self, host: str) -> None:
        """Refuse to serve the network without asking who is there.

        Raises:
            InvalidRequest: others reach the host, and neither ``auth`` nor ``allow_anonymous`` is set.
        """
        if not (self.auth or self.allow_anonymous or is_loopback(host)):
            raise InvalidRequest(
                f"host={host!r} can be reached from other machines, and no token would be asked for.",
                remedy="Add --auth (PREHEAT_AUTH=true), or --allow-anonymous (PREHEAT_ALLOW_ANONYMOUS=true) where "
                "everyone who reaches it may use and delete everything; else listen on 127.0.0.1.",
            )


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How to reach NATS JetStream."""

    url: str = field(default="nats://127.0.0.1:4222", repr=False)
    """One server, or several separated by commas, with ``max_payload: 8MB`` and ``sync_interval: always``.

    May hold credentials; kept out of ``repr`` and so out of logs."""
    token: str = field(default="", repr=False)
    """Shown to every server, instead of credentials in the URL."""
    token_file: Path | None = None
    """Holds the token, in the place of ``token``; read at each connection, so that it may be changed."""
    credentials_file: Path | None = None
    """A NATS ``.creds`` file (a JWT and its key), instead of credentials in the URL."""
    tls: TlsSettings = TlsSettings()
    """For ``tls://`` URLs: whom to trust, and a client certificate if the servers ask for one."""
    replicas: int = 1
    """Copies of each stream and bucket: 1 on one node, 3 in a cluster."""
    connect_seconds: float = 30.0
    """How long a starting process waits for the engine."""
    request_seconds: float = 10.0
    """Deadline of one publish or state change; an election of a new stream leader takes up to 10 s."""


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings:
    """How jobs run."""

    max_running: int = 8
    """Jobs that one coordinator runs at once; more are WAITING."""
    job_lease_seconds: float = 10.0
    """A job whose owner is silent this long is taken over. Short enough not to be noticed, long against a pause."""
    result_lease_seconds: float = 30.0
    """A result that its reader did not acknowledge this long is delivered again."""
    worker_timeout_seconds: float = 10.0
    """A worker without a heartbeat this long has left: five heartbeats. A restarted one keeps its share."""
    listing_attempts: int = 5
    """Tries to go on with a listing that the under store broke off, with a pause that doubles from one second."""
    verify_attempts: int = 10
    """Verifications of one job; each is done again if workers joined or left meanwhile."""
    probe_seconds: float = 15.0
    """Deadline of the look at the first object with which a submit is checked."""
    no_worker_seconds: float = 120.0
    """A running job fails when there was no live worker this long."""
    open_batches_per_worker: int = 8
    """Batches with a worker before planning pauses: enough to hide the round trip, little to plan again."""
    batch_bytes: int = 256 << 20
    """A batch ends at this many bytes, so that large objects spread and progress moves."""
    cancel_grace_seconds: float = 8.0
    """How long a waiter's cancel may be taken back by a new claim: a replaced trigger cancels about 1 s after its
    successor was made."""
    retention_seconds: float = 7 * 86400.0
    """How long an ended job is kept."""
    forecast_seconds: float = 300.0
    """How far back the rate looks by which the end of a job is foreseen."""
    inventory_objects: int = 50_000_000
    """Objects of one path at most of which a load leaves an inventory, at about 27 bytes each in the engine."""


@dataclass(frozen=True, kw_only=True)
class DatasetSettings:
    """How declared datasets are kept loaded."""

    tick_seconds: float = 2.0
    """Between two looks at what is to be done."""
    settle_seconds: float = 30.0
    """How long a worker may be away before what it held is loaded again: enough for a restart."""
    retry_seconds: float = 30.0
    """Until what has failed is tried again the first time; doubled each time."""
    retry_most_seconds: float = 3600.0
    look_seconds: float = 600.0
    """Between two comparisons of a loaded dataset with the workers and the under store."""
    look_pause_factor: float = 50.0
    """Times the seconds that a comparison took is the least pause after it: at most 2 % of the time is spent so."""
    drift_seconds: float = 600.0
    """Until what changes again soon after it was loaded is loaded again; doubled each time, the first is at once."""
    drift_most_seconds: float = 14_400.0
    drift_calm_seconds: float = 3600.0
    """How long after a load the under store has to be as it was listed, until the next change counts as a first."""
    look_most_seconds: float = 900.0
    """After which a comparison that did not end is another coordinator's."""


@dataclass(frozen=True, kw_only=True)
class CoordinatorSettings:
    """One coordinator process."""

    id: str = field(default_factory=lambda: _process_name("coordinator"))
    host: str = "127.0.0.1"
    port: int = COORDINATOR_PORT
    public_url: str = ""
    """How others reach it, in links; by default ``http(s)://host:port``."""
    cluster_url: str = ""
    """How workers reach it; by default as others do."""
    engine: EngineSettings = EngineSettings()
    scheduler: SchedulerSettings = SchedulerSettings()
    datasets: DatasetSettings = DatasetSettings()
    config_file: Path | None = None
    """Declares datasets and mounts, and is read again when it changes."""
    access: AccessSettings = AccessSettings()
    tls: TlsSettings = TlsSettings()

    @property
    def url(self) -> str:
        """The base URL of links to this coordinator."""
        return self.public_url or f"{self.tls.scheme}://{self.host}:{self.port}"


EVICTION_POLICIES = ("fifo", "lru", "lfu", "scan-resistant")


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """How a worker's page store keeps objects, and which it drops when it is full."""

    eviction: str = "lru"
    """Which objects make room: one of :data:`EVICTION_POLICIES`."""
    high_watermark: float = 0.95
    """Share of the capacity above which the store begins to make room."""
    low_watermark: float = 0.90
    """Share of the capacity at which it has made enough."""
    pack_size: int = 256 << 20
    """Bytes at which a pack of small objects is full; at most a sixteenth of the capacity is used."""
    segment_size: int = 256 << 20
    """Bytes of the files that a large object is cut into; whole pages of 1 MiB."""
    stream_above: int = 4 << 20
    """Bytes above which an object is large: written as it comes; until then its writer holds it."""
    entries_in_memory: int = 200_000
    """Objects per directory that are found without asking the index, about 0.6 KB each."""

    def __post_init__(self) -> None:
        if self.eviction not in EVICTION_POLICIES:
            raise InvalidRequest(f"eviction={self.eviction!r} is none of {', '.join(EVICTION_POLICIES)}.")
        if not 0 < self.low_watermark <= self.high_watermark <= 1:
            raise InvalidRequest(
                f"low-watermark={self.low_watermark:g} and high-watermark={self.high_watermark:g} must be shares of "
                "the capacity, the low one not above the high one.",
                remedy="Write 0.90 and 0.95, say.",
            )
        if min(self.segment_size, self.pack_size) <= 0:
            raise InvalidRequest(f"segment-size={self.segment_size} and pack-size={self.pack_size} must be positive.")


@dataclass(frozen=True, kw_only=True)
class WriteSettings:
    """How much of writes that have not ended a worker takes; beyond that it asks to slow down."""

    staging_bytes: int = 64 << 30
    """Bytes of bodies, and of parts of uploads, that wait to be written."""
    staging_memory: int = 256 << 20
    """Bytes of them in memory; what is more goes to files."""
    staged_bodies: int = 100_000
    """Bodies and parts, about 2 KB each."""
    open_uploads: int = 10_000
    """Uploads in parts that were begun at this worker."""
    upload_idle_seconds: float = 6 * 3600.0
    """For which nothing comes to an upload in parts until it is dropped: its client may have died."""
    repair_seconds: float = 60.0
    """How long a worker has to be away until what it alone was to hold beside others is copied to another one."""

    def __post_init__(self) -> None:
        amounts = (self.staging_bytes, self.staging_memory, self.staged_bodies, self.open_uploads)
        least = min(*amounts, self.upload_idle_seconds, self.repair_seconds)
        if least <= 0:
            raise InvalidRequest(f"A worker's limits of writes have to be positive, not {least:g}.")


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """One worker process."""

    id: str
    """Stable over restarts: placement hashes it."""
    data_dir: Path
    """Where the page store lives; one worker's alone."""
    more_data_dirs: tuple[Path, ...] = ()
    """Further ones, on other disks; each has an equal share of the capacity."""
    capacity: int = 50 << 30
    """Bytes of cached data."""
    store: StoreSettings = StoreSettings()
    writes: WriteSettings = WriteSettings()
    zone: str = ""
    """What fails together with it, such as a rack."""
    host: str = "127.0.0.1"
    port: int = DATA_PORT
    public_url: str = ""
    """How others reach its data port; by default ``http(s)://host:port``."""
    s3_port: int | None = S3_PORT
    """Where S3 clients reach it, at the same host; 0 takes a free one, none leaves S3 out."""
    engine: EngineSettings = EngineSettings()
    access: AccessSettings = AccessSettings()
    tls: TlsSettings = TlsSettings()
    heartbeat_seconds: float = 2.0
    batch_lease_seconds: float = 10.0
    """A batch is delivered again when its worker was silent this long."""
    concurrent_batches: int = 2
    """Batches in work at once: while one waits for its slowest object the next goes on."""
    concurrent_fetches: int = 64
    """Objects of jobs in flight at once. It gains nothing beside the origin; 30 ms away it is what bounds the rate."""
    fetch_attempts: int = 3
    """Tries of one object whose error is retryable."""
    drain_seconds: float = 10.0
    """How long a stopping worker lets the batches in work end."""

    @property
    def url(self) -> str:
        """The base URL under which others find this worker's data port."""
        return self.public_url or f"{self.tls.scheme}://{self.host}:{self.port}"

    def s3_url(self, port: int) -> str:
        """Return the endpoint of S3 clients, once its port is known: at the host under which others find the worker."""
        parts = urlsplit(self.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        return f"{self.tls.scheme}://{host}:{port}"
