"""Pages that are asked for ahead: every key once and in order, whatever was guessed, in fewer round trips."""

from __future__ import annotations

import asyncio
from asyncio import Future
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from itertools import cycle, repeat
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preheat.errors import OriginUnavailable
from preheat.ufs.s3._guess import Guess
from preheat.ufs.s3._listing import Answer, ListingPage
from preheat.ufs.s3._pages import LANES, Pages
from preheat.ufs.s3._tree import Level, first_name, in_pages
from preheat.versions import ObjectInfo


def info(key: str) -> ObjectInfo:
    return ObjectInfo(key=key, size=1, etag="e", last_modified=0.0)


SECOND = repeat(1.0)


class Names:
    """What a server has directly below a prefix, in the order of the names; an answer comes in the loop's next turn.

    Args:
        names: keys, and directories with a slash.
        size: of a page.
        server: what it calls itself.
        seconds: what it needs for each page that is asked for by a key; for the others it is one.
    """

    def __init__(self, names: Sequence[str], *, size: int, server: str = "", seconds: Iterator[float] = SECOND):
        self._names = sorted(names, key=name_of)
        self._order = [name_of(name) for name in self._names]
        self._size = size
        self._server = server
        self._seconds = seconds
        self._pages: dict[bytes, ListingPage] = {}
        self.asked: list[str] = []
        self.open: list[Future[Answer]] = []
        self.most_open = 0

    def ask(self, *, after: str = "", token: str = "") -> Future[Answer]:
        begin = bisect_right(self._order, token or after)
        names = self._names[begin : begin + self._size]
        body = str(len(self.asked)).encode()
        self._pages[body] = ListingPage(
            objects=[info(name) for name in names if not name.endswith("/")],
            prefixes=[name for name in names if name.endswith("/")],
        )
        answer = Answer(
            body=body,
            token=name_of(names[-1]) if begin + self._size < len(self._names) else None,
            server=self._server,
            seconds=next(self._seconds) if after else 1.0,
        )
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: future.done() or future.set_result(answer))
        self.asked.append(token or after)
        self.open = [*(item for item in self.open if not item.done()), future]
        self.most_open = max(self.most_open, len(self.open))
        return future

    def parse(self, answer: Answer) -> ListingPage:
        return self._pages[answer.body]

    def disorder(self, before: str, name: str) -> Exception:
        return OriginUnavailable(f"{name} after {before}")


NUMBERS = [f"a/{number:06d}.bin" for number in range(10_000)]
HOLES = Random(0).sample(NUMBERS, k=6_667)


def name_of(name: str) -> str:
    return name.rstrip("/")


async def read(source: Names, after: str = "") -> list[str]:
    pages = [page async for page in Pages(source, after).read()]
    return [name for page in pages for name in sorted([*(item.key for item in page.objects), *page.prefixes])]


KEYS = st.one_of(
    st.lists(st.integers(0, 300).map("x{:03d}.tar".format), unique=True),
    st.lists(st.integers(0, 300).map(lambda number: f"x{number:03d}{'' if number % 40 else '/'}"), unique=True),
    st.lists(st.integers(0, 16**4).map("{:04x}".format), unique=True),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 99)).map("{0[0]}/{0[1]:02d}".format), unique=True),
    st.lists(st.text("019af", min_size=1, max_size=4), unique=True),
)


@given(keys=KEYS, size=st.integers(1, 9), after=st.text("09ax/", max_size=3), data=st.data())
def test_every_key_comes_once_and_in_order(keys: list[str], size: int, after: str, data: st.DataObject) -> None:
    seconds = cycle(data.draw(st.lists(st.sampled_from([0.1, 1.0, 30.0]), min_size=1, max_size=9)))
    source = Names(keys, size=size, seconds=seconds)

    assert asyncio.run(read(source, after)) == sorted(key for key in keys if key > after)


@pytest.mark.parametrize(
    ("keys", "most"),
    [
        (NUMBERS, 1.1),
        (HOLES, 1.6),  # sixty other samples needed 1.27 to 1.61 times the requests
        ([f"{pow(3, number, 4_294_967_291):08x}" for number in range(10_000)], 1.3),
    ],
    ids=["a row of numbers", "a row with holes", "hashes"],
)
async def test_what_counts_is_listed_in_many_lanes_with_few_requests_more(keys: list[str], most: float) -> None:
    source = Names(keys, size=100)

    assert await read(source) == sorted(keys)
    assert source.most_open > LANES
    assert len(source.asked) < most * len(keys) / 100 + 2 * LANES


async def test_directories_between_what_counts_are_not_lost() -> None:
    names = [f"x{number:04d}{'/' if number % 250 == 77 else ''}" for number in range(2000)]
    source = Names(names, size=50)

    assert await read(source) == names
    assert source.most_open > 2


@pytest.mark.parametrize("server", ["MinIO", "MinIO/2026"])
async def test_a_server_that_searches_is_not_asked_for_guesses(server: str) -> None:
    source = Names(NUMBERS, size=100, server=server)

    assert await read(source) == NUMBERS
    assert len(source.asked) == 100


async def test_guesses_that_are_slow_become_rare() -> None:
    slow = Names(NUMBERS, size=100, seconds=repeat(9.0))

    assert await read(slow) == NUMBERS
    assert slow.most_open == 2
    assert len(slow.asked) < 120


async def test_a_look_asks_once_and_who_leaves_leaves_nothing_open() -> None:
    source = Names(NUMBERS, size=100)
    async with aclosing(Pages(source, "").read()) as pages:
        await anext(pages)
        assert source.asked == [""]
        for _ in range(20):
            await anext(pages)
        assert len(source.open) > 1
    assert all(answer.done() for answer in source.open)


async def test_a_server_that_goes_back_is_an_error_and_not_a_hole() -> None:
    source = Names(["a", "b", "c", "d"], size=2)
    source._order = ["~"] * 4  # it sends the first page again

    with pytest.raises(OriginUnavailable, match="a after b"):
        await read(source)


@pytest.mark.parametrize(
    ("keys", "following"),
    [
        (["a-08.tar", "a-09.tar"], "a-11.tar"),
        (["part-0001-x9", "part-0004-x1"], "part-0006-x1"),
        (["d/1f", "d/2f"], "d/3e"),
        (["d/e8", "d/ff"], None),
        (["image08", "image09.png"], "image11.png"),
        (["a1", "a10", "a2"], None),
        (["x", "y"], None),
    ],
)
def test_guesses(keys: list[str], following: str | None) -> None:
    guess = Guess.of(keys)
    found = guess and guess.next()
    assert (found and str(found)) == following


TREES = st.lists(
    st.lists(st.sampled_from(["a", "a-", "a0", "b", "b.1", "01", "02", "03"]), min_size=1, max_size=4).map("/".join),
    unique=True,
    max_size=40,
).map(lambda keys: [key for key in keys if not any(other.startswith(f"{key}/") for other in keys)])


class Tree:
    """A server that lists like a file system."""

    def __init__(self, keys: Sequence[str], size: int) -> None:
        self._keys = keys
        self._size = size
        self.sources: list[Names] = []

    def open(self, prefix: str, after: str) -> Pages:
        below = {key[: end + 1] if (end := key.find("/", len(prefix))) >= 0 else key for key in self.below(prefix)}
        self.sources.append(Names(sorted(below), size=self._size))
        return Pages(self.sources[-1], after)

    def below(self, prefix: str) -> list[str]:
        return [key for key in self._keys if key.startswith(prefix)]

    async def list(self, prefix: str, after: str = "") -> list[list[str]]:
        pages = in_pages(Level(self.open, prefix, after).read(), self._size)
        return [[item.key for item in page] async for page in pages]


@given(keys=TREES, size=st.integers(1, 5), prefix=st.sampled_from(["", "a/", "a-/a/"]), data=st.data())
def test_a_tree_is_listed_in_the_order_of_the_keys_from_any_key_on(
    keys: list[str], size: int, prefix: str, data: st.DataObject
) -> None:
    after = data.draw(st.sampled_from(["", "a", "a/", "a-", "b.", *keys, *(f"{key}/a-" for key in keys)]))
    tree = Tree(keys, size)

    pages = asyncio.run(tree.list(prefix, after))

    assert [key for page in pages for key in page] == sorted(key for key in tree.below(prefix) if key > after)
    assert all(0 < len(page) <= size for page in pages)


async def test_small_directories_are_asked_for_ahead() -> None:
    tree = Tree([f"{number:02d}/x" for number in range(64)], 1000)
    parts = [len(tree.sources) async for _ in Level(tree.open, "", "").read()]

    ahead = [opened - number for number, opened in enumerate(parts, start=2)]
    assert ahead[:5] == [1, 2, 4, LANES, LANES]
    assert len(tree.sources) == 65


@pytest.mark.parametrize(
    ("after", "first"),
    [("d/a-b", ""), ("d/00012.bin", "d/0001"), ("d/00012", "d/0001"), ("d/ab-c/d", "d/a"), ("e", ""), ("d/", "")],
)
def test_a_directory_is_resumed_close_to_where_it_was_left(after: str, first: str) -> None:
    assert first_name("d/", after) == first
