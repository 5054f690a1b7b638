"""Every entry of the matrix, rendered by Helm 3 and Helm 4, is what Kubernetes takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.chart.charts import (
    CASES,
    CHART,
    HELMS,
    NAMESPACE,
    Manifest,
    helm,
    load_all,
    objects,
    one,
    rendered,
    values_file,
)
from tests.chart.kubernetes import VERSIONS, problems

GOLDEN = CHART.parents[1] / "tests" / "chart" / "external-secrets.golden.yaml"
HOW_TO = CHART.parents[1] / "docs" / "how-to" / "deploy-on-kubernetes.md"
SELECTED = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/component"}


def without_made_secrets(items: list[Manifest]) -> list[str]:
    """Return the objects in one order, without what the chart draws by chance."""
    fixed = [item | {"data": sorted(item["data"])} if item["kind"] == "Secret" else item for item in items]
    return sorted(json.dumps(item, sort_keys=True) for item in fixed)


@pytest.mark.parametrize("case", CASES)
def test_both_helms_lint_and_render_the_same(case: str):
    for name in HELMS:
        helm(name, "lint", "--strict", CHART, "--values", values_file(case))
    helm3, helm4 = (without_made_secrets(rendered(case, name)) for name in HELMS)
    assert helm3 == helm4


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid_strictly(version: str):
    found = {text for case in CASES for text in objects(case)}
    assert [problem for text in found for problem in problems(json.loads(text), version)] == []


def test_the_schemas_are_strict():
    (budget,) = (
        item for item in rendered("minimal") if item["metadata"]["name"] == "preheat-nats" and "Budget" in item["kind"]
    )
    budget["spec"]["maxUnavailible"] = budget["spec"].pop("maxUnavailable")
    assert problems(budget, VERSIONS[-1])


@pytest.mark.parametrize("name", HELMS)
def test_an_older_kubernetes_is_refused(name: str):
    done = helm(name, "template", "preheat", CHART, "--kube-version", "1.26.0", check=False)
    assert "requires kubeVersion: >=1.27.0-0" in done.stderr


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_changed_later_does_not_change_with_versions(case: str):
    for item in rendered(case):
        spec = item.get("spec", {})
        if item["kind"] in {"Deployment", "StatefulSet"}:
            assert set(spec["selector"]["matchLabels"]) == SELECTED
            labels = spec["template"]["metadata"]["labels"].items()
            assert spec["selector"]["matchLabels"].items() <= labels
            for claim in spec.get("volumeClaimTemplates", ()):
                assert set(claim["metadata"]["labels"]) == SELECTED
        if item["kind"] == "Service":
            assert set(spec["selector"]) == SELECTED


def test_every_object_has_its_labels():
    for item in rendered("external-secrets"):
        if item["kind"] == "ExternalSecret":
            continue
        labels = item["metadata"]["labels"]
        assert set(labels) >= SELECTED | {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}
        assert labels["cost-center"] == "ml"


@pytest.mark.parametrize(
    ("release", "options", "name"),
    [
        ("preheat", (), "preheat-worker"),
        ("warm.eu", (), "warm-eu-preheat-worker"),
        ("x" * 53, (), "x" * 40 + "-worker"),
        ("a", ("--set", "fullnameOverride=cache"), "cache-worker"),
        ("a", ("--set", "nameOverride=heat"), "a-heat-worker"),
    ],
)
def test_names_are_dns_labels_whatever_the_release_is_called(release: str, options: tuple[str, ...], name: str):
    text = helm("helm4", "template", release, CHART, *options).stdout
    items = load_all(text)
    assert one(items, "StatefulSet", name)
    for item in items:
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,53}[a-z0-9])?", item["metadata"]["name"])


def test_the_rendering_is_the_one_that_was_looked_at():
    """After a change: `make chart`, read the difference, and commit it."""
    assert rendered("external-secrets") == load_all(GOLDEN.read_text())


def test_the_values_of_the_how_to_are_taken(tmp_path: Path):
    blocks = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(), flags=re.DOTALL)
    of_this_chart = [block for block in blocks if "AIRFLOW_CONN" not in block]
    assert len(of_this_chart) == len(blocks) - 1 == 2
    for text in of_this_chart:
        (tmp_path / "values.yaml").write_text(text)
        assert helm("helm4", "template", "preheat", CHART, "--values", tmp_path / "values.yaml").stdout


def test_a_chart_may_have_this_one_as_a_dependency(tmp_path: Path):
    chart = {"apiVersion": "v2", "name": "parent", "version": "0.1.0"}
    needed = {"name": "preheat", "version": "0.1.0", "condition": "cache.enabled", "alias": "cache"}
    (tmp_path / "charts").mkdir()
    (tmp_path / "charts" / "preheat").symlink_to(CHART)
    (tmp_path / "Chart.yaml").write_text(json.dumps(chart | {"dependencies": [needed]}))
    options = ("--set", "cache.enabled=true,global.registry=r,cache.worker.replicas=4")
    for name in HELMS:
        items = load_all(helm(name, "template", "ml", tmp_path, *options).stdout)
        assert one(items, "StatefulSet", "ml-cache-worker")["spec"]["replicas"] == 4


def test_an_installation_is_told_how_to_connect():
    options = ("--dry-run=client", "--namespace", NAMESPACE, "--values", values_file("tls-auth"))
    told = helm("helm4", "install", "preheat", CHART, *options).stdout.partition("NOTES:")[2]
    assert 'AIRFLOW_CONN_PREHEAT_DEFAULT="preheat://:$(kubectl get secret preheat-auth' in told
    assert "@preheat-coordinator.ml.svc.cluster.local:19999/https" in told
    assert "*.preheat-nats.ml.svc.cluster.local" in told
    assert 'preheat-client: "true"' in told
