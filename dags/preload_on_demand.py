"""Loads one dataset into the cache when somebody asks for it.

Press **Trigger** and fill in the form.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_preheat.operators import PreloadOperator

PARAMS = {
    "path": Param(
        "s3://datasets/digits/",
        type="string",
        pattern=r"^(s3://[^/?#%@ ]+(/.*)?|file:///.+)$",
        title="Path",
        description="What to load: an object or a prefix, s3://BUCKET/PREFIX/ or file:///DIRECTORY/.",
    ),
    "replicas": Param(
        1,
        type="integer",
        minimum=1,
        maximum=16,
        title="Replicas",
        description="On how many workers each object is kept.",
    ),
    "verify": Param(
        default=True,
        type="boolean",
        title="Verify",
        description="Read everything back from the workers and compare checksums before the run succeeds.",
    ),
    "skip_if_exists": Param(
        default=True,
        type="boolean",
        title="Skip what is cached",
        description="Leave objects alone that are cached already, at the origin's current version.",
    ),
    "bandwidth": Param(
        None,
        type=["null", "string"],
        pattern=r"^[0-9]+(\.[0-9]+)? ?([kKmMgGtT]i?)?[bB]?(/s)?$",
        title="Bandwidth",
        description="The most that a worker reads from the origin in a second, e.g. 100MiB. Empty: no limit.",
    ),
    "file_filter_regex": Param(
        None,
        type=["null", "string"],
        title="Only files that match",
        description="A regular expression that must match an object's whole key, e.g. .*[.]parquet. Empty: everything.",
    ),
}

with DAG(
    dag_id="preload_on_demand",
    schedule=None,
    params=PARAMS,
    doc_md=__doc__,
    tags=["preheat"],
):
    # The operator reads numbers and switches from text, and takes an empty text for "not set". Native rendering
    # would evaluate what looks like Python: a filter of (7) would arrive as a number.
    PreloadOperator(
        task_id="preload",
        path="{{ params.path }}",
        replicas="{{ params.replicas }}",
        verify="{{ params.verify }}",
        skip_if_exists="{{ params.skip_if_exists }}",
        bandwidth="{{ params.bandwidth or '' }}",
        file_filter_regex="{{ params.file_filter_regex or '' }}",
    )
