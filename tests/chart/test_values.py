"""Which values there are, and what is said of wrong ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from preheat.api._config_file import read_config
from scripts import chart_readme
from tests.chart.charts import CHART, HELMS, helm, load_all, problem_of

SCHEMA = json.loads((CHART / "values.schema.json").read_text())
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
CONFIG = "templates/coordinator/coordinator-configmap.yaml"
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


def sections(schema: Any, values: Any, path: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield each section of the values that may not be left out, with its schema."""
    optional = path.endswith((".resources", ".labels", ".topologySpread", ".podDisruptionBudget"))
    if optional or path == "securityContext" or "properties" not in schema:
        return
    yield path, (schema, values)
    for name, part in schema["properties"].items():
        if isinstance(values.get(name), dict):
            yield from sections(part, values[name], f"{path}.{name}".lstrip("."))


def test_the_schema_has_the_values_and_no_others():
    # CPU has no limit by default, and a disk of the node no request: they may be set all the same.
    optional = re.compile(r".*\.resources\.(limits\.cpu|(limits|requests)\.ephemeral-storage)")
    named = {path for path in schema_paths(SCHEMA) if not optional.fullmatch(path)} - OF_HELM
    by_label = {path for path in value_paths(VALUES) if path.startswith("metrics.dashboard.labels.")}
    assert named == set(value_paths(VALUES)) - by_label


def test_the_schema_asks_for_what_has_a_default():
    """What is set to null is gone: the templates would say so less well."""
    for path, part in sections(SCHEMA, VALUES):
        defaults = {name for name, value in part[1].items() if value not in ("", None, [], {})}
        assert set(part[0].get("required", ())) == defaults & set(part[0]["properties"]), path


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
SIZES = ["1", "10GiB", "1.5 tb", "0.5k", 7]
SCHEDULES = ["0 2 * * *", " */15 0-6/2 1,15,LW JAN-mar MON#1", "@daily", "5 4 * * 5L", "0 0 L * 7"]
ZONES = ["UTC", "Etc/UTC", "GMT", "Europe/Berlin", "America/Argentina/Ushuaia", "Etc/GMT+5"]
DEADLINES = ["2h", "1.5h", "6:00", "23:59 Europe/Berlin", "06:00 UTC"]
PARTS = ["train/", "a/b.csv", "s3://b/i/x/", ".hidden", "..data/x"]


def dataset(**fields: Any) -> str:
    return f"datasets={json.dumps({'images': {'path': 's3://b/i/', **fields}})}"


def preload(**fields: Any) -> str:
    return dataset(preload={"enabled": True, **fields})


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
        (["nats.streamReplicas=2"], "nats.streamReplicas=2 is even"),
        (['tls.certManager.renewBefore="2160h"'], "tls.certManager.renewBefore=2160h is not less than"),
        ([dataset(subPaths=["s3://other/"])], "datasets.images: s3://other/ is not below its path=s3://b/i/"),
        ([preload(schedule="0 2 * *")], 'datasets.images.preload.schedule="0 2 * *" has 4 fields'),
        ([preload(schedule="0 24 * * *")], 'schedule="0 24 * * *" is no cron schedule: its hour is 24'),
        ([preload(timezone="Mars/Olympus")], "datasets.images.preload.timezone names the time zone Mars/Olympus"),
        ([preload(deadline="06:00 Mars")], "datasets.images.preload.deadline names the time zone Mars, which"),
        ([preload(deadline="soon")], 'datasets.images.preload.deadline="soon" is neither a time span'),
        ([f"mounts={MOUNT}"], "mounts: writeReplicas=9 of data is more than worker.replicas=3"),
    ],
)
def test_values_that_do_not_fit_together_are_named(settings: list[str], sentence: str):
    assert sentence in problem_of(*settings)


def test_what_helm_takes_of_a_dataset_the_coordinator_takes(tmp_path: Path):
    """Else coordinators would start and end, start and end."""
    preloads = [{"schedule": text} for text in SCHEDULES] + [{"timezone": text} for text in ZONES]
    preloads += [{"deadline": text} for text in DEADLINES] + [{"path": text} for text in PARTS]
    items: list[Any] = [{"preload": {"enabled": True, **item}} for item in preloads]
    items += [{"quota": size} for size in SIZES] + [{"ttl": age} for age in ("7d", "090 m", 60)] + [{"subPaths": PARTS}]
    datasets = {f"d{number}": {"path": "s3://b/i", **item} for number, item in enumerate(items)}
    options = ("--set-json", f"datasets={json.dumps(datasets)}", "--show-only", CONFIG)
    (config,) = load_all(helm("helm4", "template", "preheat", CHART, *options).stdout)
    (tmp_path / "preheat.toml").write_text(config["data"]["preheat.toml"])
    assert len(read_config(tmp_path / "preheat.toml").datasets) == len(items)


@pytest.mark.parametrize("name", HELMS)
@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("worker=null", "worker"),
        ("worker.capacity=null", "capacity"),
        ('worker.capacity="0GiB"', "capacity"),
        ('listenHost="localhost"', "listenHost"),
        ('networkPolicy.clients=[{"podselector": {}}]', "podselector"),
        ('worker.extraEnv=[{"nam": "X"}]', "nam"),
        ('commonLabels={"team": "a b"}', "commonLabels"),
        (dataset(quota="many"), "quota"),
        (dataset(ttl="7x"), "ttl"),
        (dataset(subPaths=["../x"]), "subPaths"),
        (dataset(path="gs://b/"), "path"),
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
