"""How far an open file reads ahead: what it fetches for which reads."""

from __future__ import annotations

import random

import pytest

from preheat.fs._read_ahead import GrowingReadAhead

MIB = 1 << 20
DATA = random.Random(1).randbytes(8 * MIB)


class File:
    def __init__(self, block_size: int = MIB) -> None:
        self.fetched: list[tuple[int, int]] = []
        self.cache = GrowingReadAhead(block_size, self.fetch, len(DATA))

    def fetch(self, start: int, end: int) -> bytes:
        self.fetched.append((start, end))
        return DATA[start:end]

    def read(self, start: int, end: int | None) -> bytes:
        data: bytes = self.cache._fetch(start, end)
        return data


def test_reading_on_fetches_farther_and_farther() -> None:
    file = File()
    for start in range(0, len(DATA), 4096):
        assert file.read(start, start + 4096) == DATA[start : start + 4096]
    sizes = [end - start for start, end in file.fetched]
    assert sizes[0] == 4096 + (32 << 10)
    assert sizes == sorted(sizes[:-1]) + sizes[-1:]
    assert max(sizes) == 4096 + MIB
    assert len(sizes) < 14
    assert sum(sizes) == len(DATA)


def test_reading_here_and_there_fetches_little() -> None:
    file, places = File(), random.Random(2)
    for _ in range(100):
        start = places.randrange(len(DATA))
        assert file.read(start, start + 4096) == DATA[start : start + 4096]
    assert sum(end - start for start, end in file.fetched) <= 100 * (36 << 10)


def test_what_is_held_is_not_fetched_again() -> None:
    file = File()
    file.read(1000, 2000)
    assert file.read(1500, 30_000) == DATA[1500:30_000]
    assert file.read(1000, 1001) == DATA[1000:1001]
    assert file.fetched == [(1000, 2000 + (32 << 10))]
    held = 2000 + (32 << 10)
    assert file.read(held - 10, held + 10) == DATA[held - 10 : held + 10]
    assert file.fetched[1][0] == held


@pytest.mark.parametrize("block_size", [1, 4096, 100 * MIB])
def test_any_reads_return_the_file(block_size: int) -> None:
    file, places = File(block_size), random.Random(block_size)
    for _ in range(300):
        start = places.choice([0, places.randrange(len(DATA) + 10), len(DATA)])
        length = places.choice([0, 1, places.randrange(200_000)])
        assert file.read(start, start + length) == DATA[start : start + length]
    assert file.read(0, None) == DATA
    assert all(start < end <= len(DATA) for start, end in file.fetched)
