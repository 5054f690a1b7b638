"""Sizes and durations read and write as people do."""

from __future__ import annotations

import pytest

from preheat.errors import InvalidRequest
from preheat.units import human_duration, human_size, parse_size


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
