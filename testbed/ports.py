"""Free ports on loopback.

They are drawn from below the range that the kernel gives to outgoing connections: a port in that range may be free now
and belong to somebody's connection a moment later, when the server binds it. A process gets no port twice, and
processes of pytest-xdist draw from ranges of their own: some servers bind only seconds after their port was drawn.
"""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_LOWEST = 10_240
_DEFAULT_EPHEMERAL_START = 32_768
# Not the global generator: tests seed that one, and processes that test in parallel must not draw the same ports.
_random = random.SystemRandom()
_SHARES = 8
_given: set[int] = set()


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port that nothing listens on."""
    return free_ports(1, host)[0]


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return different TCP ports that nothing listens on.

    Raises:
        OSError: there are not as many.
    """
    found: list[int] = []
    candidates = _candidates()
    for port in candidates:
        if len(found) == count:
            break
        if _is_free(host, port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"{host} has only {len(found)} free ports of the {count} that were asked for.")
    _given.update(found)
    return found


def _candidates() -> list[int]:
    """Return this process's share of the ports in random order, those that were given already at the end."""
    share = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    ports = list(range(_LOWEST + share, _ephemeral_start(), _SHARES))
    _random.shuffle(ports)
    return sorted(ports, key=_given.__contains__)


def _ephemeral_start() -> int:
    try:
        start = int(_EPHEMERAL.read_text().split()[0])
    except (OSError, ValueError):  # not Linux, or a sandbox without /proc/sys
        return _DEFAULT_EPHEMERAL_START
    return start if start - _LOWEST > 1000 else _DEFAULT_EPHEMERAL_START


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
