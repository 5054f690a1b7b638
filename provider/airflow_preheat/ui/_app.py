"""The application that Airflow's API server mounts at ``/preheat``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from airflow_preheat.exceptions import PreheatError
from airflow_preheat.ui._access import MAY_READ_CONNECTION, MAY_READ_TASK, ReadableConnections
from airflow_preheat.ui._cache import SHOWN_DATASETS, SHOWN_JOBS, CacheHook, Overview, ask
from airflow_preheat.ui._pages import fragment, page, problem, refused
from airflow_preheat.ui._rows import DatasetRow, JobRow, dataset_rows, web_address
from airflow_preheat.ui._shared import Shared
from airflow_preheat.ui._tasks import TaskJob, TaskKey, task_job

_CACHE = "/connections/{connection_id}"
_TASK = "/dags/{dag_id}/runs/{run_id:path}/tasks/{task_id}/{map_index}"
_WHILE_JOBS_RUN, _WHILE_QUIET, _FOR_DATASETS, _UNTIL_SUBMITTED = 2, 10, 30, 5
_SHARED = Shared()
_JOBS_KEPT, _DATASETS_KEPT = 1.0, 10.0
"""Seconds that an answer is good for, for all who may see it."""
_NOT_MAPPED = -1
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def create_app() -> FastAPI:
    """Return the application; Airflow's auth manager must have been set up when the first request comes."""
    app = FastAPI(
        title="Preheat",
        openapi_url=None,
        exception_handlers={HTTPException: refused},
        default_response_class=HTMLResponse,
    )
    app.middleware("http")(_add_headers)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.get("/caches")(choose_cache)
    app.get(_CACHE, dependencies=[MAY_READ_CONNECTION])(cache_page)
    app.get(f"{_CACHE}/overview", dependencies=[MAY_READ_CONNECTION])(overview)
    app.get(f"{_CACHE}/datasets", dependencies=[MAY_READ_CONNECTION])(datasets)
    app.get(_TASK, dependencies=MAY_READ_TASK)(task_page)
    app.get(f"{_TASK}/job", dependencies=MAY_READ_TASK)(task_fragment)
    return app


def choose_cache(request: Request, connections: ReadableConnections, conn_id: str = "") -> Response:
    """Lead to the page of a connection: the one that is asked for, or else the first one that the user may read."""
    if not (chosen := conn_id or next(iter(connections), "")):
        raise HTTPException(403)
    return RedirectResponse(f"{request.scope.get('root_path', '')}/connections/{quote(chosen, safe='')}")


def cache_page(request: Request, connection_id: str, connections: ReadableConnections) -> HTMLResponse:
    """Show a cache; its parts come by themselves."""
    choices = connections if connection_id in connections else [connection_id, *connections]
    return page(request, "cache.html", connection_id=connection_id, choices=choices)


async def overview(connection_id: str) -> HTMLResponse:
    """Return the workers and the jobs of a cache."""
    try:
        found = await _SHARED.get(
            ("overview", connection_id), _JOBS_KEPT, lambda: ask(connection_id, CacheHook.overview)
        )
    except PreheatError as error:
        return problem(error)
    now = datetime.now(tz=UTC)
    unended = [row for row in (JobRow.of(job, now) for job in found.unended) if not row.ended]
    ended = [row for row in (JobRow.of(job, now) for job in found.recent) if row.ended]
    return fragment(
        "overview.html",
        refresh=_WHILE_JOBS_RUN if unended else _WHILE_QUIET,
        workers=found.workers,
        totals=_totals(found),
        unended=unended,
        recent=ended,
    )


async def datasets(connection_id: str) -> HTMLResponse:
    """Return the datasets of a cache, and how hot they are."""
    try:
        rows = await _SHARED.get(("datasets", connection_id), _DATASETS_KEPT, lambda: ask(connection_id, _datasets))
    except PreheatError as error:
        return problem(error, "unknown.html")
    return fragment("datasets.html", refresh=_FOR_DATASETS, datasets=rows)


def _task_key(dag_id: str, run_id: str, task_id: str, map_index: str) -> TaskKey:
    """Return the task instance; Airflow's UI leaves a placeholder in the place of an index that a task has not."""
    index = int(map_index) if map_index.isdecimal() else _NOT_MAPPED
    return TaskKey(dag_id=dag_id, run_id=run_id, task_id=task_id, map_index=index)


def _task_job(key: Annotated[TaskKey, Depends(_task_key)]) -> TaskJob | None:
    return task_job(key)


def task_page(request: Request, map_index: str) -> HTMLResponse:
    """Show the job of a task instance; it comes by itself, from the address below the page's own."""
    return page(request, "task.html", source=f"{quote(map_index, safe='')}/job")


async def task_fragment(task: Annotated[TaskJob | None, Depends(_task_job)]) -> HTMLResponse:
    """Return the job of a task instance."""
    if task is None:
        return fragment("no_job.html", refresh=_UNTIL_SUBMITTED, link="")
    if (conn_id := task.conn_id) is None:
        return fragment("no_job.html", refresh=None, link=web_address(task.url))
    try:
        jobs = await _SHARED.get(task, _JOBS_KEPT, lambda: ask(conn_id, lambda hook: hook.jobs_of(task)))
    except PreheatError as error:
        return problem(error)
    rows = [JobRow.of(job, datetime.now(tz=UTC)) for job in jobs]
    refresh = None if all(row.ended for row in rows) else _WHILE_JOBS_RUN
    if len(task.job_ids) == 1:
        return fragment("job.html", refresh=refresh, row=rows[0], conn_id=conn_id)
    more = max(0, len(task.job_ids) - SHOWN_JOBS)
    return fragment("many_jobs.html", refresh=refresh, rows=rows, more=more, conn_id=conn_id)


async def _datasets(hook: CacheHook) -> list[DatasetRow]:
    kept, listed = await hook.kept_datasets(), await hook.inventories()
    kept_paths = {dataset["path"] for dataset in kept}
    paths = list(dict.fromkeys(item["path"] for item in listed if item["path"] not in kept_paths))
    return dataset_rows(kept, listed, await hook.warmths(paths[:SHOWN_DATASETS]))


def _totals(found: Overview) -> dict[str, int]:
    live = [worker for worker in found.workers if worker["live"]]
    return {
        "live": len(live),
        "workers": len(found.workers),
        "used": sum(worker["used"] for worker in live),
        "capacity": sum(worker["capacity"] for worker in live),
        "objects": sum(worker["objects"] for worker in live),
    }


async def _add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    return response
