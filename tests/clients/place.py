"""Where the sessions work: a cluster of two workers that asks for tokens, over a bucket that may be written to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import randint
from typing import Any
from urllib.parse import quote, urlsplit

from testbed.local_cluster import LocalCluster, local_cluster
from testbed.s3 import REGION, S3Server
from tests.clients.session import ONE, SIZES, content

BUCKET = "clients-data"
_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class Place:
    """A warmed bucket, and two ways to it."""

    owner: str
    """S3 endpoint of the worker that has the first object."""
    other: str
    """S3 endpoint of the worker that has not."""
    environment: dict[str, str]
    """What clients need but for the endpoint."""
    admin: dict[str, str]
    """What the commands of an admin need."""


def fill(origin: S3Server) -> None:
    """Make the bucket at an origin."""
    client = origin.client()
    client.create_bucket(Bucket=BUCKET)
    for key in SIZES:
        client.put_object(Bucket=BUCKET, Key=key, Body=content(key))
    client.close()


@contextmanager
def warm_place(origin: S3Server, data_dir: Path, *, auth: bool = True) -> Iterator[Place]:
    """Run a cluster over an origin that was filled, mount the bucket, and load it.

    Args:
        origin: where the bucket is.
        data_dir: of the cluster.
        auth: whether the cluster asks for tokens, and takes free ports: Alluxio's clients have no token, and expect
            Alluxio's ports.
    """
    environment = {**origin.environment(), "PREHEAT_AUTH": str(auth).lower()}
    hosts = () if auth else _loopback_hosts()
    with local_cluster(data_dir, environment=environment, worker_hosts=hosts) as cluster:
        yield _prepared(cluster, auth=auth)


def _loopback_hosts() -> tuple[str, str]:
    """Return two addresses of this machine on which hardly anybody else listens."""
    network = f"127.{randint(1, 254)}.{randint(1, 254)}"
    return f"{network}.1", f"{network}.2"


def _prepared(cluster: LocalCluster, *, auth: bool) -> Place:
    admin = {"PREHEAT_COORDINATOR_URL": cluster.url}
    if auth:
        admin["PREHEAT_TOKEN"] = (cluster.data_dir / "admin.token").read_text().strip()
    _preheat("mount", "add", BUCKET, f"s3://{BUCKET}/", "--writes", "through", environment=admin)
    _preheat("job", "load", "--path", f"s3://{BUCKET}/", "--submit", "--wait", environment=admin)
    environment = {
        "PREHEAT_COORDINATOR_URL": cluster.url,
        "WORKERS": ",".join(urlsplit(url).netloc for url in cluster.worker_urls),
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "BUCKET": BUCKET,
    }
    if auth:
        options = ("--role", "submit", "--path", f"s3://{BUCKET}/", "--s3", "--json")
        made = json.loads(_preheat("token", "create", *options, environment=admin))
        environment |= {**made["env"], "PREHEAT_TOKEN": made["token"]}
    workers = _get(f"{cluster.url}/v1/workers", admin)["workers"]
    owners = [worker for worker in workers if _holds(worker["url"], admin)]
    others = [worker for worker in workers if worker not in owners]
    return Place(
        owner=owners[0]["s3Url"],
        other=others[0]["s3Url"],
        environment=environment,
        admin=admin,
    )


def _holds(worker_url: str, environment: dict[str, str]) -> bool:
    found = _get(f"{worker_url}/v1/cached?path={quote(f's3://{BUCKET}/{ONE}')}", environment)
    return bool(found["objects"])


def _get(url: str, environment: dict[str, str]) -> Any:
    token = environment.get("PREHEAT_TOKEN")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        return json.load(answer)


def _preheat(*arguments: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        [Path(sys.executable).with_name("preheat"), *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"preheat {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout
