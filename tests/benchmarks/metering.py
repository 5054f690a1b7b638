"""Wall and CPU time of processes, from the kernel."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from testbed.local_cluster import LocalCluster

_TICK = os.sysconf("SC_CLK_TCK")
_POLL_SECONDS = 0.5
_LEAST_TIME_WAIT = 1000
_TIME_WAIT = "06"
"""In /proc/net/tcp."""
_PORTS = 24_000
"""Of the 28,232 that a connection may leave from, what one run may use."""


class Journal:
    """Says what is being done, and keeps where the time went.

    Args:
        say: gets each line.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._started = time.perf_counter()
        self.spent: Counter[str] = Counter()
        """Seconds, by what they were spent on."""

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self._started

    def note(self, line: str) -> None:
        """Print a line, after the seconds since the beginning."""
        self._say(f"{self.seconds:5.0f} s  {line}")

    @contextmanager
    def spending(self, purpose: str) -> Iterator[None]:
        """Count the time of a block."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.spent[purpose] += time.perf_counter() - started


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


def session_pids(leader: int) -> list[int]:
    """Return the processes of a session, such as a child process and its own children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended in the meantime
            if int(stat.read_text().rpartition(")")[2].split()[3]) == leader:
                found.append(int(stat.parent.name))
    return found


def wait_for_ports(server: int, connections: int, *, seconds: float = 90.0) -> None:
    """Wait until a client may open many connections to a server again, ``seconds`` at most.

    Args:
        server: its port, on loopback.
        connections: how many.
        seconds: at most.
    """
    deadline = time.monotonic() + seconds
    while _time_wait(server) > max(_LEAST_TIME_WAIT, _PORTS - connections) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _time_wait(server: int) -> int:
    """Return how many connections with a server are in TIME_WAIT, and so many ports it cannot be reached from."""
    port = f":{server:04X}"
    with Path("/proc/net/tcp").open() as lines:
        ends = (line.split(maxsplit=4)[1:4] for line in lines)
        return sum(state == _TIME_WAIT and port in (local[-5:], remote[-5:]) for local, remote, state in ends)


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
