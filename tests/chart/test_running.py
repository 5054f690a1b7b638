"""The production manifest, run: 3 NATS servers, 2 coordinators and 3 workers as processes; each is rolled in turn."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from preheat.access import Token
from testbed import SeaweedFS
from testbed.certificates import Authority
from testbed.kubelet import Addresses, Cluster, Pod, deployment_pods, stateful_pods
from testbed.service import Service
from tests.chart.charts import CHART, NAMESPACE, helm, load_all, one, values_file

pytestmark = pytest.mark.long

OBJECTS = 240
SIZE = 64 << 10
BANDWIDTH = "256KiB"
"""Of each worker: a load of all objects lasts longer than a component is rolled."""
COMMAND_SECONDS = 300


@dataclass
class Release:
    """The release that runs."""

    nats: list[Pod]
    workers: list[Pod]
    coordinators: list[Pod]
    spare: Iterator[Pod]
    """Coordinators to come."""
    test: Pod
    environment: dict[str, str] = field(default_factory=dict)
    """Of a client."""

    @property
    def pods(self) -> list[Pod]:
        return [*self.nats, *self.coordinators, *self.workers]

    def endpoints(self) -> list[str]:
        """Return the addresses that the Service sends connections to: a pod comes when it is ready, and goes first."""
        return [pod.address for pod in self.coordinators]

    def preheat(self, *arguments: str) -> Any:
        """Run a command as a user and return the JSON that it prints."""
        done = self._run(arguments)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return json.loads(done.stdout)

    def wait_loaded(self, name: str) -> None:
        """Wait until a declared dataset is loaded."""
        deadline = time.monotonic() + COMMAND_SECONDS
        while (status := self.preheat("dataset", "status", name, "--json")["status"])["phase"] != "Loaded":
            assert time.monotonic() < deadline, status
            time.sleep(0.5)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command that goes on."""
        return subprocess.Popen(
            self._command(arguments),
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _run(self, arguments: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._command(arguments),
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [str(Path(sys.executable).parent / "preheat"), *arguments]


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("origin")) as server:
        client = server.client()
        client.create_bucket(Bucket="datasets")
        for number in range(OBJECTS):
            part = "train" if number % 4 else "val"
            client.put_object(Bucket="datasets", Key=f"images/{part}/{number:05d}", Body=os.urandom(SIZE))
        client.put_object(Bucket="datasets", Key="sample/one", Body=b"sample")
        yield server


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, origin: SeaweedFS) -> Iterator[Release]:
    directory = tmp_path_factory.mktemp("release")
    overlay = directory / "values.yaml"
    overlay.write_text(
        yaml.safe_dump(
            {
                "s3": {"endpointUrl": origin.endpoint, "existingSecret": "origin"},
                "worker": {"capacity": "1GiB"},  # this machine has no 3400 GiB
                "datasets": {"images": {"preload": {"schedule": None, "deadline": None}}},  # now, and not in the night
            }
        )
    )
    arguments = ("--namespace", NAMESPACE, "--values", values_file("production"), "--values", overlay)
    objects = load_all(helm("helm4", "template", "preheat", CHART, *arguments).stdout)
    numbers = secrets.SystemRandom()
    addresses = Addresses(NAMESPACE, f"127.{numbers.randrange(16, 240)}.{numbers.randrange(1, 250)}")
    cluster = Cluster(
        objects=objects,
        secrets=_secrets(origin, addresses, directory),
        directory=directory,
        addresses=addresses,
        node_labels={"topology.kubernetes.io/zone": "a"},
    )
    yield from _running(cluster)


def _secrets(origin: SeaweedFS, addresses: Addresses, directory: Path) -> dict[str, dict[str, str]]:
    authority = Authority.make(directory / "authority")
    certificate = authority.issue("preheat", *addresses.all)
    return {
        "preheat-tokens": {"admin-token": Token.new().text, "token": Token.new().text},
        "preheat-nats": {"token": secrets.token_hex(16)},
        "preheat-tls": {
            "tls.crt": certificate.cert.read_text() if certificate.cert else "",
            "tls.key": certificate.key.read_text() if certificate.key else "",
            "ca.crt": authority.ca.read_text(),
        },
        "origin": {"AWS_ACCESS_KEY_ID": origin.access_key, "AWS_SECRET_ACCESS_KEY": origin.secret_key},
    }


def _running(cluster: Cluster) -> Iterator[Release]:
    address = cluster.addresses.of("preheat-coordinator")
    spare = deployment_pods(cluster, "preheat-coordinator")
    replicas = one(list(cluster.objects), "HorizontalPodAutoscaler", "preheat-coordinator")["spec"]["minReplicas"]
    test = cluster.get("Pod", "preheat-test")
    release = Release(
        nats=stateful_pods(cluster, "preheat-nats"),
        workers=stateful_pods(cluster, "preheat-worker"),
        coordinators=list(islice(spare, replicas)),
        spare=spare,
        test=Pod(cluster, "preheat-test", test["spec"], labels={}, address=address),
    )
    with ExitStack() as stack:
        for pod in release.pods:
            stack.callback(pod.kill)
            pod.start()
        stack.callback(lambda: [pod.kill() for pod in release.pods])
        for pod in release.pods:
            pod.wait_ready()
        stack.enter_context(Service(address, 19999, release.endpoints))
        release.test.prepare()
        release.environment = release.test.environment()
        yield release


def test_every_pod_is_live_and_the_helm_test_warms_its_sample(release: Release):
    assert [pod.name for pod in release.pods if not pod.live()] == []
    assert release.test.run(COMMAND_SECONDS) == 0, release.test.log.read_text()


@pytest.mark.parametrize("component", ["nats", "workers", "coordinators"])
def test_a_load_goes_on_while_a_component_is_rolled(release: Release, component: str):
    path = "s3://datasets/images/"
    load = release.begin("load", path, "--verify", "--no-skip-if-exists", "--bandwidth", BANDWIDTH)
    if component == "coordinators":
        _roll_deployment(release)
    else:
        _roll_stateful(getattr(release, component))
    output, _ = load.communicate(timeout=COMMAND_SECONDS)
    assert load.returncode == 0, output
    assert [pod.name for pod in release.pods if pod.killed] == []
    warmth = release.preheat("fs", "warmth", path, "--json")
    assert (warmth["hot"]["files"], warmth["hotFraction"]) == (OBJECTS, 1.0)
    release.wait_loaded("images")


def _roll_stateful(pods: list[Pod]) -> None:
    for pod in reversed(pods):
        pod.stop()
        pod.start()
        pod.wait_ready()


def _roll_deployment(release: Release) -> None:
    for old in list(release.coordinators):
        fresh = next(release.spare)
        fresh.start()
        fresh.wait_ready()
        release.coordinators.append(fresh)
        release.coordinators.remove(old)
        old.stop()
