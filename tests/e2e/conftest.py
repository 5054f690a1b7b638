from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from demo import dataset
from testbed.local_cluster import LocalCluster, local_cluster
from testbed.s3 import SeaweedFS

DAGS_FOLDER = Path(__file__).parents[2] / "dags"
SHARDS = dict(dataset.shards(count=2, size=2**20))
DIGITS = dict(dataset.digit_images())


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """An S3 server with the datasets that dags/datasets.yaml names."""
    with SeaweedFS(tmp_path_factory.mktemp("origin")) as server:
        dataset.upload(server.client(), chain(DIGITS.items(), SHARDS.items()))
        yield server


@pytest.fixture(scope="session")
def cluster(origin: SeaweedFS, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with local_cluster(tmp_path_factory.mktemp("cluster"), environment=origin.environment()) as running:
        yield running
