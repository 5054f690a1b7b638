"""The running parts that the works are measured on."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import requests
from fsspec import filesystem

from preheat.client import Client
from preheat.fs import PreheatFileSystem
from preheat.jobs import JobOptions, JobSpec
from preheat.placement import Member, PlacementMap
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.processes import ChildProcess
from testbed.s3 import SeaweedFS
from tests.benchmarks.comparisons import Comparison
from tests.benchmarks.data import BUCKET, KIB, MIB, ObjectSet, content
from tests.benchmarks.metering import cluster_pids
from tests.benchmarks.peers import Peers, start_nginx

WORKERS = 2
_LOAD_SECONDS = 300.0
_WAIT_SECONDS = 60.0
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

    def describe(self) -> dict[str, Any]:
        """Return the settings for the report."""
        return asdict(self)

    def titled(self, comparison: Comparison) -> Comparison:
        """Return a comparison with this run's numbers in the fields of its title."""
        large, small, tiny = self.large, self.small, self.tiny
        title = comparison.title.format(
            large_count=large.count,
            large_size=f"{large.size // MIB} MiB",
            small_count=f"{small.count:,}",
            small_size=f"{small.size // KIB} KiB",
            tiny_count=f"{tiny.count:,}",
            tiny_size=f"{tiny.size // KIB} KiB",
            list_count=f"{sum(objects.count for objects in self.sets):,}",
            read_count=f"{self.read_count:,}",
        )
        return replace(comparison, title=title)


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
    def nginx_files(self) -> Path:
        """What nginx serves."""
        return self.directory / "nginx" / "files"

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
            WrongResultError: the job ended otherwise, or not within five minutes.
        """
        options = JobOptions(skip_if_exists=False)
        with Client(self.cluster.url) as client:
            job = client.submit(JobSpec(paths=(objects.uri,), options=options))
            deadline = time.monotonic() + _LOAD_SECONDS
            while not job.state.ended and time.monotonic() < deadline:
                job = client.job(job.id, wait=_WAIT_SECONDS, after=_ENDED)
        if job.state != "SUCCEEDED" or job.loaded.files != objects.count:
            raise WrongResultError(f"The load of {objects.uri} is {job.state} with {job.loaded}: {job.reason}")

    def filesystem(self) -> PreheatFileSystem:
        """Return a new fsspec filesystem on the cluster."""
        found: PreheatFileSystem = filesystem("preheat", coordinator=self.cluster.url, skip_instance_cache=True)
        return found

    def owners(self, keys: Sequence[str]) -> list[Member]:
        """Return the worker that holds each object."""
        with requests.get(f"{self.cluster.url}/v1/placement", timeout=10) as response:
            placement = msgspec.json.decode(response.content, type=PlacementMap)
        return [placement.owners(f"s3://{BUCKET}/{key}")[0] for key in keys]

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
def running(
    settings: Settings, *, directory: Path, peers: Peers, origin: SeaweedFS, warmup: ObjectSet
) -> Iterator[Bench]:
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
