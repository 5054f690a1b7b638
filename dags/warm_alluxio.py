"""Warms datasets in an Alluxio, without a Preheat cluster.

The connection `alluxio_default` has the type `preheat`, and leads to Alluxio's coordinator:
`{"conn_type": "preheat", "host": "alluxio-coordinator", "port": 19999, "extra": {"dialect": "alluxio-3.6"}}`.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_preheat.operators import PreloadOperator

PATHS = ["s3://datasets/digits/", "s3://datasets/shards/"]

with DAG(
    dag_id="warm_alluxio",
    schedule=None,
    default_args={"retries": 3},
    doc_md=__doc__,
    tags=["preheat"],
):
    # Alluxio has one load job for a path, so one task for each; its end is noticed by asking.
    PreloadOperator.partial(task_id="warm", preheat_conn_id="alluxio_default", poll_interval=5).expand(path=PATHS)
