"""The addresses of a local cluster: the ones asked for if they are free, or ones that are."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from typing import Self

from preheat.cluster._settings import LOOPBACK, ClusterSettings
from preheat.errors import Conflict, InvalidRequest


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Addresses:
    """Where each part of a cluster listens."""

    coordinator: Address
    nats: Address
    workers: tuple[Address, ...]
    s3: tuple[Address, ...] = ()
    """One for each worker, or none at all."""


def wanted_workers(settings: ClusterSettings) -> tuple[Address, ...]:
    """Return the workers' data ports as asked for; port 0 still means any free one."""
    return _one_each(settings, settings.worker_port)


def wanted_s3(settings: ClusterSettings) -> tuple[Address, ...]:
    """Return the workers' S3 ports as asked for; nothing if there shall be none."""
    return () if settings.worker_s3_port is None else _one_each(settings, settings.worker_s3_port)


def _one_each(settings: ClusterSettings, first: int) -> tuple[Address, ...]:
    if settings.worker_hosts:
        return tuple(Address(host=host, port=first) for host in settings.worker_hosts)
    step = 1 if first else 0
    return tuple(Address(host=LOOPBACK, port=first + step * index) for index in range(settings.workers))


def choose_addresses(settings: ClusterSettings) -> Addresses:
    """Check that every address is free, and put a free port where 0 was asked for.

    Raises:
        Conflict: a port is taken.
        InvalidRequest: an address does not belong to this machine, or may not be used.
    """
    with _Reservations() as reserve:
        return Addresses(
            coordinator=reserve(Address(host=LOOPBACK, port=settings.port), "--port"),
            workers=tuple(reserve(each, "--worker-port") for each in wanted_workers(settings)),
            s3=tuple(reserve(each, "--worker-s3-port") for each in wanted_s3(settings)),
            nats=reserve(Address(host=LOOPBACK, port=0), "nats"),
        )


class _Reservations:
    """Binds addresses until all of them are known, so that no two choices are the same port."""

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()

    def __call__(self, address: Address, option: str) -> Address:
        listener = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        self._sockets.append(listener)
        # As the servers do: connections in TIME_WAIT of an earlier run do not make a port taken.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address.host, address.port))
            listener.listen()
        except OSError as error:
            raise _explain(error, address, option) from error
        return Address(host=address.host, port=listener.getsockname()[1])


def _explain(error: OSError, address: Address, option: str) -> Conflict | InvalidRequest:
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"Port {address.port} of {address.host} is taken by another process.",
            remedy=f"Choose another with {option}; {option} 0 takes a free one and says which.",
        )
    reason = os.strerror(error.errno) if error.errno else str(error)
    option = "--worker-hosts" if error.errno == errno.EADDRNOTAVAIL else option
    return InvalidRequest(f"Cannot listen on {address}: {reason}.", remedy=f"Choose another with {option}.")
