"""``preheat report jobservice``: what is picked, in which order, and the layout of Alluxio's report."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from preheat.cli._report import compose, render
from preheat.client import JobReport, WorkerReport

CONTRACT = json.loads((Path(__file__).parents[1] / "contract" / "job.json").read_text())
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def job(name: str, state: str, *, started: int, ended: int | None = None) -> JobReport:
    """Return the contract's job with times in minutes after noon."""
    changes = {
        "id": name,
        "state": state,
        "startedAt": (NOON + timedelta(minutes=started)).isoformat(),
        "finishedAt": (NOON + timedelta(minutes=ended)).isoformat() if ended is not None else None,
    }
    return msgspec.convert(CONTRACT | changes, type=JobReport, strict=False)


WORKERS = [
    WorkerReport(
        id="worker-0", url="http://w0", live=True, capacity=1, active_batches=2, pool_size=2, unfinished_batches=5,
        load_average=(1.08, 0.64, 0.27),
    ),
    WorkerReport(id="worker-1", url="http://w1", live=False, capacity=1),
]  # fmt: skip


def test_what_it_shows_and_in_which_order():
    jobs = [
        job("old-run", "RUNNING", started=1),
        job("new-run", "RUNNING", started=20),
        job("failed", "FAILED", started=2, ended=30),
        *(job(f"done-{n}", "SUCCEEDED", started=0, ended=n) for n in range(12)),
    ]
    report = compose(jobs, WORKERS, now=NOON)
    assert [worker.id for worker in report.workers] == ["worker-0"]
    assert report.statuses == {
        "WAITING": 0, "RUNNING": 2, "VERIFYING": 0, "STOPPED": 0, "SUCCEEDED": 12, "FAILED": 1,
    }  # fmt: skip
    assert [each.id for each in report.recent][:4] == ["failed", "new-run", "done-11", "done-10"]
    assert len(report.recent) == 10
    assert [each.id for each in report.failed] == ["failed"]
    assert [each.id for each in report.longest] == ["old-run", "new-run"]


def test_the_layout_is_alluxios():
    text = render(compose([job("id-1", "FAILED", started=0, ended=2)], WORKERS, now=NOON)).splitlines()
    assert text[0] == (
        "Worker: worker-0                Task Pool Size: 2      Unfinished Tasks: 5      Active Tasks: 2      "
        "Load Avg: 1.08, 0.64, 0.27"
    )
    assert "Status: FAILED    Count: 1" in text
    title = text.index("10 Most Recently Failed Jobs:")
    assert text[title + 1] == (
        "Timestamp: 11-21-2026 12:02:00:000       Id: id-1       Name: Load                Status: FAILED"
    )


def test_a_cluster_without_workers_says_so():
    assert render(compose([], [], now=NOON)).startswith("No worker is live.")


def test_a_draining_worker_and_zones_are_told_at_the_end_of_the_line():
    workers = [
        WorkerReport(id="a", url="http://a", live=True, capacity=1, load_average=(0.1, 0.2, 0.3), zone="rack-1"),
        WorkerReport(id="b", url="http://b", live=False, leaving=True, capacity=1, unfinished_batches=3),
        WorkerReport(id="c", url="http://c", live=False, leaving=True, capacity=1),
    ]
    lines = render(compose([], workers, now=NOON)).splitlines()
    assert lines[0].endswith("Load Avg: 0.10, 0.20, 0.30     Zone: rack-1")
    assert lines[1].endswith("State: draining")
    assert lines[2].endswith("State: drained")
