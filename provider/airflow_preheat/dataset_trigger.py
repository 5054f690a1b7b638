"""What starts DAGs when a dataset becomes warm: the trigger of an ``AssetWatcher``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Hashable, Mapping, Sequence
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat._fired import UNWELL, FiringTrigger
from airflow_preheat._looks import Listed, Warmth, WarmthLook, describe, expected_of

log = logging.getLogger(__name__)
_AT_ONCE = 8
"""Datasets that one triggerer asks for at the same time."""


class DatasetWarmTrigger(FiringTrigger):
    """Fires each time that another version of a dataset has become warm; for an ``AssetWatcher``.

    A version fires once. What has fired is kept in the Asset's state store, so that a triggerer that restarts does
    not fire again; Airflow before 3.3 has none, and fires once more for what is warm then. All watchers of one
    connection share a poll of the datasets that are known, and a dataset is looked at when another version of it
    is, until that is warm. A dataset is known once a load of it has succeeded.

    Nothing fails a watcher: while the coordinator is away, it waits.

    Args:
        path: the dataset, e.g. ``s3://bucket/prefix/``, or a part of one.
        min_hot_fraction: the share of its objects that suffices, 0 to 1.
        preheat_conn_id: the Airflow connection of the coordinator.
        poll_interval: seconds between two polls.
        name: tells watchers of several Assets apart that are alike otherwise: Airflow makes one trigger of them,
            for which it has no state.
    """

    state_key = "preheat_warm"

    def __init__(
        self,
        *,
        path: str,
        min_hot_fraction: float = 1.0,
        preheat_conn_id: str = DEFAULT_CONN_ID,
        poll_interval: float = 30.0,
        name: str = "",
    ) -> None:
        super().__init__()
        self.path = path
        self.min_hot_fraction = min_hot_fraction
        self.preheat_conn_id = preheat_conn_id
        self.poll_interval = poll_interval
        self.name = name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        names = ("path", "min_hot_fraction", "preheat_conn_id", "poll_interval", "name")
        return "airflow_preheat.triggers.DatasetWarmTrigger", {name: getattr(self, name) for name in names}

    def shared_stream_key(self) -> Hashable:
        """Return what watchers have in common that share a poll."""
        return "airflow_preheat.datasets", self.preheat_conn_id, self.poll_interval

    @classmethod
    async def open_shared_stream(cls, kwargs: dict[str, Any]) -> AsyncIterator[_Datasets]:
        """Poll what datasets the coordinator knows, for all watchers; errors end nothing."""
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - DAG files import this module

        conn_id, interval = kwargs["preheat_conn_id"], kwargs["poll_interval"]
        while True:
            try:
                async with PreheatAsyncHook(conn_id) as hook:
                    while True:
                        yield _Datasets(conn_id, await hook.inventories())
                        await asyncio.sleep(interval)
            except UNWELL as error:  # the connection is read anew: its token may have been replaced
                log.warning("The datasets that %r knows could not be polled: %s", conn_id, error)
            await asyncio.sleep(interval)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[_Datasets]) -> AsyncIterator[TriggerEvent]:
        """Fire for this trigger's dataset."""
        async for datasets in shared_stream:
            try:
                result = await self._new(datasets)
            except UNWELL as error:
                self.log.warning("%s could not be looked at: %s", self.path, error)
            else:
                if result is not None:
                    yield TriggerEvent(result)  # type: ignore[no-untyped-call]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll alone: Airflow before 3.3 does not share."""
        async for event in self.filter_shared_stream(self.open_shared_stream(self.serialize()[1])):
            yield event

    async def _new(self, datasets: _Datasets) -> Mapping[str, Any] | None:
        """Return what to fire: a summary of the dataset if it is warm, and this version has not fired before."""
        listed, fired = expected_of(datasets.inventories, self.path), await self.recall()
        if listed is None or listed["id"] == fired.get("inventory"):
            return None
        warmth = await datasets.warmth(self.path)
        self.log.info("%s", describe(warmth))
        result = WarmthLook(path=self.path, min_hot_fraction=self.min_hot_fraction).result(warmth)
        if result is None or warmth["inventory"] is None:
            return None
        # Before it fires: a triggerer that is killed between the two fires once too little, and not twice.
        await self.remember({"inventory": warmth["inventory"], "version": warmth["version"]})
        return result if warmth["version"] != fired.get("version") else None


class _Datasets:
    """What the coordinator knew at one poll; whoever asks how warm a dataset is, asks for all."""

    def __init__(self, conn_id: str, inventories: Sequence[Listed]) -> None:
        self.inventories = inventories
        self._conn_id = conn_id
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._asked: dict[str, asyncio.Task[Warmth]] = {}

    async def warmth(self, path: str) -> Warmth:
        if path not in self._asked:
            self._asked[path] = asyncio.create_task(self._ask(path))
        return await asyncio.shield(self._asked[path])

    async def _ask(self, path: str) -> Warmth:
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - DAG files import this module

        async with self._gate, PreheatAsyncHook(self._conn_id) as hook:
            return await hook.warmth(path)
