"""A cluster that asks for tokens, over TLS: `preheat up --auth` and its clients, watched from outside."""

from __future__ import annotations

import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.models.connection import Connection

from airflow_preheat._endpoint import Endpoint
from preheat.errors import Forbidden, Unauthenticated
from preheat.fs import PreheatFileSystem
from preheat.settings import TlsSettings
from testbed.certificates import Authority
from tests.conftest import Bucket

PREHEAT = (sys.executable, "-P", "-m", "preheat.cli")
COMMAND_SECONDS = 120
TAKES_EFFECT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A data directory with a running cluster, and what its clients need."""

    data_dir: Path
    environment: Mapping[str, str]
    printed: str = ""

    def run(self, *arguments: str, token: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PREHEAT, *arguments],
            env={**self.environment, "PREHEAT_TOKEN": token},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def json(self, *arguments: str, token: str = "") -> Any:
        done = self.run(*arguments, "--json", token=token)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def admin(self) -> str:
        return (self.data_dir / "admin.token").read_text()

    @property
    def url(self) -> str:
        return str(self.environment["PREHEAT_COORDINATOR_URL"])

    def token(self, role: str, *prefixes: str) -> str:
        paths = [part for prefix in prefixes for part in ("--path", prefix)]
        return str(self.json("token", "create", "--role", role, *paths, token=self.admin)["token"])

    def filesystem(self, token: str) -> PreheatFileSystem:
        return PreheatFileSystem(self.url, token=token, skip_instance_cache=True)

    def get(self, url: str, token: str = "") -> int:
        """Return the status of an answer."""
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
        context = ssl.create_default_context(cafile=self.environment["PREHEAT_CA_FILE"])
        try:
            with urllib.request.urlopen(request, timeout=10, context=context) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsSettings:
    return Authority.make(tmp_path_factory.mktemp("pki")).issue("preheat", "127.0.0.1")


@pytest.fixture(scope="module")
def cluster(s3_server: Any, tls: TlsSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    data_dir = tmp_path_factory.mktemp("cluster")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PREHEAT_")}
    environment = {**own, **s3_server.environment(), "PREHEAT_DATA_DIR": str(data_dir), "PREHEAT_CA_FILE": str(tls.ca)}
    starting = Cluster(data_dir=data_dir, environment=environment)
    options = ("--port", "0", "--worker-port", "0", "--capacity", "64MiB", "--workers", "2")
    up = starting.run("up", "--detach", *options, "--auth", "--tls-cert", str(tls.cert), "--tls-key", str(tls.key))
    assert up.returncode == 0, up.stderr
    url = json.loads((data_dir / "cluster.json").read_text())["url"]
    environment["PREHEAT_COORDINATOR_URL"] = url
    yield Cluster(data_dir=data_dir, environment=environment, printed=up.stdout)
    assert starting.run("down").returncode == 0


@pytest.fixture(autouse=True)
def trusted(tls: TlsSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREHEAT_CA_FILE", str(tls.ca))


@pytest.fixture
def data(bucket: Bucket) -> Bucket:
    bucket.put_many(
        {f"{prefix}/{number}": b"some data" for prefix in ("mine", "minecraft", "other") for number in range(3)}
    )
    return bucket


def within(seconds: float, condition: Callable[[], Any]) -> float:
    """Return after how long a condition of foreign processes holds."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds
        time.sleep(0.01)
    return time.monotonic() - began


def test_the_admins_token_is_in_a_private_file_and_not_in_what_is_printed(cluster: Cluster):
    path = cluster.data_dir / "admin.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert str(path) in cluster.printed
    assert cluster.admin not in cluster.printed
    assert cluster.url.startswith("https://127.0.0.1:")
    status = cluster.json("status")  # which finds the token by itself
    assert (status["healthy"], len(status["workers"])) == (True, 2)
    assert all(worker["url"].startswith("https://") for worker in status["workers"])


def test_the_connection_that_is_printed_is_one_for_airflow(cluster: Cluster):
    (line,) = (line for line in cluster.printed.splitlines() if "AIRFLOW_CONN_" in line)
    assignment = line[line.index("AIRFLOW_CONN_") :]
    shell = f'{assignment}; printf %s "$AIRFLOW_CONN_PREHEAT_DEFAULT"'
    uri = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
    connection = Connection(conn_id="preheat_default", uri=uri)
    endpoint = Endpoint.from_connection(connection)
    assert (endpoint.url, endpoint.token) == (cluster.url, cluster.admin)
    assert endpoint.ca_cert == cluster.environment["PREHEAT_CA_FILE"]


def test_a_submitter_is_bound_to_its_prefix_on_the_coordinator_and_the_workers(cluster: Cluster, data: Bucket):
    token = cluster.token("submit", data.uri("mine"))
    assert cluster.run("load", data.uri("mine/"), "--verify", token=token).returncode == 0
    for outside in (data.uri("minecraft/"), data.uri("other/"), data.uri()):
        refused = cluster.run("load", outside, token=token)
        assert (refused.returncode, "outside of what the token is for" in refused.stderr) == (1, True)
    reader = cluster.filesystem(token)
    assert reader.cat(f"{data.name}/mine/0") == b"some data"
    assert len(reader.ls(f"{data.name}/mine")) == 3
    for path in (f"{data.name}/minecraft/0", f"{data.name}/other/0"):
        with pytest.raises(Forbidden):
            reader.cat(path)
    with pytest.raises(Forbidden):
        reader.ls(data.name)


def test_nobody_without_a_token_gets_anything(cluster: Cluster, data: Bucket):
    refused = cluster.run("job", "ls")
    assert (refused.returncode, "PREHEAT_TOKEN" in refused.stderr) == (1, True)
    with pytest.raises(Unauthenticated):
        cluster.filesystem("").cat(f"{data.name}/mine/0")
    worker = cluster.json("status")["workers"][0]["url"]
    for base in (cluster.url, worker):
        assert cluster.get(f"{base}/v1/healthz") == 200
        assert cluster.get(f"{base}/v1/stats") == 401
        assert cluster.get(f"{base}/metrics") == 401


def test_the_parts_let_each_other_in(cluster: Cluster, data: Bucket):
    """A job over what is cached asks the workers; dialect A asks the coordinator on the caller's behalf."""
    token = cluster.token("submit")
    assert cluster.run("load", data.uri("mine/"), token=token).returncode == 0
    freed = cluster.run("fs", "free", data.uri("mine/"), token=token)
    assert freed.returncode == 0, freed.stdout + freed.stderr
    worker = cluster.json("status")["workers"][0]["url"]
    progress = f"{worker}/v1/load?path={data.uri('mine/')}&opType=progress"
    assert cluster.get(progress) == 401
    assert cluster.get(progress, token) == 200
    assert cluster.get(f"{worker}/v1/load?path={data.uri('mine/')}&opType=submit", cluster.token("read")) == 403


def test_a_token_takes_effect_and_loses_it_within_a_second(cluster: Cluster, data: Bucket):
    workers = [worker["url"] for worker in cluster.json("status")["workers"]]
    urls = [f"{cluster.url}/v1/jobs", *(f"{worker}/v1/stat?path={data.uri('mine/0')}" for worker in workers)]
    token = cluster.token("read")
    within(TAKES_EFFECT_SECONDS, lambda: [cluster.get(url, token) for url in urls] == [200] * 3)
    assert cluster.run("token", "revoke", token.split("_")[1], token=cluster.admin).returncode == 0
    within(TAKES_EFFECT_SECONDS, lambda: [cluster.get(url, token) for url in urls] == [401] * 3)
    listed = [each["id"] for each in cluster.json("token", "ls", token=cluster.admin)["tokens"]]
    assert token.split("_")[1] not in listed


def test_workers_serve_who_is_known_while_the_engine_is_away(cluster: Cluster, data: Bucket):
    token = cluster.token("read", data.uri("mine/"))
    reader = cluster.filesystem(token)
    assert reader.cat(f"{data.name}/mine/1") == b"some data"
    engine = next(part["pid"] for part in cluster.json("status")["parts"] if part["name"] == "nats-server")
    os.kill(engine, signal.SIGSTOP)
    try:
        assert reader.cat(f"{data.name}/mine/1") == b"some data"
        with pytest.raises(Forbidden):
            reader.cat(f"{data.name}/other/1")
    finally:
        os.kill(engine, signal.SIGCONT)


def test_a_certificate_that_nobody_vouches_for_is_refused(cluster: Cluster, tmp_path: Path):
    stranger = Authority.make(tmp_path / "stranger")
    refused = cluster.run("--ca", str(stranger.ca), "job", "ls", token=cluster.admin)
    assert (refused.returncode, "not trusted" in refused.stderr) == (1, True)
    assert "--ca" in refused.stderr


def test_no_secret_is_in_a_log_a_record_or_a_command_line(cluster: Cluster, data: Bucket):
    """Greps all that the cluster wrote, the engine's files with all key-value state among it, and /proc."""
    token = cluster.token("submit", data.uri("mine/"))
    assert cluster.run("load", data.uri("mine/"), token=token).returncode == 0
    assert cluster.run("job", "ls", token=token + "x").returncode == 1
    secrets = [each.split("_", 2)[2].encode() for each in (token, cluster.admin)]
    secrets.append(cluster.environment["AWS_SECRET_ACCESS_KEY"].encode())
    files = [path for path in cluster.data_dir.rglob("*") if path.is_file() and path.name != "admin.token"]
    assert any(b"token_created" in path.read_bytes() for path in files), "the logs were looked at"
    assert any(token.split("_")[1].encode() in path.read_bytes() for path in files if "store" in path.parts)
    holders = [path.name for path in files for secret in secrets if secret in path.read_bytes()]
    assert holders == []
    pids = [part["pid"] for part in cluster.json("status")["parts"]]
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids]
    assert not any(secret in command for command in commands for secret in secrets)


@pytest.mark.parametrize(
    "command",
    [
        ("coordinator", "--host", "0.0.0.0", "--port", "0"),
        ("worker", "--host", "::", "--port", "0"),
        ("up", "--worker-hosts", "192.0.2.1"),
    ],
    ids=lambda command: command[0],
)
def test_the_network_is_not_served_to_everybody_by_accident(command: tuple[str, ...], tmp_path: Path):
    lab = Cluster(data_dir=tmp_path, environment={**os.environ, "PREHEAT_DATA_DIR": str(tmp_path), "COLUMNS": "1000"})
    refused = lab.run(*command)
    assert refused.returncode == 2
    assert "--auth" in refused.stderr
    assert "--allow-anonymous" in refused.stderr
    assert command[2] in refused.stderr
