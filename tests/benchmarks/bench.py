"""The running parts that the works are measured on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsspec import filesystem

from preheat.client import Client
from preheat.fs import PreheatFileSystem
from preheat.jobs import JobSpec, LoadOptions
from preheat.placement import Member, PlacementMap
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.processes import ChildProcess
from testbed.s3 import SeaweedFS
from tests.benchmarks.data import BUCKET, ObjectSet, content
from tests.benchmarks.metering import cluster_pids
from tests.benchmarks.peers import Peers, start_nginx

WORKERS = 2
_LOAD_SECONDS = 300.0
_ENDED = 1 << 50
"""A revision that no job reaches: a wait for it ends with the job."""


class WrongResultError(Exception):
    """A system did not do what it was measured at."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured."""

    large: ObjectSet
    small: ObjectSet
    tiny: ObjectSet
    filler: ObjectSet
    """Makes up the number of keys to list."""
    rounds: int
    serve_seconds: float
    read_count: int

    @property
    def sets(self) -> tuple[ObjectSet, ...]:
        """All objects below the listed prefix."""
        return (self.large, self.small, self.tiny, self.filler)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What runs during one round."""

    settings: Settings
    directory: Path
    """On the disk that everything is written to."""
    peers: Peers
    origin: SeaweedFS
    cluster: LocalCluster
    nginx: ChildProcess
    nginx_port: int

    @property
    def pids(self) -> dict[str, int]:
        """Our processes."""
        return cluster_pids(self.cluster)

    @property
    def environment(self) -> Mapping[str, str]:
        """How any AWS client reaches the origin."""
        return self.origin.environment()

    def load(self, objects: ObjectSet) -> None:
        """Load a set through the coordinator, from the submit by REST to SUCCEEDED.

        Raises:
            WrongResultError: the job ended otherwise.
        """
        options = LoadOptions(skip_if_exists=False)
        with Client(self.cluster.url) as client:
            submitted = client.submit(JobSpec(paths=(objects.uri,), options=options))
            job = client.job(submitted.id, wait=_LOAD_SECONDS, after=_ENDED)
        if job.state != "SUCCEEDED" or job.loaded.files != objects.count:
            raise WrongResultError(f"The load of {objects.uri} is {job.state} with {job.loaded}: {job.reason}")

    def filesystem(self) -> PreheatFileSystem:
        """Return a new fsspec filesystem on the cluster."""
        found: PreheatFileSystem = filesystem("preheat", coordinator=self.cluster.url, skip_instance_cache=True)
        return found

    def owner(self, key: str) -> Member:
        """Return the worker that holds an object."""
        with Client(self.cluster.url) as client:
            workers = client.workers()
        members = tuple(
            Member(id=worker.id, url=worker.url, weight=worker.capacity / (1 << 30)) for worker in workers.workers
        )
        return PlacementMap(members=members).owners(f"s3://{BUCKET}/{key}")[0]

    def check(self, objects: ObjectSet, count: int) -> int:
        """Compare some cached objects byte by byte with their source, and return how many.

        Raises:
            WrongResultError: one differs, or was not cached.
        """
        keys = objects.sample(count)
        fs = self.filesystem()
        for key in keys:
            if fs.cat_file(f"{BUCKET}/{key}") != content(key, objects.size):
                raise WrongResultError(f"The cache has other bytes of {key} than its source.")
        if fs.stats.misses:
            raise WrongResultError(f"{fs.stats.misses} of {len(keys)} objects of {objects.uri} were not cached.")
        return len(keys)


@contextmanager
def running(settings: Settings, *, directory: Path, peers: Peers, origin: SeaweedFS, warmup: ObjectSet) -> Iterator[Bench]:
    """Run a new cluster, which has loaded a few objects before, and nginx; nothing of them stays."""
    nginx_files = directory / "nginx" / "files"
    nginx_files.mkdir(parents=True)
    nginx, port = start_nginx(peers, nginx_files.parent)
    try:
        with nginx, local_cluster(directory / "cluster", environment=origin.environment(), workers=WORKERS) as cluster:
            bench = Bench(
                settings=settings,
                directory=directory,
                peers=peers,
                origin=origin,
                cluster=cluster,
                nginx=nginx,
                nginx_port=port,
            )
            bench.load(warmup)
            yield bench
    finally:
        shutil.rmtree(directory)
