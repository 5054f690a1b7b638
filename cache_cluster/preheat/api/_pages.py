"""The dashboard: what runs, how far it is, and who does it. Server-side HTML, no script."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from preheat.accounting import dataset_version, hot_fraction
from preheat.api._dataset_views import shown
from preheat.coordinator import Coordinator, KnownJob
from preheat.jobs import Job
from preheat.units import human_duration, human_size

_SHOWN_JOBS = 50


def pages_router(coordinator: Coordinator) -> APIRouter:
    """Return the routes of the dashboard."""
    router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse)
    templates = Environment(
        loader=PackageLoader("preheat.api"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.filters |= {"size": human_size, "time": _time, "percent": lambda share: f"{100 * share:.1f} %"}

    @router.get("/")
    async def index() -> str:
        cluster = coordinator.cluster
        live = {worker.id for worker in cluster.live()}
        return templates.get_template("index.html").render(
            jobs=[_row(known) for known in coordinator.service.list()[:_SHOWN_JOBS]],
            workers=[(worker, worker.id in live) for worker in cluster.workers()],
            epoch=cluster.placement.epoch,
            datasets=[shown(record, coordinator.service) for record in coordinator.datasets.list()],
        )

    @router.get("/jobs/{job_id}")
    async def job_page(job_id: str) -> str:
        row = _row(await coordinator.service.get(job_id))
        return templates.get_template("job.html").render(row=row)

    return router


def _row(known: KnownJob) -> dict[str, object]:
    job = known.job
    load = job.work
    accounted = load.listed - load.remaining
    return {
        "job": job,
        "elapsed": _elapsed(job),
        "accounted": accounted,
        "share": accounted.objects / load.listed.objects if load.listed.objects else 0.0,
        "hot": hot_fraction(job),
        "verified": job.verification.done.objects if job.verification else None,
        "version": dataset_version(job) or "",
    }


def _elapsed(job: Job) -> str:
    if job.started_at is None:
        return "–"
    end = job.finished_at or datetime.now(tz=UTC).timestamp()
    return human_duration(max(0.0, end - job.started_at))


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
