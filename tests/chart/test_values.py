"""Which values there are, and what is said of wrong ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from scripts import chart_readme
from tests.chart.charts import CHART, HELMS, problem_of

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
OF_HELM = {"global", "enabled"}
"""What Helm hands to a chart that is another's dependency, and what that says to leave it out."""


def resolved(schema: Any) -> Any:
    reference = schema.get("$ref", "")
    return SCHEMA["definitions"][reference.rpartition("/")[2]] if reference else schema


def schema_paths(schema: Any, path: str = "") -> Iterator[str]:
    """Yield each value that the schema names, but not the parts of lists and maps, whose keys are the user's."""
    for name, part in resolved(schema).get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here
        yield from schema_paths(part, here)


def value_paths(values: Any, path: str = "") -> Iterator[str]:
    for name, value in values.items() if isinstance(values, dict) else ():
        here = f"{path}.{name}".lstrip(".")
        yield here
        yield from value_paths(value, here)


def objects_of(schema: Any) -> Iterator[Any]:
    """Yield every schema of an object that says which keys it has."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects_of(part)


def test_the_schema_has_the_values_and_no_others():
    # CPU has no limit by default, and a disk of the node no request: they may be set all the same.
    optional = re.compile(r".*\.resources\.(limits\.cpu|(limits|requests)\.ephemeral-storage)")
    named = {path for path in schema_paths(SCHEMA) if not optional.fullmatch(path)} - OF_HELM
    by_label = {path for path in value_paths(VALUES) if path.startswith("metrics.dashboard.labels.")}
    assert named == set(value_paths(VALUES)) - by_label


def test_the_schema_takes_no_key_that_it_does_not_name():
    assert all(part["additionalProperties"] is False for part in objects_of(SCHEMA))


def test_every_value_says_what_it_is():
    leaves = {
        path for path in value_paths(VALUES) if not any(other.startswith(f"{path}.") for other in value_paths(VALUES))
    }
    documented = {path for path, _ in chart_readme.documented((CHART / "values.yaml").read_text())}
    assert {
        path for path in leaves if not any(path == one or path.startswith(f"{one}.") for one in documented)
    } == set()


def test_the_readme_is_current():
    """Else: `make chart`."""
    assert (CHART / "README.md").read_text() == chart_readme.readme()


DATASET = '{"images": {"path": "s3://b/i/", "replicas": 4}}'
MOUNT = '[{"name": "data", "path": "s3://b/", "writes": "async", "writeReplicas": 9}]'
TWICE = '[{"name": "data", "path": "s3://b/"}, {"name": "data", "path": "s3://b"}]'
URL = '"tls://nats:4222"'


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["tls.enabled=true"], "tls.enabled takes a certificate: either tls.existingSecret or tls.certManager.enabled"),
        (
            ["tls.enabled=true", 'tls.existingSecret="a"', "tls.certManager.enabled=true"],
            "tls.enabled takes a certificate: either",
        ),
        (["tls.certManager.enabled=true"], "tls.certManager.enabled makes a certificate that nothing would serve"),
        (["tls.enabled=true", "tls.certManager.enabled=true"], "tls.certManager.issuerRef.name is empty"),
        ([f"nats.url={URL}"], 'nats.url="tls://nats:4222" names an engine elsewhere, and nats.enabled runs one here'),
        (["nats.enabled=false"], "nats.enabled is false, so nats.url has to say where the engine is"),
        (["nats.enabled=false", 'nats.url="nats://secret@nats:4222"'], "nats.url holds credentials"),
        (["nats.enabled=false", 'nats.url="http://nats"'], 'nats.url="http://nats" is not a list of nats://'),
        (
            ["nats.enabled=false", f"nats.url={URL}", 'nats.credentialsSecret="a"', 'nats.auth.existingSecret="b"'],
            "nats.credentialsSecret and nats.auth.existingSecret are two ways",
        ),
        (['nats.tls.caSecret="a"'], "nats.tls.caSecret=a is for an engine elsewhere"),
        (
            ["nats.enabled=false", 'nats.url="nats://nats"', 'nats.tls.caSecret="a"'],
            'nats.tls is for tls:// URLs, and nats.url="nats://nats" has another',
        ),
        (["nats.replicas=4"], "nats.replicas=4 is even"),
        (["nats.replicas=1"], "nats.streamReplicas=3 is more than nats.replicas=1"),
        (
            ["nats.podDisruptionBudget.maxUnavailable=2"],
            "nats.podDisruptionBudget.maxUnavailable=2 would let a node drain",
        ),
        (['nats.image.repository="nats"'], "nats.image.tag is empty"),
        (["worker.lowWatermark=0.99"], "worker.lowWatermark=0.99 is above worker.highWatermark=0.95"),
        (['worker.storage.type="hostPath"'], "worker.storage.type=hostPath takes worker.storage.hostPaths"),
        (['worker.storage.hostPaths=["/mnt/a"]'], "worker.storage.hostPaths is for worker.storage.type=hostPath"),
        (['worker.capacity="1TiB"'], "worker.capacity=1TiB leaves nothing free of 1 × worker.storage.size=100Gi"),
        (['worker.capacity="200GiB"', "worker.storage.disks=2"], "worker.capacity=200GiB leaves nothing free of 2 ×"),
        (
            ["coordinator.autoscaling.enabled=true", "coordinator.autoscaling.minReplicas=9"],
            "coordinator.autoscaling.minReplicas=9 is more than maxReplicas=6",
        ),
        (["coordinator.ingress.enabled=true"], "coordinator.ingress.host is empty"),
        (
            ["coordinator.ingress.enabled=true", 'coordinator.ingress.host="a.example"'],
            "coordinator.ingress.enabled is of no use while networkPolicy.clients is empty",
        ),
        (['worker.s3.service.type="LoadBalancer"'], "worker.s3.service.type=LoadBalancer is of no use while"),
        (['worker.stagingSize="20GiB"'], "worker.stagingSize=20GiB does not fit on the first disk"),
        (["serviceAccount.create=false"], "serviceAccount.create is false, so serviceAccount.name"),
        ([f"datasets={DATASET}"], "datasets.images.replicas=4 is more than worker.replicas=3"),
        ([f"mounts={TWICE}"], "mounts: name=data is that of two of them, data and data"),
        (["mounts=" + TWICE.replace("data", "other", 1)], "mounts: path=s3://b is that of two of them, other and data"),
        (
            ['s3.existingSecret="a"', 's3.credentialsSecret="b"'],
            "s3.credentialsSecret=b and s3.existingSecret=a are different ways to S3: name one",
        ),
        ([f"mounts={MOUNT}"], "mounts: writeReplicas=9 of data is more than worker.replicas=3"),
    ],
)
def test_values_that_do_not_fit_together_are_named(settings: list[str], sentence: str):
    assert sentence in problem_of(*settings)


@pytest.mark.parametrize("name", HELMS)
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("worker.replica=3", "replica"),
        ("worker.replicas=0", "worker"),
        ('worker.capacity="90G"', "capacity"),
        ('worker.eviction="random"', "eviction"),
        ('auth.enabled="yes"', "auth"),
        ('image.digest="sha256:abc"', "digest"),
        ('s3.endpointUrl="minio:9000"', "endpointUrl"),
        ('nameOverride="Heat_er"', "nameOverride"),
        ('datasets={"images": {"paths": "s3://b/"}}', "paths"),
        ('datasets={"images": {"path": "s3://b/", "preload": {"cron": "* * * * *"}}}', "cron"),
    ],
)
def test_a_value_that_is_none_is_refused_by_its_name(name: str, setting: str, named: str):
    problem = problem_of(setting, name=name)
    assert "values don't meet the specifications of the schema" in problem
    assert named in problem
