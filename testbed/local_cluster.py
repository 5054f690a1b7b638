"""A cluster of local processes, by the commands that people use: ``preheat up --detach`` and ``preheat down``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_UP_SECONDS = 90.0
_DOWN_SECONDS = 60.0


class ClusterError(Exception):
    """``preheat up`` or ``preheat down`` failed; the message has what it printed."""


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """A cluster that is up."""

    url: str
    """The coordinator's."""
    worker_urls: tuple[str, ...]
    airflow_variables: dict[str, str]
    """The environment variable that makes the coordinator Airflow's connection ``preheat_default``."""
    data_dir: Path


@contextmanager
def local_cluster(
    data_dir: Path, *, environment: Mapping[str, str], workers: int = 2, worker_hosts: Sequence[str] = ()
) -> Iterator[LocalCluster]:
    """Run a cluster on free ports, with its data and logs under ``data_dir``.

    Args:
        data_dir: its data directory.
        environment: how it reaches the under store: ``AWS_...`` variables.
        workers: how many.
        worker_hosts: their loopback addresses, for clients that expect Alluxio's ports; none takes free ports.

    Raises:
        ClusterError: it did not start, or did not stop.
    """
    options = ["--workers", str(workers), "--port", "0", "--detach"]
    options += ["--worker-hosts", ",".join(worker_hosts)] if worker_hosts else ["--worker-port", "0"]
    _preheat("up", "--data-dir", str(data_dir), *options, environment=environment, seconds=_UP_SECONDS)
    try:
        yield _describe(data_dir)
    finally:
        _preheat("down", "--data-dir", str(data_dir), environment=environment, seconds=_DOWN_SECONDS)


def _describe(data_dir: Path) -> LocalCluster:
    state = json.loads((data_dir / "cluster.json").read_text())
    name, _, uri = state["airflow_connection"].partition("=")
    return LocalCluster(
        url=state["url"],
        worker_urls=tuple(part["url"] for part in state["parts"] if part["name"].startswith("worker-")),
        airflow_variables={name: uri},
        data_dir=data_dir,
    )


def _preheat(*arguments: str, environment: Mapping[str, str], seconds: float) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("preheat"), *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("PREHEAT_")} | dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        check=False,
    )
    if done.returncode:
        raise ClusterError(f"preheat {' '.join(arguments)} ended with exit status {done.returncode}:\n{done.stdout}")
