"""A look at a loaded dataset: how much of it the workers still hold, and whether the under store still has the same."""

from __future__ import annotations

import asyncio
import time

from preheat.coordinator._drift import Drift, DriftFinder
from preheat.coordinator._warmth import Warmth, WarmthMeter
from preheat.datasets import Dataset, Loaded, Look
from preheat.errors import PreheatError
from preheat.jobs import Tally

_MOST_SECONDS = 600.0
"""For each path."""


class DatasetLook:
    """Looks at datasets.

    Args:
        drift: compares with the under store.
        warmth: asks the workers.
    """

    def __init__(self, *, drift: DriftFinder, warmth: WarmthMeter) -> None:
        self._drift = drift
        self._warmth = warmth

    async def take(self, dataset: Dataset, loaded: Loaded) -> Look:
        """Look at a dataset; what does not answer is told, and no reason to look again at once."""
        began = time.monotonic()
        try:
            drifts = [await self._drift.find(path, limit=0, seconds=_MOST_SECONDS) for path in dataset.targets]
            heats = [] if dataset.preload.order else [await self._measured(path) for path in dataset.targets]
        except PreheatError as error:
            seconds = time.monotonic() - began
            return Look(at=time.time(), seconds=seconds, hot_fraction=loaded.hot_fraction, problem=str(error))
        return Look(
            at=time.time(),
            seconds=time.monotonic() - began,
            hot_fraction=_share(heats) if heats else loaded.hot_fraction,
            changes=sum(sum(drift.comparison.counts.values()) for drift in drifts),
            pinned=any(drift.pinned for drift in drifts),
            problem=_problem(heats, drifts),
        )

    async def _measured(self, path: str) -> Warmth:
        await asyncio.sleep(0)  # others' turn between two paths
        return await self._warmth.measure(path, seconds=_MOST_SECONDS)


def _share(heats: list[Warmth]) -> float:
    hot, expected = Tally(), Tally()
    for found in heats:
        hot, expected = hot + found.heat.hot, expected + found.heat.expected
    return hot.objects / expected.objects if expected.objects else 0.0


def _problem(heats: list[Warmth], drifts: list[Drift]) -> str:
    silent = [found.reason for found in heats if not found.complete]
    empty = [drift.path for drift in drifts if not drift.inventory.objects]
    return " ".join([*silent, *(f"Nothing was listed below {path}." for path in empty)])
