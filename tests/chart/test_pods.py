"""What the pods run: commands, variables, files and addresses that the programs really have."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from base64 import b64decode
from functools import cache
from pathlib import Path

import pytest
import yaml

from preheat.access import Token
from preheat.api import create_app
from preheat.api._config_file import read_config
from preheat.cluster._nats import find_nats_server
from preheat.settings import DATA_PORT, S3_PORT, CoordinatorSettings, WorkerSettings
from preheat.store import MemoryStore
from preheat.ufs import MemoryUnderStore
from preheat.worker._readiness import Readiness
from preheat.worker._reads import ReadService
from preheat.worker.port import ServerSettings
from preheat.worker.port._health import Health
from testbed.certificates import Authority
from tests.chart.charts import (
    CASES,
    CHART,
    Manifest,
    containers,
    helm,
    load_all,
    one,
    pod_spec,
    pods,
    rendered,
    values_file,
)
from tests.chart.programs import (
    OF_GO,
    command_of,
    environment,
    names_of,
    of_aws,
    parsed,
    read_directly,
    references,
    variables_of,
)
from tests.unit.memory_cluster import Cluster

SECRETS = {"PREHEAT_ID": "preheat-worker-0", "NATS_NAME": "preheat-nats-0", "NATS_SECRET": "12e4"}
every_case = pytest.mark.parametrize("case", CASES)


def preheat_containers(case: str) -> list[Manifest]:
    return [container for container in containers(rendered(case)) if container["command"][0] == "preheat"]


def nats_container(case: str) -> Manifest:
    (container,) = (item for item in containers(rendered(case)) if item["name"] == "nats")
    return container


@every_case
def test_every_variable_is_one_that_the_programs_read(case: str):
    for container in preheat_containers(case):
        known = variables_of(command_of(container)[0]) | read_directly() | of_aws()
        assert set(names_of(container)) <= known | {"TRACEPARENT"}, container["name"]


def test_a_variable_that_no_program_reads_would_be_found():
    assert "PREHEAT_DATA_DIRS" not in read_directly() | of_aws()
    assert {"PREHEAT_TOKEN_FILE", "PREHEAT_NATS_TOKEN", "PREHEAT_DATA_DIR"} <= read_directly()
    assert {"AWS_REGION", "AWS_ENDPOINT_URL"} <= of_aws() | read_directly()


@every_case
def test_every_command_takes_its_arguments_and_variables(case: str, monkeypatch: pytest.MonkeyPatch):
    for container in preheat_containers(case):
        with monkeypatch.context() as patch:
            for name, value in environment(container, **SECRETS).items():
                patch.setenv(name, value.replace("/etc/preheat/config/preheat.toml", str(values_file(case))))
            hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep"])
            for argv in (container["command"], *([hook] if hook[0] == "preheat" else ())):
                options = parsed(argv)
                assert options.get("worker_id") in {None, "preheat-worker-0"}


def test_the_values_arrive(monkeypatch: pytest.MonkeyPatch):
    (worker,) = (item for item in preheat_containers("production") if item["name"] == "worker")
    for name, value in environment(worker, **SECRETS).items():
        monkeypatch.setenv(name, value)
    options = parsed(worker["command"])
    values = yaml.safe_load(values_file("production").read_text())["worker"]
    assert options["capacity"] == int(values["capacity"].removesuffix("GiB")) << 30
    assert options["public_url"] == "https://preheat-worker-0.preheat-worker.ml.svc.cluster.local:28080"
    assert (options["s3"], options["auth"], options["nats_replicas"]) == (True, True, 3)
    assert os.environ["PREHEAT_DATA_DIR"] == "/data/0/preheat-worker-0,/data/1/preheat-worker-0"


@every_case
def test_no_variable_of_a_service_reaches_a_program(case: str):
    """Kubernetes would make PREHEAT_S3_PORT an URL, for there is a Service preheat-s3."""
    assert all(spec["enableServiceLinks"] is False for spec in pods(rendered(case)))


@every_case
def test_variables_are_made_of_those_before_them(case: str):
    for container in containers(rendered(case)):
        names = names_of(container)
        assert len(set(names)) == len(names), container["name"]
        for place, variable in enumerate(container["env"]):
            assert set(references(variable.get("value", ""))) <= set(names[:place])


@every_case
def test_files_that_are_named_are_mounted_and_all_mounts_are_used(case: str):
    for spec in pods(rendered(case)):
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
            named = re.findall(r"/(?:etc|data)/[^,\"]*", json.dumps([container["env"], container["command"]]))
            assert [path for path in named if not path.startswith(tuple(f"{mount}/" for mount in mounts))] == []
            claims = {f"data-{disk}" for disk in range(2)} | {"data"}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes | claims


@every_case
def test_secrets_and_configuration_come_from_the_chart_or_from_values(case: str):
    items = rendered(case)
    made = {item["metadata"]["name"] for item in items if item["kind"] in {"Secret", "ConfigMap"}}
    made |= {item["spec"]["secretName"] for item in items if item["kind"] == "Certificate"}
    given = values_file(case).read_text()
    text = json.dumps(pods(items))
    for name in re.findall(r'"(?:secretKeyRef|configMap)": {[^}]*"name": "([^"]+)"|"secretName": "([^"]+)"', text):
        assert made & set(name) or max(name) in given, name


@every_case
def test_ports_are_those_of_the_programs(case: str):
    items = rendered(case)
    declared = {
        item["metadata"]["name"]: {
            port["name"]: port["containerPort"] for port in pod_spec(item)["containers"][0].get("ports", ())
        }
        for item in items
        if item["kind"] in {"Deployment", "StatefulSet"}
    }
    assert declared["preheat-coordinator"] == {"http": CoordinatorSettings().port}
    served = {"data": DATA_PORT} | ({} if case == "host-path" else {"s3": S3_PORT})
    assert declared["preheat-worker"] == served
    for item in items:
        if item["kind"] == "Service":
            owner = item["spec"]["selector"]["app.kubernetes.io/component"]
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= set(declared[f"preheat-{owner}"])


@cache
def paths_of_coordinators() -> set[str]:
    return set(create_app(Cluster().coordinator, CoordinatorSettings()).openapi()["paths"])


@every_case
def test_probes_ask_what_is_answered(case: str):
    app_paths = paths_of_coordinators()
    readiness = Readiness()
    readiness.joined(leaving=False)
    health = Health(ReadService(MemoryStore(capacity=1 << 20), MemoryUnderStore()), readiness)
    for container in preheat_containers(case):
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if kind not in container:
                assert container["name"] == "preload"
                continue
            path = container[kind]["httpGet"]["path"]
            assert path.partition("?")[0] in app_paths if container["name"] == "coordinator" else health.answer(path)


@every_case
def test_there_is_time_to_drain(case: str):
    worker = one(rendered(case), "StatefulSet", "preheat-worker")["spec"]["template"]["spec"]
    seconds = int(worker["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    settings = WorkerSettings(id="w", data_dir=Path())
    needed = seconds + 5 + 2 * settings.drain_seconds + 2 * ServerSettings().drain_seconds
    assert worker["terminationGracePeriodSeconds"] >= needed


@every_case
def test_pods_are_hardened(case: str):
    for spec in pods(rendered(case)):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            context = container["securityContext"]
            assert (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"]) == (False, True)
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert container["resources"]["limits"]["memory"]


def test_no_secret_is_in_a_pod_or_a_configuration():
    items = rendered("tls-auth")
    secrets = [value for item in items if item["kind"] == "Secret" for value in item["data"].values()]
    others = json.dumps([item for item in items if item["kind"] != "Secret"])
    assert len(secrets) == 3
    assert not [value for value in secrets if value in others]


def test_the_tokens_that_the_chart_makes_are_two():
    """What the processes show to each other is not an admin's."""
    made = one(rendered("tls-auth"), "Secret", "preheat-auth")["data"]
    tokens = {Token.parse(b64decode(made[key]).decode()) for key in ("admin-token", "token")}
    assert len(tokens) == 2


@every_case
def test_only_coordinators_have_the_admins_token(case: str):
    for spec in pods(rendered(case)):
        auth = [volume["secret"]["items"] for volume in spec["volumes"] if volume["name"] == "auth"]
        keys = [item["key"] for items in auth for item in items]
        assert ("admin-token" in keys) == ("token" in keys and spec["containers"][0]["name"] == "coordinator")


@pytest.mark.parametrize(("limit", "given"), [("1Gi", "921MiB"), ("2147483648", "1842MiB"), (None, None)])
def test_the_engine_collects_garbage_below_its_limit(limit: str | None, given: str | None):
    setting = f"nats.resources={json.dumps({'limits': {'memory': limit}})}"
    items = load_all(helm("helm4", "template", "preheat", CHART, "--set-json", setting).stdout)
    nats = one(items, "StatefulSet", "preheat-nats")["spec"]["template"]["spec"]["containers"][0]
    assert {item["name"]: item.get("value") for item in nats["env"]}.get("GOMEMLIMIT") == given


@pytest.mark.parametrize("case", ["minimal", "external-secrets", "tls-auth"])
def test_nats_takes_its_configuration(case: str, tmp_path: Path):
    authority = Authority.make(tmp_path / "authority")
    pair = authority.issue("nats", "127.0.0.1")
    files = {"tls.crt": pair.cert, "tls.key": pair.key, "ca.crt": pair.ca}
    text = one(rendered(case), "ConfigMap", "preheat-nats")["data"]["nats.conf"]
    for name, path in files.items():
        text = text.replace(f"/etc/preheat/tls/{name}", str(path))
    config = tmp_path / "nats.conf"
    config.write_text(text)
    variables = environment(nats_container(case), **SECRETS)
    used = set(re.findall(r"\$([A-Z_]+)", text))
    made_from = {name for item in nats_container(case)["env"] for name in references(item.get("value", ""))}
    assert used | made_from | OF_GO == set(variables)
    argv = [find_nats_server(), "--config", config, "-t"]
    done = subprocess.run(argv, env=variables, capture_output=True, text=True, timeout=30, check=False)
    assert "is valid" in done.stderr + done.stdout, done.stderr


def test_the_declared_datasets_and_mounts_are_those_of_the_values(tmp_path: Path):
    text = one(rendered("production"), "ConfigMap", "preheat-config")["data"]["preheat.toml"]
    values = yaml.safe_load(values_file("production").read_text())
    assert tomllib.loads(text) == {"datasets": values["datasets"], "mounts": values["mounts"]}
    file = tmp_path / "preheat.toml"
    file.write_text(text)
    config = read_config(file)
    assert [dataset.name for dataset in config.datasets] == ["images"]
    assert [mount.name for mount in config.mounts] == ["datasets"]
