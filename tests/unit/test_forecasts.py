"""Forecasts: when a job ends at its present rate, and what is said, once, if that is after its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import pytest

from preheat.cli._stat import render_job
from preheat.client import JobReport
from preheat.coordinator._forecaster import Forecaster
from preheat.forecasts import Pace
from preheat.inventories import Inventories
from preheat.jobs import Forecast, Job, JobOptions, JobSpec, JobState, JobType, Progress, Tally
from preheat.reports import ForecastReport, Options
from preheat.settings import COORDINATOR_PORT
from tests.unit.memory_cluster import SETTINGS, Cluster, load
from tests.unit.served_cluster import serve
from tests.unit.test_api_events import events, until

MIB = 1 << 20
START = 1_000_000.0


def tally(objects: int, size: int = MIB) -> Tally:
    return Tally(objects=objects, bytes=objects * size)


def at(done: int, *, listed: int = 1000, listing_done: bool = True, deadline: float | None = None) -> Job:
    work = Progress(listed=tally(listed), done=tally(done), listing_done=listing_done)
    spec = JobSpec(options=JobOptions(deadline=deadline))
    return Job(id="j", spec=spec, submitted_at=START, started_at=START, state=JobState.RUNNING, work=work)


def test_the_rest_takes_as_long_as_its_bytes_take_at_the_rate_of_the_last_minutes():
    pace = Pace(300)
    for second in range(0, 600, 10):  # 1 MiB/s
        assert pace.forecast(at(second // 2), now=START + second) is not None
    slow = pace.forecast(at(300), now=START + 600).finish_at
    assert slow == pytest.approx(START + 600 + 700 * 2, rel=0.01)
    for second in range(600, 960, 10):  # and then 10 MiB in ten seconds
        fast = pace.forecast(at(300 + second - 600), now=START + second).finish_at
    assert fast == pytest.approx(START + 950 + 350, rel=0.01)


def test_a_clock_that_is_set_back_begins_the_rate_anew():
    pace = Pace(300)
    pace.forecast(at(0), now=START)
    pace.forecast(at(100), now=START + 10)
    pace.forecast(at(110), now=START - 3600)
    assert pace.forecast(at(210), now=START - 3590).finish_at == START - 3590 + 79


def test_nothing_is_said_of_a_rate_that_is_too_short():
    pace = Pace(300)
    assert pace.forecast(at(0), now=START) == Forecast()
    assert pace.forecast(at(50), now=START + 5) == Forecast()
    assert pace.forecast(at(100), now=START + 10).finish_at == START + 100


@pytest.mark.parametrize(("deadline", "late"), [(START + 99, True), (START + 101, False), (None, False)])
def test_late_is_what_ends_after_its_deadline(deadline: float | None, late: bool):
    pace = Pace(300)
    pace.forecast(at(0, deadline=deadline), now=START)
    assert pace.forecast(at(100, deadline=deadline), now=START + 10) == Forecast(finish_at=START + 100, late=late)


def test_while_the_listing_goes_on_it_takes_what_the_last_load_listed():
    pace = Pace(300)
    job = at(100, listed=200, listing_done=False, deadline=START + 50)
    pace.forecast(at(0, listed=200, listing_done=False), now=START)
    assert pace.forecast(job, now=START + 10) == Forecast(finish_at=None, late=False)
    assert pace.forecast(job, now=START + 10, expected=tally(1000)) == Forecast(finish_at=START + 100, late=True)
    assert pace.forecast(job, now=START + 10, expected=tally(199)).finish_at is None
    soon = replace(job, spec=JobSpec(options=JobOptions(deadline=START + 15)))
    assert pace.forecast(soon, now=START + 10) == Forecast(finish_at=None, late=True)  # what is listed is too much


def test_a_job_that_does_not_move_has_no_end_and_stays_late():
    pace = Pace(300)
    pace.forecast(at(0), now=START)
    pace.forecast(at(100), now=START + 10)
    job = replace(at(100), forecast=Forecast(finish_at=START + 100, late=True))
    for second in range(10, 400, 5):
        forecast = pace.forecast(job, now=START + second)
    assert forecast == Forecast(finish_at=None, late=True)


def test_a_large_object_counts_while_it_is_fetched():
    pace = Pace(300)
    pace.forecast(at(0, listed=1), now=START)
    assert pace.forecast(at(0, listed=1), now=START + 60, in_flight=MIB // 4).finish_at == START + 240


def test_a_verification_has_its_own_rate_and_is_as_long_as_what_was_loaded():
    pace = Pace(300)
    job = at(1000)
    pace.forecast(job, now=START)
    verifying = replace(job, verification=Progress(listed=tally(10)))
    assert pace.forecast(verifying, now=START + 100) == Forecast()
    verifying = replace(job, verification=Progress(listed=tally(300), done=tally(250)))
    assert pace.forecast(verifying, now=START + 150).finish_at == START + 300


def test_empty_files_are_counted():
    pace = Pace(300)
    job = at(0)
    pace.forecast(replace(job, work=Progress(listed=tally(100, 0), listing_done=True)), now=START)
    job = replace(job, work=Progress(listed=tally(100, 0), done=tally(50, 0), listing_done=True))
    assert pace.forecast(job, now=START + 20).finish_at == START + 40


def test_stat_shows_the_end_and_the_deadline():
    def stat(forecast: ForecastReport | None) -> str:
        moment = datetime(2030, 1, 31, 6, tzinfo=UTC)
        job = JobReport(
            id="j",
            type=JobType.LOAD,
            paths=("s3://b/",),
            options=Options(deadline=moment),
            state=JobState.RUNNING,
            submitted_at=moment,
            forecast=forecast,
        )
        return next((line for line in render_job(job).splitlines() if line.startswith("Forecast")), "")

    late = stat(ForecastReport(finish_at=datetime(2030, 1, 31, 7, tzinfo=UTC), late=True))
    assert late.startswith("Forecast: ends at 2030-01-31")
    assert ", after its deadline at 2030-01-31" in late
    assert "deadline" not in stat(ForecastReport(finish_at=datetime(2030, 1, 31, 5, tzinfo=UTC)))
    assert stat(ForecastReport()) == stat(None) == ""


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    cluster = Cluster(port=COORDINATOR_PORT)
    scheduler = replace(SETTINGS, forecast_seconds=3.0)
    cluster.coordinator = cluster.new_coordinator("coordinator-0", scheduler)
    cluster.fill(60)
    await cluster.start_all()
    yield cluster
    await cluster.stop_all()


async def test_a_job_that_will_be_late_says_so_once(cluster: Cluster):
    async with serve(cluster) as url, events(url) as stream, aclosing(stream), httpx.AsyncClient() as client:
        options = {"batch_size": 1, "bandwidth": 25, "deadline": time.time() + 2.5}
        known = await cluster.coordinator.service.submit(load(**options))
        seen = await until(stream, "job.late", id=known.job.id)
        forecast = seen[-1].data["forecast"]
        assert isinstance(forecast, dict)
        assert forecast["late"]
        assert "preheat_jobs_late 1.0" in (await client.get(f"{url}/metrics")).text
        assert "late" in (await client.get(f"{url}/jobs/{known.job.id}")).text
        async with asyncio.timeout(10):
            rest = await until(stream, "job", id=known.job.id, state="FAILED")
        assert "job.late" not in [event.kind for event in rest]
        assert rest[-1].data["forecast"] is None
        assert "preheat_jobs_late 0.0" in (await client.get(f"{url}/metrics")).text


async def test_a_nightly_load_is_foreseen_by_what_the_last_one_listed(cluster: Cluster):
    service = cluster.coordinator.service
    first = await service.submit(load())
    assert await cluster.ended(first.job.id) is JobState.SUCCEEDED
    inventories = Inventories(cluster.engine)
    following = asyncio.create_task(inventories.follow())
    await inventories.wait_loaded()

    def foreseen(spec: JobSpec) -> float | None:
        forecaster = Forecaster(inventories, cluster.coordinator.cluster, window_seconds=300)
        job = replace(at(0, listed=0, listing_done=False), spec=spec)
        forecaster.updated(job, START)
        half = Progress(listed=Tally(objects=40, bytes=350), done=Tally(objects=30, bytes=260))
        return forecaster.updated(replace(job, work=half), START + 10).forecast.finish_at

    finish = foreseen(load())
    assert finish is not None
    listed = (await service.get(first.job.id)).job.work.listed.bytes
    assert finish == pytest.approx(START + 10 * listed / 260)
    assert foreseen(load("s3://b/")) is None
    assert foreseen(load(file_filter_regex=".*")) is None
    following.cancel()
