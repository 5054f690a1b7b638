"""What the progress bar shows of a job."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from preheat.cli._outcome import summary
from preheat.cli._progress import line_of
from preheat.client import JobReport

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "job.json").read_text())
RUNNING = {
    "state": "RUNNING",
    "finishedAt": None,
    "listed": {"files": 10, "bytes": 1000},
    "loaded": {"files": 3, "bytes": 300},
    "skipped": {"files": 1, "bytes": 100},
    "failed": {"files": 0, "bytes": 0},
    "inFlight": 250,
}


def job(**changes: Any) -> JobReport:
    return msgspec.convert(CONTRACT | RUNNING | changes, type=JobReport)


def test_bytes_in_flight_move_the_bar():
    line = line_of(job())
    assert (line.completed, line.total, line.files, line.failed) == (650, 1000, "4/10 files", "")


def test_a_batch_that_begins_again_does_not_move_it_back():
    before = line_of(job(inFlight=600))
    after = line_of(job(inFlight=0), after=before)
    assert (before.completed, after.completed) == (1000, 1000)
    assert line_of(job(inFlight=0)).completed == 400


def test_more_than_was_listed_is_not_shown():
    assert line_of(job(inFlight=5000)).completed == 1000


@pytest.mark.parametrize(
    ("changes", "files"),
    [
        ({"listingDone": False}, "4/10+ files"),
        ({"state": "WAITING", "queuePosition": 3}, "waiting, number 3 in line"),
        ({"state": "VERIFYING", "verified": {"files": 7, "bytes": 700}}, "7/10 verified"),
    ],
)
def test_what_the_job_is_at(changes: dict[str, Any], files: str):
    assert line_of(job(**changes)).files == files


def test_without_the_end_of_the_listing_there_is_no_total():
    assert line_of(job(listingDone=False)).total is None


def test_in_the_end_the_rate_is_that_of_the_whole_job():
    assert line_of(job()).rate is None
    ended = line_of(job(state="FAILED", finishedAt=CONTRACT["finishedAt"], failed={"files": 2, "bytes": 0}))
    assert ended.rate == pytest.approx(300 / 2.46)
    assert ended.failed == "2 failed"


def test_each_type_of_job_says_what_it_did():
    done = {"state": "SUCCEEDED", "skipped": {"files": 0, "bytes": 0}}
    assert "3 files, 300 B freed, 0 failed" in summary(job(type="free", **done))
    assert "3 files, 300 B hot (0 of them before)" in summary(job(**done))
    assert "4 files, 400 B copied (1 of them before)" in summary(job(type="copy", state="SUCCEEDED"))
