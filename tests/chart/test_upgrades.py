"""What the chart looks up of an installation that is there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chart.charts import CHART, HELMS, NAMESPACE, helm, load_all, one, rendered
from tests.chart.kubernetes_api import serving

SERVER = ("--dry-run=server", "--disable-openapi-validation", "--is-upgrade")
RENDER = ("template", "preheat", CHART, "--namespace", NAMESPACE, *SERVER)


@pytest.mark.parametrize("name", HELMS)
def test_an_upgrade_keeps_the_secrets_that_the_chart_made(name: str, tmp_path: Path):
    installed = rendered("tls-auth")
    with serving(installed, tmp_path) as kubeconfig:
        upgraded = load_all(helm(name, *RENDER, "--kubeconfig", kubeconfig).stdout)
    for secret in ("preheat-auth", "preheat-nats-auth"):
        assert one(upgraded, "Secret", secret)["data"] == one(installed, "Secret", secret)["data"]


@pytest.mark.parametrize("name", HELMS)
@pytest.mark.parametrize(("case", "replicas"), [("minimal", 3), ("tls-auth", 1)])
def test_one_server_does_not_become_a_cluster_nor_a_cluster_one(name: str, case: str, replicas: int, tmp_path: Path):
    """A single NATS server that joins a cluster deletes its streams: they are none of the cluster's."""
    options = ("--set", f"nats.replicas={replicas},nats.streamReplicas=1")
    with serving(rendered(case), tmp_path) as kubeconfig:
        refused = helm(name, *RENDER, *options, "--kubeconfig", kubeconfig, check=False)
    assert (
        f"nats.replicas={replicas} in place of {4 - replicas} would lose all jobs, tokens and mounts" in refused.stderr
    )


def test_a_cluster_may_grow(tmp_path: Path):
    with serving(rendered("tls-auth"), tmp_path) as kubeconfig:
        assert helm("helm4", *RENDER, "--set", "nats.replicas=5", "--kubeconfig", kubeconfig).stdout
