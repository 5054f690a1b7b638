"""What the provider's pages show, without a page, and where they are."""

from __future__ import annotations

import asyncio
import json
import socket
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_preheat.exceptions import PreheatRequestError, PreheatUnavailableError
from airflow_preheat.plugin import PreheatPlugin, _views
from airflow_preheat.ui import _cache
from airflow_preheat.ui._rows import DatasetRow, JobRow, dataset_rows, duration, percent, web_address
from airflow_preheat.ui._shared import Shared

CONTRACT_JOB = json.loads((Path(__file__).parents[1] / "contract/job.json").read_text())
STARTED = datetime(2026, 11, 21, 2, tzinfo=UTC)


def a_job(**fields: Any) -> dict[str, Any]:
    running = {
        "state": "RUNNING",
        "startedAt": STARTED.isoformat(),
        "finishedAt": None,
        "listed": {"files": 100, "bytes": 1000},
        "loaded": {"files": 20, "bytes": 200},
        "skipped": {"files": 5, "bytes": 50},
        "remaining": {"files": 75, "bytes": 750},
        "verified": None,
    }
    return deepcopy(CONTRACT_JOB) | running | fields


def row(**fields: Any) -> JobRow:
    return JobRow.of(a_job(**fields), STARTED.replace(minute=1))


def test_the_time_left_follows_from_the_rate_once_all_is_listed():
    assert (row().share, row().left, row().elapsed) == (0.25, "3 min 0 s", "1 min 0 s")
    assert row(remaining={"files": 0, "bytes": 0}).left == ""
    assert row(listingDone=False).left == ""
    assert row(startedAt=None).left == ""
    assert row(remaining={"files": 100, "bytes": 1000}).left == ""


def test_a_forecast_of_the_coordinator_counts_more_than_the_rate():
    forecast = {"finishAt": "2026-11-21T03:01:05Z", "late": True}

    assert (row(forecast=forecast).left, row(forecast=forecast).late) == ("1 h 0 min", True)
    assert row(forecast={"finishAt": None, "late": False}).left == "3 min 0 s"


def test_the_bar_of_a_verifying_job_is_what_is_verified():
    nothing = {"files": 0, "bytes": 0}

    assert row(state="VERIFYING", remaining=nothing, verified={"files": 10, "bytes": 100}).share == 0.1
    assert row(remaining=nothing).share == 1.0
    assert row(listed=nothing).share == 0.0
    assert row(listed=nothing, state="SUCCEEDED").share == 1.0


def test_an_ended_job_took_what_it_took():
    ended = row(state="SUCCEEDED", finishedAt="2026-11-21T02:00:30Z")

    assert (ended.ended, ended.elapsed, ended.left) == (True, "30 s", "")


def test_a_receipt_is_told_in_a_line_and_garbage_is_not():
    assert row().receipt == "verified 1,797 of 1,797 files, 197 KiB, at 2026-11-21 02:00:02 UTC"
    for receipt in (None, "", "a.b.c", "a.e30.c", "a.W10.c", "a.\u2713.c", 7):
        assert row(receipt=receipt).receipt == ""


def test_datasets_are_those_that_are_kept_warm_and_then_those_that_loads_have_listed():
    inventory = {"path": "s3://b/x/", "version": "sha256:1", "listed": {"files": 2, "bytes": 9}, "pinned": True}
    older = inventory | {"version": "sha256:0", "pinned": False}
    conditions = [
        {"type": "WorkersReady", "status": True, "message": ""},
        {"type": "Loaded", "status": False, "message": "It is being loaded."},
        {"type": "Failing", "status": True, "message": "The last load failed."},
        {"type": "Drifted", "status": True, "message": ""},
        {"type": "CopiesLost", "status": False, "message": "All are there."},
    ]
    status = {"phase": "DisLoading", "version": "sha256:2", "hotFraction": 0.5, "conditions": conditions}
    kept = {"name": "images", "path": "s3://b/images/", "status": status | {"listed": {"files": 3, "bytes": 4}}}
    new = {"name": "new", "path": "s3://b/new/"}
    warmths = {"s3://b/x/": {"hotFraction": 0.25, "reason": ""}, "s3://b/y/": PreheatUnavailableError("no answer")}

    rows = dataset_rows(
        [kept, new], [inventory, inventory | {"path": "s3://b/y/"}, older, inventory | {"path": "s3://b/z/"}], warmths
    )

    assert rows[0] == DatasetRow(
        name="images",
        path="s3://b/images/",
        version="sha256:2",
        files=3,
        bytes=4,
        phase="DisLoading",
        hot=0.5,
        note="The last load failed. Drifted",
    )
    assert rows[1] == DatasetRow(name="new", path="s3://b/new/")
    assert rows[2] == DatasetRow(path="s3://b/x/", version="sha256:1", files=2, bytes=9, pinned=True, hot=0.25)
    assert [(row.path, row.hot, row.note) for row in rows[3:]] == [
        ("s3://b/y/", None, "no answer"),
        ("s3://b/z/", None, "not counted: only the last ones are"),
    ]


def test_what_is_missing_shows():
    assert [percent(share) for share in (None, 0.0, 0.9999, 1.0)] == ["–", "0.0 %", "99.9 %", "100.0 %"]


def test_durations_have_two_units():
    assert [duration(seconds) for seconds in (-1, 59.6, 3599, 7500, 180000)] == [
        "0 s",
        "1 min 0 s",
        "59 min 59 s",
        "2 h 5 min",
        "2 d 2 h",
    ]


def test_only_web_addresses_become_links():
    links = ["https://cache/jobs/1", "http://cache/1", "javascript:alert(1)", " http://x", "data:text/html,x", None]

    assert [web_address(link) for link in links] == [*links[:2], "", "", "", ""]


async def test_a_coordinator_that_never_answers_is_given_up(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:  # its kernel accepts, and nobody reads
        monkeypatch.setenv("AIRFLOW_CONN_SILENT", f"preheat://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(_cache, "ANSWER_SECONDS", 0.1)

        with pytest.raises(PreheatUnavailableError, match="connections test"):
            await _cache.ask("silent", _cache.CacheHook.overview)


async def test_an_alluxio_is_told_from_a_cache_of_ours(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_ALLUXIO", "preheat://127.0.0.1:1?dialect=alluxio-3.6")

    for question in (_cache.CacheHook.overview, _cache.CacheHook.kept_datasets):
        with pytest.raises(PreheatRequestError, match="leads to an Alluxio"):
            await _cache.ask("alluxio", question)


@pytest.mark.parametrize(
    ("base_url", "root"), [("", ""), ("http://af:8080", ""), ("https://x/team/airflow/", "/team/airflow")]
)
def test_the_pages_are_where_airflow_is_served(base_url: str, root: str):
    caches, tab = _views(base_url)

    assert caches["href"] == f"{root}/preheat/caches"
    assert tab["href"] == f"{root}/preheat/dags/{{DAG_ID}}/runs/{{RUN_ID}}/tasks/{{TASK_ID}}/{{MAP_INDEX}}"
    assert caches["icon"] == tab["icon"] == f"{root}/preheat/static/icon.svg"


def test_every_page_asks_who_it_is():
    from airflow.api_fastapi.core_api.security import get_user
    from fastapi.dependencies.models import Dependant
    from fastapi.routing import APIRoute

    from airflow_preheat.ui._app import create_app

    def asked(dependant: Dependant) -> set[object]:
        return {dependant.call}.union(*map(asked, dependant.dependencies))

    routes = [route for route in create_app().routes if isinstance(route, APIRoute)]

    assert len(routes) == 6
    assert [route.path for route in routes if get_user not in asked(route.dependant)] == []


def test_airflow_takes_the_plugins_pages():
    from airflow.api_fastapi.core_api.datamodels.plugins import ExternalViewResponse, FastAPIAppResponse

    views = [ExternalViewResponse.model_validate(view) for view in PreheatPlugin.external_views]
    assert [(view.name, view.destination) for view in views] == [("Caches", "nav"), ("Preheat", "task_instance")]
    (app,) = PreheatPlugin.fastapi_apps
    assert FastAPIAppResponse.model_validate(app | {"app": "LazyApp"}).url_prefix == "/preheat"


async def test_an_answer_is_shared_until_it_is_too_old_and_a_failure_is_too():
    now, asked, gate = [0.0], [], asyncio.Event()
    shared = Shared(lambda: now[0])

    async def ask() -> int:
        asked.append(now[0])
        await gate.wait()
        if len(asked) == 2:
            raise PreheatUnavailableError("away")
        return len(asked)

    gone, stays = (asyncio.ensure_future(shared.get("job", 1.0, ask)) for _ in range(2))
    while not asked:
        await asyncio.sleep(0)
    gone.cancel()
    now[0] = 5.0
    gate.set()
    assert await stays == 1
    for at in (5.0, 5.9):
        now[0] = at
        with pytest.raises(PreheatUnavailableError):
            await shared.get("job", 1.0, ask)
    assert await shared.get("other", 1.0, ask) == 3
    now[0] = 6.0
    assert await shared.get("job", 1.0, ask) == 4
    assert asked == [0.0, 5.0, 5.9, 6.0]
