"""The control plane as a worker sees it: coordinators that it can ask, and who owns which path.

Reading needs neither. All workers prefer the same coordinator, the one that has run longest: a job that was submitted
through one worker is known at once to whoever asks through another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from preheat.engine import Bucket, Engine
from preheat.errors import CoordinatorUnreachable, PreheatError, from_problem
from preheat.placement import Member, PlacementMap
from preheat.registry import Beacon
from preheat.settings import TlsSettings
from preheat.tls import client_context
from preheat.views import BucketView

_CONNECT_SECONDS = 2.0
_ANSWER_SECONDS = 40.0
"""A stop takes up to 20 s, a submit up to 15 s for each path that it looks at."""


@dataclass(frozen=True, kw_only=True)
class _Known:
    """What there is to know while the engine is followed."""

    beacons: BucketView[Beacon]
    placement: BucketView[PlacementMap]
    http: aiohttp.ClientSession


class ControlPlane:
    """Knows nothing until :meth:`following` runs.

    Args:
        tls: whom to trust, if coordinators speak HTTPS.
    """

    def __init__(self, tls: TlsSettings | None = None) -> None:
        self._tls = tls or TlsSettings()
        self._known: _Known | None = None

    @asynccontextmanager
    async def following(self, engine: Engine) -> AsyncIterator[None]:
        """Follow the shared state while the block runs."""
        beacons = BucketView(engine, Bucket.COORDINATORS, Beacon)
        placement = BucketView(engine, Bucket.CLUSTER, PlacementMap, only="placement")
        connector = aiohttp.TCPConnector(ssl=client_context(self._tls))
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http, asyncio.TaskGroup() as tasks:
            following = [tasks.create_task(view.follow()) for view in (beacons, placement)]
            self._known = _Known(beacons=beacons, placement=placement, http=http)
            try:
                yield
            finally:
                self._known = None
                for task in following:
                    task.cancel()

    def owners(self, path: str, count: int) -> tuple[Member, ...]:
        """Return the ``count`` workers that rank highest for a path; none if they are not known."""
        found = self._known.placement.get("placement") if self._known else None
        return found[0].owners(path, count) if found else ()

    def owner_url(self, path: str) -> str | None:
        """Return the data port's base URL of the worker that owns a path; none if it is not known."""
        owners = self.owners(path, 1)
        return owners[0].url if owners else None

    async def ask_other_workers(
        self, path: str, *, but: str, params: Mapping[str, str], authorization: str | None, seconds: float
    ) -> bytes | None:
        """Ask all workers at once, and return the first body that one answers with; none if no one knows in time.

        Args:
            path: the target at their data ports.
            but: the URL of the one not to ask.
            params: the query.
            authorization: is passed on.
            seconds: to wait for all of them.
        """
        found = self._known.placement.get("placement") if self._known else None
        headers = {"Authorization": authorization} if authorization else {}
        others = [member.url for member in (found[0].members if found else ()) if member.url != but]
        asked = [asyncio.create_task(self._ask_worker(url + path, params, headers)) for url in others]
        try:
            for answered in asyncio.as_completed(asked, timeout=seconds):
                if (body := await answered) is not None:
                    return body
        except TimeoutError:
            return None
        finally:
            for task in asked:
                task.cancel()
        return None

    def coordinator_urls(self) -> list[str]:
        """Return the coordinators' base URLs, the one to ask first at the front."""
        beacons = [beacon for beacon, _ in self._known.beacons.values()] if self._known else []
        return [beacon.url for beacon in sorted(beacons, key=lambda beacon: (beacon.started_at, beacon.id))]

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        authorization: str | None = None,
    ) -> bytes:
        """Return the body that the first coordinator within reach answers with.

        Raises:
            CoordinatorUnreachable: none answers in time.
            PreheatError: the one that answered refused, for this reason.
        """
        headers = {"Authorization": authorization} if authorization else {}
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                return await self._ask_in_turn(method, path, params=params, json=json, headers=headers)
        except TimeoutError as error:
            raise _unreachable(f"no answer within {_ANSWER_SECONDS:.0f} s") from error

    async def _ask_in_turn(self, method: str, path: str, **request: Any) -> bytes:
        """Ask one coordinator after the other; a submit that was lost half-way attaches to its own job then."""
        known, cause = self._known, "none has announced itself"
        for url in self.coordinator_urls():
            assert known is not None
            try:
                async with known.http.request(method, url + path, **request) as response:
                    body = await response.read()
            except aiohttp.ClientError as error:
                cause = f"{url}: {error or type(error).__name__}"
                continue
            if response.status >= 400:
                raise _refusal(body, response.status)
            return body
        raise _unreachable(cause)

    async def _ask_worker(self, url: str, params: Mapping[str, str], headers: Mapping[str, str]) -> bytes | None:
        if self._known is None:
            return None
        try:
            async with self._known.http.get(url, params=params, headers=headers) as response:
                return await response.read() if response.ok else None
        except aiohttp.ClientError:
            return None


def _unreachable(cause: str) -> CoordinatorUnreachable:
    return CoordinatorUnreachable(f"No coordinator answers ({cause}).", remedy="Start one, or wait a few seconds.")


def _refusal(body: bytes, status: int) -> PreheatError:
    try:
        return from_problem(msgspec.json.decode(body, type=dict[str, Any]), status)
    except msgspec.DecodeError:
        return PreheatError(f"The coordinator answered {status}.")
