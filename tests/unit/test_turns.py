"""Who goes first, and who waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from preheat.worker.fills._turns import Turns


@dataclass(eq=False)
class Asker:
    urgent: bool = False


class Place:
    """Stands in line for a turn from the moment it is made."""

    def __init__(self, turns: Turns, *, urgent: bool = False) -> None:
        self.asker = Asker(urgent=urgent)
        self.task = asyncio.create_task(turns.take(self.asker))

    @property
    def goes(self) -> bool:
        return self.task.done()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_reader_passes_the_jobs_in_line() -> None:
    turns = Turns(lambda: 1, reserve=0)
    jobs = [Place(turns) for _ in range(3)]
    await settle()
    reader = Place(turns, urgent=True)
    await settle()
    assert [place.goes for place in (*jobs, reader)] == [True, False, False, False]

    order = []
    for _ in range(3):
        turns.leave()
        await settle()
        order.append([place.goes for place in (*jobs, reader)])
    assert order == [[True, False, False, True], [True, True, False, True], [True] * 4]
    turns.leave()
    assert turns.taken == 0


async def test_a_job_that_a_reader_joins_passes_the_others() -> None:
    turns = Turns(lambda: 1, reserve=0)
    first, second, third = Place(turns), Place(turns), Place(turns)
    await settle()
    third.asker.urgent = True
    turns.leave()
    await settle()
    assert (first.goes, second.goes, third.goes) == (True, False, True)
    second.task.cancel()
    await settle()


async def test_readers_have_places_of_their_own_but_no_more_than_jobs() -> None:
    limit = 4
    turns = Turns(lambda: limit, reserve=2)
    jobs = [Place(turns) for _ in range(5)]
    readers = [Place(turns, urgent=True) for _ in range(3)]
    await settle()
    assert [place.goes for place in jobs] == [True] * 4 + [False]
    assert [place.goes for place in readers] == [True, True, False]

    limit = 1
    for _ in range(5):
        turns.leave()
    await settle()
    assert (readers[2].goes, jobs[4].goes, turns.taken) == (True, False, 2)
    turns.leave()
    turns.leave()
    await settle()
    assert jobs[4].goes


async def test_who_leaves_the_line_takes_no_place_with_it() -> None:
    turns = Turns(lambda: 1, reserve=0)
    first, second, third = Place(turns), Place(turns), Place(turns)
    await settle()
    second.task.cancel()
    await settle()
    turns.leave()
    third.task.cancel()  # in the moment in which it has its turn
    await settle()
    assert turns.taken == 0
    assert first.goes


async def test_nobody_goes_while_it_is_closed() -> None:
    loop = asyncio.get_running_loop()
    closed_until = loop.time() + 0.05
    turns = Turns(lambda: 2, reserve=1, closed_until=lambda: closed_until)
    places = [Place(turns), Place(turns, urgent=True)]
    await settle()
    assert not any(place.goes for place in places)
    closed_until += 0.05  # longer, after the wait began

    async with asyncio.timeout(5):
        await asyncio.gather(*(place.task for place in places))

    assert loop.time() >= closed_until
