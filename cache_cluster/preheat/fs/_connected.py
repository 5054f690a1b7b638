"""A filesystem's connections: one client for each event loop of each process that uses it."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import ctypes
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any, Literal

from fsspec.asyn import AsyncFileSystem, get_loop
from fsspec.utils import tokenize

from preheat.errors import InvalidRequest
from preheat.fs._client import Client
from preheat.fs._demand import Demand
from preheat.fs._fallback import WithFallback
from preheat.fs._reader import Reader
from preheat.fs._session import ClientSettings, Environment, ReadStats
from preheat.fs._writer import Writer
from preheat.token_files import own_token

_DEFAULT_COORDINATOR = "http://127.0.0.1:19999"
_CLOSE_SECONDS = 1.0
_living: weakref.WeakValueDictionary[int, ConnectedFileSystem] = weakref.WeakValueDictionary()


class ConnectedFileSystem(AsyncFileSystem):  # type: ignore[misc]  # fsspec has no types
    """What every part of the filesystem shares; the arguments are PreheatFileSystem's."""

    _environment = Environment()
    _extra_tokenize_attributes = ("_environment",)  # another cluster there is another filesystem

    def __init__(
        self,
        coordinator: str | None = None,
        *,
        token: str | None = None,
        workers: Sequence[str] = (),
        fallback: Literal["error", "origin"] = "error",
        freshness: str = "",
        version: str = "",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self._pid: int = os.getpid()
        self._settings = ClientSettings(
            coordinator=coordinator or os.environ.get("PREHEAT_COORDINATOR_URL") or _DEFAULT_COORDINATOR,
            token=token if token is not None else own_token(),
            workers=tuple(workers),
        )
        self.stats = ReadStats()
        self._origin = _fallback_reader(fallback, self.stats)
        self._demand = Demand(freshness=freshness, version=version)
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Client, Reader]] = {}
        _living[id(self)] = self

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that synchronous calls run in; a forked child gets one of its own."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loop = None if self.asynchronous else get_loop()
        loop: asyncio.AbstractEventLoop | None = self._loop
        return loop

    @property
    def fsid(self) -> str:
        """What tells this filesystem from others."""
        return f"preheat_{tokenize(self._settings.coordinator, self._settings.workers)}"

    async def aclose(self) -> None:
        """Close the connections of the running loop; needed only with ``asynchronous=True``."""
        _, reader = self._clients.pop(asyncio.get_running_loop(), (None, None))
        if reader:
            await reader.close()

    @property
    def _reader(self) -> Reader:
        """What the running loop reads from."""
        return self._connect()[1]

    @property
    def _writer(self) -> Writer:
        """What the running loop writes by."""
        return self._connect()[0].writer

    def _connect(self) -> tuple[Client, Reader]:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            client = Client(self._settings, self.stats)
            reader: Reader = client
            if self._origin:
                reader = WithFallback(client, self._origin, pause=self._settings.suspect_seconds)
            self._clients[loop] = client, reader
            weakref.finalize(self, _close, reader, os.getpid(), loop).atexit = False
        return self._clients[loop]

    def _demanded(self, options: Mapping[str, Any]) -> Demand:
        """Return what a call asks for: what its options say, and else what the filesystem was made with."""
        freshness, version = options.get("freshness"), options.get("version")
        if freshness is None and version is None:
            return self._demand
        return Demand(
            freshness=self._demand.freshness if freshness is None else freshness,
            version=self._demand.version if version is None else version,
        )

    def _forget_connections(self) -> None:
        """Drop what a forked child inherited, without closing it.

        Closing, and so the end of an object, would take the parent's sockets out of the epoll that both share.
        """
        inherited, self._clients = self._clients, {}
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(inherited))


def _fallback_reader(fallback: str, stats: ReadStats) -> Callable[[], Reader] | None:
    """Return what makes the reader to fall back on; raises InvalidRequest if it cannot be had."""
    if fallback == "error":
        return None
    if fallback != "origin":
        raise InvalidRequest(f"fallback={fallback!r} is neither 'error' nor 'origin'.")
    try:
        origin = import_module("preheat.fs._origin")
    except ImportError as error:
        raise InvalidRequest(
            f"fallback='origin' needs libraries that are not installed ({error}).",
            remedy="Install preheat[server], or leave fallback out.",
        ) from error
    return partial(origin.Origin, stats)


def _close(reader: Reader, pid: int, loop: asyncio.AbstractEventLoop) -> None:
    """Close what a filesystem leaves behind, unless a fork inherited it or its loop is gone."""
    if pid == os.getpid() and loop.is_running():
        asyncio.run_coroutine_threadsafe(reader.close(), loop)


def _close_all() -> None:
    """Close all connections when the process ends, while their loops still run."""
    open_now = [pair for filesystem in list(_living.values()) for pair in filesystem._clients.items()]  # noqa: SLF001 - of this module
    for loop, (_, reader) in open_now:
        if loop.is_running():
            with suppress(TimeoutError, concurrent.futures.CancelledError):
                asyncio.run_coroutine_threadsafe(reader.close(), loop).result(_CLOSE_SECONDS)


def _after_fork() -> None:
    for filesystem in list(_living.values()):
        filesystem._forget_connections()  # noqa: SLF001 - as above


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork)
