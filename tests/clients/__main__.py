"""``make clients``: runs every session against real clusters, and writes docs/reference/clients.md."""

from __future__ import annotations

import tempfile
from pathlib import Path

from testbed.s3 import JuiceFSGateway
from tests.clients.matrix import (
    ALLUXIO_CLIENTS,
    CLIENTS,
    PAGE,
    SIGNING_CLIENTS,
    installed,
    page,
    run_sessions,
    version_of,
)
from tests.clients.place import fill, warm_place

installed()
found = {}
with tempfile.TemporaryDirectory() as temporary:
    directory = Path(temporary)
    with JuiceFSGateway(directory / "origin") as origin:
        fill(origin)
        for clients, auth in ((SIGNING_CLIENTS, True), (ALLUXIO_CLIENTS, False)):
            with warm_place(origin, directory / f"auth-{auth}", auth=auth) as place:
                found |= run_sessions(clients, place)
PAGE.write_text(page(found, {client.name: version_of(client) for client in CLIENTS}))
