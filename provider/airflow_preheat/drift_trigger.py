"""What starts DAGs when a dataset changes at the under store: the trigger of an ``AssetWatcher``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import TriggerEvent

from airflow_preheat._datasets import Drift
from airflow_preheat._endpoint import DEFAULT_CONN_ID
from airflow_preheat._fired import UNWELL, FiringTrigger
from airflow_preheat.exceptions import PreheatVersionUnknownError


class DatasetDriftTrigger(FiringTrigger):
    """Fires each time that a dataset has changed at the under store since it was loaded; for an ``AssetWatcher``.

    Each poll lists the dataset there once, by the coordinator; nothing is read. What it finds fires once, also if the
    triggerer restarts (Airflow 3.3 and later), and again only after it has found something else in between. A dataset
    that was never loaded does not drift. Nothing fails a watcher: while the coordinator is away, it waits.

    Args:
        path: the dataset, e.g. ``s3://bucket/prefix/``, or a part of one.
        preheat_conn_id: the Airflow connection of the coordinator.
        poll_interval: seconds between two polls. A listing is a request for every 1,000 objects.
        name: tells watchers of several Assets apart that are alike otherwise: Airflow makes one trigger of them,
            for which it has no state.
    """

    state_key = "preheat_drift"

    def __init__(
        self, *, path: str, preheat_conn_id: str = DEFAULT_CONN_ID, poll_interval: float = 300.0, name: str = ""
    ) -> None:
        super().__init__()
        self.path = path
        self.preheat_conn_id = preheat_conn_id
        self.poll_interval = poll_interval
        self.name = name

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class and the arguments to make the trigger again, JSON primitives only."""
        names = ("path", "preheat_conn_id", "poll_interval", "name")
        return "airflow_preheat.triggers.DatasetDriftTrigger", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll, and fire what is new; errors end nothing."""
        while True:
            try:
                payload = await self._new()
            except UNWELL as error:
                self.log.warning("Whether %s has changed cannot be told: %s", self.path, error)
            else:
                if payload is not None:
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
            await asyncio.sleep(self.poll_interval)

    async def _new(self) -> dict[str, Any] | None:
        """Return what to fire: how the dataset differs, if it does, and this has not fired last."""
        drift = await self._ask()
        if drift is None or not drift["drift"] or drift["originVersion"] == (await self.recall()).get("version"):
            return None
        # Before it fires: a triggerer that is killed between the two fires once too little, and not twice.
        await self.remember({"version": drift["originVersion"]})
        counts = {name: drift[name] for name in ("changed", "added", "deleted")}
        self.log.info("%s has changed: %s", self.path, counts)
        return {"path": self.path, "dataset_version": drift["version"], "new_version": drift["originVersion"], **counts}

    async def _ask(self) -> Drift | None:
        from airflow_preheat.async_hooks import PreheatAsyncHook  # noqa: PLC0415 - DAG files import this module

        try:
            async with PreheatAsyncHook(self.preheat_conn_id) as hook:
                return await hook.drift(self.path)
        except PreheatVersionUnknownError:
            return None
