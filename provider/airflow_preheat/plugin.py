"""What the provider adds to Airflow's UI."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from airflow_preheat.links import PreheatJobLink
from airflow_preheat.ui._lazy import LazyApp

_PREFIX = "/preheat"
_TASK = "/dags/{DAG_ID}/runs/{RUN_ID}/tasks/{TASK_ID}/{MAP_INDEX}"


def _views(base_url: str) -> list[dict[str, Any]]:
    """Return the pages, below the path that Airflow itself is served at."""
    root = urlsplit(base_url).path.rstrip("/") + _PREFIX
    icon = f"{root}/static/icon.svg"
    return [
        {
            "name": "Caches",
            "href": f"{root}/caches",
            "destination": "nav",
            "category": "browse",
            "url_route": "preheat-caches",
            "icon": icon,
        },
        {
            "name": "Preheat",
            "href": f"{root}{_TASK}",
            "destination": "task_instance",
            "url_route": "preheat-job",
            "icon": icon,
        },
    ]


class PreheatPlugin(AirflowPlugin):
    """Registers the link to the job, the page of the caches, and the tab with the job of a task.

    Airflow finds it by an entry point and not through the provider's metadata, whose ``plugins`` it ignores
    while providers are discovered lazily (its default).
    """

    name = "preheat"
    operator_extra_links = [PreheatJobLink()]  # noqa: RUF012 - as the base class declares it
    fastapi_apps = [{"app": LazyApp(), "url_prefix": _PREFIX, "name": "Preheat"}]  # noqa: RUF012
    external_views = _views(conf.get("api", "base_url", fallback=""))
