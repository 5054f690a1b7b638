"""Warms a dataset for one training, and gives its room back afterwards, also if the training fails.

For datasets that are read once: those that many trainings share are better left to be evicted.
"""

from __future__ import annotations

import fsspec
from airflow.sdk import DAG, task

from airflow_preheat.hooks import PreheatHook
from airflow_preheat.operators import FreeOperator, PreloadOperator

IMAGES = "datasets/digits/train"
DATASET = f"s3://{IMAGES}/"


@task
def train() -> dict[str, int]:
    """Read the dataset through the cache; here goes your training."""
    filesystem = fsspec.filesystem("preheat", coordinator=PreheatHook().endpoint.url)
    images = filesystem.cat(filesystem.find(IMAGES))
    return {"images": len(images), "bytes": sum(map(len, images.values()))}


with DAG(
    dag_id="free_after_training",
    schedule=None,
    max_active_runs=1,  # one run would free what another one reads
    doc_md=__doc__,
    tags=["preheat"],
):
    warm = PreloadOperator(task_id="warm", path=DATASET)
    free = FreeOperator(task_id="free", path=DATASET)
    # As a teardown, free runs whatever becomes of the training, and does not hide that it failed.
    warm >> train() >> free.as_teardown(setups=warm)
