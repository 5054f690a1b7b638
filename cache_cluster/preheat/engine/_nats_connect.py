"""The way to NATS: one server or the servers of a cluster, until one answers."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import nats
import nats.errors
from nats.aio.client import Client

from preheat.engine._base import Engine
from preheat.engine._nats import RECONNECT_SECONDS, NatsEngine
from preheat.errors import EngineUnavailable
from preheat.settings import EngineSettings


async def connect(settings: EngineSettings, *, name: str) -> Engine:
    """Connect, and create what is missing of the streams and buckets.

    ``settings.url`` may name several servers of a cluster, separated by commas; the others are learnt from them.

    Raises:
        EngineUnavailable: nothing answers within ``settings.connect_seconds``, or nothing that can do what is asked.
    """
    engine = NatsEngine(settings)
    try:
        async with asyncio.timeout(settings.connect_seconds):
            await engine.open(await _connect_until_answered(settings.url, engine, name))
    except TimeoutError as error:
        raise EngineUnavailable(
            f"NATS did not answer within {settings.connect_seconds:.0f} s ({engine.last_error!r})."
        ) from error
    return engine


async def _connect_until_answered(url: str, engine: NatsEngine, name: str) -> Client:
    while True:
        try:
            return await nats.connect(
                **_servers_and_credentials(url),
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_SECONDS,
                ping_interval=5,
                max_outstanding_pings=2,
                name=name,
                error_cb=engine.on_error,
                disconnected_cb=engine.on_disconnect,
                reconnected_cb=engine.on_reconnect,
            )
        except (nats.errors.NoServersError, OSError) as error:
            engine.last_error = error
            await asyncio.sleep(RECONNECT_SECONDS)


def _servers_and_credentials(url: str) -> dict[str, Any]:
    """Take the credentials out of the URLs: servers that the client learns of later are given them too."""
    parts = [urlsplit(part.strip()) for part in url.split(",")]
    options: dict[str, Any] = {
        "servers": [part._replace(netloc=part.netloc.rpartition("@")[2]).geturl() for part in parts]
    }
    named = next((part for part in parts if part.username), None)
    if named is None:
        return options
    if named.password is None:
        return options | {"token": named.username}
    return options | {"user": named.username, "password": named.password}
