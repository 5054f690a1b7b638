"""The provider's pages in Airflow's UI: who may see them, and what they show of a coordinator."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from requests import Response

from tests.integration.airflow_api import AirflowApi, airflow_api
from tests.integration.provider_coordinator import CONTRACT_JOB, Coordinator, running

TOKEN = "ph_only-the-server-may-know-this"
HOSTILE = 's3://b/<script>alert(1)</script>/" onmouseover="alert(2)'
CACHE_PARTS = (
    "/preheat/connections/preheat_default",
    *(f"/preheat/connections/preheat_default/{part}" for part in ("overview", "datasets")),
)
TASK = "/preheat/dags/d/runs/manual__2026-11-21T02:00:00+00:00/tasks/warm"
TASK_PARTS = (f"{TASK}/-1", f"{TASK}/-1/job")


@pytest.fixture(scope="module")
def coordinator() -> Iterator[Coordinator]:
    with running(Coordinator()) as coordinator:
        yield coordinator


@pytest.fixture(scope="module")
def airflow(coordinator: Coordinator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AirflowApi]:
    host = coordinator.url.removeprefix("http://")
    with socket.create_server(("127.0.0.1", 0)) as closed:  # bound, so nobody else takes the port
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
    variables = {
        "AIRFLOW_CONN_PREHEAT_DEFAULT": f"preheat://:{TOKEN}@{host}",
        **{f"AIRFLOW_CONN_{name}": f"preheat://:{TOKEN}@{host}" for name in ("JOBS", "DATASETS", "HOSTILE", "SHARED")},
        "AIRFLOW_CONN_DOWN": f"preheat://:{TOKEN}@{nowhere}?dialect=preheat",
        "AIRFLOW_CONN_OTHER": f"http://:{TOKEN}@{host}",
    }
    with airflow_api(tmp_path_factory.mktemp("airflow"), variables) as api:
        api.insert(
            "connection",
            conn_id="of_the_database",
            conn_type="preheat",
            host="127.0.0.1",
            port=int(host.rpartition(":")[2]),
            is_encrypted=0,
            is_extra_encrypted=0,
        )
        yield api


def add_job(coordinator: Coordinator, job_id: str, **fields: Any) -> None:
    job = CONTRACT_JOB | {"id": job_id, "url": f"{coordinator.url}/jobs/{job_id}", "key": None} | fields
    with coordinator.changed:
        coordinator.jobs[job_id] = job


def add_task(airflow: AirflowApi, run: int, **xcoms: Any) -> str:
    """Let a task have run as a task of ours does; return the address of its tab."""
    task = {"dag_id": "d", "run_id": f"run/{run}", "task_id": "warm", "map_index": -1}
    for key, value in xcoms.items():
        airflow.insert(
            "xcom", **task, dag_run_id=run, key=key, value=json.dumps(json.dumps(value)), timestamp="2026-11-21"
        )
    return f"/preheat/dags/d/runs/run%2F{run}/tasks/warm/%7BMAP_INDEX%7D"


def render_fields(airflow: AirflowApi, run: int, **fields: str) -> None:
    task = {"dag_id": "d", "run_id": f"run/{run}", "task_id": "warm", "map_index": -1}
    airflow.insert("rendered_task_instance_fields", **task, rendered_fields=json.dumps(fields))


def text(answer: Response) -> str:
    """Return what a reader sees of a page, in one line."""
    assert answer.status_code == 200, answer.text
    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_data = seen.append  # type: ignore[method-assign]
    parser.feed(answer.text)
    return " ".join(" ".join(seen).split())


def tags(answer: Response) -> set[tuple[str, str]]:
    """Return the tags of a page with the names of their attributes."""
    found: set[tuple[str, str]] = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.update((tag, name) for name, _ in attributes or [("", "")])  # type: ignore[method-assign]
    parser.feed(answer.text)
    return found


@pytest.mark.parametrize("path", ["/preheat/caches", *CACHE_PARTS, *TASK_PARTS])
def test_who_is_not_logged_in_sees_nothing_and_is_led_to_the_login(airflow: AirflowApi, path: str) -> None:
    answer = airflow.get(path)

    assert answer.status_code == 401
    assert re.search(r'href="/auth/login\?next=http[^"]*"', answer.text)
    assert airflow.get(path, headers={"Authorization": "Bearer forged"}).status_code == 403


@pytest.mark.parametrize("user", ["ulf", "vic"])
@pytest.mark.parametrize("path", ["/preheat/caches", *CACHE_PARTS])
def test_a_cache_is_for_those_who_may_read_its_connection(airflow: AirflowApi, path: str, user: str) -> None:
    assert airflow.get(path, user).status_code == 403


@pytest.mark.parametrize("path", [*CACHE_PARTS, *TASK_PARTS])
def test_who_may_gets_pages_that_run_only_our_own_script(airflow: AirflowApi, path: str) -> None:
    answer = airflow.get(path, "olga")

    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["Cache-Control"] == "no-store"
    assert not re.search(r"""(src|href)=["']?(https?:)?//(?!127\.0\.0\.1)""", answer.text)


def test_a_task_is_for_those_who_may_read_its_dag(airflow: AirflowApi) -> None:
    assert [airflow.get(path, "vic").status_code for path in TASK_PARTS] == [200, 200]


def test_the_connections_to_choose_from(airflow: AirflowApi) -> None:
    first = airflow.get("/preheat/caches", "olga")
    other = airflow.get("/preheat/caches?conn_id=of/the%20other", "olga")

    assert first.headers["Location"] == "/preheat/connections/preheat_default"
    assert other.headers["Location"] == "/preheat/connections/of%2Fthe%20other"
    assert re.findall(r"<option( selected)?>(\w+)", airflow.get(CACHE_PARTS[0], "olga").text) == [
        (" selected", "preheat_default"),
        ("", "of_the_database"),
    ]


def test_jobs_and_workers_are_shown_with_their_progress(airflow: AirflowApi, coordinator: Coordinator) -> None:
    half = {"files": 900, "bytes": 100632}
    rest = {"files": 897, "bytes": 100632}
    add_job(
        coordinator,
        "running",
        state="RUNNING",
        paths=["s3://datasets/shards/"],
        loaded=half,
        skipped={"files": 0, "bytes": 0},
        remaining=rest,
        hotFraction=0.5008,
        forecast={"finishAt": None, "late": True},
    )
    add_job(
        coordinator, "broken", state="FAILED", reason="3 files failed. Look at them.", failed={"files": 3, "bytes": 9}
    )

    answer = airflow.get("/preheat/connections/jobs/overview", "olga")

    seen = text(answer)
    assert "s3://datasets/shards/ RUNNING late 900 of 1,797 98.3 KiB of 197 KiB 0 50.0 %" in seen
    assert "3 files failed. Look at them." in seen
    assert 'value="0.5000" aria-label="progress of running"' in answer.text
    assert f'href="{coordinator.url}/jobs/running"' in answer.text
    assert "Workers live 1 of 2 Cached 20 GiB of 50 GiB" in seen
    assert "worker-0 live 20 GiB 50 GiB 1,797 1 worker-1 lost" in seen
    assert answer.headers["X-Preheat-Refresh"] == "2"


def test_a_connection_of_airflows_database_leads_to_its_cache(airflow: AirflowApi) -> None:
    assert "worker-0 live" in text(airflow.get("/preheat/connections/of_the_database/overview", "olga"))


def test_datasets_are_shown_with_their_hot_share(airflow: AirflowApi, coordinator: Coordinator) -> None:
    version = coordinator.warm("s3://datasets/digits/", 7, hot=98, pinned=True)
    coordinator.warm("s3://datasets/shards/", 8)
    status = {"phase": "DisLoading", "version": None, "hotFraction": 0.25, "listed": {"files": 4, "bytes": 5}}
    kept = {"datasets": [{"name": "coco", "path": "s3://datasets/coco/", "status": status}]}
    coordinator.refuse(200, of="/v1/datasets", body=json.dumps(kept).encode())

    seen = text(airflow.get("/preheat/connections/datasets/datasets", "olga"))

    assert f"s3://datasets/digits/ pinned 98.0 % 100 1000 B {version[:19]}" in seen
    assert "s3://datasets/shards/ 100.0 %" in seen
    assert "coco s3://datasets/coco/ loading 25.0 % 4 5 B –" in seen


def test_many_who_look_ask_the_coordinator_once_and_each_must_be_allowed_to(
    airflow: AirflowApi, coordinator: Coordinator
) -> None:
    path, asked = "/preheat/connections/shared/datasets", len(coordinator.sent("GET", "/v1/inventories"))

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: airflow.get(path, "olga"), range(4)))

    assert len({text(answer) for answer in answers}) == 1
    assert len(coordinator.sent("GET", "/v1/inventories")) == asked + 1
    assert airflow.get(path, "vic").status_code == 403


def test_what_a_coordinator_says_is_shown_as_text_and_never_run(airflow: AirflowApi, coordinator: Coordinator) -> None:
    failure = {"path": HOSTILE, "size": 1, "code": "x", "message": "<img src=x onerror=alert(3)>"}
    add_job(
        coordinator, "hostile", paths=[HOSTILE], url="javascript:alert(4)", failures=[failure], reason="<b onload=x>"
    )
    coordinator.warm(HOSTILE, 9)
    render_fields(airflow, 1, preheat_conn_id="preheat_default")
    tab = add_task(airflow, 1, job_id="hostile", job_url="javascript:alert(4)")

    for path in (*(part.replace("preheat_default", "hostile") for part in CACHE_PARTS), f"{tab}/job"):
        answer = airflow.get(path, "olga")
        assert "javascript:" not in answer.text
        assert not {("script", ""), ("img", "src"), ("b", "onload")} & tags(answer)
        assert not any(name.startswith("on") for _, name in tags(answer))
    assert HOSTILE in text(answer)
    page = airflow.get(f"/preheat/connections/{'%3Cscript%3E'}", "olga")
    assert ("script", "") not in tags(page)


def test_a_task_shows_its_own_job_with_its_failures(airflow: AirflowApi, coordinator: Coordinator) -> None:
    failure = {"path": "s3://datasets/x/7", "size": 1, "code": "object_not_found", "message": "It is gone."}
    add_job(
        coordinator,
        "mine",
        state="FAILED",
        failed={"files": 1, "bytes": 1},
        failures=[failure],
        reason="1 file failed.",
    )
    render_fields(airflow, 2, preheat_conn_id="preheat_default", path="s3://datasets/x/")
    tab = add_task(airflow, 2, job_id="mine", job_url="http://cache/jobs/mine")

    page, job = airflow.get(tab, "vic"), airflow.get(f"{tab}/job", "vic")

    assert 'data-source="%7BMAP_INDEX%7D/job"' in page.text
    assert "s3://datasets/x/7 object_not_found It is gone." in text(job)
    assert "1 file failed." in text(job)
    assert f'<a href="{coordinator.url}/jobs/mine"' in job.text
    assert "X-Preheat-Refresh" not in job.headers


def test_a_task_with_many_jobs_shows_all_of_them(airflow: AirflowApi, coordinator: Coordinator) -> None:
    for number in range(3):
        add_job(
            coordinator,
            f"many-{number}",
            paths=[f"s3://datasets/{number}/"],
            state="RUNNING" if number else "SUCCEEDED",
        )
    add_job(coordinator, "by-index", paths=[], index="s3://datasets/order.txt")
    render_fields(airflow, 6, preheat_conn_id="preheat_default")
    jobs = {"a": "many-0", "b": "many-1", "c": "many-2", "d": "gone", "e": "by-index", "f": 7, "g": ["x"]}

    answer = airflow.get(f"{add_task(airflow, 6, job_ids=jobs)}/job", "vic")

    seen = text(answer)
    assert all(f"s3://datasets/{number}/" in seen for number in range(3))
    assert "s3://datasets/order.txt" in seen
    assert (seen.startswith("4 jobs preheat_default"), answer.headers["X-Preheat-Refresh"]) == (True, "2")


def test_a_job_that_the_coordinator_has_forgotten_is_named_so(airflow: AirflowApi) -> None:
    render_fields(airflow, 7, preheat_conn_id="preheat_default")
    tab = add_task(airflow, 7, job_id="gone", job_url="http://cache/jobs/gone")

    assert "The coordinator does not know this job any more" in text(airflow.get(f"{tab}/job", "vic"))


def test_a_task_without_a_job_of_ours_says_so(airflow: AirflowApi) -> None:
    render_fields(airflow, 3, job_flow="j-1")
    of_another_provider = add_task(airflow, 3, job_id="j-1", job_url="http://emr/j-1")

    for tab in (of_another_provider, add_task(airflow, 4)):
        assert "has submitted no Preheat job, or not yet" in text(airflow.get(f"{tab}/job", "vic"))


def test_a_run_whose_connection_airflow_has_forgotten_still_has_its_link(airflow: AirflowApi) -> None:
    tab = add_task(airflow, 5, job_id="old", job_url="http://cache/jobs/old")

    assert '<a href="http://cache/jobs/old"' in airflow.get(f"{tab}/job", "vic").text


@pytest.mark.parametrize(
    ("connection", "said"),
    [
        ("down", "No Preheat coordinator answers at"),
        ("other", "The Airflow connection 'other' is of the type 'http' and not 'preheat'."),
        ("missing", "There is no Airflow connection 'missing'. Add it under Admin, Connections"),
    ],
)
def test_a_cache_that_cannot_be_asked_says_what_to_do(
    airflow: AirflowApi, coordinator: Coordinator, connection: str, said: str
) -> None:
    asked = len(coordinator.received)

    for part in ("overview", "datasets"):
        answer = airflow.get(f"/preheat/connections/{connection}/{part}", "olga")
        assert said in text(answer)
        assert answer.headers["X-Preheat-Refresh"] == "10"
    assert len(coordinator.received) == asked


def test_no_page_has_the_token(airflow: AirflowApi, coordinator: Coordinator) -> None:
    for path in (
        *CACHE_PARTS,
        *TASK_PARTS,
        "/preheat/connections/down/overview",
        "/preheat/connections/other/overview",
    ):
        answer = airflow.get(path, "ann")
        assert TOKEN not in answer.text + str(answer.headers)
    assert coordinator.received[-1].headers["authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in Path(airflow.home / "api.log").read_text()
