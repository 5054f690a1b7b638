"""The engine of a local cluster: where its program is, its configuration and its token."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from pathlib import Path

from preheat.cluster._ports import Address
from preheat.cluster._private import kept_secret, write_private
from preheat.errors import PreheatError

_CONFIG = """\
# Written by `preheat up` at each start: changes are lost.
server_name: "preheat"
listen: {listen}
jetstream {{
  store_dir: {store}
  # The default syncs every two minutes and loses acknowledged writes in a power cut.
  sync_interval: always
}}
# A job's record names what failed in its open batches.
max_payload: 8MB
authorization {{
  token: {token}
}}
"""


def find_nats_server() -> Path:
    """Return the program that comes with ``preheat[server]``, or the one on PATH.

    Raises:
        PreheatError: there is none.
    """
    beside = Path(sys.executable).parent / "nats-server"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise PreheatError(
            f"There is no nats-server program, neither in {beside.parent} nor on PATH.",
            remedy="Install it with: pip install 'preheat[server]'",
        )
    return Path(found)


def render_config(*, listen: Address, store: Path, token: str) -> str:
    """Return the text of nats.conf: loopback, durable, nobody without the token."""
    quoted = {"listen": str(listen), "store": str(store), "token": token}
    return _CONFIG.format(**{name: json.dumps(value) for name, value in quoted.items()})


def write_config(directory: Path, *, listen: Address) -> str:
    """Write nats.conf, readable by its owner alone, and return the URL that clients need, token included."""
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    token = kept_secret(directory / "token", lambda: secrets.token_hex(24))
    write_private(directory / "nats.conf", render_config(listen=listen, store=directory / "store", token=token))
    return f"nats://{token}@{listen}"
