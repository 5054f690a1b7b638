"""How many requests an origin is sent: raised step by step, lowered at once. The clock is a number."""

from __future__ import annotations

import pytest

from preheat.worker.fills._concurrency import RequestLimit


def answer(limit: RequestLimit, count: int, *, now: float = 100.0, waited: float = 0.01) -> None:
    for _ in range(count):
        limit.answered(asked_at=now, now=now, waited=waited, under_way=limit.allowed)


def test_a_refusal_halves_what_is_under_way_and_answers_bring_it_back() -> None:
    limit = RequestLimit(64)
    answer(limit, 1000)
    assert limit.allowed == 64

    limit.refused(asked_at=1.0, now=2.0, retry_after=0.0, under_way=32)
    assert limit.allowed == 16

    answer(limit, 16)
    assert limit.allowed == 16
    answer(limit, 2)
    assert limit.allowed == 17
    answer(limit, 3000)
    assert limit.allowed == 64


def test_requests_that_were_under_way_do_not_lower_it_again() -> None:
    limit = RequestLimit(64)
    for _ in range(20):
        limit.refused(asked_at=1.0, now=2.0, retry_after=0.0, under_way=64)
    assert limit.allowed == 32

    limit.answered(asked_at=1.9, now=3.0, waited=0.1, under_way=1)
    assert limit.allowed == 32
    limit.refused(asked_at=2.5, now=3.0, retry_after=0.0, under_way=32)
    assert limit.allowed == 16


def test_one_request_is_always_allowed() -> None:
    limit = RequestLimit(64)
    for second in range(20):
        limit.refused(asked_at=second, now=second + 0.5, retry_after=0.0, under_way=limit.allowed)
    assert limit.allowed == 1


def test_the_origin_says_how_long_it_wants_to_be_left_alone() -> None:
    limit = RequestLimit(64)
    limit.refused(asked_at=1.0, now=2.0, retry_after=7.0, under_way=64)
    assert limit.closed_until == 9.0
    limit.refused(asked_at=1.0, now=3.0, retry_after=2.0, under_way=64)
    assert limit.closed_until == 9.0
    limit.refused(asked_at=1.0, now=3.0, retry_after=8.0, under_way=64)
    assert limit.closed_until == 11.0


def test_without_a_word_the_pauses_grow_until_an_answer_comes() -> None:
    limit = RequestLimit(64)
    pauses = []
    for second in range(10):
        limit.refused(asked_at=10.0 * second, now=10.0 * second, retry_after=0.0, under_way=1)
        pauses.append(limit.closed_until - 10.0 * second)
    assert pauses[:4] == pytest.approx([0.1, 0.2, 0.4, 0.8])
    assert pauses[-1] == 5.0

    answer(limit, 1, now=200.0)
    limit.refused(asked_at=201.0, now=201.0, retry_after=0.0, under_way=1)
    assert limit.closed_until == pytest.approx(201.1)


@pytest.mark.parametrize(("usual", "later", "lowered"), [(0.01, 0.1, False), (0.01, 1.0, True), (0.5, 1.5, False)])
def test_answers_that_get_much_slower_lower_it(usual: float, later: float, lowered: bool) -> None:
    limit = RequestLimit(64)
    answer(limit, 100, waited=usual)

    answer(limit, 10, now=200.0, waited=later)

    assert (limit.allowed < 64) == lowered
    answer(limit, 5000, now=300.0, waited=usual)
    assert limit.allowed == 64


def test_an_origin_that_moved_away_is_slow_only_for_a_while() -> None:
    limit = RequestLimit(64)
    answer(limit, 100, waited=0.01)
    for second in range(20_000):
        answer(limit, 1, now=200.0 + second, waited=1.0)
    assert limit.allowed == 64
