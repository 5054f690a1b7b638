"""The bandwidth limit: its average, its change in the middle, and its absence. Time is the loop's, not the wall's."""

from __future__ import annotations

import asyncio

from preheat.worker._bandwidth import BandwidthLimit


async def seconds_for(throttle: BandwidthLimit, sizes: list[int]) -> float:
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.gather(*(throttle.wait(size) for size in sizes))
    await throttle.wait(0)  # returns when everything before it is paid for
    return loop.time() - start


async def test_transfers_average_the_limit():
    assert 0.45 < await seconds_for(BandwidthLimit(lambda: 100_000), [10_000] * 5) < 1.5


async def test_no_limit_no_wait():
    assert await seconds_for(BandwidthLimit(lambda: None), [1 << 40] * 5) < 0.2


async def test_a_raised_limit_is_felt_by_those_who_wait():
    rates = iter([10] * 3)
    assert await seconds_for(BandwidthLimit(lambda: next(rates, 1_000_000)), [1000] * 3) < 5


async def test_time_before_the_first_transfer_buys_nothing():
    throttle = BandwidthLimit(lambda: 100_000)
    await throttle.wait(0)
    await asyncio.sleep(0.3)
    assert 0.25 < await seconds_for(throttle, [10_000] * 3) < 1.5
