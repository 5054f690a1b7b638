"""The options of a worker's page store."""

from __future__ import annotations

from pathlib import Path

import pytest

from preheat.cli._store_options import data_dirs
from preheat.errors import InvalidRequest
from preheat.settings import StoreSettings


def test_directories_are_those_of_the_option_else_those_of_the_environment(tmp_path: Path) -> None:
    one, other = tmp_path / "a disk", tmp_path / "b"
    environment = {"PREHEAT_DATA_DIR": f"{one}, {other}"}
    assert data_dirs(None, environment) == (one, other)
    assert data_dirs([other], environment) == (other,)
    assert data_dirs(None, {}) == data_dirs([], {"PREHEAT_DATA_DIR": ""}) == ()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"eviction": "random"}, "eviction='random' is none of fifo, lru, lfu, scan-resistant"),
        ({"low_watermark": 0.96}, "low-watermark=0.96 and high-watermark=0.95"),
        ({"high_watermark": 1.1}, "high-watermark=1.1"),
        ({"low_watermark": 0.0}, "low-watermark=0"),
        ({"segment_size": 0}, "segment-size=0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        StoreSettings(**wrong)
