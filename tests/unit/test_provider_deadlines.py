"""By when a job must have ended, as people write it."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from airflow_preheat.deadlines import give_up_at, resolve
from airflow_preheat.exceptions import PreheatRequestError

RUN_START = datetime(2026, 11, 21, 1, 30, tzinfo=UTC)
NOW = datetime(2026, 11, 21, 3, 0, tzinfo=UTC)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("deadline", "moment"),
    [
        (timedelta(hours=2), "2026-11-21T05:00:00Z"),
        ("PT2H30M", "2026-11-21T05:30:00Z"),
        (datetime(2026, 11, 21, 6, tzinfo=timezone(timedelta(hours=1))), "2026-11-21T05:00:00Z"),
        ("2026-11-21T06:00:00+01:00", "2026-11-21T05:00:00Z"),
        ("2026-11-21 05:00:00Z", "2026-11-21T05:00:00Z"),
        (str(at("2026-11-21T05:00:00+00:00")), "2026-11-21T05:00:00Z"),
        ("2026-11-22 06:00 Europe/Berlin", "2026-11-22T05:00:00Z"),
        ("06:00 Europe/Berlin", "2026-11-21T05:00:00Z"),
        (" 6:00  Europe/Berlin ", "2026-11-21T05:00:00Z"),
        ("01:30:30 UTC", "2026-11-21T01:30:30Z"),
        ("01:30 UTC", "2026-11-21T01:30:00Z"),
        ("01:29 UTC", "2026-11-22T01:29:00Z"),
        ("20:00 America/Los_Angeles", "2026-11-21T04:00:00Z"),
    ],
)
def test_a_deadline_is_a_moment(deadline, moment):
    assert resolve(deadline, now=NOW, since=RUN_START) == at(moment)


def test_all_tries_of_a_run_have_the_same_time_of_the_day():
    late = at("2026-11-21T07:00:00Z")

    assert resolve("06:00 Europe/Berlin", now=late, since=RUN_START) < late


@pytest.mark.parametrize(
    ("since", "deadline", "moment"),
    [
        ("2026-03-28T23:30:00Z", "06:00 Europe/Berlin", "2026-03-29T04:00:00Z"),  # summer time began at 02:00
        ("2026-03-28T23:30:00Z", "02:30 Europe/Berlin", "2026-03-29T01:30:00Z"),  # which there is not: 03:30
        ("2026-10-24T22:30:00Z", "06:00 Europe/Berlin", "2026-10-25T05:00:00Z"),  # it ended
    ],
)
def test_summer_time_is_known(since, deadline, moment):
    assert resolve(deadline, now=NOW, since=at(since)) == at(moment)


@pytest.mark.parametrize(
    ("deadline", "problem"),
    [
        ("06:00", "has no time zone"),
        ("2026-11-22 06:00", "has no time zone"),
        (datetime(2026, 11, 22), "has no time zone"),  # noqa: DTZ001 - what is refused
        ("06:00 Europe/Berlinn", "'Europe/Berlinn', which is not known"),
        ("soon Europe/Berlin", "is not understood"),
        ("25:00 Europe/Berlin", "is not understood"),
        ("P2X", "is not understood"),
        (7200, "has no time zone"),
    ],
)
def test_a_deadline_that_is_none_is_named_with_what_to_write(deadline, problem):
    with pytest.raises(PreheatRequestError, match="Write 06:00 Europe/Berlin") as caught:
        resolve(deadline, now=NOW, since=RUN_START)

    assert problem in str(caught.value)
    assert str(deadline) in str(caught.value)


@pytest.mark.parametrize(
    ("deadline", "execution_timeout", "wait"),
    [
        (None, None, timedelta(days=7)),
        ("", None, timedelta(days=7)),
        (timedelta(hours=2), None, timedelta(hours=2)),
        (None, timedelta(hours=1), timedelta(hours=1)),
        (timedelta(hours=2), timedelta(hours=1), timedelta(hours=1)),
        ("04:00 UTC", timedelta(hours=2), timedelta(hours=1)),
    ],
)
def test_every_wait_has_an_end(deadline, execution_timeout, wait):
    assert give_up_at(deadline, execution_timeout, now=NOW, since=RUN_START) == NOW + wait
    assert give_up_at(timedelta(hours=9), None, now=NOW, since=None) == NOW + timedelta(hours=9)
