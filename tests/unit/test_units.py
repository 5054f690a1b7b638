"""Sizes and durations read and write as people do."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from preheat.errors import InvalidRequest
from preheat.units import human_duration, human_size, parse_deadline, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("64k", 65536), ("50GiB", 50 << 30), ("100MB", 100_000_000), ("1.5 KiB", 1536),
     ("100MiB/s", 100 << 20), (7, 7)],
)  # fmt: skip
def test_parse_size(text: str | int, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "fast", "-1", "1 XB", "1e3"])
def test_what_is_no_size_names_the_field(text: str):
    with pytest.raises(InvalidRequest, match="bandwidth="):
        parse_size(text, field="bandwidth")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (200 << 20, "200 MiB"), (50 << 30, "50.00 GiB"),
     (1 << 60, "1024 PiB")],
)  # fmt: skip
def test_human_size(size: int, text: str):
    assert human_size(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.42 s"), (42, "42 s"), (187, "3 m 07 s"), (7500, "2 h 05 m")])
def test_human_duration(seconds: float, text: str):
    assert human_duration(seconds) == text


BERLIN = ZoneInfo("Europe/Berlin")
BEFORE_SUMMER_TIME = datetime(2026, 3, 28, 22, 30, tzinfo=BERLIN)
"""The clocks go from 2:00 to 3:00 in the night after."""


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2h", "2026-03-28T23:30:00+00:00"),
        ("90m", "2026-03-28T23:00:00+00:00"),
        ("1.5d", "2026-03-30T09:30:00+00:00"),
        ("23:00", "2026-03-28T22:00:00+00:00"),
        ("06:00", "2026-03-29T04:00:00+00:00"),
        ("6:00", "2026-03-29T04:00:00+00:00"),
        ("22:30", "2026-03-29T20:30:00+00:00"),
        ("2026-04-01T06:00:00-05:00", "2026-04-01T11:00:00+00:00"),
        ("2026-04-01T06:00:00Z", "2026-04-01T06:00:00+00:00"),
    ],
)
def test_parse_deadline(text: str, moment: str):
    assert parse_deadline(text, now=BEFORE_SUMMER_TIME, zone=BERLIN).isoformat() == moment


def test_a_time_of_day_is_this_machines_by_default():
    now = datetime.now().astimezone()
    deadline = parse_deadline("06:00", now=now)
    assert now < deadline
    assert deadline.astimezone().strftime("%H:%M") == "06:00"


@pytest.mark.parametrize("text", ["", "soon", "2 weeks", "-1h", "24:00", "6", "2026-04-01T06:00:00", "2026-04-01"])
def test_what_is_no_deadline_is_explained(text: str):
    with pytest.raises(InvalidRequest, match="deadline="):
        parse_deadline(text, now=BEFORE_SUMMER_TIME, zone=BERLIN)
