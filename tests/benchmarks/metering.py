"""Wall and CPU time of processes, from the kernel."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.local_cluster import LocalCluster

_TICK = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.5
_LEAST_TIME_WAIT = 1000
_PORTS = 24_000
"""Of the 28,232 that a connection may leave from, what one run may use."""


class Meter:
    """Measures a block: ``with Meter(pids) as meter``.

    Args:
        pids: processes that run all the while, by name.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self.seconds = 0.0
        self.cpu: dict[str, float] = {}
        """CPU seconds of the processes within the block."""
        self.children = 0.0
        """CPU seconds of the children of this process that ended within the block."""

    def __enter__(self) -> Self:
        self._before = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        self._children = _children_seconds()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        self.children = _children_seconds() - self._children
        self.cpu = {name: cpu_seconds(pid) - self._before[name] for name, pid in self._pids.items()}


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, in user and in kernel mode."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def peak_memory(pid: int) -> int:
    """Return the most bytes of memory that a process has had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) << 10


def cluster_pids(cluster: LocalCluster) -> dict[str, int]:
    """Return the processes of a cluster by name."""
    state = json.loads((cluster.data_dir / "cluster.json").read_text())
    return {part["name"]: part["process"]["pid"] for part in state["parts"]}


def time_wait() -> int:
    """Return how many sockets of this machine are in TIME_WAIT."""
    words = Path("/proc/net/sockstat").read_text().split()
    return int(words[words.index("tw") + 1])


def wait_for_ports(connections: int, *, seconds: float = 90.0) -> None:
    """Wait until enough ports are free again for a client that opens many connections, ``seconds`` at most."""
    deadline = time.monotonic() + seconds
    while time_wait() > max(_LEAST_TIME_WAIT, _PORTS - connections) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
