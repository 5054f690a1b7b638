"""How a filesystem reaches the workers, and what it counts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from preheat.settings import TlsSettings
from preheat.tls import client_context

_BUFFER_BYTES = 1 << 20
"""Of an answer that is read more slowly than it comes: a batch takes a third more CPU with a sixteenth of it."""


class Environment:
    """A class attribute that tells what the environment says of the cluster at the moment."""

    def __get__(self, instance: object, owner: type) -> tuple[str | None, ...]:
        names = ("PREHEAT_COORDINATOR_URL", "PREHEAT_TOKEN", "PREHEAT_TOKEN_FILE", "PREHEAT_CA_FILE")
        return tuple(map(os.environ.get, names))


@dataclass(kw_only=True, slots=True)
class ReadStats:
    """What a filesystem read since it was made."""

    hits: int = 0
    """Reads that a worker served from its cache."""
    misses: int = 0
    """Reads for which a worker went to the under store."""
    fallbacks: int = 0
    """Reads that went to the under store past the workers; only with ``fallback="origin"``."""
    bytes: int = 0


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How to reach the workers."""

    coordinator: str
    """Base URL; asked for the placement map only."""
    token: str = field(default="", repr=False)
    ca_file: str = field(default_factory=lambda: os.environ.get("PREHEAT_CA_FILE", ""))
    """PEM file of the authorities to trust; by default the system's."""
    workers: tuple[str, ...] = ()
    """Base URLs of data ports to use instead of what a coordinator says."""
    connect_seconds: float = 2.0
    read_seconds: float = 300.0
    """Without a byte: a miss waits for the first ones of the under store."""
    refresh_seconds: float = 30.0
    """Age at which the placement map is asked for again."""
    suspect_seconds: float = 10.0
    """How long a worker that did not answer is left out: as long as the coordinator takes to notice."""
    attempts: int = 4
    """Tries of one request."""


def open_session(settings: ClientSettings) -> aiohttp.ClientSession:
    """Return the connections of one client; nothing is connected yet."""
    tls = TlsSettings(ca=Path(settings.ca_file) if settings.ca_file else None)
    return aiohttp.ClientSession(
        headers={"Authorization": f"Bearer {settings.token}"} if settings.token else {},
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=settings.connect_seconds, sock_read=settings.read_seconds
        ),
        auto_decompress=False,  # the bytes of the object are wanted, whatever they are
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(ssl=client_context(tls)) if tls.ca else None,
        read_bufsize=_BUFFER_BYTES,
    )
