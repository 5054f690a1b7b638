"""What Airflow keeps for the watchers of an Asset."""

from __future__ import annotations

import json
from typing import Any


class AssetState:
    """The state of one Asset, as Airflow 3.3 keeps it through restarts of the triggerer."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    async def aget(self, key: str, default: Any = None) -> Any:
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key: str, value: Any) -> None:
        self.values[key] = json.dumps(value)
