"""Warms a dataset in every region, each of which has a cluster of its own, and trains when all of them are warm.

The regions are partitions of one Asset: `warm_regions` tells of each as soon as it is warm, and
`train_in_all_regions` waits for all of them. Needs Airflow 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk import (
    DAG,
    FixedKeyMapper,
    PartitionedAssetTimetable,
    PartitionedAtRuntime,
    RollupMapper,
    SegmentWindow,
    task,
)

from airflow_preheat.assets import warm_asset
from airflow_preheat.operators import PreloadOperator

REGIONS = ["eu", "us"]  # each with an Airflow connection: preheat_eu, preheat_us
DATASET = "s3://datasets/digits/test/"
WARM = warm_asset(DATASET)

with DAG(
    dag_id="warm_regions",
    schedule=PartitionedAtRuntime(),  # somebody triggers it; a cron timetable does as well
    doc_md=__doc__,
    tags=["preheat"],
):
    for region in REGIONS:
        PreloadOperator(
            task_id=f"warm_{region}",
            path=DATASET,
            preheat_conn_id=f"preheat_{region}",
            partition=region,
            outlets=[WARM],
            retries=3,
        )


@task
def train(*, triggering_asset_events: Mapping[Any, Sequence[Any]]) -> str | None:
    """Make sure that all regions have the same version; here goes your training."""
    versions = {event.extra["dataset_version"] for event in triggering_asset_events.get(WARM, [])}
    if len(versions) > 1:
        raise ValueError(f"the regions have different versions of {DATASET}: {versions}; run warm_regions again.")
    return next(iter(versions), None)


with DAG(
    dag_id="train_in_all_regions",
    schedule=PartitionedAssetTimetable(
        assets=WARM,
        # MinimumCount(1) as the wait_policy would start it with the first region.
        default_partition_mapper=RollupMapper(upstream_mapper=FixedKeyMapper("all"), window=SegmentWindow(REGIONS)),
    ),
    max_active_runs=1,
    doc_md=__doc__,
    tags=["preheat"],
):
    train()
