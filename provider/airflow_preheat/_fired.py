"""What the triggers of ``AssetWatchers`` have in common: they remember what has fired, so that it fires once."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from airflow.providers.common.compat.sdk import AirflowException
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger

if TYPE_CHECKING:
    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

UNWELL = (AirflowException, AirflowRuntimeError)
"""What the coordinator, the connection or the state store may raise, and what the next poll may not meet."""


class FiringTrigger(BaseEventTrigger):
    """Keeps what it has fired last in its Asset's state store, which Airflow has from 3.3 on."""

    state_key: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fired: dict[str, str] | None = None

    async def recall(self) -> dict[str, str]:
        """Return what was remembered last; nothing at first."""
        if self._fired is None:
            try:
                stored = await self._store.aget(self.state_key, {}) if self._store else {}
            except ValueError:  # what Airflow raises then
                self.log.warning("Watchers of several Assets are alike; without a name each, a restart fires again.")
                self.asset_state_store, stored = None, {}
            self._fired = cast("dict[str, str]", stored)
        return self._fired

    async def remember(self, fired: dict[str, str]) -> None:
        """Keep what is about to fire."""
        if self._store:
            await self._store.aset(self.state_key, dict(fired))
        self._fired = fired

    @property
    def _store(self) -> AssetStateStoreAccessors | None:
        """The state of the Asset that is watched."""
        return getattr(self, "asset_state_store", None)
