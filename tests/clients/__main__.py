"""``make clients``: runs every session against real clusters, and writes docs/reference/clients.md."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tests.clients.matrix import CLIENTS, PAGE, filled_origin, installed, page, run_all, version_of

installed()
with tempfile.TemporaryDirectory() as temporary:
    directory = Path(temporary)
    with filled_origin(directory / "origin") as origin:
        found = run_all(directory, origin)
PAGE.write_text(page(found, {client.name: version_of(client) for client in CLIENTS}))
