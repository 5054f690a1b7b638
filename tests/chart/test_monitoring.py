"""Alerts and the dashboard ask for metrics that the programs really have, and every alert has a runbook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import promql_parser as promql
import pytest
from prometheus_client.parser import text_string_to_metric_families

from preheat.api._metrics import metrics_route
from preheat.registry import Heartbeat
from preheat.store import MemoryStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._reads import ReadService
from preheat.worker.port._health import prometheus_text
from tests.chart.charts import CHART, ROOT, one, rendered
from tests.unit.memory_cluster import Cluster

RUNBOOKS = ROOT / "docs" / "runbooks"
DASHBOARD = json.loads((CHART / "dashboards" / "preheat.json").read_text())
OF_TARGETS = {"namespace", "job", "instance"}
"""Labels that Prometheus itself adds."""


def alerts() -> list[dict[str, Any]]:
    (group,) = one(rendered("production"), "PrometheusRule", "preheat")["spec"]["groups"]
    return list(group["rules"])


def panel_queries() -> Iterator[tuple[str, str]]:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$namespace", "ml")


@pytest.fixture(scope="module")
def metrics() -> dict[str, set[str]]:
    """By name, the labels of each metric that coordinators and workers have."""
    coordinator = Cluster().coordinator
    coordinator.cluster._registry.record(Heartbeat(id="worker-0", url="http://w", capacity=1), 0)
    told = bytes(metrics_route(coordinator)().body).decode()
    told += prometheus_text(ReadService(MemoryStore(capacity=1), MemoryUnderStore()).stats())
    return {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(told) for sample in family.samples
    }


def selectors(expression: Any) -> Iterator[Any]:
    """Yield every metric that an expression asks for."""
    if isinstance(expression, promql.VectorSelector):
        yield expression
    for name in ("lhs", "rhs", "expr", "args", "vector_selector", "selector"):
        part = getattr(expression, name, None)
        for each in part if isinstance(part, list) else [part]:
            if each is not None:
                yield from selectors(each)


def check(query: str, metrics: dict[str, set[str]]) -> None:
    found = list(selectors(promql.parse(query)))
    assert found, query
    for selector in found:
        assert selector.name in metrics, query
        assert {matcher.name for matcher in selector.matchers.matchers} <= metrics[selector.name] | OF_TARGETS, query


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_is_of_metrics_that_there_are_and_has_a_runbook(alert: dict[str, Any], metrics: dict[str, set[str]]):
    check(alert["expr"], metrics)
    url = alert["annotations"]["runbook_url"]
    page = RUNBOOKS / url.rpartition("/")[2]
    assert page.read_text().startswith(f"# {alert['alert']}\n")
    assert {"## What it means", "## What to do"} <= set(page.read_text().splitlines())


def test_every_runbook_is_of_an_alert_and_listed():
    pages = {page.name for page in RUNBOOKS.glob("*.md")} - {"README.md"}
    assert pages == {f"{alert['alert'].lower()}.md" for alert in alerts()}
    listed = (RUNBOOKS / "README.md").read_text()
    assert [page for page in pages if f"]({page})" not in listed] == []


@pytest.mark.parametrize(("title", "query"), list(panel_queries()))
def test_a_panel_shows_metrics_that_there_are(title: str, query: str, metrics: dict[str, set[str]]):
    check(query, metrics)


def test_a_metric_that_there_is_not_would_be_found(metrics: dict[str, set[str]]):
    for query in ("rate(preheat_worker_hit_total[5m])", 'preheat_jobs{status="FAILED"}', "max(sum(preheat_job)) > 0"):
        with pytest.raises(AssertionError):
            check(query, metrics)


def test_the_panels_do_not_overlap():
    cells = [
        {(panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y) for x in range(8) for y in range(panel["gridPos"]["h"])}
        for panel in DASHBOARD["panels"]
    ]
    assert not any(one_cell & other for one_cell, other in combinations(cells, 2))
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(cells)


def test_the_dashboard_is_in_its_config_map():
    found = one(rendered("production"), "ConfigMap", "preheat-dashboard")
    assert json.loads(found["data"]["preheat.json"]) == DASHBOARD
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_services_are_scraped_once():
    items = rendered("production")
    services = [item for item in items if item["kind"] == "Service"]
    for component in ("coordinator", "worker"):
        wanted = one(items, "ServiceMonitor", f"preheat-{component}")["spec"]["selector"]["matchLabels"]
        labelled = [
            service["metadata"]["name"]
            for service in services
            if wanted.items() <= service["metadata"]["labels"].items()
            and "preheat/scraped" in service["metadata"]["labels"]
        ]
        assert labelled == [f"preheat-{component}"]
