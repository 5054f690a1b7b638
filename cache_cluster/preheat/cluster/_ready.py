"""Whether a cluster that starts is ready, and if not, what is missing."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from preheat.client import Client
from preheat.cluster._plan import Part, Plan
from preheat.errors import PreheatError

_PROBE_SECONDS = 1.0


def missing_engine(plan: Plan) -> str:
    """Return why the engine cannot be reached, or nothing."""
    address = urlsplit(plan.nats.url)
    try:
        socket.create_connection((address.hostname, address.port), timeout=_PROBE_SECONDS).close()
    except OSError as error:
        return f"nats-server does not listen on {address.netloc} ({error.strerror or error})"
    return ""


def missing_part(plan: Plan) -> str:
    """Return why the cluster is not ready, or nothing.

    The workers are asked too: the coordinator may know heartbeats of an earlier run that did not yet expire.
    """
    try:
        with _client(plan.coordinator) as client:
            client.check_ready()
            live = {worker.id for worker in client.workers().workers if worker.live}
    except PreheatError as error:
        return f"coordinator: {error.message}"
    return next((problem for worker in plan.workers if (problem := _missing_worker(worker, live))), "")


def _missing_worker(worker: Part, live: set[str]) -> str:
    try:
        with _client(worker) as client:
            client.check_health()
    except PreheatError:
        return f"{worker.name}: its data port {worker.url} does not answer"
    return "" if worker.name in live else f"{worker.name}: the coordinator has no heartbeat of it"


def _client(part: Part) -> Client:
    """Return a client of a part, with the token and the authorities that the parts use among each other."""
    token, ca_file = (part.environment.get(name, "") for name in ("PREHEAT_TOKEN", "PREHEAT_CA_FILE"))
    return Client(part.url, token=token, ca_file=ca_file, timeout=_PROBE_SECONDS)
