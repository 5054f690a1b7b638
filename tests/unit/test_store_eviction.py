"""The score functions of eviction."""

from __future__ import annotations

from preheat.settings import EVICTION_POLICIES, StoreSettings
from preheat.store._eviction import POLICIES, Use, Watermarks, middle


def order(policy: str, uses: dict[str, Use], now: int = 100) -> str:
    """Return the names, the one that goes first first."""
    return "".join(sorted(uses, key=lambda name: POLICIES[policy](uses[name], now)))


def test_every_policy_of_the_settings_exists() -> None:
    assert tuple(POLICIES) == EVICTION_POLICIES


def test_orders() -> None:
    uses = {
        "a": Use(admitted=1, last_read=90, reads=1),
        "b": Use(admitted=10, last_read=80, reads=30),
        "c": Use(admitted=60, last_read=0, reads=0),
        "d": Use(admitted=70, last_read=75, reads=2),
    }
    assert order("fifo", uses) == "abcd"
    assert order("lru", uses) == "cdba"
    assert order("lfu", uses) == "acdb"
    assert order("scan-resistant", uses) == "cadb"


def test_old_fame_fades() -> None:
    for now, first in [(1000, "n"), (100_000, "o")]:
        uses = {
            "o": Use(admitted=0, last_read=1000, reads=100),
            "n": Use(admitted=now - 100, last_read=now - 50, reads=2),
        }
        assert order("lfu", uses, now)[0] == first


def test_a_tick_of_the_future_is_now() -> None:
    for policy in POLICIES.values():
        assert policy(Use(admitted=200, last_read=300, reads=2), 100) > 0


def test_the_middle_is_not_exceeded_by_half() -> None:
    assert middle([]) == 0
    assert middle([4.0, 1.0, 3.0, 2.0]) == 2.0


def test_watermarks_drain_from_the_high_one_to_the_low_one() -> None:
    marks = Watermarks.of(100, StoreSettings(high_watermark=0.9, low_watermark=0.7))
    assert [marks.update(size) for size in (50, 90, 91, 80, 71, 70, 80, 91)] == [
        False, False, True, True, True, False, False, True,
    ]  # fmt: skip
