"""Trains once on each version of a dataset that has become warm, and keeps that version as it is meanwhile.

A pin lets readers get this version and nothing else, and lets none of it be evicted, whatever changes at the
origin. Needs Airflow 3.3, whose Assets have partitions that are named while a task runs.
"""

from __future__ import annotations

from typing import Any

import fsspec
from airflow.sdk import DAG, PartitionedAssetTimetable, task

from airflow_preheat.assets import warm_asset
from airflow_preheat.hooks import PreheatHook

SHARDS = "datasets/shards"
DATASET = f"s3://{SHARDS}/"


@task
def pin(*, dag_run: Any) -> dict[str, str]:
    """Pin the version that has started the run; of a run that somebody triggered, the one that was loaded last."""
    pinned = PreheatHook().pin(DATASET, version=dag_run.partition_key)
    return {"id": pinned["id"], "version": pinned["version"]}


@task
def train(pinned: dict[str, str]) -> dict[str, object]:
    """Read this version through the cache; here goes your training."""
    filesystem = fsspec.filesystem("preheat", coordinator=PreheatHook().endpoint.url, version=pinned["version"])
    shards = filesystem.cat(filesystem.ls(SHARDS, detail=False))
    return {"version": pinned["version"], "files": len(shards), "bytes": sum(map(len, shards.values()))}


@task
def unpin(pinned: dict[str, str]) -> None:
    """Let the path move on to newer versions."""
    PreheatHook().unpin(pinned["id"])


with DAG(
    dag_id="train_on_pinned_version",
    schedule=PartitionedAssetTimetable(assets=warm_asset(DATASET)),
    max_active_runs=1,  # a path has one pin
    doc_md=__doc__,
    tags=["preheat"],
):
    pinned = pin()
    # A teardown runs also if the training fails.
    train(pinned) >> unpin(pinned).as_teardown(setups=pinned)
