"""``make clients``: runs every session against a real cluster, and writes docs/reference/clients.md."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from testbed.s3 import JuiceFSGateway
from tests.clients.matrix import CLIENTS, run_all, table, version_of
from tests.clients.place import warm_place

names = sys.argv[1:] or [client.name for client in CLIENTS]
chosen = [client for client in CLIENTS if client.name in names]
with tempfile.TemporaryDirectory() as temporary:
    directory = Path(temporary)
    with JuiceFSGateway(directory / "s3") as origin, warm_place(origin, directory / "cluster") as place:
        found = run_all(chosen, place)
versions = {client.name: version_of(client) for client in chosen}
print(table(found, versions))
