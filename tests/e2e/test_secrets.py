"""Nothing secret is left anywhere: everything that Airflow and the cluster wrote, stored or serve is searched for it.

The cluster asks for a token over TLS. The token, the path of the CA certificate and the keys of the origin are texts
that occur nowhere else; so are a token and a path that are wrong, since errors are where such things get out.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet

from demo import dataset
from testbed.airflow import AirflowStandalone
from testbed.airflow_client import poll
from testbed.certificates import Authority
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.s3 import SeaweedFS
from tests.e2e.runs import SECONDS, TASK, Run, fill, start

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

PATH = f"s3://{dataset.BUCKET}/fences"
OUTCOMES = {
    "loads": "success",
    "loads_in_worker": "success",
    "senses": "success",
    "unknown_bucket": "failed",
    "wrong_token": "failed",
    "wrong_ca": "failed",
}
DAG_FILE = f"""
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_preheat.assets import warm_asset
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.sensors import DatasetWarmSensor
from airflow_preheat.triggers import DatasetWarmTrigger


def preload(dag_id, path="{PATH}/loads/", **arguments):
    with DAG(dag_id, schedule=None):
        PreloadOperator(task_id="{TASK}", path=path, outlets=[warm_asset(path)], **arguments)


preload("loads", bandwidth="8KiB", batch_size=1)
preload("loads_in_worker", "{PATH}/loads_in_worker/", deferrable=False)
preload("unknown_bucket", "s3://no-such-bucket/x/")
preload("wrong_token", preheat_conn_id="preheat_wrong_token")
preload("wrong_ca", preheat_conn_id="preheat_wrong_ca")
with DAG("senses", schedule=None):
    DatasetWarmSensor(task_id="{TASK}", path="{PATH}/loads/", version=None, poke_interval=2)

for conn_id in ("preheat_default", "preheat_wrong_token", "preheat_wrong_ca"):
    trigger = DatasetWarmTrigger(path="{PATH}/loads/", preheat_conn_id=conn_id, poll_interval=2.0)
    watcher = AssetWatcher(name=conn_id, trigger=trigger)
    with DAG(f"watches_{{conn_id}}", schedule=[Asset(f"preheat://watched/{{conn_id}}", watchers=[watcher])]):
        EmptyOperator(task_id="train")
"""


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """The texts to look for, by name, and a key to read what Airflow encrypts."""

    texts: Mapping[str, str]
    fernet_key: str


@dataclass(frozen=True, kw_only=True)
class Place:
    """An Airflow and a cluster that have been through it all."""

    airflow: AirflowStandalone
    cluster: LocalCluster
    runs: dict[str, Run]
    database_meanwhile: str
    """Airflow's database while a task was deferred."""


@pytest.fixture(scope="module")
def guarded(origin: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalCluster, Path]]:
    """A cluster that asks for tokens, and the certificate to trust."""
    tls = Authority.make(tmp_path_factory.mktemp("pki")).issue("preheat", "127.0.0.1")
    settings = {
        "PREHEAT_AUTH": "true",
        "PREHEAT_TLS_CERT": str(tls.cert),
        "PREHEAT_TLS_KEY": str(tls.key),
        "PREHEAT_CA_FILE": str(tls.ca),
    }
    data_dir = tmp_path_factory.mktemp("guarded")
    with local_cluster(data_dir, environment=origin.environment() | settings) as running:
        yield running, Path(str(tls.ca))


@pytest.fixture(scope="module")
def hidden(guarded: tuple[LocalCluster, Path], origin: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Secrets:
    cluster, ca = guarded
    trusted = tmp_path_factory.mktemp(f"canary{secrets.token_hex(8)}") / "ca.pem"
    shutil.copy(ca, trusted)
    answer = requests.post(
        f"{cluster.url}/v1/tokens",
        json={"role": "submit", "name": "airflow"},
        headers={"Authorization": f"Bearer {(cluster.data_dir / 'admin.token').read_text().strip()}"},
        verify=str(ca),
        timeout=SECONDS,
    )
    answer.raise_for_status()
    texts = {
        "token": answer.json()["token"],
        "wrong token": f"canary{secrets.token_hex(8)}",
        "CA path": str(trusted),
        "wrong CA path": f"/nowhere/canary{secrets.token_hex(8)}.pem",
        "S3 key id": origin.access_key,
        "S3 secret key": origin.secret_key,
    }
    return Secrets(texts=texts, fernet_key=Fernet.generate_key().decode())


def connections(url: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the Airflow connections: a right one, and two that are wrong."""
    wrong = {"preheat_wrong_token": ("wrong token", "CA path"), "preheat_wrong_ca": ("token", "wrong CA path")}
    return {
        f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(
            {"conn_type": "preheat", "password": texts[token], "extra": {"url": url, "ca_cert": texts[ca]}}
        )
        for conn_id, (token, ca) in ({"preheat_default": ("token", "CA path")} | wrong).items()
    }


@pytest.fixture(scope="module")
def place(
    guarded: tuple[LocalCluster, Path], hidden: Secrets, origin: SeaweedFS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    cluster, ca = guarded
    fill(origin, ["loads", "loads_in_worker"])
    dags = tmp_path_factory.mktemp("dags")
    (dags / "secrets.py").write_text(DAG_FILE)
    variables = connections(cluster.url, hidden.texts) | {"AIRFLOW__CORE__FERNET_KEY": hidden.fernet_key}
    home = tmp_path_factory.mktemp("airflow")
    with AirflowStandalone(home=home, dags_folder=dags, variables=variables) as airflow:
        runs = start(airflow, dict.fromkeys(OUTCOMES, cluster.url))
        for conn_id in ("preheat_default", "preheat_wrong_token", "preheat_wrong_ca"):
            airflow.client().unpause(f"watches_{conn_id}")
        runs["loads"].wait_for_trigger()
        job_id = runs["loads"].current_job_id()
        meanwhile = database(airflow, hidden.fernet_key)
        headers = {"Authorization": f"Bearer {hidden.texts['token']}"}
        address = f"{cluster.url}/v1/jobs/{job_id}"
        requests.patch(address, json={"bandwidth": None}, headers=headers, verify=str(ca), timeout=SECONDS)
        for dag_id, outcome in OUTCOMES.items():
            assert runs[dag_id].outcome() == outcome, runs[dag_id].log()
        poll(lambda: airflow.client().triggering_events("watches_preheat_default"), seconds=SECONDS, what="the watcher")
        yield Place(airflow=airflow, cluster=cluster, runs=runs, database_meanwhile=meanwhile)


def database(airflow: AirflowStandalone, fernet_key: str) -> str:
    """Return every row of every table as text, what is encrypted in the table of triggers as it was."""
    with closing(sqlite3.connect(airflow.home / "airflow.db", timeout=SECONDS)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [repr((table, row)) for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
        # Airflow encrypts those of watchers; those of tasks are plain, and among the rows.
        encrypted = [kwargs for (kwargs,) in connection.execute("SELECT kwargs FROM trigger") if kwargs[0] != "{"]
    fernet = Fernet(fernet_key.encode())
    return "\n".join([*rows, *(fernet.decrypt(kwargs.encode()).decode() for kwargs in encrypted)])


def files(folder: Path, pattern: str) -> str:
    return "\n".join(path.read_text(errors="replace") for path in sorted(folder.rglob(pattern)) if path.is_file())


def pages(place: Place, addresses: list[str]) -> str:
    """Return what Airflow's API server shows a user who is logged in."""
    token, texts = place.airflow.client().token, []
    for address in addresses:
        answer = requests.get(f"{place.airflow.url}{address}", cookies={"_token": token}, timeout=SECONDS)
        if answer.status_code == 401:  # the REST API wants it in the header
            bearer = {"Authorization": f"Bearer {token}"}
            answer = requests.get(f"{place.airflow.url}{address}", headers=bearer, timeout=SECONDS)
        assert answer.ok, (address, answer.status_code, answer.text[:300])
        texts.append(answer.text)
    return "\n".join(texts)


def addresses(place: Place) -> list[str]:
    conn_ids = ("preheat_default", "preheat_wrong_token", "preheat_wrong_ca")
    ui = [f"/preheat/connections/{conn_id}{part}" for conn_id in conn_ids for part in ("", "/overview", "/datasets")]
    rest = ["/api/v2/assets/events", "/api/v2/eventLogs", "/api/v2/importErrors", "/api/v2/plugins", "/api/v2/jobs"]
    for run in place.runs.values():
        ui += [f"/preheat/dags/{run.dag_id}/runs/{run.run_id}/tasks/{TASK}/-1{part}" for part in ("", "/job")]
        task = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{TASK}"
        rest += [task, f"{task}/logs/1", f"{task}/xcomEntries", f"{task}/links"]
    return ui + [address.replace("+", "%2B") for address in rest]


def cluster_api(place: Place, texts: Mapping[str, str]) -> str:
    """Return what the coordinator tells of its jobs, workers and events."""
    headers = {"Authorization": f"Bearer {texts['token']}"}
    said = []
    for path in ("jobs", "workers", "inventories", "mounts"):
        answer = requests.get(
            f"{place.cluster.url}/v1/{path}", headers=headers, verify=texts["CA path"], timeout=SECONDS
        )
        assert answer.ok, answer.text
        said.append(answer.text)
    return "\n".join(said)


def test_nothing_secret_is_written_stored_or_shown(place: Place, hidden: Secrets) -> None:
    job_id = place.runs["loads"].current_job_id()
    searched = {
        "the database while a task was deferred": (place.database_meanwhile, job_id),
        "the database": (database(place.airflow, hidden.fernet_key), job_id),
        "the logs of tasks and triggers": (files(place.airflow.home / "logs", "*.log*"), job_id),
        "the log of scheduler, triggerer and API server": (files(place.airflow.home, "standalone.log"), "triggerer"),
        "Airflow's pages and REST API": (pages(place, addresses(place)), job_id),
        "the cluster's REST API": (cluster_api(place, hidden.texts), job_id),
        "the cluster's logs": (files(place.cluster.data_dir, "*.log"), job_id),
    }

    assert [name for name, (text, part) in searched.items() if part not in text] == []  # it is what it should be
    found = [
        (name, kind) for name, (text, _) in searched.items() for kind, value in hidden.texts.items() if value in text
    ]
    assert found == []
