"""The running parts that the works are measured on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import requests
from fsspec import filesystem

from preheat.cli._tokens import TokenClient
from preheat.client import Client
from preheat.fs import PreheatFileSystem
from preheat.jobs import JobOptions, JobSpec, JobType
from preheat.placement import Member, PlacementMap
from preheat.token_files import read_token_file
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.processes import ChildProcess
from testbed.s3 import SeaweedFS
from tests.benchmarks.data import BUCKET, ObjectSet, content
from tests.benchmarks.metering import cluster_pids
from tests.benchmarks.peers import Peers, start_nginx
from tests.benchmarks.settings import Settings

WORKERS = 2
_LOAD_SECONDS = 300.0
_WAIT_SECONDS = 60.0
_ENDED = 1 << 50
"""A revision that no job reaches: a wait for it ends with the job."""


class WrongResultError(Exception):
    """A system did not do what it was measured at."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The S3 server as its clients reach it, directly or from afar."""

    server: SeaweedFS
    port: int
    pids: Mapping[str, int]
    """The server, and what is before it."""
    work: str = "load"
    """What a load from here is called."""

    @classmethod
    def near(cls, server: SeaweedFS) -> Origin:
        """Return the server itself."""
        return cls(server=server, port=server.port, pids={"origin": server.process.pid})

    @classmethod
    def distant(cls, server: SeaweedFS, port: int, proxy: ChildProcess) -> Origin:
        """Return the server behind a proxy that delays."""
        pids = {"origin": server.process.pid, "delay proxy": proxy.pid}
        return cls(server=server, port=port, work="distant", pids=pids)

    @property
    def environment(self) -> dict[str, str]:
        """How any AWS client reaches it."""
        return {**self.server.environment(), "AWS_ENDPOINT_URL": self.endpoint}

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What runs during one round."""

    settings: Settings
    directory: Path
    """On the disk that everything is written to."""
    peers: Peers
    origin: Origin
    cluster: LocalCluster
    token: str = field(repr=False)
    """Allows to submit jobs and to read, below the bucket only."""
    nginx: ChildProcess
    nginx_port: int

    @property
    def nginx_files(self) -> Path:
        """What nginx serves."""
        return self.directory / "nginx" / "files"

    @property
    def pids(self) -> dict[str, int]:
        """Our processes."""
        return cluster_pids(self.cluster)

    def load(self, objects: ObjectSet) -> None:
        """Load a set through the coordinator, from the submit by REST to SUCCEEDED.

        Raises:
            WrongResultError: the job ended otherwise, or not within five minutes.
        """
        self._run(JobSpec(paths=(objects.uri,), options=JobOptions(skip_if_exists=False)), objects)

    def free(self, objects: ObjectSet) -> None:
        """Free a set that was loaded.

        Raises:
            WrongResultError: as for ``load``.
        """
        self._run(JobSpec(type=JobType.FREE, paths=(objects.uri,)), objects)

    def _run(self, spec: JobSpec, objects: ObjectSet) -> None:
        with Client(self.cluster.url, token=self.token) as client:
            job = client.submit(spec)
            deadline = time.monotonic() + _LOAD_SECONDS
            while not job.state.ended and time.monotonic() < deadline:
                job = client.job(job.id, wait=_WAIT_SECONDS, after=_ENDED)
        if job.state != "SUCCEEDED" or job.loaded.files != objects.count:
            raise WrongResultError(f"The {spec.type} of {objects.uri} is {job.state}, {job.loaded}: {job.reason}")

    def filesystem(self) -> PreheatFileSystem:
        """Return a new fsspec filesystem on the cluster."""
        found: PreheatFileSystem = filesystem(
            "preheat", coordinator=self.cluster.url, token=self.token, skip_instance_cache=True
        )
        return found

    def owners(self, keys: Sequence[str]) -> list[Member]:
        """Return the worker that holds each object."""
        headers = {"Authorization": f"Bearer {self.token}"}
        with requests.get(f"{self.cluster.url}/v1/placement", headers=headers, timeout=10) as response:
            response.raise_for_status()
            placement = msgspec.json.decode(response.content, type=PlacementMap)
        return [placement.owners(f"s3://{BUCKET}/{key}")[0] for key in keys]

    def check(self, objects: ObjectSet) -> int:
        """Compare some cached objects byte by byte with their source, and return how many.

        Raises:
            WrongResultError: one differs, or was not cached.
        """
        keys = objects.checked
        fs = self.filesystem()
        for key in keys:
            if fs.cat_file(f"{BUCKET}/{key}") != content(key, objects.size):
                raise WrongResultError(f"The cache has other bytes of {key} than its source.")
        if fs.stats.misses:
            raise WrongResultError(f"{fs.stats.misses} of {len(keys)} objects of {objects.uri} were not cached.")
        return len(keys)


@contextmanager
def running(settings: Settings, *, directory: Path, peers: Peers, origin: Origin, warmup: ObjectSet) -> Iterator[Bench]:
    """Run a new cluster that asks for tokens, and has loaded a few objects before, and nginx; nothing of them stays."""
    nginx_files = directory / "nginx" / "files"
    nginx_files.mkdir(parents=True)
    nginx, port = start_nginx(peers, nginx_files.parent)
    environment = {**origin.environment, "PREHEAT_AUTH": "true"}
    try:
        with nginx, local_cluster(directory / "cluster", environment=environment, workers=WORKERS) as cluster:
            bench = Bench(
                settings=settings,
                directory=directory,
                peers=peers,
                origin=origin,
                cluster=cluster,
                token=_make_token(cluster),
                nginx=nginx,
                nginx_port=port,
            )
            bench.load(warmup)
            yield bench
    finally:
        shutil.rmtree(directory)


def _make_token(cluster: LocalCluster) -> str:
    admin = read_token_file(cluster.data_dir / "admin.token").text
    with TokenClient(cluster.url, token=admin) as client:
        return client.create(role="submit", paths=[f"s3://{BUCKET}/"], name="bench").token
