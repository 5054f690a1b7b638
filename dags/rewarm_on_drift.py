"""Warms a dataset anew when it has changed at its origin, and tells of its new version.

A watcher in the triggerer lets the coordinator list the dataset every five minutes. What it finds starts one
run; the load skips what has not changed.
"""

from __future__ import annotations

from airflow.sdk import DAG, Asset, AssetWatcher

from airflow_preheat.assets import warm_asset
from airflow_preheat.operators import PreloadOperator
from airflow_preheat.triggers import DatasetDriftTrigger

DATASET = "s3://datasets/shards/"
CHANGED = Asset(
    DATASET,
    watchers=[AssetWatcher(name="shards_drift", trigger=DatasetDriftTrigger(path=DATASET, poll_interval=300))],
)

with DAG(
    dag_id="rewarm_on_drift",
    schedule=[CHANGED],
    max_active_runs=1,
    doc_md=__doc__,
    tags=["preheat"],
):
    # The partition is the dataset version: what is scheduled on it runs once for each (train_on_pinned_version).
    PreloadOperator(task_id="warm", path=DATASET, partition="{version}", outlets=[warm_asset(DATASET)], retries=3)
