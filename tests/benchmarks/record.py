"""What was measured, by one run or by several runs of different parts, and the file that keeps it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from tests.benchmarks.comparisons import COMPARISONS, Part, Sample
from tests.benchmarks.goals import Measurement

_PARTS = {comparison.work: comparison.part for comparison in COMPARISONS}


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """When a part was measured, and on how busy a machine."""

    date: str
    command: str
    load_before: float
    load_after: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """All that the results follow from."""

    machine: Mapping[str, Any]
    settings: Mapping[str, Any]
    parts: Mapping[Part, Circumstances]
    samples: Sequence[Sample] = ()
    measurements: Sequence[Measurement] = ()
    checked: Mapping[str, int] = field(default_factory=dict)
    """Objects compared byte by byte with their source, by work."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Why a peer was not measured, by its name."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """Seconds, by the work or the preparation that they were spent on."""
    worker_peak_mib: float = 0.0
    """The most memory that a worker had resident."""

    def check_amounts(self, settings: Mapping[str, Any]) -> None:
        """Raise ValueError if other amounts were measured."""
        if msgspec.to_builtins(self.settings) != msgspec.to_builtins(settings):
            raise ValueError("It is of other amounts.")

    def updated(self, newer: Record) -> Record:
        """Return this record with the parts of a newer one, of the same amounts, in the place of its own."""
        kept = [sample for sample in self.samples if _PARTS.get(sample.work) not in newer.parts]
        checked = {work: count for work, count in self.checked.items() if _PARTS.get(work) not in newer.parts}
        measurements = () if Part.GOALS in newer.parts else self.measurements
        return dataclasses.replace(
            newer,
            parts={**self.parts, **newer.parts},
            samples=[*kept, *newer.samples],
            measurements=[*measurements, *newer.measurements],
            checked={**checked, **newer.checked},
            missing={**(self.missing if Part.LOADS not in newer.parts else {}), **newer.missing},
            spent={**self.spent, **newer.spent},
            worker_peak_mib=max(self.worker_peak_mib, newer.worker_peak_mib),
        )

    @classmethod
    def read(cls, file: Path) -> Record:
        """Return what a file of results says was measured."""
        return msgspec.json.decode(file.read_bytes(), type=cls)
