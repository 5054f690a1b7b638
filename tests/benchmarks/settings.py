"""How much is measured beside the peers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from tests.benchmarks.comparisons import Comparison
from tests.benchmarks.data import KIB, MIB, ObjectSet


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured."""

    large: ObjectSet
    small: ObjectSet
    tiny: ObjectSet
    filler: ObjectSet
    """Makes up the number of keys to list."""
    cold: ObjectSet
    """What is read without having been loaded."""
    rounds: int
    seconds: float | None
    """No round but the first begins that may end later; None if all are to be done, however long they take."""
    juicefs: bool
    """Whether to load with ``juicefs warmup`` too, for which all objects must first be written once more."""
    large_loads: int
    """How often the large objects are loaded in each round: that is short, and so is its row the least steady."""
    distant_rounds: int
    round_trip: float
    """Seconds to the distant origin and back."""
    serve_seconds: float
    read_count: int
    """Objects to read with ``cat``."""
    batch_count: int
    """Objects to read by batches."""
    store_rounds: int
    """How often objects are written to a page store, and beside it."""

    @property
    def sets(self) -> tuple[ObjectSet, ...]:
        """All objects below the listed prefix."""
        return (*self.loaded, self.filler)

    @property
    def loaded(self) -> tuple[ObjectSet, ObjectSet, ObjectSet]:
        """The sets that are loaded: the large, the small and the tiny objects."""
        return (self.large, self.small, self.tiny)

    def describe(self) -> dict[str, Any]:
        """Return the settings for the report."""
        return asdict(self)

    def titled(self, comparison: Comparison) -> Comparison:
        """Return a comparison with this run's numbers in the fields of its title."""
        large, small, tiny = self.large, self.small, self.tiny
        title = comparison.title.format(
            large_count=large.count,
            large_size=f"{large.size // MIB} MiB",
            small_count=f"{small.count:,}",
            small_size=f"{small.size // KIB} KiB",
            tiny_count=f"{tiny.count:,}",
            tiny_size=f"{tiny.size // KIB} KiB",
            list_count=f"{sum(objects.count for objects in self.sets):,}",
            read_count=f"{self.read_count:,}",
            cold_size=f"{self.cold.size // MIB} MiB",
            round_trip=f"{self.round_trip * 1e3:g} ms",
        )
        return replace(comparison, title=title)


FULL = Settings(
    large=ObjectSet(name="large", count=4, size=256 * MIB),
    small=ObjectSet(name="small", count=10_000, size=100 * KIB),
    tiny=ObjectSet(name="tiny", count=20_000, size=4 * KIB),
    filler=ObjectSet(name="filler", count=69_996, size=1),
    cold=ObjectSet(name="cold", count=4, size=64 * MIB, root="unloaded/"),
    rounds=4,
    seconds=None,
    juicefs=True,
    large_loads=3,
    distant_rounds=3,
    round_trip=0.03,
    serve_seconds=2.0,
    read_count=2000,
    batch_count=2000,
    store_rounds=9,
)
QUICK = Settings(
    large=ObjectSet(name="large", count=4, size=64 * MIB),
    small=ObjectSet(name="small", count=2000, size=100 * KIB),
    tiny=ObjectSet(name="tiny", count=3000, size=4 * KIB),
    filler=ObjectSet(name="filler", count=4996, size=1),
    cold=ObjectSet(name="cold", count=3, size=32 * MIB, root="unloaded/"),
    rounds=3,
    seconds=70.0,
    juicefs=False,
    large_loads=3,
    distant_rounds=1,
    round_trip=0.03,
    serve_seconds=0.5,
    read_count=500,
    batch_count=1000,
    store_rounds=3,
)
