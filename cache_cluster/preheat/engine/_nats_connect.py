"""The way to NATS: one server or the servers of a cluster, until one answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nats
import nats.errors
from nats.aio.client import Client

from preheat.engine._base import Engine
from preheat.engine._nats import RECONNECT_SECONDS, NatsEngine
from preheat.errors import EngineUnavailable, InvalidRequest
from preheat.logs import get_logger
from preheat.settings import EngineSettings
from preheat.tls import client_context

log = get_logger("engine")
_FIRST_REMARK_SECONDS, _REMARK_SECONDS = 1.0, 30.0


async def connect(settings: EngineSettings, *, name: str) -> Engine:
    """Connect, and create what is missing of the streams and buckets.

    ``settings.url`` may name several servers of a cluster, separated by commas; the others are learnt from them.
    What it waits for is logged.

    Raises:
        EngineUnavailable: nothing answers within ``settings.connect_seconds``, or nothing that can do what is asked.
        InvalidRequest: a file of the TLS settings, the token or the credentials cannot be used.
    """
    engine = NatsEngine(settings)
    options = _servers_and_credentials(settings.url) | _token(settings) | _files(settings)
    servers = ", ".join(options["servers"])
    opening = asyncio.create_task(_open(engine, options, name))
    try:
        await _wait(opening, engine, servers, settings.connect_seconds)
    finally:
        await _end(opening)
    if opening.cancelled():
        raise EngineUnavailable(
            f"NATS at {servers} did not answer within {settings.connect_seconds:.0f} s ({engine.last_error!r})."
        ) from engine.last_error
    opening.result()
    return engine


async def _wait(opening: asyncio.Task[None], engine: NatsEngine, servers: str, seconds: float) -> None:
    """Wait until a connection is there or the time is over, and say what keeps it, ever more seldom."""
    loop = asyncio.get_running_loop()
    ends, pause = loop.time() + seconds, _FIRST_REMARK_SECONDS
    while (left := ends - loop.time()) > 0:
        done, _ = await asyncio.wait({opening}, timeout=min(left, pause))
        if done or pause >= left:
            return
        log.warning(
            "Waiting for NATS, and if its servers are a cluster for most of them.",
            action="engine_wait",
            servers=servers,
            error=repr(engine.last_error),
            seconds_left=round(ends - loop.time()),
        )
        pause = min(2 * pause, _REMARK_SECONDS)


async def _open(engine: NatsEngine, options: dict[str, Any], name: str) -> None:
    await engine.open(await _connect_until_answered(options, engine, name))


async def _end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it ends: the client takes a cancellation that comes with a time-out of its own for that."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=RECONNECT_SECONDS)


async def _connect_until_answered(options: dict[str, Any], engine: NatsEngine, name: str) -> Client:

    async def on_error(error: Exception) -> None:
        engine.last_error = error  # the client itself goes on for ever
        await engine.on_error(error)

    while True:
        try:
            return await nats.connect(
                **options,
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_SECONDS,
                ping_interval=5,
                max_outstanding_pings=2,
                name=name,
                error_cb=on_error,
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


def _token(settings: EngineSettings) -> dict[str, Any]:
    if settings.token:
        return {"token": settings.token}
    if settings.token_file is None:
        return {}
    return {"token": _TokenFile(settings.token_file)}


class _TokenFile:
    """A token that is read for each connection: it may be another one since the last; what cannot be read holds on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last = self._read()

    def __call__(self) -> str:
        try:
            self._last = self._read()
        except InvalidRequest as error:
            log.warning("The engine's token is not read anew.", action="engine_token_refused", error=str(error))
        return self._last

    def _read(self) -> str:
        try:
            text = self._file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest(f"The NATS token file {self._file} cannot be read: {error}.") from error
        if not text or len(text.split()) > 1:
            raise InvalidRequest(f"The NATS token file {self._file} does not hold one token.")
        return text


def _files(settings: EngineSettings) -> dict[str, Any]:
    """Return the options that come from files."""
    options: dict[str, Any] = {}
    if settings.tls.ca or settings.tls.cert or "tls://" in settings.url:
        options["tls"] = client_context(settings.tls)
    if settings.credentials_file:
        options["user_credentials"] = _readable(settings.credentials_file)
    return options


def _readable(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise InvalidRequest(f"The NATS credentials file {path} cannot be read: {error.strerror}.") from error
    return path
